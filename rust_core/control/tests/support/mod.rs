//! A busybox root and a container in it, started through a real supervisor, for tests and measurements.
#![allow(dead_code)]

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use control::{ContainerStart, ExitRecord, ExitState, ResourceLimits, Supervisor, SupervisorHost};
use logs::{LogReader, ReadRange, Stream};
use rustix::event::{poll, PollFd, PollFlags, Timespec};

/// Longest wait for anything in a test.
pub const TIMEOUT: Duration = Duration::from_secs(20);

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The program that `FLUYT_SUPERVISOR` names, or one built on the spot.
pub fn supervisor_path() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| std::env::var_os("FLUYT_SUPERVISOR").map_or_else(build_supervisor, PathBuf::from))
        .clone()
}

fn build_supervisor() -> PathBuf {
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_owned();
    // Not the target directory of the build that runs this test: cargo holds a lock on that one.
    let target = workspace.join("target/supervisor");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--profile", "supervisor", "-p", "fluyt-supervisor"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--target-dir"])
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static\u{1f}-Crelocation-model=static")
        .current_dir(&workspace)
        .status()
        .expect("cargo starts");
    assert!(status.success(), "the supervisor did not build");
    target.join("x86_64-unknown-linux-gnu/supervisor/fluyt-supervisor")
}

/// Directories, cgroup parent and host of one test; all gone when dropped.
pub struct Scene {
    pub host: SupervisorHost,
    pub groups: cgroup::CgroupHost,
    pub parent: String,
    pub base: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Self {
        let base = tempfile::tempdir().expect("a directory");
        let bin = base.path().join("root/bin");
        std::fs::create_dir_all(&bin).expect("a root");
        std::fs::create_dir_all(base.path().join("root/tmp")).expect("a root");
        std::fs::copy("/bin/busybox", bin.join("busybox")).expect("Debian's busybox-static is installed");
        for applet in
            ["sh", "true", "cat", "sleep", "seq", "head", "tr", "printf", "kill", "id", "env", "ls", "yes"]
        {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).expect("a link");
        }
        Self {
            host: SupervisorHost::open(&supervisor_path()).expect("the supervisor opens"),
            groups: cgroup::CgroupHost::open().expect("this host has cgroups"),
            parent: format!("fluyt-test-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)),
            base,
        }
    }

    /// A container that runs `args`, not started.
    pub fn spec(&self, args: &[&str]) -> ContainerStart {
        let name = format!("c{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        let dir = self.base.path().join(&name);
        for part in ["run", "log", "upper", "work"] {
            std::fs::create_dir_all(dir.join(part)).expect("a directory");
        }
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        ContainerStart {
            container_id: name.clone(),
            run_dir: dir.join("run"),
            log_dir: dir.join("log"),
            lower_dirs: vec![text(self.base.path().join("root"))],
            upper_dir: text(dir.join("upper")),
            work_dir: text(dir.join("work")),
            args: owned(args),
            env: owned(&["PATH=/bin"]),
            cwd: "/".to_owned(),
            user: String::new(),
            additional_groups: Vec::new(),
            hostname: name.clone(),
            domainname: String::new(),
            network_mode: "none".to_owned(),
            pid_mode: "own".to_owned(),
            ipc_mode: "own".to_owned(),
            uts_mode: "own".to_owned(),
            cgroup_mode: "own".to_owned(),
            shm_mode: "own".to_owned(),
            devices: Vec::new(),
            device_rules: Vec::new(),
            is_root_read_only: false,
            is_privileged: false,
            capabilities: owned(&process::capabilities::default_names()),
            seccomp_profile: "default".to_owned(),
            no_new_privileges: false,
            apparmor_profile: String::new(),
            process_label: String::new(),
            mount_label: String::new(),
            rlimits: Vec::new(),
            masked_paths: owned(&["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]),
            read_only_paths: owned(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"]),
            sysctls: Vec::new(),
            mounts: Vec::new(),
            shm_size_bytes: 64 << 20,
            oom_score_adj: None,
            cgroup_parent: self.parent.clone(),
            cgroup_name: name,
            limits: ResourceLimits::default(),
            open_stdin: false,
            is_held: false,
            terminal: None,
            log_segment_bytes: 16 << 20,
            log_segment_count: 5,
            journal_socket: None,
            journal_fields: Vec::new(),
            ids: None,
            ids_joined: None,
        }
    }

    /// A shell script as the container's process.
    pub fn script(&self, script: &str) -> ContainerStart {
        self.spec(&["/bin/sh", "-c", script])
    }

    pub fn start(&self, spec: &ContainerStart) -> Supervisor {
        self.host.start(spec, &[], None, TIMEOUT).expect("it starts")
    }

    /// Runs a script to its end.
    pub fn run(&self, script: &str) -> Ended {
        let spec = self.script(script);
        let supervisor = self.start(&spec);
        self.finish(&spec, supervisor)
    }

    /// Waits for the end of a container, takes its output, and removes its groups.
    pub fn finish(&self, spec: &ContainerStart, supervisor: Supervisor) -> Ended {
        let record = wait_exit(&supervisor);
        assert!(supervisor.wait_gone(TIMEOUT).expect("it is waited for"), "the supervisor goes");
        self.remove_groups(spec);
        Ended {
            record,
            stdout: output(&spec.log_dir, Stream::Stdout),
            stderr: output(&spec.log_dir, Stream::Stderr),
        }
    }

    pub fn remove_groups(&self, spec: &ContainerStart) {
        self.groups.remove(&spec.cgroup_parent, &spec.cgroup_name, TIMEOUT).expect("the groups are removed");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for name in self.groups.list_groups(&self.parent).unwrap_or_default() {
            let _ = self.groups.kill(&self.parent, &name);
            let _ = self.groups.remove(&self.parent, &name, TIMEOUT);
        }
        for hierarchy in self.groups.layout().hierarchies() {
            // Only some hierarchies have it.
            let _ = std::fs::remove_dir(hierarchy.mount_point.join(&self.parent));
        }
    }
}

/// How a container ended and what it wrote.
#[derive(Debug)]
pub struct Ended {
    pub record: ExitRecord,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Ended {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// All that a stream wrote.
pub fn output(log_dir: &Path, stream: Stream) -> Vec<u8> {
    let mut reader = LogReader::open(log_dir, &ReadRange::default()).expect("the log opens");
    let mut bytes = Vec::new();
    loop {
        let records = reader.read_final(1 << 20).expect("the log is read");
        if records.is_empty() {
            return bytes;
        }
        bytes.extend(
            records.into_iter().filter(|record| record.stream == stream).flat_map(|record| record.data),
        );
    }
}

/// Waits until the state is no longer `Running`.
pub fn wait_news(supervisor: &Supervisor) -> ExitState {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let state = supervisor.poll_exit().expect("it is polled");
        if state != ExitState::Running {
            return state;
        }
        assert!(readable(supervisor.fileno(), deadline), "no news in time");
    }
}

pub fn wait_exit(supervisor: &Supervisor) -> ExitRecord {
    match wait_news(supervisor) {
        ExitState::Exited(record) => record,
        other => panic!("an exit, not {other:?}"),
    }
}

/// Waits for something to read.
pub fn readable(fd: BorrowedFd<'_>, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
    poll(&mut [PollFd::new(&fd.as_fd(), PollFlags::IN)], Some(&timeout)).expect("a poll") > 0
}

/// Waits until a condition holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
