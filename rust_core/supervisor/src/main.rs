//! `fluyt-supervisor`: one small program beside each container. It starts the container's process, owns its output and
//! the write end of its stdin, reaps it, and writes down how it ended. It decides nothing, and it outlives the daemon.
//!
//! Descriptor 0 is its connection to the daemon that started it; its arguments are the container's id, for `ps`, and
//! whether the namespaces that it makes ahead are to belong to a user namespace.

mod connections;
mod ending;
mod exec;
mod exec_group;
mod execs;
mod idle;
mod init;
mod output;
mod plan;
mod serve;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use control::peer;
use control::wire::Report;
use errors::IoError;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

/// The name in /proc/<pid>/comm, 15 bytes at most.
const COMM: &std::ffi::CStr = c"fluyt-super";
/// What the kernel is asked not to kill before it has killed most others.
const OOM_SCORE_ADJ: &[u8] = b"-999";

fn main() -> ExitCode {
    let is_init = |name: &std::ffi::OsString| std::path::Path::new(name).ends_with(init::NAME);
    if std::env::args_os().next().as_ref().is_some_and(is_init) {
        return init::run(std::env::args_os());
    }
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "--version") {
        println!("{}", control::version_line());
        return ExitCode::SUCCESS;
    }
    let looks: [(&str, LookAt); 2] = [(control::LOOK, look), (control::LOOK_BENEATH, look_beneath)];
    for (argument, look) in looks {
        if std::env::args_os().nth(1).is_some_and(|given| given == argument) {
            return exit_code(look(std::env::args_os().nth(2).unwrap_or_default()));
        }
    }
    match detach().and_then(supervise) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever started it sees the connection end, and has been told why where that was possible.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Looks at a path.
type LookAt = fn(OsString) -> Result<(), Errno>;

/// Whether the path leads to something. Whoever asks can give up waiting; the daemon itself would be held up by a file
/// system that does not answer, and could not even end.
fn look(path: OsString) -> Result<(), Errno> {
    rustix::fs::stat(path).map(drop)
}

/// As `look`, of a path below the directory that is the standard input. What is known of it already is asked for again.
fn look_beneath(path: OsString) -> Result<(), Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = rustix::fs::openat2(rustix::stdio::stdin(), path, flags, Mode::empty(), resolve)?;
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
    rustix::fs::statx(found, c"", flags, StatxFlags::BASIC_STATS).map(drop)
}

/// 0, or the number of the error.
fn exit_code(answer: Result<(), Errno>) -> ExitCode {
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(errno) => u8::try_from(errno.raw_os_error()).map_or(ExitCode::FAILURE, ExitCode::from),
    }
}

/// Leaves the daemon's session, directory and descriptors. Returns the connection to it.
fn detach() -> Result<OwnedFd, Errno> {
    sys::descriptors::close_from(3)?;
    let daemon = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    // Descriptor 1 is /dev/null; nothing of this program reads or writes the three.
    rustix::stdio::dup2_stdin(rustix::stdio::stdout())?;
    sys::signals::ignore_requests_to_end();
    // Fails only for a session's leader, which a fresh child is not; nothing depends on it.
    let _ = rustix::process::setsid();
    rustix::process::chdir("/")?;
    rustix::thread::set_name(COMM)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    if peer::is_trusted(&daemon)? {
        Ok(daemon)
    } else {
        Err(Errno::ACCESS)
    }
}

/// From the daemon's first message to the exit record.
fn supervise(daemon: OwnedFd) -> Result<(), Errno> {
    let told = |error: IoError| {
        let sent = peer::send(&daemon, &Report::failed_io(&error), &[]);
        sent.err().unwrap_or(Errno::IO)
    };
    let has_users = std::env::args_os().nth(2).is_some_and(|argument| argument == control::WITH_USERS);
    let ahead = idle::make_namespaces(&daemon, has_users)?;
    let (prepared, mut spec) = plan::receive(&daemon).map_err(&told)?;
    let Some(plan::Proceed { cgroup, oom_counter, joined }) = plan::await_proceed(&daemon).map_err(&told)?
    else {
        prepared.undo();
        return Ok(());
    };
    spec.cgroup = cgroup;
    let container_id = prepared.container_id().to_owned();
    sys::failpoint::hit("supervisor.before_spawn");
    // The container's processes hold its namespaces from now on, or nobody does.
    let started = prepared.spawn(&spec, oom_counter, ahead, &joined);
    drop(spec);
    drop(joined);
    let mut container = match started {
        Ok(container) => container,
        Err(failure) => return peer::send(&daemon, &Report::failed(failure), &[]),
    };
    sys::failpoint::hit("supervisor.before_started");
    container.connections.adopt(daemon, &container.running, &container.execs, container.first_hold);
    drop(std::mem::take(&mut container.spent));
    shed();
    idle::take_name(&container_id);
    drop(container_id);
    serve::run(container)
}

/// What is only worth doing once the daemon has its answer.
fn shed() {
    // Refused without CAP_SYS_RESOURCE; the supervisor is a small target then as well.
    if let Ok(file) = rustix::fs::open(
        "/proc/self/oom_score_adj",
        rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    ) {
        let _ = rustix::io::write(&file, OOM_SCORE_ADJ);
    }
    sys::memory::trim();
}
