//! The SELinux label that a process has from the execution of its program on, and that of message queues.
//!
//! Source: security/selinux/hooks.c, selinux_lsm_setattr() and selinux_bprm_creds_for_exec(); proc_pid_attr(5).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{open, setxattr, Mode, OFlags, XattrFlags};
use rustix::io::{write, Errno};

use crate::at::{At, Outcome};
use crate::failure::StartFailure;
use crate::step::Step;

const PLACE: &str = "/proc/self/attr/exec";
const ATTRIBUTE: &str = "security.selinux";

/// A file of the kernel's, by which this very process can ask for a label.
#[derive(Debug)]
pub(crate) struct Label<'spec> {
    label: &'spec str,
    file: OwnedFd,
}

impl<'spec> Label<'spec> {
    /// To be called while the host's /proc is in sight, by the process that executes the program: a file of another's
    /// cannot be written. None for an empty label.
    pub fn open(label: &'spec str) -> Outcome<Option<Self>> {
        if label.is_empty() {
            return Ok(None);
        }
        let file = open(PLACE, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).at(Step::SeLinux, PLACE)?;
        Ok(Some(Self { label, file }))
    }

    /// The next execve gives the process the label, or fails with EACCES where the policy does not allow that.
    pub fn apply(&self) -> Outcome<()> {
        let refused = |errno: Errno| {
            let failure = StartFailure::kernel(Step::SeLinux, self.label, errno);
            match errno {
                Errno::INVAL => failure
                    .with_detail("the host's policy does not know this label, or SELinux is not in use"),
                Errno::ACCESS => failure.with_detail("the host's policy does not let the engine give labels"),
                _ => failure,
            }
        };
        let written = write(&self.file, self.label.as_bytes()).map_err(refused)?;
        if written == self.label.len() {
            return Ok(());
        }
        Err(StartFailure::rule(Step::SeLinux, self.label, "the kernel took a part of the label only"))
    }
}

/// The root of a mount of message queues has the label. Its file system was made with the ipc namespace, so that it
/// takes none when it is mounted. Where the policy keeps no labels of queues they have what it gives them all.
/// To be called where /proc can be trusted.
pub(crate) fn label_queues(mount: BorrowedFd<'_>, label: &str) -> Outcome<()> {
    if label.is_empty() {
        return Ok(());
    }
    // fsetxattr takes no descriptor of a place alone.
    let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
    match setxattr(path, ATTRIBUTE, label.as_bytes(), XattrFlags::empty()) {
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(StartFailure::kernel(Step::Mount, "/dev/mqueue", errno)),
    }
}
