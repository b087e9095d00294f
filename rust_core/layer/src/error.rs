//! What can go wrong with a layer, with the engine's catalogue entry of each.

use std::path::PathBuf;

use content::Digest;
use errors::{Catalogued, IoError};
use mount::MountError;

/// The rule that an entry of a layer breaks. Its text is the `rule` of `LAYER_REJECTED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// `..` leads above the layer's root.
    #[error("the name leaves the layer's root")]
    NameEscapes,
    /// An empty name.
    #[error("the name is empty")]
    NameEmpty,
    /// A NUL inside a name or link target.
    #[error("the name holds a NUL byte")]
    NameNul,
    /// `.wh.`, `.wh..` or `.wh...`: whiteouts of nothing, of the directory or of its parent.
    #[error("the whiteout hides no name that can exist")]
    WhiteoutName,
    /// The root directory can be nothing else.
    #[error("the layer's root must be a directory")]
    RootNotDirectory,
    /// A parent of the name is a file or a device.
    #[error("a parent of the name is not a directory")]
    ParentNotDirectory,
    /// Too many symbolic links on the way to the parent.
    #[error("too many symbolic links on the way")]
    SymlinkLoop,
    /// A symbolic link without a target.
    #[error("the symbolic link has no target")]
    LinkEmpty,
    /// A hard link to a directory.
    #[error("a hard link to a directory")]
    HardlinkToDirectory,
    /// Neither this layer nor one below it has the target.
    #[error("the hard link's target is in no layer")]
    HardlinkTargetMissing,
    /// An owner outside 0 to 4294967294.
    #[error("the user id is outside 0 to 4294967294")]
    UserId,
    /// A group outside 0 to 4294967294.
    #[error("the group id is outside 0 to 4294967294")]
    GroupId,
    /// A device number that Linux cannot hold.
    #[error("the device number is outside Linux's range")]
    DeviceNumber,
    /// A time that no file system holds.
    #[error("the modification time is out of range")]
    ModificationTime,
    /// A type that a layer cannot hold.
    #[error("the entry's type has no place in a layer")]
    EntryType,
    /// A sparse map that overlaps, runs backwards or does not fit the data.
    #[error("the sparse map does not fit the file")]
    SparseMap,
    /// A name or value that the kernel refuses.
    #[error("the extended attribute is malformed or refused by the kernel")]
    Xattr,
    /// A record of a tar ends its key at the first `=`.
    #[error("the name of an extended attribute holds `=`, which no tar can hold")]
    XattrName,
    /// In a layer the name would hide another one.
    #[error("a name that begins with .wh. would hide another file in a layer")]
    WhiteoutPrefix,
    /// Overlayfs keeps what the directory or file holds elsewhere.
    #[error("overlayfs keeps its content under another name (redirect_dir or metacopy)")]
    Redirected,
}

/// A failure of the layer store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayerError {
    /// A system call failed; a full disk is told apart by its errno.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Reading the layer's source failed. A caller whose source has typed errors of its own looks at those first.
    #[error("reading {digest}: {error}")]
    Source {
        /// The blob.
        digest: String,
        /// The source's failure.
        error: IoError,
    },
    /// An entry breaks a rule.
    #[error("layer {digest}: entry {entry:?}: {rule}")]
    Rejected {
        /// The blob.
        digest: String,
        /// The entry's name, escaped and shortened.
        entry: String,
        /// The rule.
        rule: Rule,
    },
    /// A file of a container that no layer can hold.
    #[error("{path:?}: {rule}")]
    Unrepresentable {
        /// Its path from the container's root, escaped and shortened.
        path: String,
        /// What stands against it.
        rule: Rule,
    },
    /// The stream is not a whole, well-formed archive.
    #[error("layer {digest}: {detail}")]
    Corrupt {
        /// The blob.
        digest: String,
        /// What is wrong, and where.
        detail: String,
    },
    /// The uncompressed stream has another digest than the image's config says.
    #[error("uncompressed layer has digest {actual}, not {expected}")]
    DiffIdMismatch {
        /// The config's diff_id.
        expected: Digest,
        /// The stream's.
        actual: Digest,
    },
    /// A named limit was passed.
    #[error("{subject}: {limit} is {limit_value}, got {actual}")]
    LimitExceeded {
        /// The limit's name: a field of [`Limits`](crate::Limits).
        limit: &'static str,
        /// The limit's value.
        limit_value: u64,
        /// What was found.
        actual: u64,
        /// The blob, and the entry where there is one.
        subject: String,
    },
    /// No such layer, or not staged.
    #[error("no layer {layer_id}")]
    NotFound {
        /// The layer asked for, escaped and shortened if it is no layer id.
        layer_id: String,
    },
    /// A file of the store is damaged.
    #[error("{path}: {detail}")]
    DataCorrupt {
        /// The file.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// The caller gave up.
    #[error("cancelled: {subject}")]
    Cancelled {
        /// The blob or layer.
        subject: String,
    },
    /// A layer's image could not be mounted.
    #[error("layer in {}: {error}", path.display())]
    Mount {
        /// The layer's folder.
        path: PathBuf,
        /// The step that failed.
        error: MountError,
    },
    /// This host cannot keep layers in the asked way.
    #[error("this kernel ({kernel_release}) lacks {feature}")]
    FeatureMissing {
        /// The store kind asked for.
        feature: String,
        /// uname's release.
        kernel_release: String,
    },
}

impl Catalogued for LayerError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Io(error) | Self::Source { error, .. } => error.reason(),
            Self::Rejected { .. } => "LAYER_REJECTED",
            Self::Unrepresentable { .. } => "FILE_UNREPRESENTABLE",
            Self::Corrupt { .. } => "LAYER_CORRUPT",
            Self::DiffIdMismatch { .. } => "DIFF_ID_MISMATCH",
            Self::LimitExceeded { .. } => "LIMIT_EXCEEDED",
            Self::NotFound { .. } => "LAYER_NOT_FOUND",
            Self::DataCorrupt { .. } => "DATA_CORRUPT",
            Self::Cancelled { .. } => "CANCELLED",
            Self::Mount { error, .. } => error.reason(),
            Self::FeatureMissing { .. } => "KERNEL_FEATURE_MISSING",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Io(error) | Self::Source { error, .. } => error.metadata(),
            Self::Rejected { digest, entry, rule } => {
                vec![("digest", digest.clone()), ("entry", entry.clone()), ("rule", rule.to_string())]
            }
            Self::Unrepresentable { path, rule } => {
                vec![("path", path.clone()), ("rule", rule.to_string())]
            }
            Self::Corrupt { digest, detail } => {
                vec![("digest", digest.clone()), ("detail", detail.clone())]
            }
            Self::DiffIdMismatch { expected, actual } => {
                vec![("expected", expected.to_string()), ("actual", actual.to_string())]
            }
            Self::LimitExceeded { limit, limit_value, actual, subject } => vec![
                ("limit", (*limit).to_owned()),
                ("limit_value", limit_value.to_string()),
                ("actual", actual.to_string()),
                ("subject", subject.clone()),
            ],
            Self::NotFound { layer_id } => vec![("layer_id", layer_id.clone())],
            Self::DataCorrupt { path, detail } => {
                vec![("path", path.clone()), ("detail", detail.clone())]
            }
            Self::Cancelled { subject } => vec![("subject", subject.clone())],
            Self::Mount { path, error } => {
                let mut metadata = error.metadata();
                // The mount knows the file system's name only; the layer's folder says which.
                metadata.iter_mut().filter(|(key, _)| *key == "path").for_each(|(_, value)| {
                    *value = path.display().to_string();
                });
                metadata
            }
            Self::FeatureMissing { feature, kernel_release } => {
                vec![("feature", feature.clone()), ("kernel_release", kernel_release.clone())]
            }
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
