//! A look at a path whose file system may not answer, by a process that can be given up.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::strays;

/// The argument that has the program look at a path of the host.
pub const LOOK: &str = "--look";
/// The same of a path below the directory that its standard input is, which no link leads out of.
pub const LOOK_BENEATH: &str = "--look-beneath";

/// It goes on until its file system answers; killed when dropped, and reaped then or once it has ended.
#[derive(Debug)]
pub struct Look {
    pidfd: OwnedFd,
}

impl Look {
    pub(crate) fn new(pidfd: OwnedFd) -> Self {
        Self { pidfd }
    }

    /// Readable once there is an answer, whatever it is.
    pub fn fileno(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        // Fails only if it has ended. It may be out of reach of the signal too.
        let _ = sys::pidfd::kill(&self.pidfd);
        strays::leave(&self.pidfd);
    }
}
