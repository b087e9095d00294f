//! One thing that a host may or may not allow.

use rustix::io::Errno;

/// A feature and whether this host has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// The name, as host.pyi lists them.
    pub name: &'static str,
    /// Whether it works here.
    pub is_available: bool,
    /// Why not, or what limits it; empty if there is nothing to say.
    pub detail: String,
}

impl Feature {
    /// Available if `answer` is Ok; its error is the detail.
    pub(crate) fn tried<E: std::fmt::Display>(name: &'static str, answer: Result<(), E>) -> Self {
        match answer {
            Ok(()) => Self { name, is_available: true, detail: String::new() },
            Err(error) => Self { name, is_available: false, detail: error.to_string() },
        }
    }

    /// The same with another detail.
    pub(crate) fn with_detail(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }
}

/// An errno in words, for details.
pub(crate) fn words(operation: &str, errno: Errno) -> String {
    format!("{operation}: {}", std::io::Error::from(errno))
}
