//! Why a network could not be made, changed or looked at.

use errors::{Catalogued, IoError};
use rustix::io::Errno;

/// A network operation that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The kernel has no such kind of link, or no nftables.
    #[error("this kernel lacks {feature}")]
    FeatureMissing {
        /// What is missing: `bridge`, `veth`, `nf_tables`.
        feature: &'static str,
    },
    /// A value breaks a rule that holds on every host.
    #[error("{field}: {rule}")]
    FieldInvalid {
        /// The field.
        field: &'static str,
        /// The rule.
        rule: String,
    },
    /// Any other refusal of the kernel.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl NetworkError {
    /// The kernel refused `operation` on `subject`, an interface, address or table.
    pub(crate) fn refused(operation: &'static str, subject: &str, errno: Errno) -> Self {
        Self::Io(IoError::new(operation, subject, errno.raw_os_error()))
    }

    /// The errno of the kernel's refusal; 0 if it was none.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Io(error) => error.errno,
            _ => 0,
        }
    }
}

impl Catalogued for NetworkError {
    fn reason(&self) -> &'static str {
        match self {
            Self::FeatureMissing { .. } => "KERNEL_FEATURE_MISSING",
            Self::FieldInvalid { .. } => "FIELD_INVALID",
            Self::Io(error) => error.reason(),
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::FeatureMissing { feature } => {
                let release = rustix::system::uname().release().to_string_lossy().into_owned();
                vec![("feature", (*feature).to_owned()), ("kernel_release", release)]
            }
            Self::FieldInvalid { field, rule } => {
                vec![("field", (*field).to_owned()), ("rule", rule.clone())]
            }
            Self::Io(error) => error.metadata(),
        }
    }
}
