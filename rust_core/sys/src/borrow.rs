//! Descriptors that come from outside Rust as plain numbers.

#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;

use rustix::io::fcntl_getfd;

/// The open descriptor of this number, which the caller keeps open for as long as the answer is used; None if no
/// descriptor of that number is open.
#[must_use]
pub fn borrow<'fd>(number: i32) -> Option<BorrowedFd<'fd>> {
    if number < 0 {
        return None;
    }
    // SAFETY: the number is not -1, which is what the type asks for. Whether it is open is looked at next; that it
    // stays open is the caller's part, and a closed one gives EBADF, never memory that is not ours.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_getfd(fd).is_ok().then_some(fd)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn only_an_open_descriptor_can_be_borrowed() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(borrow(file.as_raw_fd()).is_some());
        assert!(borrow(-1).is_none());
        assert!(borrow(1_000_000).is_none());
    }
}
