//! The smallest EROFS image: one block with an empty root directory.

/// Size of the image and of its only block.
const BLOCK_BYTES: usize = 4096;
/// Where the superblock begins (EROFS_SUPER_OFFSET).
const SUPER_OFFSET: usize = 1024;
/// The root's inode number: inodes stand in slots of 32 bytes from the start of the image.
const ROOT_SLOT: u16 = 0x24;

/// An image that any kernel with EROFS mounts.
///
/// Source: fs/erofs/erofs_fs.h, struct erofs_super_block, erofs_inode_compact and erofs_dirent.
pub(crate) fn empty_image() -> Vec<u8> {
    let mut image = vec![0_u8; BLOCK_BYTES];
    let mut put = |offset: usize, bytes: &[u8]| image[offset..offset + bytes.len()].copy_from_slice(bytes);

    put(SUPER_OFFSET, &0xE0F5_E1E2_u32.to_le_bytes());
    put(SUPER_OFFSET + 12, &[12]); // block size is 2^12
    put(SUPER_OFFSET + 14, &ROOT_SLOT.to_le_bytes());
    put(SUPER_OFFSET + 16, &1_u64.to_le_bytes()); // inodes
    put(SUPER_OFFSET + 36, &1_u32.to_le_bytes()); // blocks

    let inode = usize::from(ROOT_SLOT) * 32;
    let entries_bytes: u32 = 2 * 12 + 3; // two entries, then the names "." and ".."
    put(inode, &4_u16.to_le_bytes()); // compact inode, data inline behind it
    put(inode + 4, &0o040_755_u16.to_le_bytes());
    put(inode + 6, &2_u16.to_le_bytes()); // links
    put(inode + 8, &entries_bytes.to_le_bytes());
    put(inode + 16, &u32::MAX.to_le_bytes()); // no data block

    let entries = inode + 32;
    for (index, name_offset) in [24_u16, 25].into_iter().enumerate() {
        let entry = entries + index * 12;
        put(entry, &u64::from(ROOT_SLOT).to_le_bytes());
        put(entry + 8, &name_offset.to_le_bytes());
        put(entry + 10, &[2]); // a directory
    }
    put(entries + 24, b"...");
    image
}
