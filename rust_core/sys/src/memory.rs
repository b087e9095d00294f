//! Giving memory back to the kernel.
#![allow(unsafe_code)]

/// Returns free heap pages to the kernel, as far as the C library can.
pub fn trim() {
    // SAFETY: malloc_trim(3) is thread-safe and touches only free memory of the allocator.
    unsafe { libc::malloc_trim(0) };
}
