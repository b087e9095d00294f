//! Freezing, thawing and killing every process of a group.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{kill_process, Pid, Signal};
use sys::failpoint;

use crate::files::{self, io};
use crate::host::children;
use crate::{CgroupError, CgroupHost};

/// How long the kernel may take to freeze a group.
pub const FREEZE_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause between two looks at a freezer.
const FREEZE_POLL: Duration = Duration::from_micros(200);
/// How often processes that fork while they are killed are chased.
const MAX_KILL_ROUNDS: u32 = 100;
/// How deep groups made inside a container are followed.
const MAX_NESTED_DEPTH: usize = 64;

impl CgroupHost {
    /// Every process of the group and of groups below it has been sent SIGKILL, frozen ones too, and none can
    /// escape by forking; they may still be dying. Absent groups are no error. Blocking, idempotent.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    ///
    /// Source: cgroup-v2.rst `cgroup.kill` (5.14); before that and on v1 freeze, signal, thaw.
    pub fn kill(&self, parent: &str, name: &str) -> Result<(), CgroupError> {
        failpoint::hit("cgroup.kill");
        let mut is_killed = false;
        if let Some(index) = self.layout().unified() {
            let path = self.path_in(index, parent, name)?;
            is_killed = kill_by_file(&path)?;
        }
        // What never entered the unified group, or all of it where there is none.
        for round in 0..MAX_KILL_ROUNDS {
            if self.processes(parent, name)?.is_empty() {
                return Ok(());
            }
            // A frozen group cannot fork while it is signalled; one that does not freeze is signalled in rounds.
            let is_frozen =
                !is_killed && self.set_frozen(parent, name, true, FREEZE_TIMEOUT).unwrap_or(false);
            let processes = self.processes(parent, name)?;
            for pid in &processes {
                match kill_process(*pid, Signal::KILL) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(errno) => return Err(io("kill", Path::new(name), errno)),
                }
            }
            // Frozen before us by somebody who paused it: a v1 process dies only when it is thawed.
            if !is_killed {
                match self.set_frozen(parent, name, false, FREEZE_TIMEOUT) {
                    Err(CgroupError::Io(error)) if error.errno == Errno::NOENT.raw_os_error() => {}
                    answer => drop(answer?),
                }
            }
            if processes.is_empty() || is_frozen || is_killed {
                return Ok(());
            }
            std::thread::sleep(FREEZE_POLL * round.min(10));
        }
        Ok(())
    }

    /// No process of the group runs any more until it is thawed. Blocking, at most [`FREEZE_TIMEOUT`]. Idempotent.
    ///
    /// # Errors
    /// [`CgroupError::Busy`] if some process does not stop in time; then the group is thawed again.
    /// [`CgroupError::Io`] with ENOENT if the group is absent.
    pub fn freeze(&self, parent: &str, name: &str) -> Result<(), CgroupError> {
        if self.set_frozen(parent, name, true, FREEZE_TIMEOUT)? {
            return Ok(());
        }
        self.set_frozen(parent, name, false, FREEZE_TIMEOUT)?;
        Err(CgroupError::Busy { path: Path::new(parent).join(name) })
    }

    /// The processes of the group run again. Idempotent.
    ///
    /// # Errors
    /// [`CgroupError::Io`] with ENOENT if the group is absent.
    pub fn thaw(&self, parent: &str, name: &str) -> Result<(), CgroupError> {
        self.set_frozen(parent, name, false, FREEZE_TIMEOUT).map(|_| ())
    }

    /// Whether the group came to the wanted state in time.
    fn set_frozen(
        &self,
        parent: &str,
        name: &str,
        is_frozen: bool,
        timeout: Duration,
    ) -> Result<bool, CgroupError> {
        let (index, file, words, state, done) = match (self.layout().unified(), self.layout().home("freezer"))
        {
            (Some(index), _) => {
                (index, "cgroup.freeze", ["0", "1"], "cgroup.events", ["frozen 0", "frozen 1"])
            }
            (None, Some(index)) => {
                (index, "freezer.state", ["THAWED", "FROZEN"], "freezer.state", ["THAWED", "FROZEN"])
            }
            (None, None) => return Ok(false),
        };
        let path = self.path_in(index, parent, name)?;
        let directory = files::directory(&path).map_err(|errno| io("open", &path, errno))?;
        let word = words[usize::from(is_frozen)];
        let done = done[usize::from(is_frozen)];
        let deadline = Instant::now() + timeout;
        loop {
            // v1 may need to be told again when a process forked meanwhile; v2 does not mind.
            files::write(directory.as_fd(), Path::new(file), word)
                .map_err(|errno| io("write", &path.join(file), errno))?;
            let now = files::read(directory.as_fd(), Path::new(state))
                .map_err(|errno| io("read", &path.join(state), errno))?;
            if now.lines().any(|line| line == done) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(FREEZE_POLL);
        }
    }

    /// Every process of the group and of groups below it, in any hierarchy, by its id as this process sees it, sorted;
    /// none if the group is absent. Blocking (a small read for each group).
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn processes(&self, parent: &str, name: &str) -> Result<Vec<Pid>, CgroupError> {
        let mut found = Vec::new();
        for path in self.paths(parent, name)? {
            let mut groups: Vec<(PathBuf, usize)> = vec![(path, 0)];
            while let Some((path, depth)) = groups.pop() {
                let directory = match files::directory(&path) {
                    Ok(directory) => directory,
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(io("open", &path, errno)),
                };
                match files::read(directory.as_fd(), Path::new("cgroup.procs")) {
                    // A process of another pid namespace is listed as 0.
                    Ok(text) => {
                        found.extend(text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)))
                    }
                    Err(Errno::NOENT | Errno::NODEV) => continue,
                    // A threaded group lists its processes in the group above.
                    Err(Errno::OPNOTSUPP) => {}
                    Err(errno) => return Err(io("read", &path.join("cgroup.procs"), errno)),
                }
                if depth < MAX_NESTED_DEPTH {
                    groups.extend(children(&path)?.into_iter().map(|child| (path.join(child), depth + 1)));
                }
            }
        }
        found.sort_by_key(|pid| pid.as_raw_nonzero());
        found.dedup();
        Ok(found)
    }
}

/// Whether the kernel killed the group by itself.
fn kill_by_file(path: &Path) -> Result<bool, CgroupError> {
    let directory = match files::directory(path) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(io("open", path, errno)),
    };
    match files::write(directory.as_fd(), Path::new("cgroup.kill"), "1") {
        Ok(()) => Ok(true),
        Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(io("write", &path.join("cgroup.kill"), errno)),
    }
}
