//! Project quotas: the project that a directory and all that comes to stand in it is counted for, and how much a project
//! may take, on ext4, xfs and what else keeps quotas in the kernel's common way.
//!
//! Source: linux/fs.h (struct fsxattr), linux/quota.h, linux/dqblk_xfs.h, quotactl_fd(2).
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR.
const GET_ATTRIBUTES: libc::Ioctl = 0x801c_581f;
const SET_ATTRIBUTES: libc::Ioctl = 0x401c_5820;
/// FS_XFLAG_PROJINHERIT: what is made in the directory belongs to its project.
const IS_INHERITED: u32 = 0x200;
/// PRJQUOTA.
const OF_PROJECTS: u32 = 2;
/// Q_GETQUOTA, Q_SETQUOTA, Q_GETNEXTQUOTA, Q_XGETQSTATV. The kernel translates the first three for xfs.
const GET_QUOTA: u32 = 0x80_0007;
const SET_QUOTA: u32 = 0x80_0008;
const GET_NEXT_QUOTA: u32 = 0x80_0009;
const GET_STATE: u32 = 0x5808;
/// QIF_BLIMITS and QIF_ILIMITS: of what is set, the bounds alone.
const BOUNDS: u32 = 1 | 4;
/// QIF_DQBLKSIZE: bounds are counted in blocks of so many bytes.
const BLOCK_BYTES: u64 = 1024;
/// FS_QUOTA_PDQ_ENFD: bounds of projects are kept.
const IS_ENFORCED: u16 = 1 << 5;
/// FS_QSTATV_VERSION1.
const STATE_VERSION: u8 = 1;
/// More bytes than any version of struct fs_quota_statv has.
const STATE_WORDS: usize = 64;

/// struct fsxattr.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_bytes: u32,
    extent_count: u32,
    project: u32,
    copy_extent_bytes: u32,
    padding: [u8; 8],
}

/// struct if_nextdqblk, of which struct if_dqblk is all but the last field, with padding of the same length.
#[repr(C)]
#[derive(Default)]
struct Block {
    space_hard_blocks: u64,
    space_soft_blocks: u64,
    space_bytes: u64,
    inode_hard: u64,
    inode_soft: u64,
    inode_count: u64,
    space_seconds: u64,
    inode_seconds: u64,
    valid: u32,
    id: u32,
}

/// What a project takes on a file system, and its bounds; a bound of 0 is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Space.
    pub bytes: u64,
    /// Files, directories and all else that has an inode.
    pub inodes: u64,
    /// Most bytes.
    pub limit_bytes: u64,
    /// Most inodes.
    pub limit_inodes: u64,
}

impl From<Block> for Usage {
    fn from(block: Block) -> Self {
        Self {
            bytes: block.space_bytes,
            inodes: block.inode_count,
            limit_bytes: block.space_hard_blocks.saturating_mul(BLOCK_BYTES),
            limit_inodes: block.inode_hard,
        }
    }
}

fn answered(answer: libc::c_long) -> Result<(), Errno> {
    if answer == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}

fn attributes(directory: BorrowedFd<'_>) -> Result<Attributes, Errno> {
    let mut found = Attributes::default();
    // SAFETY: the kernel writes one struct fsxattr, which `found` is.
    let answer = unsafe { libc::ioctl(directory.as_raw_fd(), GET_ATTRIBUTES, &raw mut found) };
    answered(answer.into())?;
    Ok(found)
}

/// The project that the directory belongs to; 0 for none.
///
/// # Errors
/// ENOTTY or EOPNOTSUPP on a file system without projects.
pub fn project_of(directory: impl AsFd) -> Result<u32, Errno> {
    Ok(attributes(directory.as_fd())?.project)
}

/// The directory belongs to the project, and so does what comes to stand in it from now on.
///
/// # Errors
/// As [`project_of`]; EINVAL or EOPNOTSUPP also where the file system was made without projects; EDQUOT.
pub fn set_project(directory: impl AsFd, project: u32) -> Result<(), Errno> {
    let directory = directory.as_fd();
    let mut wanted = attributes(directory)?;
    wanted.project = project;
    wanted.flags |= IS_INHERITED;
    // SAFETY: the kernel reads one struct fsxattr, which `wanted` is.
    let answer = unsafe { libc::ioctl(directory.as_raw_fd(), SET_ATTRIBUTES, &raw const wanted) };
    answered(answer.into())
}

fn control<T>(file: BorrowedFd<'_>, command: u32, id: u32, argument: *mut T) -> Result<(), Errno> {
    let whole = command << 8 | OF_PROJECTS;
    // SAFETY: `argument` leads to what the command reads or writes, as each caller says, and lives through the call.
    let answer = unsafe {
        libc::syscall(libc::SYS_quotactl_fd, file.as_raw_fd(), whole, id, argument.cast::<libc::c_void>())
    };
    answered(answer)
}

/// Whether the file system of this file keeps the bounds of projects.
///
/// # Errors
/// ESRCH, EINVAL or ENOSYS where it does not even count for them.
pub fn is_enforced(file: impl AsFd) -> Result<bool, Errno> {
    let mut state = [0_u64; STATE_WORDS];
    // The version is the first byte and the flags are the second half word; the rest is not looked at.
    state[0] = u64::from_ne_bytes([STATE_VERSION, 0, 0, 0, 0, 0, 0, 0]);
    // The command writes a struct fs_quota_statv of that version, for which there is room.
    control(file.as_fd(), GET_STATE, 0, state.as_mut_ptr())?;
    let bytes = state[0].to_ne_bytes();
    Ok(u16::from_ne_bytes([bytes[2], bytes[3]]) & IS_ENFORCED != 0)
}

/// The project takes at most so many bytes, rounded up to whole KiB, and inodes on the file system of this file; 0 is no
/// bound.
///
/// # Errors
/// ESRCH where projects are not counted, EPERM without CAP_SYS_ADMIN, ERANGE beyond what the file system can note.
pub fn set_limit(file: impl AsFd, project: u32, bytes: u64, inodes: u64) -> Result<(), Errno> {
    let mut block = Block {
        space_hard_blocks: bytes.div_ceil(BLOCK_BYTES),
        inode_hard: inodes,
        valid: BOUNDS,
        ..Block::default()
    };
    // The command reads one struct if_dqblk.
    control(file.as_fd(), SET_QUOTA, project, &raw mut block)
}

/// What the project takes on the file system of this file.
///
/// # Errors
/// As [`set_limit`]; ENOENT is answered as nothing.
pub fn usage(file: impl AsFd, project: u32) -> Result<Usage, Errno> {
    let mut block = Block::default();
    // The command writes one struct if_dqblk.
    match control(file.as_fd(), GET_QUOTA, project, &raw mut block) {
        Ok(()) => Ok(block.into()),
        Err(Errno::NOENT) => Ok(Usage::default()),
        Err(errno) => Err(errno),
    }
}

/// The first project from `first` on of which the file system of this file has something noted; None: there is none.
///
/// # Errors
/// As [`set_limit`].
pub fn next_project(file: impl AsFd, first: u32) -> Result<Option<(u32, Usage)>, Errno> {
    let mut block = Block::default();
    // The command writes one struct if_nextdqblk.
    match control(file.as_fd(), GET_NEXT_QUOTA, first, &raw mut block) {
        Ok(()) => Ok(Some((block.id, block.into()))),
        Err(Errno::NOENT | Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_long_as_the_kernels() {
        assert_eq!(std::mem::size_of::<Attributes>(), 28);
        assert_eq!(std::mem::size_of::<Block>(), 72);
    }
}
