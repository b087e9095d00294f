//! Whether this kernel can keep layers so, found by trying all that a layer needs on the file system that will hold it.

use std::fs::File;
use std::io::BufWriter;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use ::erofs::{Attributes, FileData, ImageWriter, New, Special, Tree, DEFAULT_BLOCK_BITS};
use mount::OverlayPlan;
use rustix::fs::Mode;

use super::{mount_layer, DATA_NAME, INDEX_NAME};
use crate::tree::{bytes_path, io};
use crate::{scratch, LayerError};

const TEXT: &[u8] = b"kept";

/// Mounts a layer of one file and one whiteout from the empty folder `folder` (its path is `path`), puts an overlay
/// over it and reads the file. What is written stays in the folder, for the caller to remove. Blocking (a millisecond).
///
/// # Errors
/// [`LayerError::Mount`] with the step that this kernel refuses; `IO_FAILED`, `STORAGE_FULL`.
pub(crate) fn probe(folder: BorrowedFd<'_>, path: &Path) -> Result<(), LayerError> {
    let data = scratch::create(folder, DATA_NAME)?;
    std::io::Write::write_all(&mut &data, &[TEXT, &[0; 512 - TEXT.len()]].concat())
        .map_err(|e| errors::IoError::from_std("write", path.join(DATA_NAME), &e))?;
    write_index(scratch::create(folder, INDEX_NAME)?, scratch::unnamed(folder)?)
        .map_err(|e| super::writer::image_error(path, "the probe", e))?;
    let mounted = mount_layer(folder, path)?;
    for name in ["upper", "work"] {
        rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(0o700))
            .map_err(|errno| io("mkdirat", name.as_bytes(), errno))?;
    }
    let failed = |error| LayerError::Mount { path: path.to_path_buf(), error };
    let lower = format!("/proc/self/fd/{}", mounted.as_raw_fd()).into();
    let overlay = OverlayPlan::new(vec![lower], path.join("upper"), path.join("work"))
        .and_then(|plan| mount::overlay_detached(&plan))
        .map_err(failed)?;
    drop(mounted);
    let read = |name: &str| {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::openat(overlay.as_fd(), name, flags, Mode::empty())
    };
    let mut text = Vec::new();
    let file = read("file").map_err(|errno| io("openat", b"file", errno))?;
    std::io::Read::read_to_end(&mut File::from(file), &mut text)
        .map_err(|e| errors::IoError::from_std("read", bytes_path(b"file"), &e))?;
    if text != TEXT || read("hidden").err() != Some(rustix::io::Errno::NOENT) {
        let detail = "an overlay over an EROFS image shows something else than it holds".to_owned();
        return Err(LayerError::DataCorrupt { path: path.display().to_string(), detail });
    }
    Ok(())
}

fn write_index(file: File, records: File) -> Result<(), ::erofs::ImageError> {
    let mut tree = Tree::new(Attributes { mode: 0o755, ..Attributes::default() }, records);
    let root = tree.root();
    let attributes = Attributes { mode: 0o600, ..Attributes::default() };
    tree.add(root, b"file", New::File(TEXT.len() as u64, FileData::Device(0)), attributes)?;
    tree.add(root, b"hidden", New::Special(Special::CharDevice(0, 0)), attributes)?;
    let image = ImageWriter::new(BufWriter::new(file), DEFAULT_BLOCK_BITS)?;
    image.finish(&mut tree, Some(1), [1; 16]).map(drop)
}
