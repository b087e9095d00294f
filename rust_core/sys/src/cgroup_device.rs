//! bpf(2): a program that the kernel asks whenever a process of a v2 control group opens or makes a device.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// One instruction: struct bpf_insn of linux/bpf.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What is done.
    pub code: u8,
    /// Register that it is done to (low four bits), and with (high four bits).
    pub registers: u8,
    /// Where in memory, or how many instructions further.
    pub offset: i16,
    /// A number.
    pub immediate: i32,
}

/// The most instructions of a program of ours: what a caller with all rights may load (BPF_COMPLEXITY_LIMIT_INSNS of
/// linux/bpf.h is far above).
pub const MAX_INSTRUCTIONS: usize = 16_384;

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;
/// Programs of groups above are asked too: none can allow what another forbids.
const ALLOW_MULTI: u32 = 2;

/// union bpf_attr of linux/bpf.h for BPF_PROG_LOAD, up to the name.
#[repr(C)]
struct Load {
    prog_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The same for BPF_PROG_ATTACH.
#[repr(C)]
struct Attach {
    target_fd: u32,
    program_fd: u32,
    attach_type: u32,
    flags: u32,
}

/// `program` judges every use of a device by a process of `group` or of one below it, until the group is removed.
///
/// # Errors
/// EINVAL for a program that the kernel's checker refuses, that is empty or too long, and on a kernel without such
/// programs; ENOSYS without bpf(2); EPERM without CAP_BPF or CAP_SYS_ADMIN over the host.
///
/// Source: bpf(2); Documentation/bpf/prog_cgroup_device (the context is struct bpf_cgroup_dev_ctx).
pub fn install(group: BorrowedFd<'_>, program: &[Instruction]) -> Result<(), Errno> {
    if program.is_empty() || program.len() > MAX_INSTRUCTIONS {
        return Err(Errno::INVAL);
    }
    let mut name = [0; 16];
    name[..13].copy_from_slice(b"fluyt_devices");
    let load = Load {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name,
    };
    let loaded = call(PROG_LOAD, &load)?;
    // SAFETY: the kernel has just made this descriptor for us alone (close-on-exec, as bpf(2) says), and it is no error.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded) };
    let attach = Attach {
        target_fd: group.as_raw_fd() as u32,
        program_fd: loaded.as_raw_fd() as u32,
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    call(PROG_ATTACH, &attach).map(drop)
}

fn call<T>(command: libc::c_int, attributes: &T) -> Result<i32, Errno> {
    // SAFETY: `attributes` is a `repr(C)` structure of the fields that the command reads, all initialised, and lives until
    // the call returns, as does what its addresses point to; the kernel copies both and writes nothing back for these
    // two commands (no log buffer is given).
    let answer = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), std::mem::size_of::<T>())
    };
    if answer < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL));
    }
    Ok(answer as i32)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_program_of_no_or_too_many_instructions_is_refused_before_the_kernel_sees_it() {
        let exit = Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 };
        let somewhere = std::fs::File::open("/").unwrap();
        assert_eq!(install(somewhere.as_fd(), &[]), Err(Errno::INVAL));
        assert_eq!(install(somewhere.as_fd(), &vec![exit; MAX_INSTRUCTIONS + 1]), Err(Errno::INVAL));
    }
}
