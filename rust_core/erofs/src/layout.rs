//! Decides where each inode and block stands before anything is written.

use crate::chunks::ChunkMap;
use crate::error::{narrow, ImageError};
use crate::file::Kind;
use crate::format::{Layout, CHUNK_INDEX_BYTES, DIRENT_BYTES, INODE_BYTES, SLOT_BYTES};
use crate::tree::{Data, Inode, Tree};

/// The places of a tree in its image, by the order of writing.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Inodes as they follow each other, the root first.
    pub order: Vec<u32>,
    /// Where each inode stands in the image, by its own number; 0 for those that no name leads to.
    pub nids: Vec<u32>,
    /// Directories and links whose data takes blocks of its own, with the first block, ascending.
    pub blocks: Vec<(u32, u32)>,
    /// First block behind everything.
    pub end_block: u32,
}

/// No inode has the number 0, which readdir(3) passes over.
const FIRST_NID: u64 = 1;

/// The bytes of one directory: names fill blocks, and none is cut.
pub(crate) fn directory_bytes<'n>(names: impl Iterator<Item = &'n [u8]>, block_bytes: usize) -> u64 {
    let (mut blocks, mut used) = (0_u64, 0);
    for name in names {
        let need = DIRENT_BYTES + name.len();
        if used + need > block_bytes {
            (blocks, used) = (blocks + 1, 0);
        }
        used += need;
    }
    blocks * block_bytes as u64 + used as u64
}

/// The names of a directory with its own two, in the order in which the kernel searches.
pub(crate) fn entries<'t>(tree: &'t Tree, directory: u32) -> impl Iterator<Item = (&'t [u8], u32)> + 't {
    let mut own = [(&b"."[..], directory), (&b".."[..], tree.above(directory))].into_iter().peekable();
    let mut others = tree.children(directory).peekable();
    std::iter::from_fn(move || match (own.peek(), others.peek()) {
        (Some(dot), Some(other)) if other.0 < dot.0 => others.next(),
        (Some(_), _) => own.next(),
        (None, _) => others.next(),
    })
}

/// How an inode's data is kept, and how many bytes of it stand behind the inode and its extended attributes.
pub(crate) fn data_of(tree: &Tree, inode: &Inode, block_bytes: u64) -> (Layout, u64) {
    let xattr_bytes = tree.xattrs.body(tree.owners.get(inode.owner).xattrs).len() as u64;
    match inode.kind {
        Kind::Directory | Kind::Symlink => {
            // Data behind an inode must end in the block in which it begins.
            if (INODE_BYTES + xattr_bytes) % block_bytes + inode.size <= block_bytes {
                (Layout::Inline, inode.size)
            } else {
                (Layout::Plain, 0)
            }
        }
        Kind::File if inode.size == 0 => (Layout::Plain, 0),
        Kind::File => match inode.data {
            Data::Image => (Layout::Plain, 0),
            Data::Hole | Data::Device => (Layout::Chunks, CHUNK_INDEX_BYTES),
            Data::Chunks => {
                let map = &tree.maps[inode.place as usize];
                (Layout::Chunks, map.chunks.len() as u64 * CHUNK_INDEX_BYTES)
            }
        },
        Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => (Layout::Plain, 0),
    }
}

/// The number of bits of a file's chunks.
pub(crate) fn chunk_bits(tree: &Tree, inode: &Inode, block_bits: u8) -> u32 {
    match inode.data {
        Data::Chunks => tree.maps[inode.place as usize].bits,
        _ => ChunkMap::bits_of_whole(inode.size, block_bits),
    }
}

/// Where data begins behind an inode at `start`: chunk addresses are aligned to their size.
pub(crate) fn data_offset(start: u64, layout: Layout, xattr_bytes: u64) -> u64 {
    let end = start + INODE_BYTES + xattr_bytes;
    if layout == Layout::Chunks {
        end.next_multiple_of(CHUNK_INDEX_BYTES)
    } else {
        end
    }
}

/// The first place from `at` on where the inode can stand, and where it ends.
fn place(at: u64, layout: Layout, xattr_bytes: u64, behind: u64, block_bytes: u64) -> (u64, u64) {
    let mut start = at.next_multiple_of(SLOT_BYTES);
    // Neither the fixed part of an inode nor data behind it may lie over the end of a block.
    let is_cut = |from: u64, len: u64| len > 0 && from % block_bytes + len > block_bytes;
    let inline = |start: u64| data_offset(start, layout, xattr_bytes);
    if is_cut(start, INODE_BYTES) || (layout == Layout::Inline && is_cut(inline(start), behind)) {
        start = start.next_multiple_of(block_bytes);
    }
    (start, inline(start) + behind)
}

/// Lays out the whole tree; the area of inodes begins at block `meta_block`.
pub(crate) fn plan(tree: &mut Tree, meta_block: u32, block_bits: u8) -> Result<Plan, ImageError> {
    let block_bytes = 1_u64 << block_bits;
    let nids = vec![0; tree.inodes.len()];
    let mut plan = Plan { order: Vec::new(), nids, blocks: Vec::new(), end_block: 0 };
    let mut at = FIRST_NID * SLOT_BYTES;
    let mut pending = vec![0];
    prepare_directory(tree, 0, block_bytes);
    assign(tree, &mut plan, 0, &mut at, block_bytes)?;
    while let Some(directory) = pending.pop() {
        let children: Vec<u32> = tree.children(directory).map(|(_, inode)| inode).collect();
        let before = pending.len();
        for child in children {
            if plan.nids[child as usize] != 0 {
                continue;
            }
            if tree.inodes[child as usize].kind == Kind::Directory {
                pending.push(child);
                prepare_directory(tree, child, block_bytes);
            }
            assign(tree, &mut plan, child, &mut at, block_bytes)?;
        }
        pending[before..].reverse();
    }
    let mut block = u64::from(meta_block) + at.div_ceil(block_bytes);
    for index in 0..plan.order.len() {
        let number = plan.order[index];
        let inode = &tree.inodes[number as usize];
        let has_blocks = matches!(inode.kind, Kind::Directory | Kind::Symlink)
            && data_of(tree, inode, block_bytes).0 == Layout::Plain;
        if has_blocks {
            plan.blocks.push((number, narrow("blocks", block)?));
            block += inode.size.div_ceil(block_bytes);
        }
    }
    plan.end_block = narrow("blocks", block)?;
    Ok(plan)
}

fn prepare_directory(tree: &mut Tree, directory: u32, block_bytes: u64) {
    tree.sort(directory);
    let bytes = usize::try_from(block_bytes).unwrap_or(usize::MAX);
    let size = directory_bytes(entries(tree, directory).map(|(name, _)| name), bytes);
    let is_directory = |inode: u32| tree.inodes[inode as usize].kind == Kind::Directory;
    let below = tree.children(directory).filter(|(_, inode)| is_directory(*inode)).count();
    let inode = &mut tree.inodes[directory as usize];
    inode.size = size;
    inode.links = u32::try_from(below).unwrap_or(u32::MAX).saturating_add(2);
}

fn assign(
    tree: &Tree,
    plan: &mut Plan,
    number: u32,
    at: &mut u64,
    block_bytes: u64,
) -> Result<(), ImageError> {
    let inode = &tree.inodes[number as usize];
    let (layout, behind) = data_of(tree, inode, block_bytes);
    let xattr_bytes = tree.xattrs.body(tree.owners.get(inode.owner).xattrs).len() as u64;
    let (start, end) = place(*at, layout, xattr_bytes, behind, block_bytes);
    plan.nids[number as usize] = narrow("slots of inodes", start / SLOT_BYTES)?;
    plan.order.push(number);
    *at = end;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_not_cut_by_the_end_of_a_block() {
        let long = [b'n'; 255];
        let names = |count: usize| std::iter::repeat_n(&long[..], count);
        assert_eq!(directory_bytes(names(1), 512), 267);
        assert_eq!(directory_bytes(names(2), 512), 512 + 267);
        let exact = [b'x'; 244];
        assert_eq!(directory_bytes([&exact[..], &exact].into_iter(), 512), 512);
    }

    #[test]
    fn inodes_and_data_behind_them_end_in_their_block() {
        assert_eq!(place(480, Layout::Plain, 0, 0, 512), (512, 576));
        assert_eq!(place(448, Layout::Plain, 0, 0, 512), (448, 512));
        assert_eq!(place(33, Layout::Inline, 0, 300, 512), (64, 428));
        assert_eq!(place(200, Layout::Inline, 0, 300, 512), (512, 876));
        assert_eq!(place(0, Layout::Chunks, 20, 8, 512), (0, 96));
    }
}
