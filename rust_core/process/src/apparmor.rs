//! The AppArmor profile that a process has from the execution of its program on.
//!
//! Source: Documentation/admin-guide/LSM/apparmor.rst and security/apparmor/lsm.c, `exec` of /proc/<pid>/attr.

use std::os::fd::OwnedFd;

use rustix::fs::{open, Mode, OFlags};
use rustix::io::{write, Errno};

use crate::at::{At, Outcome};
use crate::failure::StartFailure;
use crate::step::Step;

/// The file for AppArmor's own, and the one that all modules shared before Linux 5.8.
const PLACES: [&str; 2] = ["/proc/self/attr/apparmor/exec", "/proc/self/attr/exec"];

/// A file of the kernel's, by which this very process can ask for a profile.
#[derive(Debug)]
pub(crate) struct Profile<'spec> {
    name: &'spec str,
    file: OwnedFd,
}

impl<'spec> Profile<'spec> {
    /// To be called while the host's /proc is in sight, by the process that executes the program: a file of another's
    /// cannot be written. None for an empty name.
    pub fn open(name: &'spec str) -> Outcome<Option<Self>> {
        if name.is_empty() {
            return Ok(None);
        }
        let opened = PLACES.iter().map(|place| open(*place, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()));
        let mut failure = Errno::NOENT;
        for file in opened {
            match file {
                Ok(file) => return Ok(Some(Self { name, file })),
                Err(errno) => failure = errno,
            }
        }
        Err(failure).at(Step::AppArmor, name)
    }

    /// The next execve puts the process under the profile.
    pub fn apply(&self) -> Outcome<()> {
        let order = format!("exec {}", self.name);
        let refused = |errno: Errno| {
            let failure = StartFailure::kernel(Step::AppArmor, self.name, errno);
            match errno {
                Errno::NOENT => failure.with_detail("no profile of this name is loaded on the host"),
                Errno::INVAL => failure.with_detail("AppArmor is not in use on this host"),
                _ => failure,
            }
        };
        let written = write(&self.file, order.as_bytes()).map_err(refused)?;
        if written == order.len() {
            return Ok(());
        }
        Err(StartFailure::rule(Step::AppArmor, self.name, "the kernel took a part of the name only"))
    }
}
