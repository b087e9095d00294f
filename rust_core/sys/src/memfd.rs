//! Sealed memory files: bytes handed to another process that neither side can change afterwards.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;

use errors::IoError;
use rustix::fs::{fcntl_add_seals, fcntl_get_seals, fstat, memfd_create, MemfdFlags, SealFlags};
use rustix::io::Errno;

/// The seals of a finished file: no growing, shrinking, writing, nor taking a seal back.
const SEALS: SealFlags =
    SealFlags::GROW.union(SealFlags::SHRINK).union(SealFlags::WRITE).union(SealFlags::SEAL);

/// A CLOEXEC memory file of exactly `bytes`, sealed. `name` shows in /proc/PID/fd only.
///
/// # Errors
/// The failed step with its errno (ENOMEM, EMFILE).
pub fn seal(name: &str, bytes: &[u8]) -> Result<OwnedFd, IoError> {
    let fail = |operation| move |errno: Errno| IoError::new(operation, name, errno.raw_os_error());
    let fd =
        memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).map_err(fail("memfd_create"))?;
    let mut file = File::from(fd);
    file.write_all(bytes).map_err(|error| IoError::from_std("write", name, &error))?;
    file.seek(SeekFrom::Start(0)).map_err(|error| IoError::from_std("lseek", name, &error))?;
    let fd = OwnedFd::from(file);
    fcntl_add_seals(&fd, SEALS).map_err(fail("fcntl(F_ADD_SEALS)"))?;
    Ok(fd)
}

/// The bytes of a file made by [`seal`], read from its start.
///
/// # Errors
/// EPERM if the seals are missing (its maker could still change it), EFBIG above `max_bytes`, else the failed read.
pub fn read_sealed(fd: OwnedFd, max_bytes: u64) -> Result<Vec<u8>, IoError> {
    let fail = |operation| move |errno: Errno| IoError::new(operation, "memfd", errno.raw_os_error());
    let seals = fcntl_get_seals(&fd).map_err(fail("fcntl(F_GET_SEALS)"))?;
    if !seals.contains(SealFlags::GROW | SealFlags::SHRINK | SealFlags::WRITE) {
        return Err(fail("fcntl(F_GET_SEALS)")(Errno::PERM));
    }
    let size = fstat(&fd).map_err(fail("fstat"))?.st_size as u64;
    if size > max_bytes {
        return Err(fail("fstat")(Errno::FBIG));
    }
    let mut file = File::from(fd);
    let mut bytes = Vec::with_capacity(size as usize);
    file.seek(SeekFrom::Start(0)).map_err(|error| IoError::from_std("lseek", "memfd", &error))?;
    file.take(max_bytes)
        .read_to_end(&mut bytes)
        .map_err(|error| IoError::from_std("read", "memfd", &error))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_bytes_come_back_and_cannot_be_changed() {
        let fd = seal("test", b"spec").expect("a memory file");
        assert_eq!(rustix::io::write(&fd, b"x"), Err(Errno::PERM));
        assert_eq!(read_sealed(fd, 16).expect("the bytes"), b"spec");
    }

    #[test]
    fn a_file_without_seals_or_above_the_bound_is_refused() {
        let open =
            memfd_create("open", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("a memory file");
        assert_eq!(read_sealed(open, 16).expect_err("no seals").errno, Errno::PERM.raw_os_error());
        let fd = seal("test", b"12345").expect("a memory file");
        assert_eq!(read_sealed(fd, 4).expect_err("too big").errno, Errno::FBIG.raw_os_error());
    }
}
