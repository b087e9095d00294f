//! The working directory: made as the container's root, entered as its user.

use std::os::fd::BorrowedFd;
use std::path::Path;

use mount::Want;
use rustix::fs::OFlags;

use crate::at::{At, Outcome};
use crate::failure::{StartFailure, EXIT_NOT_EXECUTABLE};
use crate::paths;
use crate::step::Step;

/// The directory exists; it and missing parents are made 0755.
pub(crate) fn ensure(root: BorrowedFd<'_>, cwd: &str) -> Outcome<()> {
    // Nearly always it is there, which one call tells.
    if paths::open(root, cwd, OFlags::PATH | OFlags::DIRECTORY).is_ok() {
        return Ok(());
    }
    mount::resolve_in_root(root, Path::new(cwd), Want::Directory, true)
        .at(Step::Cwd, cwd)
        .map(drop)
        .map_err(|failure| blame_command(failure, cwd, "cannot be made"))
}

/// The process stands in the directory, which is inside its root.
///
/// It is opened without following links of /proc, and where that led is asked afterwards: a working directory of
/// the host would give all of the host's files (CVE-2024-21626).
pub(crate) fn enter(root: BorrowedFd<'_>, cwd: &str) -> Outcome<()> {
    let fail = |failure| blame_command(failure, cwd, "cannot be entered");
    let directory =
        paths::open(root, cwd, OFlags::PATH | OFlags::DIRECTORY).at(Step::Cwd, cwd).map_err(fail)?;
    rustix::process::fchdir(&directory).at(Step::Cwd, cwd).map_err(fail)?;
    let answer = rustix::process::getcwd(Vec::new()).at(Step::Cwd, cwd).map_err(fail)?;
    // The kernel writes `(unreachable)` before a directory that is not below the root.
    if !answer.as_bytes().starts_with(b"/") && !sys::weakened::lacks("working-directory") {
        let failure = StartFailure::rule(Step::Cwd, cwd, "the working directory is outside the container");
        return Err(failure.with_exit_code(EXIT_NOT_EXECUTABLE));
    }
    Ok(())
}

fn blame_command(failure: StartFailure, cwd: &str, what: &str) -> StartFailure {
    failure.with_detail(format!("the working directory {cwd:?} {what}")).with_exit_code(EXIT_NOT_EXECUTABLE)
}
