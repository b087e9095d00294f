//! A second fence around whoever reads a hostile archive: a thread for it alone that can open nothing but what the
//! archive's entries go into and are settled against, should a check of their names have a hole.

use std::os::fd::BorrowedFd;
use std::panic::resume_unwind;

use errors::IoError;
use sys::landlock::{confine, Reach};

use crate::LayerError;

/// The fence's name where it is left out (`sys::weakened`).
const NAME: &str = "archive-threads";

/// Gives up, for the calling thread, to open anything outside of `reach`; nothing where the kernel cannot do so.
///
/// # Errors
/// `IO_FAILED`.
pub(crate) fn enter(reach: Reach<'_>) -> Result<(), IoError> {
    if sys::weakened::lacks(NAME) {
        return Ok(());
    }
    match confine(reach) {
        Ok(_) => Ok(()),
        Err(errno) => Err(IoError::new("landlock_restrict_self", "archive thread", errno.raw_os_error())),
    }
}

/// Runs `work` on a thread of its own behind the fence. Blocking.
///
/// # Errors
/// Those of `work`; `IO_FAILED` if there can be no such thread.
pub(crate) fn inside<T: Send>(
    readable: &[BorrowedFd<'_>],
    folder: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T, LayerError> + Send,
) -> Result<T, LayerError> {
    std::thread::scope(|scope| {
        let fenced = || {
            enter(Reach { readable, writable: &[folder] })?;
            work()
        };
        let thread = std::thread::Builder::new()
            .name("layer-writer".into())
            .spawn_scoped(scope, fenced)
            .map_err(|e| IoError::from_std("clone", "layer writer thread", &e))?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
