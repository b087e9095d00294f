//! Why a port could not be had.

use errors::{Catalogued, IoError};
use rustix::io::Errno;

/// A failure of the forwarder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// The kernel refused a socket or a thread.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl ForwardError {
    pub(crate) fn refused(operation: &'static str, subject: &str, errno: Errno) -> Self {
        Self::Io(IoError::new(operation, subject, errno.raw_os_error()))
    }

    pub(crate) fn from_std(operation: &'static str, subject: &str, error: &std::io::Error) -> Self {
        Self::Io(IoError::from_std(operation, subject, error))
    }
}

impl Catalogued for ForwardError {
    fn reason(&self) -> &'static str {
        let Self::Io(error) = self;
        error.reason()
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        let Self::Io(error) = self;
        error.metadata()
    }
}
