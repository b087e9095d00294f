//! Opening a path of the container itself: confined to its root by the kernel, and never through a link of /proc that
//! leads to an open descriptor.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{openat2, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How often a resolution is tried again that a rename elsewhere disturbed (openat2(2), EAGAIN).
const MAX_ATTEMPTS: u32 = 128;

/// What is at `path`, opened CLOEXEC with `flags`. Links stay inside `root`; magic links are ELOOP.
pub(crate) fn open(root: impl AsFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    if sys::weakened::lacks("working-directory") {
        resolve = ResolveFlags::empty();
    }
    for _ in 0..MAX_ATTEMPTS {
        match openat2(root.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return answer,
        }
    }
    Err(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_inside_and_magic_links_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink("/../../etc", dir.path().join("out")).expect("a link");
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let root = rustix::fs::open(dir.path(), flags, Mode::empty()).expect("opened");
        assert_eq!(open(&root, "/out", flags).expect_err("no etc in there"), Errno::NOENT);
        let host = rustix::fs::open("/", flags, Mode::empty()).expect("opened");
        assert_eq!(open(&host, "/proc/self/cwd", flags).expect_err("a magic link"), Errno::LOOP);
        assert_eq!(open(&host, "/proc/self/fd/0", OFlags::PATH).expect_err("a magic link"), Errno::LOOP);
    }
}
