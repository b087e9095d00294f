//! Error kinds shared by every crate of the core: each error carries a reason of the engine's catalogue and
//! the values that its message shows. It knows nothing of Python, gRPC or any one area.

use std::fmt;
use std::path::{Path, PathBuf};

/// An error that has an entry in the engine's error catalogue (`server/fluytd/errors.py`).
///
/// `reason` is the UPPER_SNAKE name of the entry; `metadata` holds every value that the message shows, by the
/// key that the entry declares. The bindings turn this pair into the Python exception of the same reason.
pub trait Catalogued: std::error::Error {
    /// The catalogue's reason, for example `DIGEST_MISMATCH`.
    fn reason(&self) -> &'static str;
    /// Key and value of each fact, in the order of the catalogue's keys.
    fn metadata(&self) -> Vec<(&'static str, String)>;
}

/// A failed system call: what was tried, on which path, and the kernel's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IoError {
    /// The operation, named as the system call or a short verb: `openat2`, `rename`, `write`.
    pub operation: &'static str,
    /// What it was done to; empty where the call has no path.
    pub path: PathBuf,
    /// The errno; 0 where the failure has none (an unexpected end of data, for example).
    pub errno: i32,
}

impl IoError {
    /// Wraps an errno.
    pub fn new(operation: &'static str, path: impl AsRef<Path>, errno: i32) -> Self {
        Self { operation, path: path.as_ref().to_path_buf(), errno }
    }

    /// Wraps a standard-library error; its errno is kept, or 0 where it has none.
    pub fn from_std(operation: &'static str, path: impl AsRef<Path>, error: &std::io::Error) -> Self {
        Self::new(operation, path, error.raw_os_error().unwrap_or(0))
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = if self.errno == 0 {
            "unexpected end of data".to_owned()
        } else {
            std::io::Error::from_raw_os_error(self.errno).to_string()
        };
        write!(f, "{} {}: {}", self.operation, self.path.display(), cause)
    }
}

impl std::error::Error for IoError {}

/// ENOSPC of errno(3).
const ENOSPC: i32 = 28;
/// EDQUOT of errno(3).
const EDQUOT: i32 = 122;

impl Catalogued for IoError {
    fn reason(&self) -> &'static str {
        match self.errno {
            ENOSPC | EDQUOT => "STORAGE_FULL",
            _ => "IO_FAILED",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        vec![
            ("operation", self.operation.to_owned()),
            ("path", self.path.display().to_string()),
            ("errno", self.errno.to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_a_reason_of_its_own() {
        assert_eq!(IoError::new("write", "/x", ENOSPC).reason(), "STORAGE_FULL");
        assert_eq!(IoError::new("write", "/x", EDQUOT).reason(), "STORAGE_FULL");
        assert_eq!(IoError::new("write", "/x", 5).reason(), "IO_FAILED");
    }

    #[test]
    fn the_message_names_operation_path_and_cause() {
        let text = IoError::new("openat2", "/a/b", 2).to_string();
        assert_eq!(text, "openat2 /a/b: No such file or directory (os error 2)");
    }
}
