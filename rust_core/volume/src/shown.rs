//! The data of a volume that is a mount: seen by the engine as a container would see it, by descriptor alone.

use std::os::fd::OwnedFd;

use mount::Attributes;

use crate::VolumeError;

/// A detached mount of the file system that `kind`, `source` and `data` name, in no namespace: it goes with its last
/// descriptor. Nothing in it can be executed or used as a device.
///
/// # Errors
/// As `mount::named`.
pub fn show(kind: &str, source: &str, data: &str, is_read_only: bool) -> Result<OwnedFd, VolumeError> {
    let attributes = Attributes::HARDENED;
    let attributes = if is_read_only { attributes.read_only() } else { attributes };
    Ok(mount::named(kind, source, data, attributes)?)
}
