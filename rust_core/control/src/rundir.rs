//! The run directory of a container and the socket in it. A path of any length works: the socket is bound and
//! connected to through the directory's descriptor.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use errors::IoError;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Name of the supervisor's socket in a run directory.
pub const SOCKET_NAME: &str = "socket";

/// Opens a run directory.
///
/// # Errors
/// The open(2) error.
pub fn open(path: &Path) -> Result<OwnedFd, IoError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| IoError::new("open", path, errno.raw_os_error()))
}

/// Removes a file of a run directory; one that is absent is no error.
///
/// # Errors
/// The unlink(2) error.
pub fn remove(dir: impl AsFd, path: &Path, name: &str) -> Result<(), IoError> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(IoError::new("unlink", path.join(name), errno.raw_os_error())),
    }
}

/// The address of the socket. Source: unix(7), sun_path holds 108 bytes.
fn address(dir: impl AsFd) -> Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET_NAME}", dir.as_fd().as_raw_fd()))
}

/// A listening socket in the run directory, for its owner only. One that an earlier supervisor left is replaced.
///
/// # Errors
/// The error of the system call that failed.
pub fn listen(dir: impl AsFd, path: &Path, backlog: i32) -> Result<OwnedFd, IoError> {
    let dir = dir.as_fd();
    let fail =
        |operation| move |errno: Errno| IoError::new(operation, path.join(SOCKET_NAME), errno.raw_os_error());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(fail("socket"))?;
    remove(dir, path, SOCKET_NAME)?;
    let address = address(dir).map_err(fail("bind"))?;
    // The mode of a socket comes from the umask alone.
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = rustix::net::bind(&socket, &address).map_err(fail("bind"));
    rustix::process::umask(before);
    bound?;
    rustix::net::listen(&socket, backlog).map_err(fail("listen"))?;
    if sys::weakened::lacks("socket-files") {
        sys::weakened::listen_without_a_file();
    }
    Ok(socket)
}

/// A connection to the run directory's socket; None if there is none or nobody listens.
///
/// # Errors
/// The error of the system call that failed.
pub fn connect(dir: impl AsFd, path: &Path) -> Result<Option<OwnedFd>, IoError> {
    let fail =
        |operation| move |errno: Errno| IoError::new(operation, path.join(SOCKET_NAME), errno.raw_os_error());
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(fail("socket"))?;
    let address = address(dir).map_err(fail("connect"))?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => Ok(Some(socket)),
        Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
        Err(errno) => Err(fail("connect")(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_directory_with_a_long_path_has_a_socket_too() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("d".repeat(200));
        std::fs::create_dir(&path).unwrap();
        let dir = open(&path).unwrap();
        assert!(connect(&dir, &path).unwrap().is_none(), "no socket");
        let listener = listen(&dir, &path, 1).unwrap();
        assert!(connect(&dir, &path).unwrap().is_some());
        let mode = rustix::fs::stat(path.join(SOCKET_NAME)).unwrap().st_mode;
        assert_eq!(mode & 0o777, 0o600);
        drop(listener);
        assert!(connect(&dir, &path).unwrap().is_none(), "nobody listens");
        listen(&dir, &path, 1).unwrap();
    }
}
