//! A network namespace of its own, and the loopback device of the current one.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{open, openat, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;
use rustix::net::{socket_with, AddressFamily, SocketFlags, SocketType};
use rustix::thread::{move_into_link_name_space, unshare_unsafe, LinkNameSpaceType, UnshareFlags};

/// The namespace of the calling thread, as a file.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace in which nothing runs.
#[derive(Debug)]
pub struct Namespace {
    /// The namespace.
    pub namespace: OwnedFd,
    /// A netlink socket (NETLINK_ROUTE) that was opened in it, so that whoever has it changes links there.
    pub route: OwnedFd,
}

/// What a new namespace begins with: value by file below /proc/sys/net. Routers of a container's network are the
/// engine's to name, not a neighbour's (CVE-2020-13401); ports below 1024 are safe for anybody inside.
///
/// Source: moby `daemon/oci_linux.go`, the default sysctls; kernel Documentation/networking/ip-sysctl.rst.
const DEFAULTS: [(&str, &str); 3] = [
    // No link-local address, unless the network has IPv6.
    ("ipv6/conf/default/addr_gen_mode", "1"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv4/ip_unprivileged_port_start", "0"),
];
/// The groups that may ping, as the one who writes sees their numbers. Source: as [`DEFAULTS`].
const PINGING_GROUPS: &str = "ipv4/ping_group_range";
/// The last group that the kernel takes there: `net/ipv4/ping.c`, GID_T_MAX.
const LAST_GROUP: u32 = i32::MAX as u32;

/// A new network namespace whose loopback device is up and which nothing runs in; the calling thread is where it was.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN. After an error of any kind the thread may be in the new namespace: its program must
/// end.
pub fn new_namespace() -> Result<Namespace, Errno> {
    let home = open_own()?;
    // SAFETY: a network namespace has no part in memory or descriptors; nothing that is shared changes.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    furnish(open_own()?, &home)
}

/// As [`new_namespace`] of one that was made already, in whatever user namespace.
///
/// # Errors
/// As [`new_namespace`].
pub fn furnish_namespace(namespace: OwnedFd) -> Result<Namespace, Errno> {
    let home = open_own()?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    furnish(namespace, &home)
}

fn open_own() -> Result<OwnedFd, Errno> {
    open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// The calling thread is in `namespace`, and goes back to `home`.
fn furnish(namespace: OwnedFd, home: &OwnedFd) -> Result<Namespace, Errno> {
    let proc = open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    begin(proc.as_fd(), None)?;
    let made = Namespace { namespace, route: open_route()? };
    move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(made)
}

/// The network namespace of the calling thread, a new one, is as every container's is: its loopback device is up and its
/// parameters have their defaults. `proc` is a proc file system. `group_count`: how many groups the user namespace of the
/// calling thread has; none of others can be named in it. None is all of the host's.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN over the namespace.
pub fn begin(proc: BorrowedFd<'_>, group_count: Option<u32>) -> Result<(), Errno> {
    bring_loopback_up()?;
    if crate::weakened::lacks("network-defaults") {
        return Ok(());
    }
    for (name, value) in DEFAULTS {
        set(proc, name, value)?;
    }
    let last = group_count.map_or(LAST_GROUP, |count| count.saturating_sub(1).min(LAST_GROUP));
    set(proc, PINGING_GROUPS, &format!("0 {last}"))
}

fn set(proc: BorrowedFd<'_>, name: &str, value: &str) -> Result<(), Errno> {
    let path = format!("sys/net/{name}");
    match openat(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => rustix::io::write(&file, value.as_bytes()).map(drop),
        // A kernel without IPv6, or a read-only /proc/sys.
        Err(Errno::NOENT | Errno::ROFS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Sockets that were opened in a namespace by a thread that has left it.
#[derive(Debug)]
pub struct Sockets {
    /// A netlink socket (NETLINK_ROUTE).
    pub route: OwnedFd,
    /// A UDP socket, IPv4, not bound.
    pub udp: OwnedFd,
    /// A TCP socket, IPv4, not bound.
    pub tcp: OwnedFd,
    /// A netlink socket (NETLINK_NETFILTER).
    pub filter: OwnedFd,
}

/// Sockets of another namespace; the calling thread is where it was.
///
/// # Errors
/// As [`new_namespace`].
pub fn open_sockets_in(namespace: BorrowedFd<'_>) -> Result<Sockets, Errno> {
    let home = open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
    let open_inet = |kind| socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None);
    let open_all = || {
        let (udp, tcp) = (open_inet(SocketType::DGRAM)?, open_inet(SocketType::STREAM)?);
        let filter =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(NETFILTER))?;
        Ok(Sockets { route: open_route()?, udp, tcp, filter })
    };
    let sockets = open_all();
    move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network))?;
    sockets
}

fn open_route() -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
}

/// `lo` is up in the network namespace of the calling thread (127.0.0.1 and ::1 answer).
///
/// # Errors
/// EPERM without CAP_NET_ADMIN over the namespace.
///
/// Source: netdevice(7), SIOCSIFFLAGS.
fn bring_loopback_up() -> Result<(), Errno> {
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
