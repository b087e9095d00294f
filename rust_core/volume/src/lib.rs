//! The data of volumes: trees copied, filled from an image, unpacked from an archive, all by descriptor beneath roots
//! that the caller owns. It knows nothing of containers, and keeps no state.
//!
//! What fills a volume is made beside its data and put in place entry by entry ([`settle`]), so that a volume never has
//! half of an image's content after a crash.

mod attributes;
mod copy;
mod data;
mod error;
mod fill;
mod shown;
mod tree;
mod unpack;

pub use copy::{copy_tree, Copied, MAX_COPIED_DEPTH, MAX_COPIED_ENTRIES};
pub use error::VolumeError;
pub use fill::{fill_from_image, settle, Filled};
pub use shown::show;
pub use unpack::{unpack, Unpacked};
