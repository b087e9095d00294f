//! Beginning to write a growing file to the disk before anyone waits for it.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

/// How much is written into a file before the kernel is told to begin: enough for large requests, little beside what
/// a disk takes while the rest is still on its way.
pub const STEP_BYTES: u64 = 8 * 1024 * 1024;

/// How much of one file, written from its begin to its end, was given to the disk so far.
#[derive(Debug, Default)]
pub struct Writeback {
    begun_bytes: u64,
}

impl Writeback {
    /// The kernel has begun to write what is behind the last call, once that is [`STEP_BYTES`]; `written_bytes` is the
    /// size that `file` has reached. A later sync finds less to wait for. It is a hint: nothing is durable on return,
    /// and a failure is none of this call's, since the sync that makes the file durable tells it again.
    /// May block while the disk's queue is full.
    /// Source: sync_file_range(2), of which the flag `WRITE` alone neither waits nor takes a pending error.
    pub fn advance(&mut self, file: &impl AsFd, written_bytes: u64) {
        let size = written_bytes.saturating_sub(self.begun_bytes);
        if size < STEP_BYTES {
            return;
        }
        if let (Ok(offset), Ok(length)) = (i64::try_from(self.begun_bytes), i64::try_from(size)) {
            let fd = file.as_fd().as_raw_fd();
            // SAFETY: no memory is passed; the descriptor is borrowed, so that it is open until the call returns.
            unsafe { libc::sync_file_range(fd, offset, length, libc::SYNC_FILE_RANGE_WRITE) };
        }
        self.begun_bytes = written_bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_was_begun_is_counted_by_steps() {
        let mut file = tempfile::tempfile().unwrap();
        let mut writeback = Writeback::default();
        writeback.advance(&file, STEP_BYTES - 1);
        assert_eq!(writeback.begun_bytes, 0);
        file.write_all(&vec![1; 9 << 20]).unwrap();
        writeback.advance(&file, 9 << 20);
        assert_eq!(writeback.begun_bytes, 9 << 20);
        // A file that was begun anew is behind what was begun.
        writeback.advance(&file, 0);
        assert_eq!(writeback.begun_bytes, 9 << 20);
    }
}
