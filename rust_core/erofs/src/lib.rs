//! Writes EROFS images that hold the metadata of a tree; the bytes of its files stay where they are, in another file
//! that is named as the image's extra device.
//!
//! A [`Tree`] is built name by name, and [`ImageWriter::finish`] lays it out and writes it. The tree keeps in memory what
//! finds a name, and directories; all else goes to a file that the caller gives. Blocks that have no place in the other
//! file (the unaligned parts of sparse files) are handed to [`ImageWriter::append_blocks`] while the tree is built. The
//! same calls give the same bytes.
//!
//! No system call is made but the writes and reads of the files that the caller gives; there is no clock, and no
//! knowledge of archives or layers. Names and values are the caller's to check; what the format cannot hold is an
//! [`ImageError`].
//!
//! Source: Linux, fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst.

mod chunks;
mod error;
mod file;
mod format;
mod image;
mod layout;
mod owner;
mod records;
mod slot;
mod tree;
mod xattr;

pub use chunks::{Chunk, ChunkMap};
pub use error::ImageError;
pub use file::{Attributes, FileData, Kind, New, Special};
pub use format::{DEFAULT_BLOCK_BITS, NAME_BYTES_MAX, XATTR_BODY_BYTES_MAX, XATTR_VALUE_BYTES_MAX};
pub use image::{ImageSummary, ImageWriter};
pub use owner::OWNER_BYTES;
pub use tree::{InodeId, Tree, NAME_OVERHEAD_BYTES};
pub use xattr::XattrSet;
