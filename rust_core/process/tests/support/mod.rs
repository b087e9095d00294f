//! A throw-away root with busybox, a spec to change, and a run of it by the `start` example in a process of its own
//! (spawn asks for a single-threaded one). After each run nothing may be left: mounts and children are counted.
#![allow(dead_code, missing_docs)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use process::spec::{CgroupJoin, Mount, MountKind, Network, Propagation, Rlimit, Root, Spec};
use serde_json::Value;

/// Commands of busybox that the root has in /bin.
const APPLETS: &[&str] = &[
    "sh",
    "cat",
    "ls",
    "true",
    "false",
    "id",
    "mount",
    "umount",
    "echo",
    "pwd",
    "env",
    "hostname",
    "touch",
    "stat",
    "ip",
    "sleep",
    "grep",
    "dd",
    "mkdir",
    "readlink",
    "unshare",
    "chroot",
    "kill",
    "ps",
    "mknod",
    "nproc",
    "wc",
    "find",
    "dnsdomainname",
    "uname",
    "test",
    "sort",
    "ping",
    "chown",
    "sysctl",
];

pub struct Container {
    dir: tempfile::TempDir,
    pub spec: Spec,
}

/// How the run ended, and what it wrote.
#[derive(Debug)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    pub result: Value,
}

impl Outcome {
    pub fn exit_code(&self) -> i64 {
        self.result["exit_code"].as_i64().unwrap_or_else(|| panic!("it did not exit: {self:?}"))
    }

    pub fn failure(&self, field: &str) -> &Value {
        assert!(self.result["failure"].is_object(), "it did not fail: {self:?}");
        &self.result["failure"][field]
    }

    /// The standard output of a run that ended with 0.
    pub fn output(&self) -> &str {
        assert_eq!(self.result["exit_code"], 0, "{self:?}");
        self.stdout.trim_end()
    }
}

impl Container {
    /// Runs `sh -c script` unless the spec is changed; Docker's defaults, network none.
    pub fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["lower/bin", "lower/etc", "lower/tmp", "upper", "work"] {
            fs::create_dir_all(dir.path().join(name)).expect("made");
        }
        fs::copy("/bin/busybox", dir.path().join("lower/bin/busybox"))
            .expect("Debian's busybox-static is needed");
        for applet in APPLETS {
            symlink("busybox", dir.path().join("lower/bin").join(applet)).expect("linked");
        }
        let path = |name: &str| dir.path().join(name).to_str().expect("utf-8").to_owned();
        let spec = Spec {
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec!["PATH=/usr/bin:/bin".to_owned()],
            cwd: "/".to_owned(),
            user: String::new(),
            additional_groups: Vec::new(),
            hostname: "box".to_owned(),
            domainname: String::new(),
            network: Network::None,
            namespaces: process::spec::Namespaces::default(),
            shm: process::spec::Shm::Own,
            devices: Vec::new(),
            root: Root { lower_dirs: vec![path("lower")], upper_dir: path("upper"), work_dir: path("work") },
            is_root_read_only: false,
            is_privileged: false,
            capabilities: process::capabilities::default_names().into_iter().map(str::to_owned).collect(),
            no_new_privileges: false,
            apparmor_profile: String::new(),
            process_label: String::new(),
            mount_label: String::new(),
            seccomp_filters: Vec::new(),
            rlimits: Vec::new(),
            masked_paths: strings(&[
                "/proc/asound",
                "/proc/acpi",
                "/proc/interrupts",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/proc/scsi",
                "/sys/firmware",
                "/sys/devices/virtual/powercap",
            ]),
            read_only_paths: strings(&[
                "/proc/bus",
                "/proc/fs",
                "/proc/irq",
                "/proc/sys",
                "/proc/sysrq-trigger",
            ]),
            sysctls: Vec::new(),
            mounts: Vec::new(),
            shm_size_bytes: 64 << 20,
            oom_score_adj: None,
            cgroup: CgroupJoin::default(),
            terminal: None,
            ids: None,
        };
        Self { dir, spec }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Spec)) -> Self {
        change(&mut self.spec);
        self
    }

    /// A file of the image.
    pub fn file(self, path: &str, content: &str) -> Self {
        let at = self.image(path);
        fs::create_dir_all(at.parent().expect("a parent")).expect("made");
        fs::write(at, content).expect("written");
        self
    }

    pub fn image(&self, path: &str) -> PathBuf {
        self.dir.path().join("lower").join(path.trim_start_matches('/'))
    }

    /// A path beside the image, on the host.
    pub fn host(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn run(&self) -> Outcome {
        let before = Host::observe();
        let outcome = self.run_unchecked();
        assert_eq!(Host::observe(), before, "something is left on the host");
        assert_eq!(
            fs::read_dir(self.host("work/work")).map_or(0, Iterator::count),
            0,
            "the work directory is in use"
        );
        outcome
    }

    fn run_unchecked(&self) -> Outcome {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let spec_path = self.host(&format!("spec-{number}.json"));
        let result_path = self.host(&format!("result-{number}.json"));
        fs::write(&spec_path, serde_json::to_vec(&self.spec).expect("JSON")).expect("written");
        let mut child = Command::new(start_program())
            .args([&spec_path, &result_path])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the start example runs");
        child.stdin.take().expect("piped").write_all(b"input\n").unwrap_or(());
        let output = child.wait_with_output().expect("it ends");
        let text = fs::read(&result_path)
            .unwrap_or_else(|_| panic!("no result: {}", String::from_utf8_lossy(&output.stderr)));
        Outcome {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            result: serde_json::from_slice(&text).expect("JSON"),
        }
    }
}

/// `cargo test` builds examples beside the test programs.
pub fn start_program() -> PathBuf {
    let here = std::env::current_exe().expect("a path");
    let path = here.parent().and_then(Path::parent).expect("target/debug").join("examples/start");
    assert!(path.exists(), "{} is not built: run the whole `cargo test -p fluyt-process`", path.display());
    path
}

/// What a start may not change.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    mounts: String,
    hostname: String,
}

impl Host {
    fn observe() -> Self {
        Self {
            mounts: fs::read_to_string("/proc/self/mountinfo").expect("mountinfo"),
            hostname: fs::read_to_string("/proc/sys/kernel/hostname").expect("hostname"),
        }
    }
}

pub fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

pub fn rlimit(name: &str, soft: i64, hard: i64) -> Rlimit {
    Rlimit { name: name.to_owned(), soft, hard }
}

pub fn bind(source: &Path, destination: &str) -> Mount {
    Mount {
        kind: MountKind::Bind,
        source: source.to_str().expect("utf-8").to_owned(),
        destination: destination.to_owned(),
        is_read_only: false,
        data: String::new(),
        no_exec: false,
        no_suid: false,
        no_dev: false,
        sub_path: String::new(),
        lower_dirs: Vec::new(),
        file_system: String::new(),
        propagation: Propagation::Private,
        is_recursive: true,
        is_read_only_below: true,
    }
}

pub fn tmpfs(destination: &str, data: &str) -> Mount {
    Mount {
        kind: MountKind::Tmpfs,
        source: String::new(),
        data: data.to_owned(),
        no_exec: true,
        no_suid: true,
        no_dev: true,
        ..bind(Path::new(""), destination)
    }
}
