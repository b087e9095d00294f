//! A store in a directory of its own, and small words for its blobs.

use content::{Algorithm, ContentStore, Digest, Ingest, OpenedIngest};

/// A store and its data root, which goes with it.
pub struct Scratch {
    pub store: ContentStore,
    pub root: tempfile::TempDir,
}

impl Scratch {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { store: ContentStore::open(root.path()).unwrap(), root }
    }

    /// The ingest of `data`, for one that is not whole yet.
    pub fn ingest(&self, data: &[u8]) -> Ingest {
        match self.store.open_ingest(&sha256(data), data.len() as u64, &|| false).unwrap() {
            OpenedIngest::Writing(ingest) => ingest,
            OpenedIngest::Present { .. } => panic!("the blob is whole already"),
        }
    }

    /// True if the blob is whole, visible or staged.
    pub fn is_present(&self, data: &[u8]) -> bool {
        let opened = self.store.open_ingest(&sha256(data), data.len() as u64, &|| false).unwrap();
        matches!(opened, OpenedIngest::Present { .. })
    }
}

pub fn sha256(data: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, data)
}
