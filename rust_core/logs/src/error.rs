//! What can go wrong when a log is opened, read or written.

use errors::{Catalogued, IoError};

/// A failure of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogsError {
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A cursor does not name a place between two records of this log.
    #[error("the cursor {cursor:?} names no place in this log")]
    CursorInvalid {
        /// The cursor as it was given, cut to [`crate::cursor::MAX_CURSOR_BYTES`].
        cursor: String,
    },
}

impl Catalogued for LogsError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Io(error) => error.reason(),
            Self::CursorInvalid { .. } => "CURSOR_INVALID",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Io(error) => error.metadata(),
            Self::CursorInvalid { cursor } => vec![("cursor", cursor.clone())],
        }
    }
}
