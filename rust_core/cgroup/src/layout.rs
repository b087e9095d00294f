//! Where this host mounts which controllers, read from mountinfo and never assumed.

use std::path::{Path, PathBuf};

use crate::CgroupError;

/// Which generation of the file system a hierarchy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each set of controllers.
    V1,
    /// The unified hierarchy.
    V2,
}

/// What the host has as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only the unified hierarchy.
    V2,
    /// Only hierarchies of v1.
    V1,
    /// v1 controllers beside a unified hierarchy.
    Hybrid,
}

impl Mode {
    /// `v2`, `v1` or `hybrid`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V1 => "v1",
            Self::Hybrid => "hybrid",
        }
    }
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its generation.
    pub version: Version,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// The controllers it holds; of the unified one, those that no v1 hierarchy holds.
    pub controllers: Vec<String>,
}

impl Hierarchy {
    /// Whether this hierarchy holds `controller`.
    #[must_use]
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|held| held == controller)
    }
}

/// Every hierarchy that can hold something of ours; named v1 hierarchies without controllers are not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    hierarchies: Vec<Hierarchy>,
}

/// Controllers of v1, which mountinfo lists among other mount options.
///
/// Source: cgroups(7), "Cgroups version 1 controllers".
const V1_CONTROLLERS: [&str; 14] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "net_cls",
    "net_prio",
    "perf_event",
    "hugetlb",
    "rdma",
    "misc",
];

impl Layout {
    /// The layout of this host. Blocking (reads mountinfo).
    ///
    /// # Errors
    /// [`CgroupError::NoFileSystem`] if nothing is mounted; [`CgroupError::Io`] if /proc cannot be read.
    pub fn read() -> Result<Self, CgroupError> {
        let path = Path::new("/proc/self/mountinfo");
        let text = std::fs::read(path).map_err(|error| errors::IoError::from_std("read", path, &error))?;
        Self::from_mountinfo(&String::from_utf8_lossy(&text))
    }

    /// The layout that this text of mountinfo describes; the controllers of a unified hierarchy are read from its
    /// `cgroup.controllers`. Tests pass a text that names a temporary directory.
    ///
    /// # Errors
    /// [`CgroupError::NoFileSystem`].
    ///
    /// Source: proc_pid_mountinfo(5).
    pub fn from_mountinfo(text: &str) -> Result<Self, CgroupError> {
        let mut found: Vec<(bool, Hierarchy)> = Vec::new();
        for (is_whole, hierarchy) in text.lines().filter_map(parse_line) {
            let same = found.iter_mut().find(|(_, other)| {
                other.version == hierarchy.version && other.controllers == hierarchy.controllers
            });
            match same {
                // The same hierarchy mounted twice: the mount that shows it from its root is the better one.
                Some(other) if is_whole && !other.0 => *other = (is_whole, hierarchy),
                Some(_) => {}
                None => found.push((is_whole, hierarchy)),
            }
        }
        let mut hierarchies: Vec<Hierarchy> = found.into_iter().map(|(_, hierarchy)| hierarchy).collect();
        // v1 first, so that a controller is looked for where it is bound.
        hierarchies.sort_by_key(|hierarchy| hierarchy.version == Version::V2);
        if let Some(unified) = hierarchies.last_mut().filter(|last| last.version == Version::V2) {
            let list = std::fs::read_to_string(unified.mount_point.join("cgroup.controllers"));
            unified.controllers = list.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        }
        if hierarchies.is_empty() {
            return Err(CgroupError::NoFileSystem);
        }
        Ok(Self { hierarchies })
    }

    /// v2, v1 or hybrid.
    #[must_use]
    pub fn mode(&self) -> Mode {
        let has = |version| self.hierarchies.iter().any(|hierarchy| hierarchy.version == version);
        match (has(Version::V1), has(Version::V2)) {
            (true, true) => Mode::Hybrid,
            (true, false) => Mode::V1,
            _ => Mode::V2,
        }
    }

    /// Every hierarchy, those of v1 first.
    #[must_use]
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    /// Controllers that can hold a limit, sorted, each once.
    #[must_use]
    pub fn controllers(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.hierarchies.iter().flat_map(|hierarchy| hierarchy.controllers.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The hierarchy that holds `controller`, by its place in [`Self::hierarchies`].
    #[must_use]
    pub fn home(&self, controller: &str) -> Option<usize> {
        self.hierarchies.iter().position(|hierarchy| hierarchy.has(controller))
    }

    /// The unified hierarchy's place, if there is one.
    #[must_use]
    pub fn unified(&self) -> Option<usize> {
        self.hierarchies.iter().position(|hierarchy| hierarchy.version == Version::V2)
    }
}

/// One line: whether it shows the hierarchy from its root, and the hierarchy. None for any other file system, and
/// for a v1 hierarchy without controllers (`name=systemd`).
fn parse_line(line: &str) -> Option<(bool, Hierarchy)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ');
    let root = mount.nth(3)?;
    let mount_point = unescape(mount.next()?);
    let mut file_system = file_system.split(' ');
    let kind = file_system.next()?;
    let options = file_system.nth(1)?;
    match kind {
        "cgroup2" => {
            Some((root == "/", Hierarchy { version: Version::V2, mount_point, controllers: Vec::new() }))
        }
        "cgroup" => {
            let controllers: Vec<String> =
                options.split(',').filter(|name| V1_CONTROLLERS.contains(name)).map(str::to_owned).collect();
            if controllers.is_empty() {
                return None;
            }
            Some((root == "/", Hierarchy { version: Version::V1, mount_point, controllers }))
        }
        _ => None,
    }
}

/// Blanks, tabs, newlines and backslashes stand in mountinfo as three octal digits.
fn unescape(field: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let bytes = field.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let code = (bytes[index] == b'\\')
            .then(|| field.get(index + 1..index + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                plain.push(byte);
                index += 4;
            }
            None => {
                plain.push(bytes[index]);
                index += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/x /somewhere/else rw,relatime - cgroup cgroup rw,memory
36 31 0:32 / /sys/fs/cgroup/mem\\040ory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /no/such/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn a_hybrid_host_is_read_with_its_co_mounted_controllers() {
        let layout = Layout::from_mountinfo(HYBRID).unwrap();
        assert_eq!(layout.mode(), Mode::Hybrid);
        assert_eq!(layout.controllers(), ["cpu", "cpuacct", "memory"]);
        assert_eq!(layout.home("cpu"), layout.home("cpuacct"));
        assert_eq!(layout.home("pids"), None);
        assert_eq!(layout.hierarchies().len(), 3, "the named hierarchy is none of ours");
        let memory = &layout.hierarchies()[layout.home("memory").unwrap()];
        assert_eq!(memory.mount_point, Path::new("/sys/fs/cgroup/mem ory"));
        assert_eq!(layout.hierarchies()[layout.unified().unwrap()].version, Version::V2);
    }

    #[test]
    fn a_unified_host_reads_its_controllers_from_the_root() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("cgroup.controllers"), "cpuset cpu memory pids\n").unwrap();
        let text =
            format!("30 23 0:26 / {} rw - cgroup2 cgroup2 rw,nsdelegate\n", directory.path().display());
        let layout = Layout::from_mountinfo(&text).unwrap();
        assert_eq!(layout.mode(), Mode::V2);
        assert_eq!(layout.controllers(), ["cpu", "cpuset", "memory", "pids"]);
    }

    #[test]
    fn a_host_without_cgroups_is_a_missing_feature() {
        let error = Layout::from_mountinfo("22 27 0:21 / /proc rw - proc proc rw\n").unwrap_err();
        assert_eq!(error, CgroupError::NoFileSystem);
        assert_eq!(errors::Catalogued::reason(&error), "KERNEL_FEATURE_MISSING");
    }

    #[test]
    fn lines_that_are_cut_short_are_passed_over() {
        for end in 0..HYBRID.len() {
            if HYBRID.is_char_boundary(end) {
                let _ = Layout::from_mountinfo(&HYBRID[..end]);
            }
        }
    }
}
