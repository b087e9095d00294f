//! The content of one file: shared with its copy where the file system can, else copied without its holes.

use std::os::fd::BorrowedFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use sys::cancel::CancelToken;

use crate::{tree, VolumeError};

/// Bytes that are copied before the cancel token is looked at.
const PIECE_BYTES: usize = 8 << 20;
/// The buffer where the kernel cannot copy by itself.
const BUFFER_BYTES: usize = 256 << 10;

/// `to`, empty and open for writing, has the first `size` bytes of `from`, holes kept. `name` is what errors name.
pub(crate) fn copy(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    size: u64,
    name: &[u8],
    cancel: &CancelToken,
) -> Result<(), VolumeError> {
    let fail = |operation| tree::io(operation, name);
    if size == 0 {
        return Ok(());
    }
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let mut offset = 0;
    while offset < size {
        let begin = match rustix::fs::seek(from, SeekFrom::Data(offset)) {
            Ok(begin) => begin,
            Err(Errno::NXIO) => break,
            // No holes are told of: all of it is data.
            Err(Errno::INVAL) => offset,
            Err(errno) => return Err(fail("lseek")(errno).into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(begin)).unwrap_or(size).min(size);
        if begin >= size {
            break;
        }
        copy_range(from, to, begin, end, name, cancel)?;
        offset = end;
    }
    rustix::fs::ftruncate(to, size).map_err(fail("ftruncate"))?;
    Ok(())
}

fn copy_range(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    mut offset: u64,
    end: u64,
    name: &[u8],
    cancel: &CancelToken,
) -> Result<(), VolumeError> {
    let mut buffer = Vec::new();
    while offset < end {
        if cancel.is_cancelled() {
            return Err(VolumeError::Cancelled);
        }
        let wanted = usize::try_from(end - offset).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let (mut read_at, mut write_at) = (offset, offset);
        let count = if buffer.is_empty() {
            rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), wanted)
        } else {
            Ok(0)
        };
        let count = match count {
            // Some file systems answer 0 for files that they have data of.
            Ok(0) | Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                buffer.resize(BUFFER_BYTES, 0);
                copy_piece(from, to, offset, wanted, &mut buffer, name)?
            }
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(tree::io("copy_file_range", name)(errno).into()),
        };
        if count == 0 {
            break; // it was cut meanwhile
        }
        offset += count as u64;
    }
    Ok(())
}

fn copy_piece(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    offset: u64,
    wanted: usize,
    buffer: &mut [u8],
    name: &[u8],
) -> Result<usize, VolumeError> {
    let wanted = wanted.min(buffer.len());
    let count = rustix::io::pread(from, &mut buffer[..wanted], offset).map_err(tree::io("pread", name))?;
    let mut written = 0;
    while written < count {
        written += rustix::io::pwrite(to, &buffer[written..count], offset + written as u64)
            .map_err(tree::io("pwrite", name))?;
    }
    Ok(count)
}
