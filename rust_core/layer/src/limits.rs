//! The named limits that bound a hostile layer, and their defaults.

/// Entries of one layer, parent directories made without an entry included.
pub const ENTRY_COUNT_MAX: u64 = 2_000_000;
/// Bytes of a path or link target: Linux's PATH_MAX without its NUL (limits.h).
pub const PATH_BYTES_MAX: u64 = 4095;
/// Bytes of one path component: Linux's NAME_MAX (limits.h).
pub const NAME_BYTES_MAX: u64 = 255;
/// Directories above one entry. Each holds a file descriptor while the entry is written.
pub const PATH_DEPTH_MAX: u64 = 200;
/// Bytes of one extended header: PAX records, GNU long names. Go's archive/tar has the same bound.
pub const EXTENDED_HEADER_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of one sparse map in the archive. Source: the mending of CVE-2025-58183.
pub const SPARSE_MAP_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes that the index of a sparse file may take beyond the file's stored data, in a store that keeps archives: the
/// addresses of its chunks and the zeros with which unaligned ones are filled up.
pub const SPARSE_INDEX_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Extended attributes of one entry.
pub const XATTR_COUNT_MAX: u64 = 256;
/// Bytes of one extended attribute's value: Linux's XATTR_SIZE_MAX (limits.h).
pub const XATTR_VALUE_BYTES_MAX: u64 = 65_536;
/// Bytes of the uncompressed layer, and of its files with their holes counted.
pub const LAYER_SIZE_BYTES_MAX: u64 = 256 * 1024 * 1024 * 1024;
/// Uncompressed bytes for each compressed byte, looked at beyond `EXPANSION_FLOOR_BYTES`.
pub const EXPANSION_RATIO_MAX: u64 = 200;
/// A layer may expand to this size whatever its ratio: a file of zeros compresses a thousandfold and is no attack.
pub const EXPANSION_FLOOR_BYTES: u64 = 1024 * 1024 * 1024;
/// Symbolic links followed to find one parent directory: Linux's MAXSYMLINKS (namei.h).
pub const SYMLINK_COUNT_MAX: u64 = 40;
/// Bytes kept for what is settled at a layer's end, in memory or in a file without a name: directories, whiteouts and facts,
/// or the whole index.
pub const PENDING_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes of a stored layer's `meta.json`.
pub const META_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The limits that one layer is read under. `Limits::default()` gives the constants of this module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// See [`ENTRY_COUNT_MAX`].
    pub entry_count: u64,
    /// See [`PATH_BYTES_MAX`].
    pub path_bytes: u64,
    /// See [`NAME_BYTES_MAX`].
    pub name_bytes: u64,
    /// See [`PATH_DEPTH_MAX`].
    pub path_depth: u64,
    /// See [`EXTENDED_HEADER_BYTES_MAX`].
    pub extended_header_bytes: u64,
    /// See [`SPARSE_MAP_BYTES_MAX`].
    pub sparse_map_bytes: u64,
    /// See [`SPARSE_INDEX_BYTES_MAX`].
    pub sparse_index_bytes: u64,
    /// See [`XATTR_COUNT_MAX`].
    pub xattr_count: u64,
    /// See [`XATTR_VALUE_BYTES_MAX`].
    pub xattr_value_bytes: u64,
    /// See [`LAYER_SIZE_BYTES_MAX`].
    pub layer_size_bytes: u64,
    /// See [`EXPANSION_RATIO_MAX`].
    pub expansion_ratio: u64,
    /// See [`EXPANSION_FLOOR_BYTES`].
    pub expansion_floor_bytes: u64,
    /// See [`SYMLINK_COUNT_MAX`].
    pub symlink_count: u64,
    /// See [`PENDING_BYTES_MAX`].
    pub pending_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entry_count: ENTRY_COUNT_MAX,
            path_bytes: PATH_BYTES_MAX,
            name_bytes: NAME_BYTES_MAX,
            path_depth: PATH_DEPTH_MAX,
            extended_header_bytes: EXTENDED_HEADER_BYTES_MAX,
            sparse_map_bytes: SPARSE_MAP_BYTES_MAX,
            sparse_index_bytes: SPARSE_INDEX_BYTES_MAX,
            xattr_count: XATTR_COUNT_MAX,
            xattr_value_bytes: XATTR_VALUE_BYTES_MAX,
            layer_size_bytes: LAYER_SIZE_BYTES_MAX,
            expansion_ratio: EXPANSION_RATIO_MAX,
            expansion_floor_bytes: EXPANSION_FLOOR_BYTES,
            symlink_count: SYMLINK_COUNT_MAX,
            pending_bytes: PENDING_BYTES_MAX,
        }
    }
}
