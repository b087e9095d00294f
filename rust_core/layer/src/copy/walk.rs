//! Goes through a directory as it stands, in one fixed order: a directory before what is in it, names by their bytes.

use std::os::fd::AsFd;

use rustix::fs::FileType;

use super::root::{Place, Root};
use super::CopyError;
use crate::diff::node::Node;
use crate::diff::view::{self, Found};
use crate::diff::walk::{join, Met};
use crate::error::shown;
use crate::{LayerError, Limits};

/// A directory whose names are not all done.
struct Frame {
    path: Vec<u8>,
    place: Place,
    /// What is left to do, the next at the end.
    names: Vec<Vec<u8>>,
}

/// A walk under way. It holds one descriptor and the names that are left of each directory above it.
pub(crate) struct PlainWalk {
    root: Root,
    /// What the walk begins with, and what it is called.
    first: Option<(Vec<u8>, Place)>,
    frames: Vec<Frame>,
    limits: Limits,
    subject: String,
    left_bytes: u64,
    met_count: u64,
}

impl std::fmt::Debug for PlainWalk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlainWalk").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl PlainWalk {
    /// Of `place` and all in it; `name` is what it is called in the archive, empty for `.`.
    pub(super) fn new(root: Root, place: Place, name: Vec<u8>, limits: &Limits, subject: &str) -> Self {
        Self {
            root,
            first: Some((name, place)),
            frames: Vec::new(),
            limits: limits.clone(),
            subject: subject.to_owned(),
            left_bytes: limits.pending_bytes,
            met_count: 0,
        }
    }

    /// The next file. One that vanishes while it is looked at is passed over.
    pub fn next(&mut self) -> Result<Option<Met>, LayerError> {
        if let Some((path, place)) = self.first.take() {
            return self.meet(path, place).map(Some);
        }
        loop {
            let Some(frame) = self.frames.last_mut() else { return Ok(None) };
            let Some(name) = frame.names.pop() else {
                self.frames.pop();
                continue;
            };
            self.left_bytes += view::weight(&name);
            let path = join(&frame.path, &name);
            let Some((place, _)) = self.root.step(&frame.place, &name, &path).map_err(plain)? else {
                continue;
            };
            return self.meet(path, place).map(Some);
        }
    }

    fn meet(&mut self, path: Vec<u8>, place: Place) -> Result<Met, LayerError> {
        self.met_count += 1;
        self.check("entry_count", self.limits.entry_count, self.met_count, &path)?;
        self.check("path_bytes", self.limits.path_bytes, path.len() as u64, &path)?;
        let node = Node::of(place.handle().map_err(plain)?, &path)?;
        if node.kind() == FileType::Directory && !is_kernels(&place, &path)? {
            self.check("path_depth", self.limits.path_depth, self.frames.len() as u64, &path)?;
            let listed = Root::open_listable(&place, &path).map_err(plain)?;
            let Some(names) = view::names(listed.as_fd(), &path, &mut self.left_bytes)? else {
                let value = self.limits.pending_bytes;
                return Err(self.exceeded("pending_bytes", value, value + 1, &path));
            };
            let names = names.into_iter().rev().collect();
            self.frames.push(Frame { path: path.clone(), place, names });
        }
        Ok(Met { path, node, below: Found::Absent, is_whiteout: false })
    }

    fn check(&self, limit: &'static str, value: u64, actual: u64, path: &[u8]) -> Result<(), LayerError> {
        if actual > value {
            return Err(self.exceeded(limit, value, actual, path));
        }
        Ok(())
    }

    fn exceeded(&self, limit: &'static str, limit_value: u64, actual: u64, path: &[u8]) -> LayerError {
        let subject = format!("{}: {:?}", self.subject, shown(path));
        LayerError::LimitExceeded { limit, limit_value, actual, subject }
    }
}

/// As an error of the tar: a walk fails by calls and limits only, and a missing file is one of a call.
fn plain(error: CopyError) -> LayerError {
    match error {
        CopyError::Layer(error) => error,
        _ => crate::tree::io("openat2", error.to_string().as_bytes(), rustix::io::Errno::NOENT).into(),
    }
}

/// File systems that show what the kernel has, not files: their files have no size, some never end, some act when they
/// are read. Source: linux/magic.h.
const KERNEL_FILE_SYSTEMS: [u64; 14] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x4249_4e4d, // binfmt_misc
    0x6265_6570, // configfs
    0x6165_676c, // pstore
    0x6e73_6673, // nsfs
];

/// True for what lies on such a file system: it is told, and not entered.
pub(super) fn is_kernels(place: &Place, path: &[u8]) -> Result<bool, LayerError> {
    let status = rustix::fs::fstatfs(&place.fd).map_err(|errno| crate::tree::io("fstatfs", path, errno))?;
    // The field is signed, and narrower on some machines.
    #[expect(clippy::cast_sign_loss, reason = "magic numbers are bit patterns")]
    let magic = status.f_type as u64 & 0xffff_ffff;
    Ok(KERNEL_FILE_SYSTEMS.contains(&magic))
}
