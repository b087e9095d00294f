//! What a build reads and what it makes of it: contexts kept as chunks, trees of files, and layers that are written
//! straight from them.
//!
//! A context is never unpacked: it is a list of checked entries in memory whose bytes stand in the chunk store, so that
//! no path of it ever reaches the kernel. Layers and stages are read through a detached overlay mount, beneath its root
//! and without following a link. What COPY, ADD and WORKDIR make is planned as a list of entries over the stage's tree
//! and streamed as a layer's tar; no file is written on the way. This crate knows no Dockerfile.

mod chunks;
mod content;
mod digest;
mod draft;
mod error;
mod glob;
pub mod limits;
mod materialise;
mod memory;
mod mounted;
mod owner;
mod select;
mod stream;
mod tree;
mod unpack;

pub use chunks::{ChunkDigest, ChunkStore, ChunkUsage};
pub use content::Content;
pub use digest::key_of;
pub use draft::{LayerDraft, ModeChange, Owner};
pub use error::{BuildError, CopyRule, EntryRule};
pub use materialise::materialise;
pub use memory::{MemoryEntry, MemoryKind, MemoryTree};
pub use mounted::MountedTree;
pub use owner::owner_of;
pub use select::{select, Selection, SelectionRequest};
pub use stream::DraftStream;
pub use tree::{read_file, Meta, MetaKind, Tree};
pub use unpack::Target;
