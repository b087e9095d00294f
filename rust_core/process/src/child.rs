//! What happens in the container's first process between clone and exec, in this order and no other.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{openat, Mode, OFlags};
use rustix::process::{set_parent_process_death_signal, setsid, umask, Signal};
use rustix::thread::{set_no_new_privs, CapabilitySet, LinkNameSpaceType};
use sys::failpoint;

use crate::at::{At, Outcome};
use crate::exec::Command;
use crate::failure::StartFailure;
use crate::mounts::{dev, kernel, mask, requested};
use crate::report::Reporter;
use crate::spawn::Stdio;
use crate::spec::{Namespace, Network, Rlimit, Spec};
use crate::step::Step;
use crate::terminal::Terminal;
use crate::users::Identity;
use crate::{apparmor, cgroups, cwd, identity, limits, namespaces, root, selinux, sysctl};

/// The mask of files that a container's program makes, unless it sets another.
const UMASK: Mode = Mode::from_raw_mode(0o022);
const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What the parent has made ready.
pub(crate) struct Prepared<'spec> {
    pub(crate) root: root::Prepared,
    pub(crate) dev: dev::Prepared,
    pub(crate) mounts: Vec<requested::Prepared<'spec>>,
    pub(crate) capabilities: CapabilitySet,
}

/// What every step on the way to the program is given.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) stdio: &'a Stdio<'a>,
    pub(crate) terminal_socket: Option<&'a OwnedFd>,
    pub(crate) network_namespace: Option<BorrowedFd<'a>>,
    pub(crate) joined: &'a [BorrowedFd<'a>],
    pub(crate) reporter: &'a Reporter,
}

/// What only a process outside the container's user namespace can make.
pub(crate) struct Outside {
    groups: cgroups::Groups,
    shm: namespaces::SharedMemory,
    /// Made here if the network namespace belongs to another user namespace than the process will be in.
    sys: Option<OwnedFd>,
}

/// Becomes the container's program; the answer is only ever the failure.
pub(crate) fn run(given: Given<'_>, prepared: Prepared<'_>) -> StartFailure {
    begin(given).and_then(|()| outside(given)).map_or_else(
        |failure| failure,
        |outside| execute(until_exec(given, prepared, outside), given.reporter),
    )
}

/// As [`run`], for a process that has just been born in the user namespace of the container, by one that did
/// [`outside`].
pub(crate) fn run_inside(given: Given<'_>, prepared: Prepared<'_>, outside: Outside) -> StartFailure {
    let command = identity::become_root().and_then(|()| begin(given));
    execute(command.and_then(|()| until_exec(given, prepared, outside)), given.reporter)
}

fn execute(command: Outcome<Command>, reporter: &Reporter) -> StartFailure {
    match command {
        Ok(command) => {
            failpoint::hit("process.exec");
            reporter.exec_is_next();
            command.execute()
        }
        Err(failure) => failure,
    }
}

fn begin(given: Given<'_>) -> Outcome<()> {
    die_with_parent(given.reporter)?;
    setsid().at(Step::Session, "")?;
    // Modes of nodes and directories are given exactly.
    umask(Mode::empty());
    Ok(())
}

/// This process is in the namespaces that are not its own, but for that of users, and has what rights on the host can
/// give to the program.
pub(crate) fn outside(given: Given<'_>) -> Outcome<Outside> {
    let Given { spec, network_namespace, joined, reporter, .. } = given;
    failpoint::hit("process.cgroup");
    let groups = cgroups::prepare(&spec.cgroup)?;
    if let Some(namespace) = network_namespace {
        rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
            .at(Step::NetworkSetup, "")?;
    }
    let shm = namespaces::join(spec, joined)?;
    if let Some(adjustment) = spec.oom_score_adj {
        let proc = rustix::fs::open("/proc", PLACE, Mode::empty()).at(Step::OomScore, "/proc")?;
        limits::set_oom_score(proc.as_fd(), adjustment, reporter)?;
    }
    let mut sys = None;
    if let Some(ids) = spec.ids {
        limits::raise(&spec.rlimits)?;
        identity::give_to_root(given.stdio, ids)?;
        if network_namespace.is_some() || matches!(spec.network, Network::Joined(_)) {
            sys = Some(kernel::make_sys(spec.is_privileged)?);
        }
    }
    Ok(Outside { groups, shm, sys })
}

fn until_exec(given: Given<'_>, prepared: Prepared<'_>, outside: Outside) -> Outcome<Command> {
    let Given { spec, stdio, terminal_socket, network_namespace, joined, reporter } = given;
    // While the host's /proc is in sight.
    let profile = apparmor::Profile::open(&spec.apparmor_profile)?;
    let label = selinux::Label::open(&spec.process_label)?;
    cgroups::join(&spec.cgroup, &outside.groups, spec.namespaces.cgroup, joined)?;
    failpoint::hit("process.root");
    let proc = kernel::make_proc()?;
    // Before anything of the container's can lie over a part of it.
    if spec.network == Network::None && network_namespace.is_none() {
        sys::network::begin(proc.as_fd(), spec.ids.map(|ids| ids.count)).at(Step::NetworkSetup, "")?;
    }
    let sys = outside.sys.map_or_else(|| kernel::make_sys(spec.is_privileged), Ok)?;
    let root = root::enter(prepared.root)?;
    let root = root.as_fd();
    kernel::attach_proc(root, &proc)?;
    let null = dev::attach(root, prepared.dev, outside.shm, spec)?;
    kernel::attach_sys(root, &sys, &outside.groups.views, spec)?;
    drop((sys, outside.groups));
    failpoint::hit("process.mounts");
    for mount in &prepared.mounts {
        requested::attach(root, mount)?;
    }
    drop(prepared.mounts);
    if sys::weakened::lacks("mount-targets") {
        mount::pivot_into(root).at(Step::Pivot, "/")?;
    }

    set_names(spec)?;
    sysctl::write(proc.as_fd(), &spec.sysctls, sysctl::Owned::of(spec))?;
    cwd::ensure(root, &spec.cwd)?;
    let identity = identity::look_up(root, &spec.user, &spec.additional_groups, spec.ids)?;
    match (spec.terminal, terminal_socket) {
        (Some(size), Some(socket)) => {
            let terminal = Terminal::open(root, size, identity.uid)?;
            terminal.show_as_console(root)?;
            terminal.become_stdio(socket)?;
        }
        _ => {
            place_stdio(stdio, || open_null(&null))?;
            identity::give_stdio(&identity)?;
        }
    }
    mask::make_read_only(root, &spec.read_only_paths)?;
    mask::mask(root, &spec.masked_paths, null, &spec.mount_label)?;
    if spec.is_root_read_only {
        let read_only = mount::Attributes::default().read_only();
        mount::set_attributes(root, read_only, None, false).at(Step::Mask, "/")?;
    }
    let program = Program {
        args: &spec.args,
        env: &spec.env,
        cwd: &spec.cwd,
        rlimits: &spec.rlimits,
        no_new_privileges: spec.no_new_privileges,
        seccomp_filters: &spec.seccomp_filters,
        capabilities: prepared.capabilities,
        profile,
        label,
    };
    program.make_ready(root, &identity, reporter)
}

/// What is executed and what confines it: the end of the way of a container's first process and of any further one.
pub(crate) struct Program<'spec> {
    pub(crate) args: &'spec [String],
    pub(crate) env: &'spec [String],
    pub(crate) cwd: &'spec str,
    pub(crate) rlimits: &'spec [Rlimit],
    pub(crate) no_new_privileges: bool,
    pub(crate) seccomp_filters: &'spec [Vec<u8>],
    pub(crate) capabilities: CapabilitySet,
    pub(crate) profile: Option<apparmor::Profile<'spec>>,
    pub(crate) label: Option<selinux::Label<'spec>>,
}

impl Program<'_> {
    /// The process is the user, confined, in its working directory; only execve is left. Descriptors 0 to 2 are placed.
    pub(crate) fn make_ready(
        &self,
        root: BorrowedFd<'_>,
        identity: &Identity,
        reporter: &Reporter,
    ) -> Outcome<Command> {
        let given = identity::bound_capabilities(self.capabilities, reporter)?;
        identity::take_on(identity, given)?;
        cwd::enter(root, self.cwd)?;
        // Found now, as its user: a small limit of open files or memory must not be in the way.
        let command = Command::find(self.args, self.env, &identity.home)?;
        umask(UMASK);
        sys::inherited::reset_signals();
        sys::inherited::close_on_exec_from(3).at(Step::Stdio, "")?;
        if sys::weakened::lacks("descriptors") {
            sys::weakened::leak_descriptor();
        }
        identity::raise()?;
        limits::set(self.rlimits, reporter)?;
        if let Some(profile) = &self.profile {
            profile.apply()?;
        }
        if let Some(label) = &self.label {
            label.apply()?;
        }
        if self.no_new_privileges && !sys::weakened::lacks("no-new-privileges") {
            set_no_new_privs(true).at(Step::Identity, "no_new_privs")?;
        }
        // A change of user has cleared it.
        die_with_parent(reporter)?;
        failpoint::hit("process.seccomp");
        for filter in self.seccomp_filters {
            if sys::weakened::lacks("seccomp") {
                break;
            }
            sys::seccomp::install(filter).at(Step::Seccomp, "")?;
        }
        identity::drop_rest(identity, given)?;
        Ok(command)
    }
}

/// The kernel kills this process when the thread that cloned it ends.
pub(crate) fn die_with_parent(reporter: &Reporter) -> Outcome<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).at(Step::Session, "")?;
    // It may have ended before that call, and getppid is always 0 in a new pid namespace: the pipe tells.
    if reporter.parent_is_gone() {
        return Err(StartFailure::rule(Step::Session, "", "the parent has ended"));
    }
    Ok(())
}

fn set_names(spec: &Spec) -> Outcome<()> {
    if spec.namespaces.uts != Namespace::Own {
        return Ok(());
    }
    if !spec.hostname.is_empty() {
        rustix::system::sethostname(spec.hostname.as_bytes()).at(Step::Hostname, &spec.hostname)?;
    }
    if !spec.domainname.is_empty() {
        rustix::system::setdomainname(spec.domainname.as_bytes()).at(Step::Hostname, &spec.domainname)?;
    }
    Ok(())
}

/// Descriptors 0, 1 and 2 are the given ones; what `other` opens, above 2, where none is given.
pub(crate) fn place_stdio(stdio: &Stdio<'_>, other: impl Fn() -> Outcome<OwnedFd>) -> Outcome<()> {
    let given = [stdio.stdin, stdio.stdout, stdio.stderr];
    // Copies above 2 first: a given one may itself stand where another belongs.
    let mut sources = Vec::with_capacity(given.len());
    for fd in given {
        let source = match fd {
            Some(fd) => rustix::io::fcntl_dupfd_cloexec(fd, 3).at(Step::Stdio, "")?,
            None => other()?,
        };
        sources.push(source);
    }
    rustix::stdio::dup2_stdin(&sources[0]).at(Step::Stdio, "stdin")?;
    rustix::stdio::dup2_stdout(&sources[1]).at(Step::Stdio, "stdout")?;
    rustix::stdio::dup2_stderr(&sources[2]).at(Step::Stdio, "stderr")
}

/// An open file of the null device that `null` stands for; /dev/null may be another file by now.
fn open_null(null: &OwnedFd) -> Outcome<OwnedFd> {
    const PATH: &str = "/dev/null";
    let path = format!("/proc/self/fd/{}", null.as_raw_fd());
    let file =
        openat(rustix::fs::CWD, path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at(Step::Stdio, PATH)?;
    if file.as_raw_fd() > 2 {
        return Ok(file);
    }
    rustix::io::fcntl_dupfd_cloexec(&file, 3).at(Step::Stdio, PATH)
}
