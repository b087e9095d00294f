//! Mounts that are made where nobody sees them.

use std::path::Path;
use std::thread;

use rustix::io::Errno;

use crate::MountError;

/// Runs `work` on a thread that is alone in a copy of the mount namespace, from which nothing spreads; what it mounts goes
/// with it, but what it took a detached copy of. `subject` names it in errors. Blocking (a millisecond, and more the more
/// mounts the host has).
pub(crate) fn in_private_mounts<T: Send>(
    subject: &Path,
    work: impl FnOnce() -> Result<T, MountError> + Send,
) -> Result<T, MountError> {
    let alone = || {
        sys::private_mounts::enter().map_err(|errno| MountError::failed("unshare", subject, errno))?;
        work()
    };
    thread::scope(|scope| {
        let made = thread::Builder::new().name("mounts".to_owned()).spawn_scoped(scope, alone);
        let made = made.map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
            MountError::failed("clone", subject, errno)
        })?;
        made.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
