//! What can go wrong with a build's files, with the engine's catalogue entry of each.

use errors::{Catalogued, IoError};
use layer::LayerError;
use mount::MountError;

/// The rule that an entry of a context breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryRule {
    /// Empty, absolute, with an empty component, `.`, `..` or NUL.
    #[error("a path must be relative, with no empty part, no `.`, no `..` and no NUL")]
    Path,
    /// Twice the same.
    #[error("the path was offered before as something else")]
    Duplicate,
    /// A parent is a file or a link.
    #[error("a parent of the path is not a directory")]
    ParentNotDirectory,
    /// A link without a target, or with a NUL.
    #[error("a link must have a target without NUL")]
    LinkTarget,
    /// A directory or link with data, or data that is not as long as the size says.
    #[error("the chunks do not add up to the size")]
    Size,
    /// Bits outside 07777.
    #[error("the mode has bits outside 07777")]
    Mode,
}

/// The rule that a copy breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CopyRule {
    /// A directory would take the place of a file.
    #[error("a directory cannot take the place of what is there")]
    OverFile,
    /// A file would take the place of a directory.
    #[error("a file cannot take the place of a directory")]
    OverDirectory,
    /// A file stands where a directory must be: at the destination or on the way to it.
    #[error("a directory is needed here, and what is here is none")]
    NotDirectory,
    /// Too many links on the way.
    #[error("too many symbolic links on the way")]
    SymlinkLoop,
    /// A socket or the like.
    #[error("files of this kind cannot be copied")]
    Kind,
    /// `[` without its end.
    #[error("the pattern is malformed")]
    Pattern,
    /// The name would hide another one in the layer.
    #[error("a name that begins with .wh. would hide another file in a layer")]
    WhiteoutPrefix,
}

/// A failure of a build's files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The layer store or its tar refused.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A tree could not be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// An entry of a context breaks a rule.
    #[error("context entry {entry:?}: {rule}")]
    EntryInvalid {
        /// Its path, escaped and shortened.
        entry: String,
        /// The rule.
        rule: EntryRule,
    },
    /// A named limit was passed.
    #[error("{subject}: {limit} is {limit_value}, got {actual}")]
    LimitExceeded {
        /// The limit's name.
        limit: &'static str,
        /// The limit's value.
        limit_value: u64,
        /// What was found.
        actual: u64,
        /// What passed it.
        subject: String,
    },
    /// Nothing matches what an instruction names.
    #[error("{path:?} is not in {tree}")]
    SourceNotFound {
        /// As the instruction has it, escaped and shortened.
        path: String,
        /// What was looked at: the context, a stage, an image.
        tree: String,
    },
    /// A copy cannot be carried out.
    #[error("{path:?}: {rule}")]
    CopyRejected {
        /// The path at fault, escaped and shortened.
        path: String,
        /// The rule.
        rule: CopyRule,
    },
    /// A chunk is not there, or not what its digest says.
    #[error("context {id}: {missing_count} chunks are missing")]
    ContextIncomplete {
        /// The context.
        id: String,
        /// How many chunks are missing.
        missing_count: u64,
    },
    /// No such context.
    #[error("no context {id}")]
    ContextNotFound {
        /// The id asked for, escaped and shortened.
        id: String,
    },
    /// A user or group that the tree does not know.
    #[error("user {user:?}: {rule}")]
    UserInvalid {
        /// The text.
        user: String,
        /// What is wrong with it.
        rule: String,
    },
    /// The caller gave up.
    #[error("cancelled: {subject}")]
    Cancelled {
        /// What was being done.
        subject: String,
    },
}

impl BuildError {
    pub(crate) fn limit(limit: &'static str, limit_value: u64, actual: u64, subject: &str) -> Self {
        Self::LimitExceeded { limit, limit_value, actual, subject: subject.to_owned() }
    }

    pub(crate) fn rejected(path: &[u8], rule: CopyRule) -> Self {
        Self::CopyRejected { path: shown(path), rule }
    }

    /// The same failure for those who read a layer.
    pub(crate) fn into_layer(self) -> LayerError {
        match self {
            Self::Io(error) => LayerError::Io(error),
            Self::Layer(error) => error,
            Self::LimitExceeded { limit, limit_value, actual, subject } => {
                LayerError::LimitExceeded { limit, limit_value, actual, subject }
            }
            Self::Cancelled { subject } => LayerError::Cancelled { subject },
            other => LayerError::DataCorrupt { path: "build".to_owned(), detail: other.to_string() },
        }
    }
}

impl Catalogued for BuildError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Io(error) => error.reason(),
            Self::Layer(error) => error.reason(),
            Self::Mount(error) => error.reason(),
            Self::EntryInvalid { .. } => "CONTEXT_INVALID",
            Self::LimitExceeded { .. } => "LIMIT_EXCEEDED",
            Self::SourceNotFound { .. } => "BUILD_SOURCE_NOT_FOUND",
            Self::CopyRejected { .. } => "BUILD_COPY_REJECTED",
            Self::ContextIncomplete { .. } => "CONTEXT_INCOMPLETE",
            Self::ContextNotFound { .. } => "CONTEXT_NOT_FOUND",
            Self::UserInvalid { .. } => "USER_INVALID",
            Self::Cancelled { .. } => "CANCELLED",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Io(error) => error.metadata(),
            Self::Layer(error) => error.metadata(),
            Self::Mount(error) => error.metadata(),
            Self::EntryInvalid { entry, rule } => {
                vec![("entry", entry.clone()), ("rule", rule.to_string())]
            }
            Self::LimitExceeded { limit, limit_value, actual, subject } => vec![
                ("limit", (*limit).to_owned()),
                ("limit_value", limit_value.to_string()),
                ("actual", actual.to_string()),
                ("subject", subject.clone()),
            ],
            Self::SourceNotFound { path, tree } => vec![("path", path.clone()), ("tree", tree.clone())],
            Self::CopyRejected { path, rule } => vec![("path", path.clone()), ("rule", rule.to_string())],
            Self::ContextIncomplete { id, missing_count } => {
                vec![("id", id.clone()), ("missing_count", missing_count.to_string())]
            }
            Self::ContextNotFound { id } => vec![("id", id.clone())],
            Self::UserInvalid { user, rule } => vec![("user", user.clone()), ("rule", rule.clone())],
            Self::Cancelled { subject } => vec![("subject", subject.clone())],
        }
    }
}

/// The longest part of a hostile name that an error shows.
const SHOWN_MAX_CHARS: usize = 200;

/// A hostile name made safe to show: escaped and shortened.
pub(crate) fn shown(name: &[u8]) -> String {
    let end = name.len().min(SHOWN_MAX_CHARS);
    String::from_utf8_lossy(&name[..end]).chars().flat_map(char::escape_debug).take(SHOWN_MAX_CHARS).collect()
}
