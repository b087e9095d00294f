//! Real groups on this host, below a parent of their own that is removed again; shared by several test programs.
#![allow(dead_code)]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cgroup::{CgroupHost, DeviceAccess, Group, Layout, Limits};

static COUNTER: AtomicU32 = AtomicU32::new(0);

pub struct Bench {
    pub host: CgroupHost,
    pub parent: String,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let mut left = Vec::new();
        for name in self.host.list_groups(&self.parent).unwrap_or_default() {
            let _ = self.host.kill(&self.parent, &name);
            if self.host.remove(&self.parent, &name, Duration::from_secs(5)).is_err() {
                left.push(name);
            }
        }
        for hierarchy in self.host.layout().hierarchies() {
            let path = hierarchy.mount_point.join(&self.parent);
            if fs::remove_dir(&path).is_err() && path.exists() {
                left.push(path.display().to_string());
            }
        }
        if !std::thread::panicking() {
            assert!(left.is_empty(), "left behind: {left:?}");
        }
    }
}

/// Runs `test` on this host's layout and, where it is a hybrid one, on each half of it alone, as far as they have
/// the controllers in `needs`. What is not run is said in the output.
pub fn on_each(needs: &[&str], test: impl Fn(&Bench)) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED cgroup test: needs root");
        return;
    }
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let without = |kind: &str| {
        let marker = format!(" - {kind} ");
        mountinfo.lines().filter(|line| !line.contains(&marker)).collect::<Vec<_>>().join("\n")
    };
    let mut modes = Vec::new();
    for text in [mountinfo.clone(), without("cgroup2"), without("cgroup")] {
        let Ok(layout) = Layout::from_mountinfo(&text) else { continue };
        if modes.contains(&layout.mode()) {
            continue;
        }
        modes.push(layout.mode());
        if let Some(missing) = needs.iter().find(|name| layout.home(name).is_none()) {
            eprintln!("SKIPPED on the {} layout of this host: no controller {missing}", layout.mode().name());
            continue;
        }
        let parent = format!("fluyt-test-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        test(&Bench { host: CgroupHost::with_layout(layout), parent });
    }
    if modes.is_empty() {
        eprintln!("SKIPPED cgroup test: this host mounts no cgroup file system");
    }
}

impl Bench {
    pub fn create(&self, name: &str, limits: &Limits) -> Group {
        self.host.create(&self.parent, name, limits, &DeviceAccess::Default(Vec::new())).unwrap()
    }

    pub fn read(&self, name: &str, file: &str) -> String {
        self.host.read_file(&self.parent, name, file).unwrap().unwrap_or_default().trim().to_owned()
    }

    pub fn is_v1(&self, controller: &str) -> bool {
        let layout = self.host.layout();
        layout
            .home(controller)
            .is_some_and(|index| layout.hierarchies()[index].version == cgroup::Version::V1)
    }

    pub fn directories(&self, name: &str) -> Vec<PathBuf> {
        self.host
            .layout()
            .hierarchies()
            .iter()
            .map(|hierarchy| hierarchy.mount_point.join(&self.parent).join(name))
            .filter(|path| path.exists())
            .collect()
    }
}

/// A shell that joins the group and becomes `script`.
pub fn spawn_in(group: &Group, script: &str) -> Child {
    let mut text = String::new();
    for path in group.paths() {
        let file = if path.join("tasks").exists() { "tasks" } else { "cgroup.procs" };
        text.push_str(&format!("echo 0 > {} || exit 99\n", path.join(file).display()));
    }
    text.push_str("echo joined\n");
    text.push_str(script);
    let mut child = Command::new("/bin/sh")
        .args(["-c", &text])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = [0_u8; 7];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    assert_eq!(&line, b"joined\n");
    child
}
