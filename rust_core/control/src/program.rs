//! The supervisor's program: opened once, asked for its version, executed for each container.

use std::ffi::{CString, OsStr};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use errors::IoError;
use rustix::event::{poll, PollFd, PollFlags};
use rustix::fs::{Mode, OFlags, CWD};
use rustix::io::Errno;
use rustix::mount::{open_tree, OpenTreeFlags};
use rustix::process::Pid;
use sys::executing::{self, Execution};

use crate::error::ControlError;
use crate::handle::timespec;
use crate::look::{Look, LOOK, LOOK_BENEATH};
use crate::strays;
use crate::wire::PROTOCOL_VERSION;

/// The program's name, as it stands in its argv and answer.
const NAME: &str = "fluyt-supervisor";
/// How long the program may take to tell its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a killed supervisor is waited for. One that waits for a file system in a way that nothing ends is left to the
/// kernel.
const KILLED_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest answer that is read.
const MAX_VERSION_BYTES: usize = 128;

/// What the supervisor of this build prints for `--version`, without the newline.
pub fn version_line() -> String {
    format!("{NAME} {} protocol {PROTOCOL_VERSION}", env!("CARGO_PKG_VERSION"))
}

/// An opened program. The descriptor keeps it what it is while an upgrade replaces the file.
#[derive(Debug)]
pub(crate) struct Program {
    fd: OwnedFd,
    path: PathBuf,
    /// /dev/null, where its words go.
    null: OwnedFd,
}

impl Program {
    pub(crate) fn open(path: &Path) -> Result<Self, ControlError> {
        let fd = open_read_only(path).map_err(|errno| IoError::new("open", path, errno.raw_os_error()))?;
        let null = rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| IoError::new("open", Path::new("/dev/null"), errno.raw_os_error()))?;
        let program = Self { fd, path: path.to_owned(), null };
        program.check_version()?;
        Ok(program)
    }

    fn check_version(&self) -> Result<(), ControlError> {
        let expected = version_line();
        let mut command = Command::new(format!("/proc/self/fd/{}", self.fd.as_raw_fd()));
        command.arg0(NAME).arg("--version").env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| IoError::from_std("execve", &self.path, &error))?;
        let actual = read_answer(&mut child);
        let killed = child.kill();
        let waited = child.wait();
        let actual = actual.map_err(|errno| IoError::new("read", &self.path, errno.raw_os_error()))?;
        killed.and(waited).map_err(|error| IoError::from_std("wait", &self.path, &error))?;
        if actual == expected {
            return Ok(());
        }
        Err(ControlError::VersionMismatch { expected, actual })
    }

    /// Executes the program with `stdin` as its descriptor 0; with `has_users` it makes a user namespace ahead too. It gets
    /// no argument but that and the container's id, no environment but an armed failpoint, no other descriptor.
    pub(crate) fn spawn(
        &self,
        container_id: &str,
        stdin: OwnedFd,
        has_users: bool,
    ) -> Result<SpawnedSupervisor, ControlError> {
        let users = has_users.then_some(WITH_USERS.as_bytes());
        let args: Vec<&[u8]> = [container_id.as_bytes()].into_iter().chain(users).collect();
        let executed = self.execute(&args, stdin.as_fd())?;
        Ok(SpawnedSupervisor { pid: executed.pid, pidfd: Some(executed.pidfd) })
    }

    /// The program looks at the path, below `root` if there is one.
    pub(crate) fn look(&self, path: &OsStr, root: Option<BorrowedFd<'_>>) -> Result<Look, ControlError> {
        let (wish, stdin) = root.map_or((LOOK, self.null.as_fd()), |root| (LOOK_BENEATH, root));
        let executed = self.execute(&[wish.as_bytes(), path.as_bytes()], stdin)?;
        Ok(Look::new(executed.pidfd))
    }

    fn execute(&self, args: &[&[u8]], stdin: BorrowedFd<'_>) -> Result<executing::Executed, ControlError> {
        strays::reap();
        let refused = |errno: Errno| IoError::new("execve", &self.path, errno.raw_os_error());
        let terminated = |bytes: &[u8]| CString::new(bytes).map_err(|_| refused(Errno::INVAL));
        let args: Vec<CString> =
            [&[NAME.as_bytes()], args].concat().into_iter().map(terminated).collect::<Result<_, _>>()?;
        let failpoint =
            std::env::var_os(sys::failpoint::VARIABLE).map(|names| (sys::failpoint::VARIABLE, names));
        let env: Vec<CString> = failpoint
            .into_iter()
            .chain(sys::weakened::environment())
            .map(|(name, value)| terminated(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
            .collect::<Result<_, _>>()?;
        let execution = Execution {
            file: executing::File::Open(self.fd.as_fd()),
            args: &args,
            env: &env,
            stdio: [stdin, self.null.as_fd(), self.null.as_fd()],
            directory: None,
            is_group_leader: false,
        };
        Ok(execution.spawn().map_err(refused)?)
    }
}

/// The argument that asks for a user namespace.
pub const WITH_USERS: &str = "user";

/// The file on a detached read-only mount of its own. A container's process can become this program (`#!/proc/self/exe`),
/// and whoever sees it run could otherwise open the host's file for writing once it has ended (CVE-2019-5736).
/// Where the kernel or our rights do not allow such a mount, the plain file.
fn open_read_only(path: &Path) -> Result<OwnedFd, Errno> {
    if sys::weakened::lacks("supervisor-program") {
        return rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mounted = open_tree(CWD, path, flags)
        .and_then(|file| sys::mount_attr::add(&file, sys::mount_attr::READ_ONLY, false).map(|()| file));
    match mounted {
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => {
            rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        }
        answer => answer,
    }
}

/// First line of what the child prints, within [`VERSION_TIMEOUT`].
fn read_answer(child: &mut Child) -> Result<String, Errno> {
    let Some(mut output) = child.stdout.take() else { return Ok(String::new()) };
    let deadline = Instant::now() + VERSION_TIMEOUT;
    let mut answer = Vec::new();
    while !answer.contains(&b'\n') && answer.len() < MAX_VERSION_BYTES {
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&timespec(left))) {
            Ok(0) => break,
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        }
        let mut bytes = [0; MAX_VERSION_BYTES];
        match output.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&bytes[..count]),
            Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }
    let line = answer.split(|&byte| byte == b'\n').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(&line[..line.len().min(MAX_VERSION_BYTES)]).into_owned())
}

/// A supervisor that has not answered yet: killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct SpawnedSupervisor {
    pid: Pid,
    pidfd: Option<OwnedFd>,
}

impl SpawnedSupervisor {
    /// Its process id, which is no other's before this is dropped.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// True if it has not ended.
    pub(crate) fn is_alive(&self) -> bool {
        let Some(pidfd) = &self.pidfd else { return false };
        // Readable once it has ended; it is reaped when dropped.
        matches!(poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timespec(Duration::ZERO))), Ok(0))
    }

    /// Gives up the duty to kill it.
    pub(crate) fn release(mut self) -> Option<OwnedFd> {
        self.pidfd.take()
    }
}

impl Drop for SpawnedSupervisor {
    fn drop(&mut self) {
        if let Some(pidfd) = self.pidfd.take() {
            // Fails only if it has ended, which is what is wanted.
            let _ = sys::pidfd::kill(&pidfd);
            let mut ended = [PollFd::new(&pidfd, PollFlags::IN)];
            let _ = poll(&mut ended, Some(&timespec(KILLED_TIMEOUT)));
            strays::leave(&pidfd);
        }
    }
}
