//! Removing a group from all its hierarchies once it is empty.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::rmdir;
use rustix::io::Errno;
use sys::failpoint;

use crate::files::io;
use crate::host::children;
use crate::{CgroupError, CgroupHost};

/// The first pause between two attempts; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(5);
/// How deep groups made inside a container are removed.
const MAX_NESTED_DEPTH: usize = 64;

impl CgroupHost {
    /// The group, with groups made below it, is gone from all hierarchies. Waits up to `timeout` for its last
    /// process to leave; kills nothing. Absent groups are no error. Blocking (0.1 ms if it is empty), idempotent.
    ///
    /// # Errors
    /// [`CgroupError::Busy`] naming the directory that is still in use; [`CgroupError::Io`].
    pub fn remove(&self, parent: &str, name: &str, timeout: Duration) -> Result<(), CgroupError> {
        let deadline = Instant::now() + timeout;
        let mut pause = FIRST_PAUSE;
        let mut left = self.paths(parent, name)?;
        loop {
            failpoint::hit("cgroup.remove");
            let mut busy = Vec::new();
            for path in left {
                if !remove_tree(&path)? {
                    busy.push(path);
                }
            }
            let Some(first) = busy.first() else { return Ok(()) };
            let now = Instant::now();
            if now >= deadline {
                return Err(CgroupError::Busy { path: first.clone() });
            }
            std::thread::sleep(pause.min(deadline - now));
            pause = (pause * 2).min(LONGEST_PAUSE);
            left = busy;
        }
    }
}

/// Whether the group and those below it are gone; false while one of them is in use.
fn remove_tree(path: &Path) -> Result<bool, CgroupError> {
    if remove_one(path)? {
        return Ok(true);
    }
    // Deepest first: each group is met before those below it, so the list is gone through from its end.
    let mut groups: Vec<(PathBuf, usize)> = vec![(path.to_path_buf(), 0)];
    let mut index = 0;
    while let Some((group, depth)) = groups.get(index).cloned() {
        if depth < MAX_NESTED_DEPTH {
            groups.extend(children(&group)?.into_iter().map(|child| (group.join(child), depth + 1)));
        }
        index += 1;
    }
    for (group, _) in groups.iter().rev() {
        if !remove_one(group)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn remove_one(path: &Path) -> Result<bool, CgroupError> {
    match rmdir(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::BUSY | Errno::NOTEMPTY) => Ok(false),
        Err(errno) => Err(io("rmdir", path, errno)),
    }
}
