//! The parent's side of a start: what can be made ready beforehand, the clone, and what the child tells.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{open, Mode, OFlags};
use rustix::pipe::{pipe_with, PipeFlags};
use sys::clone::{self, Side};
use sys::failpoint;

use crate::at::{At, Outcome};
use crate::child::{self, Given, Prepared};
use crate::failure::{StartFailure, EXIT_NOT_FOUND};
use crate::mounts::{dev, requested};
use crate::report::{self, Reporter};
use crate::spec::{Namespace, Network, Spec};
use crate::step::Step;
use crate::{capabilities, cgroups, go_between, host_devices, limits, namespaces, root, sysctl, terminal};

/// What the process has as descriptors 0, 1 and 2; None is the container's null device.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stdio<'fd> {
    /// Descriptor 0.
    pub stdin: Option<BorrowedFd<'fd>>,
    /// Descriptor 1.
    pub stdout: Option<BorrowedFd<'fd>>,
    /// Descriptor 2.
    pub stderr: Option<BorrowedFd<'fd>>,
}

/// A container's first process, which has executed its program.
#[derive(Debug)]
pub struct Init {
    /// Its pid as the caller sees it.
    pub pid: u32,
    /// Readable once it has ended; CLOEXEC.
    pub pidfd: OwnedFd,
    /// The master side of its terminal, non-blocking, if the spec asked for one.
    pub terminal: Option<OwnedFd>,
    /// What was asked and could not be given in full, as `field: reason`.
    pub clamps: Vec<String>,
    /// Mounts that nothing needs any more; see [`mount::Mapped`].
    pub spent: Vec<OwnedFd>,
}

/// The program of `spec` runs as process 1 of namespaces of its own: execve has succeeded. It is our child, and dies
/// with the thread that called this. No mount of it can be seen outside.
///
/// `joined` are pidfds of processes whose namespaces the spec shares, each the first of a container: what stands behind
/// one cannot be another process, and one that has ended is an error.
///
/// `stdio` is borrowed: close your copies of the process's ends afterwards. `network_namespace` is one made
/// beforehand, its loopback device up, for [`Network::None`]; without it a new one is made. `user_namespace` is one with
/// the ids of the spec, which it needs if there are any: the process is in it, or in the joined one with the same ids, and
/// so belong to it all namespaces that are made here. Blocking, until execve; it waits on nothing that the image can
/// prolong.
///
/// # Errors
/// The step at which it stopped. The child is reaped, its mounts and namespaces are gone. The caller's part (cgroups,
/// directories) is as it was, but for directories made in `upper_dir`.
///
/// # Safety of use
/// The process must have one thread only: it is copied without exec, and another thread may hold a lock of the
/// allocator at that moment. A debug build asserts it.
pub fn spawn(
    spec: &Spec,
    stdio: Stdio<'_>,
    network_namespace: Option<BorrowedFd<'_>>,
    user_namespace: Option<BorrowedFd<'_>>,
    joined: &[BorrowedFd<'_>],
) -> Result<Init, StartFailure> {
    debug_assert!(has_one_thread(), "spawn copies the process and must not run beside other threads");
    check(spec)?;
    let _guards = occupy_stdio()?;
    let map = user_namespace.zip(spec.ids);
    let map = map.map(|(namespace, ids)| mount::IdMap { namespace, first_id: ids.first_id });
    if map.is_none() && spec.ids.is_some() {
        return Err(StartFailure::rule(Step::Spec, "ids", "they need a user namespace"));
    }
    let host_devices = if spec.is_privileged { host_devices::list()? } else { Vec::new() };
    let (root, spent) = root::prepare(&spec.root, &spec.mount_label, map)?;
    let prepared = Prepared {
        root,
        dev: dev::prepare(&host_devices, &spec.devices, &spec.mount_label, map)?,
        mounts: requested::prepare(&spec.mounts, &spec.mount_label, map)?,
        capabilities: capabilities::parse(&spec.capabilities)?,
    };
    let group = cgroups::open_v2(&spec.cgroup)?;
    let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC).at(Step::Clone, "pipe")?;

    let mut flags = clone::NEW_MOUNT;
    for (namespace, flag) in [
        (spec.namespaces.pid, clone::NEW_PID),
        (spec.namespaces.ipc, clone::NEW_IPC),
        (spec.namespaces.uts, clone::NEW_UTS),
    ] {
        flags |= if namespace == Namespace::Own { flag } else { 0 };
    }
    if spec.network == Network::None && network_namespace.is_none() {
        flags |= clone::NEW_NETWORK;
    }
    let terminal = spec.terminal.map(|_| terminal::Passage::new()).transpose()?;
    failpoint::hit("process.clone");
    let birth = user_namespace.map(|_| go_between::Birth::new()).transpose()?;
    let terminal_socket = terminal.as_ref().map(|passage| &passage.child);
    let forked = match user_namespace {
        None => namespaces::born_in(spec.namespaces.pid, joined, || fork(flags, group.as_ref()))?,
        // It is born by a process that has entered the user namespace: only so do its others belong to that one.
        Some(_) => fork(0, group.as_ref()).at(Step::Clone, "")?,
    };
    match forked {
        Side::Child => {
            drop(read_end);
            let _guard = NeverUnwind;
            let reporter = Reporter::new(write_end);
            let given = Given {
                spec,
                stdio: &stdio,
                terminal_socket,
                network_namespace,
                joined,
                reporter: &reporter,
            };
            let failure = match user_namespace.zip(birth) {
                None => child::run(given, prepared),
                Some((namespace, birth)) => go_between::run(given, prepared, namespace, flags, birth),
            };
            reporter.failure(&failure);
            sys::inherited::exit_now(i32::from(failure.exit_code));
        }
        Side::Parent { pid, pidfd } => {
            drop(write_end);
            // Ours would keep the mounts alive, and a bind's source busy, until this function ends.
            drop(prepared);
            let (pid, pidfd) = match birth {
                None => (pid, pidfd),
                Some(birth) => go_between::await_birth(&pidfd, &read_end, birth)?,
            };
            await_exec(pid, pidfd, &read_end, terminal).map(|init| Init { spent, ..init })
        }
    }
}

#[allow(unsafe_code)]
pub(crate) fn fork(namespaces: u64, group: Option<&OwnedFd>) -> Result<Side, rustix::io::Errno> {
    use std::os::fd::AsFd;
    // SAFETY: this process has one thread, which `spawn` asks of its caller.
    unsafe { clone::fork_into(namespaces, group.map(AsFd::as_fd)) }
}

/// The child ends here whatever happens: a panic must not run on in a copy of the caller.
pub(crate) struct NeverUnwind;

impl Drop for NeverUnwind {
    fn drop(&mut self) {
        sys::inherited::exit_now(i32::from(crate::failure::EXIT_ENGINE));
    }
}

fn await_exec(
    pid: u32,
    pidfd: OwnedFd,
    pipe: &OwnedFd,
    terminal: Option<terminal::Passage>,
) -> Result<Init, StartFailure> {
    let report = report::read(pipe).at(Step::Clone, "pipe").inspect_err(|_| {
        // Nothing is known of the child any more: it must not run on unseen.
        let _ = sys::pidfd::kill(&pidfd);
    });
    let failure = match report {
        Ok(report) if report.failure.is_none() && report.has_reached_exec => {
            let terminal = terminal.map(terminal::Passage::take).transpose()?;
            return Ok(Init { pid, pidfd, terminal, clamps: report.clamps, spent: Vec::new() });
        }
        Ok(report) => report.failure,
        Err(failure) => Some(failure),
    };
    let status = sys::pidfd::wait(&pidfd).at(Step::Clone, "wait")?;
    Err(failure.unwrap_or_else(|| {
        StartFailure::rule(Step::Clone, "", format!("the process ended before its program ran ({status:?})"))
    }))
}

fn check(spec: &Spec) -> Outcome<()> {
    if spec.args.first().is_none_or(String::is_empty) {
        let failure = StartFailure::rule(Step::Spec, "args", "the command has no name");
        return Err(failure.with_exit_code(EXIT_NOT_FOUND));
    }
    for (name, path) in [("cwd", &spec.cwd)]
        .into_iter()
        .chain(spec.mounts.iter().map(|mount| ("mounts.destination", &mount.destination)))
        .chain(spec.masked_paths.iter().map(|path| ("masked_paths", path)))
        .chain(spec.read_only_paths.iter().map(|path| ("read_only_paths", path)))
    {
        if !path.starts_with('/') || path.contains('\0') {
            return Err(StartFailure::rule(Step::Spec, path, format!("{name} is not an absolute path")));
        }
    }
    for (key, value) in &spec.sysctls {
        sysctl::check(key, value, sysctl::Owned::of(spec))?;
    }
    limits::check(&spec.rlimits)
}

/// Descriptors 0, 1 and 2 are in use, so that nothing made for the child lands where its stdio belongs.
pub(crate) fn occupy_stdio() -> Outcome<Vec<OwnedFd>> {
    let mut guards = Vec::new();
    loop {
        let guard =
            open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at(Step::Stdio, "/dev/null")?;
        if guard.as_raw_fd() > 2 {
            return Ok(guards);
        }
        guards.push(guard);
    }
}

pub(crate) fn has_one_thread() -> bool {
    std::fs::read_dir("/proc/self/task").map_or(true, |tasks| tasks.count() == 1)
}
