//! The named limits that bound a hostile context.

/// Entries of one context.
pub const MAX_CONTEXT_ENTRIES: u64 = 1_000_000;
/// Bytes of one path or link target: Linux's PATH_MAX without its NUL (limits.h).
pub const MAX_PATH_BYTES: u64 = 4095;
/// Bytes of one path component: Linux's NAME_MAX (limits.h).
pub const MAX_NAME_BYTES: u64 = 255;
/// Directories above one entry; what a layer may have.
pub const MAX_PATH_DEPTH: u64 = 200;
/// Bytes of all files of one context.
pub const MAX_CONTEXT_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// Bytes that the entries of one context take in memory.
pub const MAX_CONTEXT_INDEX_BYTES: u64 = 512 * 1024 * 1024;
/// Bytes of one chunk.
pub const MAX_CHUNK_BYTES: u64 = 512 * 1024;
/// Symbolic links followed to find one path: Linux's MAXSYMLINKS (namei.h).
pub const MAX_SYMLINKS: u32 = 40;
/// Entries of one layer that a build writes.
pub const MAX_LAYER_ENTRIES: u64 = 2_000_000;
