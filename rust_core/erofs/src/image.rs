//! Writes an image from its first byte to its last; only the superblock is filled in at the end.

use std::io::{Seek, SeekFrom, Write};

use crate::chunks::Chunk;
use crate::error::{narrow, ImageError};
use crate::file::Kind;
use crate::format::{
    chunk_format, chunk_index, dirent, Layout, RawInode, Super, DIRENT_BYTES, NULL_ADDRESS, SLOT_BYTES,
};
use crate::layout::{chunk_bits, data_of, data_offset, plan, walk, Plan, OWN_NAMES};
use crate::records::{Data, Inode, Window};
use crate::tree::{InodeId, Tree};

/// The number of the extra device.
const DEVICE: u16 = 1;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageSummary {
    /// The image's size.
    pub size_bytes: u64,
    /// Its inodes.
    pub inode_count: u64,
}

/// An image being written into a file that is empty.
#[derive(Debug)]
pub struct ImageWriter<W> {
    out: W,
    at: u64,
    block_bits: u8,
}

impl<W: Write + Seek> ImageWriter<W> {
    /// Begins an image with blocks of 2^`block_bits` bytes: 9 to 12. `out` should be buffered.
    ///
    /// # Errors
    /// [`ImageError::Write`].
    pub fn new(out: W, block_bits: u8) -> Result<Self, ImageError> {
        debug_assert!((9..=12).contains(&block_bits), "blocks of 512 to 4096 bytes");
        let mut writer = Self { out, at: 0, block_bits };
        writer.pad_to(Super::end_bytes().next_multiple_of(writer.block_bytes()))?;
        Ok(writer)
    }

    fn block_bytes(&self) -> u64 {
        1 << self.block_bits
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn pad_to(&mut self, end: u64) -> Result<(), ImageError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while self.at < end {
            let len = usize::try_from(end - self.at).unwrap_or(ZEROS.len()).min(ZEROS.len());
            self.put(&ZEROS[..len])?;
        }
        Ok(())
    }

    fn pad_block(&mut self) -> Result<(), ImageError> {
        self.pad_to(self.at.next_multiple_of(self.block_bytes()))
    }

    /// The block at which the next data goes.
    ///
    /// # Errors
    /// [`ImageError::Full`].
    pub fn next_block(&self) -> Result<u32, ImageError> {
        narrow("blocks", self.at >> self.block_bits)
    }

    /// Data of a file is in the image: `bytes`, filled up to `padded_bytes` or the end of the block with zeros. What is
    /// handed over in several pieces of whole blocks stands in one run. Returns its first block.
    ///
    /// # Errors
    /// [`ImageError::Write`], [`ImageError::Full`].
    pub fn append_blocks(&mut self, bytes: &[u8], padded_bytes: u64) -> Result<u32, ImageError> {
        let start = self.next_block()?;
        let end = self.at + padded_bytes;
        self.put(bytes)?;
        self.pad_to(end)?;
        self.pad_block()?;
        Ok(start)
    }

    /// The image of `tree` is written whole; its extra device, if it has one, has `device_blocks` blocks. `uuid` is
    /// what the kernel tells this file system apart by.
    ///
    /// # Errors
    /// [`ImageError::Write`], [`ImageError::Full`], [`ImageError::Records`].
    pub fn finish(
        mut self,
        tree: &mut Tree,
        device_blocks: Option<u32>,
        uuid: [u8; 16],
    ) -> Result<(W, ImageSummary), ImageError> {
        tree.close();
        let meta_block = self.next_block()?;
        let plan = plan(tree, meta_block, self.block_bits)?;
        self.write_inodes(tree, &plan)?;
        self.write_blocks(tree, &plan)?;
        let inode_count = plan.inode_count;
        let head = Super {
            block_bits: self.block_bits,
            // It is the first inode, and the format has 16 bits for it.
            root_nid: u16::try_from(tree.slot(0).key).unwrap_or(u16::MAX),
            inode_count,
            block_count: plan.end_block,
            meta_block,
            uuid,
            device_blocks,
        };
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&head.encode())?;
        self.out.flush()?;
        Ok((self.out, ImageSummary { size_bytes: self.at, inode_count }))
    }

    fn write_inodes(&mut self, tree: &mut Tree, plan: &Plan) -> Result<(), ImageError> {
        let area = self.at;
        let mut blocks = plan.blocks.iter().peekable();
        let (mut last, mut listing, mut sets) = (0, Window::default(), Window::default());
        walk(tree, &mut |tree, number, window| {
            let nid = tree.slot(number).key;
            // They stand in the order of this walk, so one that stands before was met before.
            if nid <= last {
                return Ok(false);
            }
            last = nid;
            let start = u64::from(nid) * SLOT_BYTES;
            let own_block = blocks.next_if(|(owner, _)| *owner == number).map(|(_, block)| *block);
            let inode = tree.inode(number, window)?;
            let (layout, _) = data_of(tree, &inode, self.block_bytes());
            let set = tree.owners.get(inode.owner).xattrs;
            let xattrs = tree.xattrs.body(set, &tree.records, &mut sets)?;
            self.pad_to(area + start)?;
            self.put(&self.raw(tree, number, &inode, layout, own_block).encode())?;
            self.put(xattrs)?;
            self.pad_to(area + data_offset(start, layout, xattrs.len() as u64))?;
            match (layout, inode.kind) {
                (Layout::Inline, Kind::Directory) => {
                    self.write_directory(tree, number, &mut listing, false)?;
                }
                (Layout::Inline, _) => {
                    self.put(window.get(&tree.records, tree.slot(number).place)?.target())?
                }
                (Layout::Chunks, _) => self.write_chunks(tree, &inode)?,
                (Layout::Plain, _) => {}
            }
            Ok(true)
        })?;
        self.pad_block()
    }

    fn raw(
        &self,
        tree: &Tree,
        number: u32,
        inode: &Inode,
        layout: Layout,
        own_block: Option<u32>,
    ) -> RawInode {
        let owner = tree.owners.get(inode.owner);
        let (union, size) = match inode.kind {
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => (u32::try_from(inode.size).unwrap_or(0), 0),
            Kind::File if layout == Layout::Chunks => {
                (chunk_format(chunk_bits(tree, inode, self.block_bits)), inode.size)
            }
            Kind::File if inode.size > 0 => (inode.place, inode.size),
            Kind::File | Kind::Directory | Kind::Symlink => (own_block.unwrap_or(NULL_ADDRESS), inode.size),
        };
        RawInode {
            layout,
            xattr_bytes: u32::try_from(tree.xattrs.len(owner.xattrs)).unwrap_or(0),
            mode: inode.kind.codes().0 | owner.mode,
            size,
            union,
            number: tree.slot(number).key,
            uid: owner.uid,
            gid: owner.gid,
            mtime_seconds: inode.mtime_seconds,
            mtime_nanos: inode.mtime_nanos,
            links: match inode.kind {
                Kind::Directory => {
                    let names = tree.live_names(number);
                    let below = names.filter(|name| tree.slot(*name).is_directory()).count();
                    u32::try_from(below).unwrap_or(u32::MAX).saturating_add(2)
                }
                _ => tree.link_count(InodeId(number)),
            },
        }
    }

    fn write_chunks(&mut self, tree: &Tree, inode: &Inode) -> Result<(), ImageError> {
        match inode.data {
            Data::Device => self.put(&chunk_index(DEVICE, inode.place)),
            Data::Chunks => {
                for chunk in &tree.maps[inode.place as usize].chunks {
                    self.put(&match chunk {
                        Chunk::Hole => chunk_index(0, NULL_ADDRESS),
                        Chunk::Device(block) => chunk_index(DEVICE, *block),
                        Chunk::Image(block) => chunk_index(0, *block),
                    })?;
                }
                Ok(())
            }
            Data::Hole | Data::Image => self.put(&chunk_index(0, NULL_ADDRESS)),
        }
    }

    fn write_blocks(&mut self, tree: &Tree, plan: &Plan) -> Result<(), ImageError> {
        let mut window = Window::default();
        for (number, block) in &plan.blocks {
            debug_assert_eq!(self.at >> self.block_bits, u64::from(*block));
            let slot = tree.slot(*number);
            if slot.is_directory() {
                self.write_directory(tree, *number, &mut window, true)?;
            } else {
                self.put(window.get(&tree.records, slot.place)?.target())?;
            }
            self.pad_block()?;
        }
        Ok(())
    }

    /// Entries first, then their names, block by block; each block but the last is filled up where it is not inline.
    fn write_directory(
        &mut self,
        tree: &Tree,
        directory: u32,
        window: &mut Window,
        fills: bool,
    ) -> Result<(), ImageError> {
        let above = tree.folder(directory).map_or(0, |folder| folder.parent);
        let mut own = OWN_NAMES.into_iter().zip([directory, above]).peekable();
        let mut block = DirectoryBlock::default();
        tree.load(directory, window)?;
        let mut next = tree.first(directory);
        while let Some(number) = next {
            let inode = tree.resolve(number, window)?;
            let name = tree.name(number, window)?;
            while let Some((dot, own)) = own.next_if(|(dot, _)| *dot < name) {
                self.put_entry(&mut block, tree, dot, own)?;
            }
            self.put_entry(&mut block, tree, name, inode)?;
            next = tree.slot(number).next();
        }
        for (dot, own) in own {
            self.put_entry(&mut block, tree, dot, own)?;
        }
        self.write_entries(&mut block)?;
        if fills {
            self.pad_block()?;
        }
        Ok(())
    }

    /// Adds a name of `inode` to the block, or to the next one where this one is full and written.
    fn put_entry(
        &mut self,
        block: &mut DirectoryBlock,
        tree: &Tree,
        name: &[u8],
        inode: u32,
    ) -> Result<(), ImageError> {
        let used = block.entries.len() * DIRENT_BYTES + block.names.len();
        if (used + DIRENT_BYTES + name.len()) as u64 > self.block_bytes() {
            self.write_entries(block)?;
            self.pad_block()?;
        }
        let code = tree.kind(InodeId(inode)).codes().1;
        block.entries.push((tree.slot(inode).key, code, block.names.len()));
        block.names.extend_from_slice(name);
        Ok(())
    }

    /// Writes what the block holds, which is empty then.
    fn write_entries(&mut self, block: &mut DirectoryBlock) -> Result<(), ImageError> {
        let names_offset = block.entries.len() * DIRENT_BYTES;
        for (nid, code, offset) in block.entries.drain(..) {
            // A block of at most 4096 bytes keeps the offset within 16 bits.
            let offset = u16::try_from(names_offset + offset).unwrap_or(u16::MAX);
            self.put(&dirent(nid, offset, code))?;
        }
        self.put(&block.names)?;
        block.names.clear();
        Ok(())
    }
}

/// The entries of one block of a directory.
#[derive(Debug, Default)]
struct DirectoryBlock {
    /// Where the inode stands, its type, and where its name begins among the names.
    entries: Vec<(u32, u8, usize)>,
    names: Vec<u8>,
}
