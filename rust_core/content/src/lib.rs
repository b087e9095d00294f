//! The content store: an OCI image layout whose blobs are named by their digest and never change.
//!
//! It stages, verifies, publishes, reads and removes blobs below one data root. It knows nothing of images,
//! manifests or registries, and it decides nothing about what may be removed.
//!
//! ```text
//! <data root>/content/oci-layout, index.json, blobs/<algorithm>/<hex>   visible, whole, verified
//! <data root>/ingest/<hex>/data                                         partial, or whole and not yet visible
//! <data root>/ingest/<hex>/complete                                     present if `data` is whole and verified
//! ```
//!
//! A blob becomes visible in two steps: it is staged (written and verified in `ingest/`), then published: one
//! `syncfs` for any number of blobs, then one rename each. `complete` holds the kernel's boot id, since what was
//! staged but not synced before a power failure may have lost its data: a marker of another boot is not believed,
//! and the blob is hashed again.
//!
//! Source: <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>

mod digest;
mod error;
mod files;
mod ingest;
mod store;
mod unnamed;

pub use digest::{Algorithm, Digest, Hasher};
pub use error::ContentError;
pub use ingest::{Ingest, IngestInfo};
pub use store::{Blob, BlobInfo, ContentStore, OpenedIngest, INDEX_MAX_BYTES, STAGED_BYTES_MAX};
pub use unnamed::{StagedBlob, UnnamedBlob};
