//! Fences that a build made for tests can leave out, so that each attack of `tests/security` is seen to succeed where
//! its fence is missing.
//!
//! Only with the feature `weakened`, which no release has: without it [`lacks`] is the constant false and the names
//! are in no program. With it, `FLUYT_WEAKENED=name,name` says which fences are missing.

/// The environment variable that names the missing fence.
#[cfg(feature = "weakened")]
pub const VARIABLE: &str = "FLUYT_WEAKENED";

/// Stands in every program that was built so, and in no other: what a test of released programs looks for.
#[cfg(feature = "weakened")]
#[used]
static MARK: [u8; 40] = *b"FLUYT_WEAKENED: fences can be left out\n\n";

/// True if the fence of this name is left out.
#[cfg(feature = "weakened")]
pub fn lacks(fence: &str) -> bool {
    std::env::var(VARIABLE).is_ok_and(|named| named.split(',').any(|name| name == fence))
}

/// False: every fence stands.
#[cfg(not(feature = "weakened"))]
#[inline(always)]
pub const fn lacks(_fence: &str) -> bool {
    false
}

/// What a program that this one starts needs, so that the same fence is missing in it.
pub fn environment() -> Option<(&'static str, std::ffi::OsString)> {
    #[cfg(feature = "weakened")]
    return std::env::var_os(VARIABLE).map(|fence| (VARIABLE, fence));
    #[cfg(not(feature = "weakened"))]
    None
}

/// A descriptor without close-on-exec stays open: what a forgotten flag does.
#[cfg(feature = "weakened")]
pub fn leak_descriptor() {
    use rustix::fs::{open, Mode, OFlags};
    use std::os::fd::IntoRawFd;
    if let Ok(root) = open("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
        let _ = root.into_raw_fd();
    }
}

/// Nothing.
#[cfg(not(feature = "weakened"))]
#[inline(always)]
pub const fn leak_descriptor() {}

/// This process listens at an abstract address too, which whoever is in its network namespace can call.
#[cfg(feature = "weakened")]
pub fn listen_without_a_file() {
    use rustix::net::{bind, listen, socket, AddressFamily, SocketAddrUnix, SocketType};
    use std::os::fd::IntoRawFd;
    let name = format!("fluyt-supervisor-{}", std::process::id());
    let Ok(address) = SocketAddrUnix::new_abstract_name(name.as_bytes()) else { return };
    if let Ok(open) = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None) {
        if bind(&open, &address).and_then(|()| listen(&open, 1)).is_ok() {
            let _ = open.into_raw_fd();
        }
    }
}

/// Nothing.
#[cfg(not(feature = "weakened"))]
#[inline(always)]
pub const fn listen_without_a_file() {}
