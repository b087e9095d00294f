//! Decides where each inode and block stands before anything is written.

use crate::chunks::ChunkMap;
use crate::error::{narrow, ImageError};
use crate::file::Kind;
use crate::format::{Layout, CHUNK_INDEX_BYTES, DIRENT_BYTES, INODE_BYTES, SLOT_BYTES};
use crate::records::{Data, Inode, Window};
use crate::tree::{InodeId, Scratch, Tree};

/// The places of a tree in its image; those of inodes are the keys of their slots, 0 where no name leads to one.
#[derive(Debug)]
pub(crate) struct Plan {
    pub inode_count: u64,
    /// Directories and links whose data takes blocks of its own, in the order of writing, with the first block.
    pub blocks: Vec<(u32, u32)>,
    /// First block behind everything.
    pub end_block: u32,
}

/// No inode has the number 0, which readdir(3) passes over.
const FIRST_NID: u64 = 1;

/// What a directory of these names takes: they fill blocks, and none is cut.
#[derive(Debug)]
struct Filling {
    block_bytes: usize,
    blocks: u64,
    used: usize,
}

impl Filling {
    fn new(block_bytes: u64) -> Self {
        Self { block_bytes: usize::try_from(block_bytes).unwrap_or(usize::MAX), blocks: 0, used: 0 }
    }

    fn add(&mut self, name: &[u8]) {
        let need = DIRENT_BYTES + name.len();
        if self.used + need > self.block_bytes {
            (self.blocks, self.used) = (self.blocks + 1, 0);
        }
        self.used += need;
    }

    fn bytes(&self) -> u64 {
        self.blocks * self.block_bytes as u64 + self.used as u64
    }
}

/// The names that each directory has of itself, in the order in which the kernel searches.
pub(crate) const OWN_NAMES: [&[u8]; 2] = [b".", b".."];

/// Tells `visit` of each inode in the order of writing: the root, then what a directory holds, one directory after the
/// other. It answers false where it knows the inode, by another name, and has a window for the inode's record.
pub(crate) fn walk(
    tree: &mut Tree,
    visit: &mut dyn FnMut(&mut Tree, u32, &mut Window) -> Result<bool, ImageError>,
) -> Result<(), ImageError> {
    // Further names lead to records that lie elsewhere.
    let (mut near, mut far) = (Window::default(), Window::default());
    visit(tree, 0, &mut near)?;
    let mut pending = vec![0];
    while let Some(directory) = pending.pop() {
        tree.load(directory, &mut near)?;
        let before = pending.len();
        let mut name = tree.first(directory);
        while let Some(number) = name {
            let inode = tree.resolve(number, &mut near)?;
            let window = if inode == number { &mut near } else { &mut far };
            if visit(tree, inode, window)? && tree.kind(InodeId(inode)) == Kind::Directory {
                pending.push(inode);
            }
            name = tree.slot(number).next();
        }
        pending[before..].reverse();
    }
    Ok(())
}

/// How an inode's data is kept, and how many bytes of it stand behind the inode and its extended attributes.
pub(crate) fn data_of(tree: &Tree, inode: &Inode, block_bytes: u64) -> (Layout, u64) {
    let xattr_bytes = tree.xattrs.len(tree.owners.get(inode.owner).xattrs) as u64;
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
    let mut plan = Plan { inode_count: 0, blocks: Vec::new(), end_block: 0 };
    let (mut at, mut scratch) = (FIRST_NID * SLOT_BYTES, Scratch::default());
    walk(tree, &mut |tree, number, window| {
        if tree.slot(number).key != 0 {
            return Ok(false);
        }
        if tree.kind(InodeId(number)) == Kind::Directory {
            prepare_directory(tree, number, block_bytes, &mut scratch)?;
        }
        let inode = tree.inode(number, window)?;
        let (layout, behind) = data_of(tree, &inode, block_bytes);
        let xattr_bytes = tree.xattrs.len(tree.owners.get(inode.owner).xattrs) as u64;
        let (start, end) = place(at, layout, xattr_bytes, behind, block_bytes);
        tree.slot_mut(number).key = narrow("slots of inodes", start / SLOT_BYTES)?;
        plan.inode_count += 1;
        if matches!(inode.kind, Kind::Directory | Kind::Symlink) && layout == Layout::Plain {
            plan.blocks.push((number, narrow("blocks", inode.size.div_ceil(block_bytes))?));
        }
        at = end;
        Ok(true)
    })?;
    let mut block = u64::from(meta_block) + at.div_ceil(block_bytes);
    for (_, count) in &mut plan.blocks {
        let first = narrow("blocks", block)?;
        block += u64::from(std::mem::replace(count, first));
    }
    plan.end_block = narrow("blocks", block)?;
    Ok(plan)
}

fn prepare_directory(
    tree: &mut Tree,
    directory: u32,
    block_bytes: u64,
    scratch: &mut Scratch,
) -> Result<(), ImageError> {
    let mut filling = Filling::new(block_bytes);
    let mut own = OWN_NAMES.into_iter().peekable();
    tree.sort(directory, scratch, &mut |name| {
        while let Some(dot) = own.next_if(|dot| *dot < name) {
            filling.add(dot);
        }
        filling.add(name);
    })?;
    own.for_each(|dot| filling.add(dot));
    if let Some(folder) = tree.folder_mut(directory) {
        folder.size = narrow("bytes of a directory", filling.bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_not_cut_by_the_end_of_a_block() {
        let long = [b'n'; 255];
        let bytes_of = |names: &[&[u8]]| {
            let mut filling = Filling::new(512);
            names.iter().for_each(|name| filling.add(name));
            filling.bytes()
        };
        assert_eq!((bytes_of(&[&long]), bytes_of(&[&long, &long])), (267, 512 + 267));
        let exact = [b'x'; 244];
        assert_eq!(bytes_of(&[&exact, &exact]), 512);
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
