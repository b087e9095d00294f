//! The device nodes of the host, which a privileged container sees in its own /dev.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{mkdirat, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::at::{At, Outcome};
use crate::failure::StartFailure;
use crate::mounts::dev::node;
use crate::step::Step;

/// The most nodes that are taken from the host's /dev.
pub const MAX_HOST_DEVICES: usize = 16_384;
/// How deep below /dev nodes are looked for.
const MAX_DEPTH: usize = 8;
/// What is the container's own: terminals, shared memory, message queues, and the standard nodes.
const OWN: [&str; 13] = [
    "pts", "shm", "mqueue", "fd", "console", "ptmx", "null", "zero", "full", "random", "urandom", "tty",
    "core",
];

/// A node, or a directory of nodes, by its path below /dev.
#[derive(Debug)]
pub(crate) struct HostDevice {
    path: String,
    kind: FileType,
    mode: Mode,
    number: u64,
}

impl HostDevice {
    /// It exists below `dev`, with the host's mode.
    pub(crate) fn make_below(&self, dev: BorrowedFd<'_>) -> Outcome<()> {
        if self.kind == FileType::Directory {
            return mkdirat(dev, self.path.as_str(), Mode::from_raw_mode(0o755)).at(Step::Device, &self.path);
        }
        node(dev, &self.path, self.kind, self.mode, self.number)
    }
}

/// The host's nodes, directories before what is in them. Links and what vanishes meanwhile are passed over.
pub(crate) fn list() -> Outcome<Vec<HostDevice>> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), "", MAX_DEPTH, &mut found)?;
    Ok(found)
}

fn collect(host: &Path, below: &str, depth: usize, found: &mut Vec<HostDevice>) -> Outcome<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = rustix::fs::open(host, flags, Mode::empty()).at(Step::Device, host)?;
    for entry in Dir::read_from(&handle).at(Step::Device, host)? {
        let entry = entry.at(Step::Device, host)?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if matches!(name, "." | "..") || (below.is_empty() && OWN.contains(&name)) {
            continue;
        }
        let stat = match rustix::fs::statat(&handle, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(StartFailure::kernel(Step::Device, host.join(name), errno)),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let path = format!("{below}{name}");
        let is_directory = kind == FileType::Directory;
        if !is_directory && !matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
            continue;
        }
        if found.len() >= MAX_HOST_DEVICES {
            let rule = format!("more than MAX_HOST_DEVICES ({MAX_HOST_DEVICES}) nodes on the host");
            return Err(StartFailure::rule(Step::Device, "/dev", rule));
        }
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        found.push(HostDevice { path: path.clone(), kind, mode, number: stat.st_rdev });
        if is_directory && depth > 0 {
            collect(&host.join(name), &format!("{path}/"), depth - 1, found)?;
        }
    }
    Ok(())
}
