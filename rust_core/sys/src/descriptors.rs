//! Closing every descriptor that a program inherited and does not know.
#![allow(unsafe_code)]

use rustix::io::Errno;

/// Closes every descriptor from `first` on. Only for the beginning of a program, before anything owns one of them.
///
/// # Errors
/// ENOSYS before Linux 5.9. Source: close_range(2).
pub fn close_from(first: u32) -> Result<(), Errno> {
    // SAFETY: nothing in memory is read or written. JUSTIFICATION: the caller owns no descriptor from `first` on (it
    // has just begun), so no owner loses one.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    if answer == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
    }
}
