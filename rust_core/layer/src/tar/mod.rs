//! Reads a tar stream (v7, ustar, PAX, GNU) into validated [`Entry`](crate::Entry) values, bounded by named limits, and
//! writes such values (`write`).
//!
//! The reader interprets no whiteouts. It is our own reader and not the `tar` crate's because that one
//! reads extended headers into memory without a bound, gives PAX sparse files with their map in the data (X17), has no
//! bound on sparse maps (X18), and takes a stream that ends between two entries for whole (X16).
//!
//! Source: POSIX pax, "ustar Interchange Format"; GNU tar manual, "Standard" and "Sparse Formats".

mod chunks;
mod compose;
mod header;
mod name;
mod pax;
mod reader;
mod retime;
mod sparse;
pub(crate) mod write;

pub use chunks::{Chunks, FileChunks};
pub use reader::{ArchiveEnd, TarReader};
pub use retime::Retimed;
pub use write::{entry_headers, padding, END};

/// The size of a tar block.
pub(crate) const BLOCK_BYTES: u64 = 512;

/// Why a header, record or map was refused, before the entry and the blob are known to the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A rule is broken.
    Rule(crate::Rule),
    /// The archive is malformed.
    Malformed(&'static str),
    /// A named limit, its value, what was found.
    Limit(&'static str, u64, u64),
}

impl Fault {
    /// Refuses `actual` beyond `value`.
    pub fn check(limit: &'static str, value: u64, actual: u64) -> Result<(), Self> {
        if actual > value {
            return Err(Self::Limit(limit, value, actual));
        }
        Ok(())
    }
}
