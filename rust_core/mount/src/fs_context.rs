//! A file system being configured (fsopen(2)): each failure carries what the kernel wrote about it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{
    fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, FsMountFlags,
    FsOpenFlags, MountAttrFlags,
};

use crate::{Attributes, MountError};

/// The most messages read from one context, so that a chatty file system cannot hold us.
const MAX_KERNEL_MESSAGES: usize = 16;

pub(crate) struct FsContext {
    fd: OwnedFd,
    kind: String,
}

impl FsContext {
    /// A context for the file system type `kind`.
    pub(crate) fn open(kind: &'static str) -> Result<Self, MountError> {
        Self::open_named(kind).map_err(|error| match error {
            MountError::Failed { operation, path, errno: libc::ENODEV, .. } => {
                MountError::FeatureMissing { operation, path, errno: libc::ENODEV, feature: kind }
            }
            other => other,
        })
    }

    /// As [`Self::open`] for a type that a caller names; ENODEV for one that this kernel does not have.
    pub(crate) fn open_named(kind: &str) -> Result<Self, MountError> {
        match fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(fd) => Ok(Self { fd, kind: kind.to_owned() }),
            Err(errno) => Err(MountError::failed("fsopen", kind, errno)),
        }
    }

    /// Sets `key` to `value`; `subject` is the path that an error names.
    pub(crate) fn set(
        &self,
        key: &str,
        value: impl rustix::path::Arg,
        subject: &Path,
    ) -> Result<(), MountError> {
        self.raw_set(key, value).map_err(|errno| self.error("fsconfig", subject, errno))
    }

    /// As [`Self::set`], leaving the errno to the caller.
    pub(crate) fn raw_set(&self, key: &str, value: impl rustix::path::Arg) -> Result<(), Errno> {
        fsconfig_set_string(&self.fd, key, value)
    }

    /// Sets `key` to an open file.
    pub(crate) fn raw_set_fd(&self, key: &str, value: BorrowedFd<'_>) -> Result<(), Errno> {
        fsconfig_set_fd(&self.fd, key, value)
    }

    /// Whether keys are only looked at when the file system is made: it is not written for this API, and the kernel
    /// gathers what it is given into the option string of mount(2).
    ///
    /// Source: legacy_parse_param() in fs/fs_context.c.
    pub(crate) fn takes_any_key(&self) -> bool {
        if fsconfig_set_string(&self.fd, "fluyt", "").is_ok() {
            return true;
        }
        // The complaint would stand before those of a failure.
        self.messages();
        false
    }

    /// All files of the file system have this SELinux label, whatever they had; empty leaves them as they are.
    ///
    /// Source: Documentation/admin-guide/LSM/SELinux.rst; mount(8), "context=".
    pub(crate) fn label(&self, label: &str) -> Result<(), MountError> {
        if label.is_empty() {
            return Ok(());
        }
        self.set("context", label, Path::new(label))
    }

    /// Turns the flag `key` on.
    pub(crate) fn flag(&self, key: &str) -> Result<(), MountError> {
        fsconfig_set_flag(&self.fd, key).map_err(|errno| self.error("fsconfig", Path::new(key), errno))
    }

    /// Makes the file system and a detached mount of it.
    pub(crate) fn mount(&self, attributes: Attributes, subject: &Path) -> Result<OwnedFd, MountError> {
        fsconfig_create(&self.fd).map_err(|errno| self.error("fsconfig_create", subject, errno))?;
        let flags = MountAttrFlags::from_bits_retain(attributes.bits() as u32);
        fsmount(&self.fd, FsMountFlags::FSMOUNT_CLOEXEC, flags)
            .map_err(|errno| self.error("fsmount", subject, errno))
    }

    /// The error of a failed step, with the kernel's own words.
    pub(crate) fn error(&self, operation: &'static str, subject: &Path, errno: Errno) -> MountError {
        let path = if subject.as_os_str().is_empty() { Path::new(&self.kind) } else { subject };
        MountError::Failed {
            operation,
            path: path.to_path_buf(),
            errno: errno.raw_os_error(),
            message: self.messages(),
        }
    }

    fn messages(&self) -> String {
        let mut text = String::new();
        let mut buffer = [0_u8; 1024];
        for _ in 0..MAX_KERNEL_MESSAGES {
            let Ok(count) = rustix::io::read(self.fd.as_fd(), &mut buffer) else { break };
            if !text.is_empty() {
                text.push_str("; ");
            }
            // Each message begins with its level and a blank: "e overlay: ...".
            let line = buffer[..count].strip_prefix(b"e ").unwrap_or(&buffer[..count]);
            text.push_str(String::from_utf8_lossy(line).trim_end());
        }
        text
    }
}
