//! Paths of /proc and /sys that an unprivileged container must not read, or not write.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use mount::Masker;

use crate::at::{At, Outcome};
use crate::step::Step;

/// Each path that exists reads as empty: `null`, the null device, covers a file, an empty read-only file system a
/// directory.
pub(crate) fn mask(root: BorrowedFd<'_>, paths: &[String], null: OwnedFd, label: &str) -> Outcome<()> {
    let mut masker = Masker::new(null).at(Step::Mask, "/dev/null")?.labelled(label);
    if sys::weakened::lacks("masks") {
        return Ok(());
    }
    for (index, path) in paths.iter().enumerate() {
        // A path named twice is covered already, and no file of proc any more.
        if !paths[..index].contains(path) {
            masker.mask(root, Path::new(path)).at(Step::Mask, path)?;
        }
    }
    Ok(())
}

/// Each path that exists cannot be written any more, nor what is mounted below it.
pub(crate) fn make_read_only(root: BorrowedFd<'_>, paths: &[String]) -> Outcome<()> {
    if sys::weakened::lacks("read-only-paths") {
        return Ok(());
    }
    for path in paths {
        mount::read_only_path(root, Path::new(path)).at(Step::Mask, path)?;
    }
    Ok(())
}
