//! One pass from a source to the stores: source, digest, decompression, diff_id, layer store.
//!
//! ```text
//! registry or file -> blob stored and hashed -> decompressed, diff_id hashed -> entries written
//!                     (one thread)                                              (the caller's thread)
//! ```
//! Memory is bounded: a few chunks between registry, reader and writer, whatever the sizes of blobs. Of any number of
//! callers with the same digest or diff_id one does the work. This crate composes content, layer and registry, and
//! decides nothing about what an image is or what becomes visible.

mod archive;
mod changes;
mod error;
mod feed;
mod fetch;
mod finish;
mod local;
mod packer;
mod packing;
mod progress;
mod remake;
mod repack;
mod tee;

pub use archive::{decompress_archive, list_archive, ArchiveEntry, ArchiveEntryKind};
pub use changes::store_changes;
pub use error::IngestError;
pub use fetch::{extract_layer, fetch_blob, fetch_layer, RemoteBlob};
pub use finish::finish_layer;
pub use local::{store_layer, FileRange, StoredLayer};
pub use packing::Packing;
pub use progress::{Phase, Progress};
pub use remake::{compress_archive, ArchiveFile};
pub use repack::repack;
pub use tee::DRAIN_MAX_BYTES;

use content::ContentStore;
use layer::LayerStore;
use sys::cancel::CancelToken;

/// Where blobs and layers go.
#[derive(Debug, Clone, Copy)]
pub struct Stores<'a> {
    /// Blobs.
    pub content: &'a ContentStore,
    /// Unpacked layers.
    pub layers: &'a LayerStore,
}

/// How the caller follows and ends a call.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// Counters to write.
    pub progress: &'a Progress,
    /// Ends the call with `CANCELLED`.
    pub cancel: &'a CancelToken,
}
