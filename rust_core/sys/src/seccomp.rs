//! seccomp(2): installs a filter program that was compiled elsewhere.
#![allow(unsafe_code)]

use rustix::io::Errno;

/// Bytes of one instruction (struct sock_filter of linux/filter.h).
pub const INSTRUCTION_BYTES: usize = 8;
/// BPF_MAXINSNS of linux/bpf_common.h: the most instructions the kernel takes in one program.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// The filter judges every later system call of this thread and of all its descendants; it cannot be removed.
///
/// `program` is an array of struct sock_filter in native byte order.
///
/// # Errors
/// EINVAL for a program that is empty, cut short, too long or not accepted by the kernel's checker; EACCES without
/// CAP_SYS_ADMIN and without no_new_privs.
///
/// Source: seccomp(2), SECCOMP_SET_MODE_FILTER.
pub fn install(program: &[u8]) -> Result<(), Errno> {
    let count = program.len() / INSTRUCTION_BYTES;
    if count == 0 || count > MAX_INSTRUCTIONS || !program.len().is_multiple_of(INSTRUCTION_BYTES) {
        return Err(Errno::INVAL);
    }
    // Copied since a byte slice promises no alignment and the kernel's structure is made of 16 and 32 bit words.
    let instructions: Vec<libc::sock_filter> = program
        .chunks_exact(INSTRUCTION_BYTES)
        .map(|word| libc::sock_filter {
            code: u16::from_ne_bytes([word[0], word[1]]),
            jt: word[2],
            jf: word[3],
            k: u32::from_ne_bytes([word[4], word[5], word[6], word[7]]),
        })
        .collect();
    let fprog = libc::sock_fprog { len: count as u16, filter: instructions.as_ptr().cast_mut() };
    // SAFETY: `fprog` points to `len` initialised instructions that live until the call returns; the kernel copies
    // them and writes nothing back.
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const fprog) };
    if answer == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_wrong_length_is_refused_before_the_kernel_sees_it() {
        assert_eq!(install(&[]), Err(Errno::INVAL));
        assert_eq!(install(&[0; 7]), Err(Errno::INVAL));
        assert_eq!(install(&vec![0; INSTRUCTION_BYTES * (MAX_INSTRUCTIONS + 1)]), Err(Errno::INVAL));
    }
}
