//! What the store knows of one layer, kept beside it as `meta.json`.

use content::Digest;
use serde::{Deserialize, Serialize};

use crate::{Compression, Facts, LayerId};

/// The version of `meta.json` that this code writes; another one is refused.
pub(crate) const META_VERSION: u32 = 1;

/// A stored layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// Its name in the store.
    pub layer_id: LayerId,
    /// The digest of its uncompressed stream, read to the end.
    pub diff_id: Digest,
    /// Sum of the sizes of its regular files, each hard-linked file once.
    pub size_bytes: u64,
    /// Entries of the archive that were applied.
    pub entry_count: u64,
    /// The highest user or group that an entry belongs to; 0 in layers stored before this was recorded.
    pub max_id: u32,
    /// What it takes from the layers below.
    pub facts: Facts,
    /// How the blob it came from was compressed.
    pub compression: Compression,
    /// The store kind that keeps it.
    pub kind: String,
    /// What it takes on disk; its files' sizes where the kind does not tell.
    pub stored_bytes: u64,
}

impl LayerInfo {
    /// True if it has a parent directory without an entry of its own, a hard link to a file of a lower layer, or
    /// whiteouts, so that [`needs_finish`](crate::needs_finish) must be asked before it is used over other layers.
    pub fn depends_on_lower(&self) -> bool {
        !self.facts.is_empty()
    }
}

/// `meta.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub version: u32,
    pub kind: String,
    pub diff_id: Digest,
    pub size_bytes: u64,
    pub entry_count: u64,
    /// Absent in layers stored before this was recorded.
    #[serde(default)]
    pub max_id: u32,
    pub compression: Compression,
    /// The kernel's boot id when the layer was staged: what was staged before the last boot and never published may
    /// have lost its data, and is not believed.
    pub boot_id: String,
    /// What it takes on disk; absent in layers stored before this was recorded, and where the kind does not tell.
    #[serde(default)]
    pub stored_bytes: Option<u64>,
    /// The digest of the index, of kinds that have one.
    #[serde(default)]
    pub index_digest: Option<Digest>,
    pub facts: Facts,
}

impl Meta {
    pub fn into_info(self, layer_id: LayerId) -> LayerInfo {
        LayerInfo {
            layer_id,
            diff_id: self.diff_id,
            size_bytes: self.size_bytes,
            entry_count: self.entry_count,
            max_id: self.max_id,
            facts: self.facts,
            compression: self.compression,
            stored_bytes: self.stored_bytes.unwrap_or(self.size_bytes),
            kind: self.kind,
        }
    }
}
