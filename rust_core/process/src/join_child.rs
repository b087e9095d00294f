//! A further process in a container that runs: what happens between clone and exec, in this order and no other.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{open, Mode, OFlags};
use rustix::pipe::{pipe_with, PipeFlags};
use rustix::process::{set_dumpable_behavior, setsid, DumpableBehavior};
use rustix::thread::{move_into_thread_name_spaces, CapabilitySet, ThreadNameSpaceType};
use sys::failpoint;

use crate::at::{At, Outcome};
use crate::child::{die_with_parent, place_stdio, Program};
use crate::exec::Command;
use crate::failure::StartFailure;
use crate::join::Container;
use crate::report::Reporter;
use crate::spawn::Stdio;
use crate::spec::ExecSpec;
use crate::step::Step;
use crate::terminal::Terminal;
use crate::{apparmor, cgroups, identity, limits, selinux};

/// The namespaces that are joined here; that of pids was joined by birth.
const NAMESPACES: ThreadNameSpaceType = ThreadNameSpaceType::MOUNT
    .union(ThreadNameSpaceType::NETWORK)
    .union(ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION)
    .union(ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME)
    .union(ThreadNameSpaceType::CONTROL_GROUP);
const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Becomes the program; the answer is only ever the failure.
pub(crate) fn run(
    spec: &ExecSpec,
    container: Container<'_>,
    capabilities: CapabilitySet,
    stdio: &Stdio<'_>,
    terminal_socket: Option<&OwnedFd>,
    reporter: &Reporter,
) -> StartFailure {
    match until_exec(spec, container, capabilities, stdio, terminal_socket, reporter) {
        Ok(command) => {
            failpoint::hit("process.join_exec");
            reporter.exec_is_next();
            command.execute()
        }
        Err(failure) => failure,
    }
}

fn until_exec(
    spec: &ExecSpec,
    container: Container<'_>,
    capabilities: CapabilitySet,
    stdio: &Stdio<'_>,
    terminal_socket: Option<&OwnedFd>,
    reporter: &Reporter,
) -> Outcome<Command> {
    // A process of the container sees this one, which holds descriptors of the supervisor's until it executes: it can
    // neither trace it nor look at them (CVE-2016-9962). Exec ends that.
    if !sys::weakened::lacks("joining") {
        set_dumpable_behavior(DumpableBehavior::NotDumpable).at(Step::Session, "dumpable")?;
    }
    die_with_parent(reporter)?;
    setsid().at(Step::Session, "")?;
    // While the host's files are in sight: the profile, the label, the groups, and the score that the supervisor has lowered for itself.
    let profile = apparmor::Profile::open(&spec.apparmor_profile)?;
    let label = selinux::Label::open(&spec.process_label)?;
    cgroups::join_v1(container.cgroup)?;
    if let Some(ids) = container.ids {
        limits::raise(&spec.rlimits)?;
        identity::give_to_root(stdio, ids)?;
    }
    if let Some(adjustment) = spec.oom_score_adj {
        let proc = open("/proc", PLACE, Mode::empty()).at(Step::OomScore, "/proc")?;
        limits::set_oom_score(proc.as_fd(), adjustment, reporter)?;
    }
    failpoint::hit("process.join_namespaces");
    // Root and working directory are the container's from here on.
    let user = if container.ids.is_some() { ThreadNameSpaceType::USER } else { ThreadNameSpaceType::empty() };
    move_into_thread_name_spaces(container.init, NAMESPACES | user).at(Step::Pivot, "namespaces")?;
    if container.ids.is_some() {
        identity::become_root()?;
        die_with_parent(reporter)?;
    }
    let root = open("/", PLACE, Mode::empty()).at(Step::Pivot, "/")?;
    let root = root.as_fd();
    let identity = identity::look_up(root, &spec.user, &spec.additional_groups, container.ids)?;
    match (spec.terminal, terminal_socket) {
        (Some(size), Some(socket)) => {
            Terminal::open(root, size, identity.uid)?.become_stdio(socket)?;
        }
        _ => {
            place_stdio(stdio, open_empty)?;
            identity::give_stdio(&identity)?;
        }
    }
    let program = Program {
        args: &spec.args,
        env: &spec.env,
        cwd: &spec.cwd,
        rlimits: &spec.rlimits,
        no_new_privileges: spec.no_new_privileges,
        seccomp_filters: &spec.seccomp_filters,
        capabilities,
        profile,
        label,
    };
    program.make_ready(root, &identity, reporter)
}

/// What reads as empty. The container's /dev/null may be anything by now, and the host's is not for it to have.
fn open_empty() -> Outcome<OwnedFd> {
    let (read_end, _) = pipe_with(PipeFlags::CLOEXEC).at(Step::Stdio, "pipe")?;
    // Not where another descriptor belongs.
    rustix::io::fcntl_dupfd_cloexec(&read_end, 3).at(Step::Stdio, "pipe")
}
