//! Flags and propagation of a mount, changed through its descriptor.

use std::os::fd::BorrowedFd;

use crate::MountError;

/// Flags of one mount. A flag that is false is left as it is: what the host set, or locked, stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Nothing is written through it.
    pub read_only: bool,
    /// Set-user-id bits and file capabilities are ignored.
    pub no_suid: bool,
    /// Device files cannot be opened.
    pub no_dev: bool,
    /// Nothing can be executed from it.
    pub no_exec: bool,
}

impl Attributes {
    /// nosuid, nodev, noexec: what proc, sysfs and the like are mounted with.
    pub const HARDENED: Self = Self { read_only: false, no_suid: true, no_dev: true, no_exec: true };

    /// The same flags and read-only.
    #[must_use]
    pub const fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }

    pub(crate) fn bits(self) -> u64 {
        let mut bits = 0;
        for (is_set, bit) in [
            (self.read_only, sys::mount_attr::READ_ONLY),
            (self.no_suid, sys::mount_attr::NO_SUID),
            (self.no_dev, sys::mount_attr::NO_DEV),
            (self.no_exec, sys::mount_attr::NO_EXEC),
        ] {
            if is_set {
                bits |= bit;
            }
        }
        bits
    }
}

/// How mount events spread between a mount and its peers, as in mount_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Nothing comes in, nothing goes out.
    Private,
    /// The peers' events come in, nothing goes out.
    Slave,
    /// Both ways.
    Shared,
}

impl Propagation {
    pub(crate) fn bits(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
        }
    }
}

/// The mount has the flags of `attributes` besides those it had, and `propagation` if one is given; with
/// `recursive` so has every mount below it, all or none.
///
/// # Errors
/// [`MountError::Failed`] for a descriptor that is not a mount's root (EINVAL).
///
/// Source: mount_setattr(2).
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    attributes: Attributes,
    propagation: Option<Propagation>,
    recursive: bool,
) -> Result<(), MountError> {
    let failed = |errno| MountError::failed("mount_setattr", "", errno);
    if let Some(propagation) = propagation {
        sys::mount_attr::set_propagation(mount, propagation.bits(), recursive).map_err(failed)?;
    }
    if attributes != Attributes::default() {
        sys::mount_attr::add(mount, attributes.bits(), recursive).map_err(failed)?;
    }
    Ok(())
}
