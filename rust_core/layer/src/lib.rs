//! Layers: archives read under named limits, kept so that overlayfs can stack them.
//!
//! A layer is stored by itself, whatever lies below it, keyed by its diff_id, so that layers are stored in parallel and
//! once for all images. What it takes from the layers below is recorded as [`Facts`] while it is read;
//! [`needs_finish`] tells from them, without reading the layer again, whether it can be used over given layers as it
//! is. If not, the same blob is staged once more with [`Finish`], keyed by its chain_id.
//!
//! The parts: `decompress` (bytes to bytes), `tar` (bytes to [`Entry`]), `whiteout` (names to meanings), a
//! [`Store`](port::Store) kind (entries to something that can be mounted), `ledger` and `route` (the rules that all kinds
//! keep: what is counted, what waits for the end, what is hidden, how a path is followed), `stage` (joins them in one
//! pass), and [`LayerStore`] (folders, names, visibility). This crate knows nothing of images or registries, and of
//! mounts only that a layer which is kept as an EROFS image is one.
//!
//! # How to store a layer
//! ```no_run
//! # use layer::*; use std::sync::atomic::AtomicU64;
//! # fn f(blob: std::fs::File, diff_id: &content::Digest, lower: &LayerId) -> Result<(), LayerError> {
//! let layers = LayerStore::open("/var/lib/fluyt".as_ref(), "auto")?;
//! let progress = AtomicU64::new(0);
//! let request = StageRequest {
//!     subject: "sha256:…", expected_diff_id: Some(diff_id), limits: &Limits::default(), finish: None,
//!     progress: &progress, is_cancelled: &|| false,
//! };
//! let id = LayerId::from_diff_id(diff_id);
//! let info = match layers.open_stage(&id, &|| false)? {
//!     OpenedStage::Present(info) => info,
//!     OpenedStage::Writing(stage) => stage.write(blob, &request)?,
//! };
//! let lowers = layers.lower_view(&[lower.clone()])?;
//! if needs_finish(&info.facts, &lowers)? {
//!     // Stage the blob again under LayerId::from_chain_id with `finish: Some(Finish { facts: &info.facts, lowers: &lowers })`.
//! }
//! layers.publish(&[id])
//! # }
//! ```
//! The source is the blob as it came, compressed or not, and is read to its end, so that a reader which hashes or
//! stores what passes through it sees every byte.

mod compare;
pub mod copy;
pub mod decompress;
pub mod diff;
mod directory;
mod entry;
mod erofs;
mod error;
mod facts;
mod fence;
mod finish;
mod id;
mod ledger;
pub mod limits;
mod lower;
mod meta;
pub mod port;
mod route;
mod scratch;
mod source;
mod stage;
mod store;
pub mod tar;
mod tree;
mod turn;
mod whiteout;
mod xattr;

pub use decompress::Compression;
pub use entry::{Entry, EntryData, EntryKind, EntryPath, Extent, Time, Xattr};
pub use error::{LayerError, Rule};
pub use facts::{FactPath, Facts, MissingLink};
pub use finish::needs_finish;
pub use id::LayerId;
pub use limits::Limits;
pub use lower::LowerView;
pub use meta::LayerInfo;
pub use source::TarSource;
pub use stage::{Finish, StageRequest};
pub use store::{LayerStage, LayerStore, OpenedStage, Verified};
pub use xattr::may_carry_xattr;
