//! Files for what a writer cannot keep in memory until a layer's end.

use std::fs::File;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::tree::io;
use crate::LayerError;

/// The name that such a file has for a moment.
pub(crate) const NAME: &str = "records.tmp";

/// A new file in `folder` that others cannot read.
pub(crate) fn create(folder: BorrowedFd<'_>, name: &str) -> Result<File, LayerError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let made = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600));
    Ok(File::from(made.map_err(|errno| io("openat", name.as_bytes(), errno))?))
}

/// A file in `folder` without a name: it is gone when it is closed, also by a kill.
pub(crate) fn unnamed(folder: BorrowedFd<'_>) -> Result<File, LayerError> {
    let file = create(folder, NAME)?;
    rustix::fs::unlinkat(folder, NAME, AtFlags::empty())
        .map_err(|errno| io("unlinkat", NAME.as_bytes(), errno))?;
    Ok(file)
}
