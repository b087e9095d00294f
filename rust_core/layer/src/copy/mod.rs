//! Files into and out of a tree that somebody else may be changing meanwhile: `cp` of a container, and of a caller's own
//! directory on the other end.
//!
//! The tree is a [`Root`]: an open directory with all that is mounted below it. Every path is walked component by
//! component from there, each opened by itself in the directory held by descriptor before it. Links are read and walked
//! by us, `..` goes back to the descriptor before, so that nothing outside is ever named, whatever is renamed or turned
//! into a link meanwhile (cases Z03, CVE-2018-15664, CVE-2019-10152). No device and no pipe is ever opened.
//!
//! Out: [`open_archive`] gives a tar that is made while it is read. In: [`Unpacker`] takes the entries of one; a file
//! appears under its name whole or not at all, what came before a failure stays.

mod archive;
mod error;
mod feed;
mod ids;
mod place;
mod root;
mod source;
mod unpack;
mod walk;

pub use archive::{open_archive, Archive, FileInfo};
pub use error::CopyError;
pub use feed::{begin, Receiver};
pub use ids::Ids;
pub use root::Root;
pub use source::ArchiveSource;
pub use unpack::{Placed, Rename, UnpackOptions, Unpacker};
pub(crate) use walk::PlainWalk;
