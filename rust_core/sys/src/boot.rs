//! Which boot of the kernel this is, so that what was written but not synced before a power failure is known.

use errors::IoError;

/// The random id that the kernel took at boot, with its newline cut off. Blocking (one small read).
///
/// Source: random(4), `/proc/sys/kernel/random/boot_id`.
///
/// # Errors
/// `IO_FAILED` without a mounted procfs.
pub fn id() -> Result<String, IoError> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(PATH).map_err(|e| IoError::from_std("read", PATH, &e))?;
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_boot_id_is_a_uuid() {
        assert_eq!(super::id().unwrap().len(), 36);
    }
}
