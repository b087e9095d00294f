//! Why names could not be served.

use errors::{Catalogued, IoError};
use rustix::io::Errno;

/// A failure of the resolver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolverError {
    /// A value breaks a rule.
    #[error("{field}: {rule}")]
    FieldInvalid {
        /// The field.
        field: &'static str,
        /// The rule.
        rule: String,
    },
    /// The kernel refused a socket or a thread.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl ResolverError {
    pub(crate) fn refused(operation: &'static str, subject: &str, errno: Errno) -> Self {
        Self::Io(IoError::new(operation, subject, errno.raw_os_error()))
    }

    pub(crate) fn from_std(operation: &'static str, subject: &str, error: &std::io::Error) -> Self {
        Self::Io(IoError::from_std(operation, subject, error))
    }
}

impl Catalogued for ResolverError {
    fn reason(&self) -> &'static str {
        match self {
            Self::FieldInvalid { .. } => "FIELD_INVALID",
            Self::Io(error) => error.reason(),
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::FieldInvalid { field, rule } => {
                vec![("field", (*field).to_owned()), ("rule", rule.clone())]
            }
            Self::Io(error) => error.metadata(),
        }
    }
}
