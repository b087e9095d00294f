//! A network namespace of its own, and the loopback device of the current one.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{open, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{socket_with, AddressFamily, SocketFlags, SocketType};
use rustix::thread::{move_into_link_name_space, unshare_unsafe, LinkNameSpaceType, UnshareFlags};

/// The namespace of the calling thread, as a file.
const OWN: &str = "/proc/thread-self/ns/net";

/// A new network namespace whose loopback device is up and which nothing runs in; the calling thread is where it was.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN. After an error of any kind the thread may be in the new namespace: its program must
/// end.
pub fn new_namespace() -> Result<OwnedFd, Errno> {
    let open_own = || open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let home = open_own()?;
    // SAFETY: a network namespace has no part in memory or descriptors; nothing that is shared changes.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    bring_loopback_up()?;
    let made = open_own()?;
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&home), Some(LinkNameSpaceType::Network))?;
    Ok(made)
}

/// `lo` is up in the network namespace of the calling thread (127.0.0.1 and ::1 answer).
///
/// # Errors
/// EPERM without CAP_NET_ADMIN over the namespace.
///
/// Source: netdevice(7), SIOCSIFFLAGS.
pub fn bring_loopback_up() -> Result<(), Errno> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: ifreq is plain old data, for which all zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads the name and the flags of the given ifreq, which outlives the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if answer == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
    }
}
