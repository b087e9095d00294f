//! The group that a further process has for itself, so that all that it starts is known, whatever session it is in.
//!
//! It stands below the container's: in the v2 hierarchy where there is one, else below its freezer's or its pids' group.
//! A host that has none of these leaves the process without, and only its process group is known then.

use std::os::fd::{AsFd, OwnedFd};

use process::spec::{CgroupJoin, CgroupV1};
use process::{StartFailure, Step};
use rustix::fs::{open, openat, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{kill_process, Pid, Signal};

/// The v1 hierarchies below which it may stand, the best first: a frozen process cannot fork while it is killed.
const V1_VIEWS: [&str; 2] = ["freezer", "pids"];
/// How often processes that fork while they are killed are chased.
const MAX_KILL_ROUNDS: u32 = 100;
/// How deep groups that the process made are followed.
const MAX_NESTED_DEPTH: usize = 64;
/// The most that is read of one list of processes: 100,000 of them.
const MAX_PROCS_BYTES: usize = 1 << 20;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Such a group. Dropping it removes nothing.
#[derive(Debug)]
pub struct ExecGroup {
    dir: String,
    is_v1: bool,
}

impl ExecGroup {
    /// The group stands, and `cgroup`, the container's, is changed so that whoever joins it joins this one.
    ///
    /// # Errors
    /// The step Cgroup, with the mkdir(2) error.
    pub fn make(cgroup: &mut CgroupJoin, name: &str) -> Result<Option<Self>, StartFailure> {
        let (above, is_v1) = match (&mut cgroup.v2_dir, &mut cgroup.v1) {
            (Some(dir), _) => (dir, false),
            (None, v1) => match best_of(v1) {
                Some(group) => (&mut group.dir, true),
                None => return Ok(None),
            },
        };
        let dir = format!("{above}/{name}");
        match rustix::fs::mkdir(dir.as_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(StartFailure::kernel(Step::Cgroup, &dir, errno)),
        }
        above.clone_from(&dir);
        Ok(Some(Self { dir, is_v1 }))
    }

    /// The group is gone, unless a process is in it still: it goes with the container's then.
    pub fn remove(&self) {
        let _ = rustix::fs::rmdir(self.dir.as_str());
    }

    /// Every process in it and in groups below has been sent SIGKILL, and none escapes by forking. Never waits for them.
    pub fn kill(&self) {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        // Absent before Linux 5.14, on v1, and once the group has gone.
        let file = open(format!("{}/cgroup.kill", self.dir), flags, Mode::empty());
        if file.is_ok_and(|file| rustix::io::write(&file, b"1").is_ok()) {
            return;
        }
        self.kill_each();
    }

    /// As [`ExecGroup::kill`], by the list of processes, until it names none that has not been killed.
    fn kill_each(&self) {
        // Where nothing freezes, whoever forks is met in a later round: what has SIGKILL before it forks no more.
        self.set_frozen(true);
        let mut killed: Vec<Pid> = Vec::new();
        for _ in 0..MAX_KILL_ROUNDS {
            let found = self.processes();
            let fresh: Vec<Pid> = found.into_iter().filter(|pid| !killed.contains(pid)).collect();
            if fresh.is_empty() {
                break;
            }
            for &pid in &fresh {
                // One that has ended meanwhile is as it should be.
                let _ = kill_process(pid, Signal::KILL);
            }
            killed.extend(fresh);
        }
        // On v1 a frozen process dies only once it is thawed.
        self.set_frozen(false);
    }

    fn set_frozen(&self, is_frozen: bool) {
        let (name, words) =
            if self.is_v1 { ("freezer.state", ["THAWED", "FROZEN"]) } else { ("cgroup.freeze", ["0", "1"]) };
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        // Absent below a pids group, before Linux 5.2 on v2, and once the group has gone.
        if let Ok(file) = open(format!("{}/{name}", self.dir), flags, Mode::empty()) {
            let _ = rustix::io::write(&file, words[usize::from(is_frozen)].as_bytes());
        }
    }

    /// The processes in it and in groups below it; none once it has gone.
    fn processes(&self) -> Vec<Pid> {
        let mut found = Vec::new();
        let mut groups: Vec<(OwnedFd, usize)> = Vec::new();
        groups.extend(open(self.dir.as_str(), DIRECTORY, Mode::empty()).ok().map(|dir| (dir, 0)));
        while let Some((dir, depth)) = groups.pop() {
            let text = read_list(&dir).unwrap_or_default();
            // A process of another pid namespace is listed as 0.
            found.extend(text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)));
            if depth < MAX_NESTED_DEPTH {
                groups.extend(groups_below(&dir).into_iter().map(|below| (below, depth + 1)));
            }
        }
        found
    }
}

fn best_of(groups: &mut [CgroupV1]) -> Option<&mut CgroupV1> {
    let has = |group: &CgroupV1, name: &str| group.view.split(',').any(|one| one == name);
    let place = V1_VIEWS.iter().find_map(|name| groups.iter().position(|group| has(group, name)))?;
    groups.get_mut(place)
}

fn read_list(dir: &OwnedFd) -> Result<String, Errno> {
    let file = openat(dir, "cgroup.procs", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while text.len() < MAX_PROCS_BYTES {
        match rustix::io::read(&file, &mut buffer[..])? {
            0 => break,
            count => text.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn groups_below(dir: &OwnedFd) -> Vec<OwnedFd> {
    let Ok(entries) = Dir::read_from(dir.as_fd()) else { return Vec::new() };
    let is_group = |entry: &rustix::fs::DirEntry| {
        entry.file_type() == FileType::Directory && !matches!(entry.file_name().to_bytes(), b"." | b"..")
    };
    let entries = entries.filter_map(Result::ok).filter(is_group);
    entries.filter_map(|entry| openat(dir, entry.file_name(), DIRECTORY, Mode::empty()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    /// What a process leaves in sessions of its own, one of them one that forks as fast as it can.
    const SCRIPT: &str =
        "setsid sleep 600 & setsid sh -c 'while :; do sleep 600 & done' & echo on; exec sleep 600";

    /// The container's group of one hierarchy, removed at the end.
    struct Above(String);

    impl Above {
        /// None where the host has no such hierarchy, or it is not ours to change.
        fn make(mount: &str, name: &str) -> Option<Self> {
            let dir = format!("{mount}/fluyt-test-{}-{name}", std::process::id());
            rustix::fs::mkdir(dir.as_str(), Mode::from_raw_mode(0o755)).ok().map(|()| Self(dir))
        }
    }

    impl Drop for Above {
        fn drop(&mut self) {
            let _ = rustix::fs::rmdir(self.0.as_str());
        }
    }

    fn spawn_in(dir: &str) -> Child {
        let script = format!("echo $$ > {dir}/cgroup.procs; ulimit -u 400; {SCRIPT}");
        let mut child =
            Command::new("/bin/sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).expect("it says so");
        child
    }

    fn all_are_killed(group: &ExecGroup, kill: impl FnOnce(&ExecGroup)) {
        let mut child = spawn_in(&group.dir);
        assert!(group.processes().len() > 1, "its children are in the group");
        kill(group);
        assert_eq!(child.wait().expect("it has ended").signal(), Some(9));
        let deadline = Instant::now() + Duration::from_secs(20);
        while !group.processes().is_empty() {
            assert!(Instant::now() < deadline, "left: {:?}", group.processes());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn in_v2(name: &str, check: impl FnOnce(&ExecGroup)) {
        let Some(above) = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .iter()
            .filter(|mount| std::path::Path::new(mount).join("cgroup.procs").exists())
            .find_map(|mount| Above::make(mount, name))
        else {
            return;
        };
        let mut cgroup = CgroupJoin { v1: Vec::new(), v2_dir: Some(above.0.clone()) };
        let group = ExecGroup::make(&mut cgroup, "exec-a").expect("made").expect("a group");
        assert_eq!(cgroup.v2_dir, Some(format!("{}/exec-a", above.0)));
        check(&group);
        group.remove();
    }

    #[test]
    fn sessions_of_its_own_do_not_save_what_a_process_has_started() {
        in_v2("kill", |group| all_are_killed(group, ExecGroup::kill));
    }

    #[test]
    fn they_do_not_on_a_kernel_without_cgroup_kill_either() {
        in_v2("each", |group| all_are_killed(group, ExecGroup::kill_each));
    }

    #[test]
    fn they_do_not_on_a_host_that_has_v1_alone() {
        for view in V1_VIEWS {
            let Some(above) = Above::make(&format!("/sys/fs/cgroup/{view}"), "v1") else { continue };
            let v1 = vec![
                CgroupV1 { view: "memory".to_owned(), dir: "/nowhere".to_owned() },
                CgroupV1 { view: view.to_owned(), dir: above.0.clone() },
            ];
            let mut cgroup = CgroupJoin { v1, v2_dir: None };
            let group = ExecGroup::make(&mut cgroup, "exec-a").expect("made").expect("a group");
            assert_eq!(cgroup.v1[1].dir, format!("{}/exec-a", above.0));
            all_are_killed(&group, ExecGroup::kill);
            group.remove();
        }
    }

    #[test]
    fn a_host_with_neither_gives_none_and_killing_one_that_has_gone_does_nothing() {
        let v1 = vec![CgroupV1 { view: "memory".to_owned(), dir: "/nowhere".to_owned() }];
        let mut cgroup = CgroupJoin { v1, v2_dir: None };
        assert!(ExecGroup::make(&mut cgroup, "exec-a").expect("no failure").is_none());
        assert_eq!(cgroup.v1[0].dir, "/nowhere");
        let gone = ExecGroup { dir: "/nowhere".to_owned(), is_v1: true };
        gone.kill();
        gone.remove();
    }
}
