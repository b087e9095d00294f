//! Writes a tree into files of its own and mounts it where nobody sees it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use erofs::{Attributes, ImageSummary, ImageWriter, Tree, DEFAULT_BLOCK_BITS};

pub struct Written {
    pub image: tempfile::NamedTempFile,
    pub device: tempfile::NamedTempFile,
    pub summary: ImageSummary,
}

pub fn attributes(mode: u16) -> Attributes {
    Attributes { mode, ..Attributes::default() }
}

pub fn tree() -> Tree {
    Tree::new(attributes(0o755), tempfile::tempfile().unwrap())
}

/// The image of `tree` over a device of `data`.
pub fn write(tree: &mut Tree, data: &[u8]) -> Written {
    write_with(tree, data, DEFAULT_BLOCK_BITS, |_, _| {})
}

type Images<'a> = ImageWriter<BufWriter<&'a File>>;

/// As `write`, with blocks of another size, `fill` adding what has its data in the image.
pub fn write_with(
    tree: &mut Tree,
    data: &[u8],
    block_bits: u8,
    fill: impl FnOnce(&mut Tree, &mut Images<'_>),
) -> Written {
    let image = tempfile::NamedTempFile::new().unwrap();
    let mut device = tempfile::NamedTempFile::new().unwrap();
    device.write_all(data).unwrap();
    // The kernel reads whole blocks, as a tar archive has them.
    device.as_file().set_len(data.len().next_multiple_of(1 << block_bits) as u64).unwrap();
    let mut writer = ImageWriter::new(BufWriter::new(image.as_file()), block_bits).unwrap();
    fill(tree, &mut writer);
    let blocks = (!data.is_empty()).then(|| (data.len() as u32).div_ceil(1 << block_bits));
    let (_, summary) = writer.finish(tree, blocks, [7; 16]).unwrap();
    assert_eq!(image.as_file().metadata().unwrap().len(), summary.size_bytes);
    Written { image, device, summary }
}

impl Written {
    pub fn mount(&self) -> Mounted {
        let devices = [self.device.as_file().as_fd()];
        let used = usize::from(self.device.as_file().metadata().unwrap().len() > 0);
        let mounted = mount::erofs_detached(
            self.image.as_file().as_fd(),
            &devices[..used],
            mount::Attributes::default(),
            "",
        );
        Mounted(mounted.unwrap_or_else(|error| panic!("{error}")))
    }
}

/// A detached mount, gone with this value.
pub struct Mounted(OwnedFd);

impl Mounted {
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{path}", self.0.as_raw_fd()))
    }

    pub fn lstat(&self, path: &str) -> std::fs::Metadata {
        std::fs::symlink_metadata(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(path)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}
