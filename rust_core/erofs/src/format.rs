//! The structures on disk, as bytes. Source: Linux, fs/erofs/erofs_fs.h; all numbers are little-endian.

/// 512 bytes, the unit of a tar archive, so that a file's data is addressed where the archive has it.
pub const DEFAULT_BLOCK_BITS: u8 = 9;
/// EROFS_NAME_LEN.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest value of an extended attribute: e_value_size has 16 bits.
pub const XATTR_VALUE_BYTES_MAX: usize = 65_535;
/// The most bytes that all extended attributes of one file take. The format has room for four times as much, but
/// erofs-utils count in 16 bits (erofs_prepare_xattr_ibody), and so do kernels (xattr_isize in fs/erofs/internal.h).
pub const XATTR_BODY_BYTES_MAX: usize = 65_532;

/// EROFS_SUPER_OFFSET.
pub(crate) const SUPER_OFFSET: u64 = 1024;
/// struct erofs_super_block.
const SUPER_BYTES: usize = 128;
/// struct erofs_deviceslot, also the unit of devt_slotoff (EROFS_DEVT_SLOT_SIZE).
pub(crate) const DEVICE_SLOT_BYTES: u64 = 128;
/// Inodes stand in slots of this size (EROFS_ISLOTBITS); a nid is a slot's number.
pub(crate) const SLOT_BYTES: u64 = 32;
/// struct erofs_inode_extended.
pub(crate) const INODE_BYTES: u64 = 64;
/// struct erofs_dirent.
pub(crate) const DIRENT_BYTES: usize = 12;
/// struct erofs_inode_chunk_index.
pub(crate) const CHUNK_INDEX_BYTES: u64 = 8;
/// struct erofs_xattr_ibody_header.
pub(crate) const XATTR_HEADER_BYTES: usize = 12;
/// EROFS_NULL_ADDR: a chunk that is a hole.
pub(crate) const NULL_ADDRESS: u32 = u32::MAX;
/// EROFS_CHUNK_FORMAT_BLKBITS_MASK: the most bits that a chunk may have beyond a block's.
pub(crate) const CHUNK_BITS_MAX: u32 = 31;

const MAGIC: u32 = 0xE0F5_E1E2;
/// EROFS_FEATURE_INCOMPAT_CHUNKED_FILE, EROFS_FEATURE_INCOMPAT_DEVICE_TABLE.
const INCOMPAT_CHUNKED_FILE: u32 = 0x4;
const INCOMPAT_DEVICE_TABLE: u32 = 0x8;
/// EROFS_CHUNK_FORMAT_INDEXES.
const CHUNK_FORMAT_INDEXES: u16 = 0x20;

/// How an inode's data is found (i_format).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In whole blocks.
    Plain,
    /// Behind the inode, in the same block.
    Inline,
    /// By an array of addresses behind the inode.
    Chunks,
}

impl Layout {
    fn code(self) -> u16 {
        match self {
            Self::Plain => 0,
            Self::Inline => 2,
            Self::Chunks => 4,
        }
    }
}

/// Fields of one inode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawInode {
    pub layout: Layout,
    /// Bytes of extended attributes, their header included; a multiple of 4.
    pub xattr_bytes: u32,
    /// Type and permission bits.
    pub mode: u16,
    pub size: u64,
    /// First block, device number or chunk format.
    pub union: u32,
    pub number: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime_seconds: i64,
    pub mtime_nanos: u32,
    pub links: u32,
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

impl RawInode {
    /// struct erofs_inode_extended.
    pub fn encode(&self) -> [u8; INODE_BYTES as usize] {
        let mut bytes = [0; INODE_BYTES as usize];
        let units = match self.xattr_bytes as usize {
            0 => 0,
            // What XATTR_BODY_BYTES_MAX allows fits.
            total => 1 + u16::try_from((total - XATTR_HEADER_BYTES) / 4).unwrap_or(u16::MAX),
        };
        put(&mut bytes, 0, &(1 | self.layout.code() << 1).to_le_bytes());
        put(&mut bytes, 2, &units.to_le_bytes());
        put(&mut bytes, 4, &self.mode.to_le_bytes());
        put(&mut bytes, 8, &self.size.to_le_bytes());
        put(&mut bytes, 16, &self.union.to_le_bytes());
        put(&mut bytes, 20, &self.number.to_le_bytes());
        put(&mut bytes, 24, &self.uid.to_le_bytes());
        put(&mut bytes, 28, &self.gid.to_le_bytes());
        put(&mut bytes, 32, &self.mtime_seconds.to_le_bytes());
        put(&mut bytes, 40, &self.mtime_nanos.to_le_bytes());
        put(&mut bytes, 44, &self.links.to_le_bytes());
        bytes
    }
}

/// The chunk format of an inode: chunks of 2^`bits` blocks, each with an index.
pub(crate) fn chunk_format(bits: u32) -> u32 {
    u32::from(CHUNK_FORMAT_INDEXES) | bits
}

/// struct erofs_inode_chunk_index; device 0 is the image itself.
pub(crate) fn chunk_index(device: u16, start_block: u32) -> [u8; CHUNK_INDEX_BYTES as usize] {
    let mut bytes = [0; CHUNK_INDEX_BYTES as usize];
    put(&mut bytes, 2, &device.to_le_bytes());
    put(&mut bytes, 4, &start_block.to_le_bytes());
    bytes
}

/// struct erofs_dirent.
pub(crate) fn dirent(nid: u32, name_offset: u16, file_type: u8) -> [u8; DIRENT_BYTES] {
    let mut bytes = [0; DIRENT_BYTES];
    put(&mut bytes, 0, &u64::from(nid).to_le_bytes());
    put(&mut bytes, 8, &name_offset.to_le_bytes());
    put(&mut bytes, 10, &[file_type]);
    bytes
}

/// What the superblock says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Super {
    pub block_bits: u8,
    pub root_nid: u16,
    pub inode_count: u64,
    pub block_count: u32,
    pub meta_block: u32,
    pub uuid: [u8; 16],
    /// Blocks of the extra device, if there is one.
    pub device_blocks: Option<u32>,
}

impl Super {
    /// The image's first bytes up to the end of the device table, the superblock at its offset.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(Self::end_bytes()).unwrap_or(0)];
        let (head, slot) = bytes.split_at_mut(SUPER_OFFSET as usize + SUPER_BYTES);
        let head = &mut head[SUPER_OFFSET as usize..];
        put(head, 0, &MAGIC.to_le_bytes());
        put(head, 12, &[self.block_bits]);
        put(head, 14, &self.root_nid.to_le_bytes());
        put(head, 16, &self.inode_count.to_le_bytes());
        put(head, 36, &self.block_count.to_le_bytes());
        put(head, 40, &self.meta_block.to_le_bytes());
        put(head, 48, &self.uuid);
        let mut incompatible = INCOMPAT_CHUNKED_FILE;
        if let Some(blocks) = self.device_blocks {
            incompatible |= INCOMPAT_DEVICE_TABLE;
            put(head, 86, &1_u16.to_le_bytes());
            let slot_offset = (SUPER_OFFSET + SUPER_BYTES as u64) / DEVICE_SLOT_BYTES;
            put(head, 88, &u16::try_from(slot_offset).unwrap_or(0).to_le_bytes());
            put(slot, 64, &blocks.to_le_bytes());
        }
        put(head, 80, &incompatible.to_le_bytes());
        bytes
    }

    /// Where the superblock and the device table behind it end.
    pub const fn end_bytes() -> u64 {
        SUPER_OFFSET + SUPER_BYTES as u64 + DEVICE_SLOT_BYTES
    }
}
