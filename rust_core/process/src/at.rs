//! Turns the kernel's answers into failures that name the step and the path.

use std::path::Path;

use mount::MountError;
use rustix::io::Errno;

use crate::failure::{StartFailure, EXIT_ENGINE};
use crate::step::Step;

/// The result of one step.
pub(crate) type Outcome<T> = Result<T, StartFailure>;

pub(crate) trait At<T> {
    /// The error as a failure at `step` of what was done to `path`.
    fn at(self, step: Step, path: impl AsRef<Path>) -> Outcome<T>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: Step, path: impl AsRef<Path>) -> Outcome<T> {
        self.map_err(|errno| StartFailure::kernel(step, path, errno))
    }
}

impl<T> At<T> for Result<T, MountError> {
    fn at(self, step: Step, path: impl AsRef<Path>) -> Outcome<T> {
        self.map_err(|error| StartFailure {
            step,
            errno: error.errno(),
            path: path.as_ref().to_string_lossy().into_owned(),
            detail: error.to_string(),
            exit_code: EXIT_ENGINE,
        })
    }
}
