//! What the mount tests share: a private mount namespace for each, and the count of mounts around it.
#![allow(dead_code)]

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{open, Mode, OFlags};

/// Runs `test` in a thread with a mount namespace of its own and checks that this process sees the same mounts
/// afterwards. Without root it says so and does not run it.
pub fn in_private_mounts(test: impl FnOnce() + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED mount test: needs root (mount namespaces)");
        return;
    }
    let before = mounts();
    let answer = std::thread::spawn(move || {
        sys::private_mounts::enter().expect("a private mount namespace");
        test();
    })
    .join();
    assert_eq!(mounts(), before, "a mount leaked into the host's namespace");
    if let Err(panic) = answer {
        std::panic::resume_unwind(panic);
    }
}

/// The mounts of the thread's own namespace.
pub fn mounts() -> String {
    fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo")
}

/// The options (per mount) of the top-most mount on `path`, as mountinfo shows them.
pub fn options_of(path: &Path) -> String {
    let text = mounts();
    let path = path.to_str().expect("utf-8");
    text.lines()
        .rev()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields[4] == path)
        .map(|fields| fields[5].to_owned())
        .unwrap_or_else(|| panic!("nothing is mounted on {path}"))
}

/// An O_PATH descriptor of a directory.
pub fn directory(path: &Path) -> OwnedFd {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("directory")
}
