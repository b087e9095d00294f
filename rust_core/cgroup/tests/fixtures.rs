//! Groups in temporary directories that hold the files a kernel would show: what is written where, on hosts that this
//! one is not.

use std::fs;
use std::path::{Path, PathBuf};

use cgroup::{Before, CgroupError, CgroupHost, Clamp, DeviceAccess, Layout, Limits, Mode, Stats};

const M: i64 = 1 << 20;

struct Fixture {
    keep: tempfile::TempDir,
    host: CgroupHost,
}

impl Fixture {
    /// Directories `mounts`, each a hierarchy (`cgroup2`, or the controllers of v1), with the group `fluyt/c` in it.
    fn new(mounts: &[(&str, &str)], files: &[(&str, &str)]) -> Self {
        let keep = tempfile::tempdir().unwrap();
        let mut text = String::new();
        for (index, (name, options)) in mounts.iter().enumerate() {
            let mount = keep.path().join(name);
            fs::create_dir_all(mount.join("fluyt/c")).unwrap();
            let kind = if *name == "unified" { "cgroup2" } else { "cgroup" };
            if kind == "cgroup2" {
                fs::write(mount.join("cgroup.controllers"), options).unwrap();
            }
            text.push_str(&format!(
                "{index} 1 0:{index} / {} rw - {kind} {kind} rw,{options}\n",
                mount.display()
            ));
        }
        for (file, content) in files {
            fs::write(keep.path().join(file), content).unwrap();
        }
        Self { host: CgroupHost::with_layout(Layout::from_mountinfo(&text).unwrap()), keep }
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }

    fn write(&self, file: &str, content: &str) {
        fs::write(self.path(file), content).unwrap();
    }

    fn path(&self, file: &str) -> PathBuf {
        self.keep.path().join(file)
    }
}

fn v2(files: &[(&str, &str)]) -> Fixture {
    Fixture::new(&[("unified", "cpuset cpu memory pids")], files)
}

#[test]
fn on_v2_every_limit_lands_in_its_file() {
    let fixture = v2(&[
        ("unified/fluyt/c/memory.max", "max"),
        ("unified/fluyt/c/memory.swap.max", "max"),
        ("unified/fluyt/c/memory.low", "0"),
        ("unified/fluyt/c/cpu.max", "max 100000"),
        ("unified/fluyt/c/cpu.weight", "100"),
        ("unified/fluyt/c/cpuset.cpus", ""),
        ("unified/fluyt/c/cpuset.mems", ""),
        ("unified/fluyt/c/pids.max", "max"),
    ]);
    assert_eq!(fixture.host.layout().mode(), Mode::V2);
    let limits = Limits {
        memory_limit_bytes: Some(64 * M),
        memory_swap_limit_bytes: Some(96 * M),
        memory_reservation_bytes: Some(32 * M),
        cpu_quota_micros: Some(50_000),
        cpu_period_micros: Some(100_000),
        cpu_shares: Some(1024),
        cpuset_cpus: Some("0-1".into()),
        cpuset_mems: Some("0".into()),
        pids_limit: Some(16),
        ..Limits::default()
    };
    assert_eq!(fixture.host.update("fluyt", "c", &limits).unwrap(), []);
    for (file, value) in [
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "33554432"),
        ("cpu.max", "50000 100000"),
        ("cpu.weight", "100"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("pids.max", "16"),
    ] {
        // A plain file keeps the tail of what it held; the kernel's does not.
        let written = fixture.read(&format!("unified/fluyt/c/{file}"));
        assert!(written.starts_with(value), "{file}: {written}");
    }
}

#[test]
fn without_swap_accounting_the_limit_is_given_and_the_clamp_reported() {
    for (mounts, file) in [
        (("memory", "memory"), "memory/fluyt/c/memory.limit_in_bytes"),
        (("unified", "memory"), "unified/fluyt/c/memory.max"),
    ] {
        let fixture = Fixture::new(&[mounts], &[(file, "")]);
        let limits = Limits { memory_limit_bytes: Some(64 * M), ..Limits::default() };
        let clamps = fixture.host.update("fluyt", "c", &limits).unwrap();
        assert_eq!(fixture.read(file), "67108864");
        let [Clamp { limit, requested, .. }] = clamps.as_slice() else { panic!("{clamps:?}") };
        assert_eq!(*limit, "memory_swap_limit_bytes");
        assert!(["134217728", "67108864"].contains(&requested.as_str()), "{requested}");
    }
}

#[test]
fn a_missing_control_file_of_any_other_limit_is_an_error_that_names_it() {
    let fixture = v2(&[]);
    let limits = Limits { pids_limit: Some(16), ..Limits::default() };
    let error = fixture.host.update("fluyt", "c", &limits).unwrap_err();
    let expected = CgroupError::LimitRejected {
        file: fixture.path("unified/fluyt/c/pids.max"),
        value: "16".into(),
        errno: libc::ENOENT,
    };
    assert_eq!(error, expected);
}

#[test]
fn controllers_are_handed_down_to_the_parent_and_to_its_groups() {
    let fixture = v2(&[
        ("unified/cgroup.subtree_control", ""),
        ("unified/fluyt/cgroup.controllers", "cpu memory pids"),
        ("unified/fluyt/cgroup.subtree_control", ""),
    ]);
    fixture.host.create("fluyt", "new", &Limits::default(), &DeviceAccess::All).unwrap();
    // Each is a write of its own, and a plain file begins with the last one.
    assert!(fixture.read("unified/cgroup.subtree_control").starts_with("+pids"));
    assert!(fixture.read("unified/fluyt/cgroup.subtree_control").starts_with("+pids"));
}

#[test]
fn a_failed_creation_removes_every_directory_it_made() {
    let fixture = Fixture::new(&[("memory", "memory"), ("pids", "pids"), ("unified", "")], &[]);
    let limits = Limits { pids_limit: Some(16), ..Limits::default() };
    // A temporary directory has no pids.max, so the kernel's place refuses the value.
    let error = fixture.host.create("fluyt", "new", &limits, &DeviceAccess::Default(Vec::new())).unwrap_err();
    assert!(matches!(error, CgroupError::LimitRejected { .. }), "{error}");
    for mount in ["memory", "pids", "unified"] {
        assert!(!fixture.path(&format!("{mount}/fluyt/new")).exists(), "{mount}");
        assert!(fixture.path(&format!("{mount}/fluyt")).exists(), "the parent stays");
    }
}

#[test]
fn on_v2_killing_and_freezing_are_one_write() {
    let fixture = v2(&[
        ("unified/fluyt/c/cgroup.kill", ""),
        ("unified/fluyt/c/cgroup.procs", ""),
        ("unified/fluyt/c/cgroup.freeze", "0"),
        ("unified/fluyt/c/cgroup.events", "populated 1\nfrozen 1\n"),
    ]);
    fixture.host.kill("fluyt", "c").unwrap();
    assert_eq!(fixture.read("unified/fluyt/c/cgroup.kill"), "1");
    fixture.host.freeze("fluyt", "c").unwrap();
    assert_eq!(fixture.read("unified/fluyt/c/cgroup.freeze"), "1");
}

#[test]
fn counters_of_both_versions_are_read() {
    let fixture = v2(&[
        ("unified/fluyt/c/memory.events", "oom 3\noom_kill 2\n"),
        ("unified/fluyt/c/memory.current", "4096\n"),
        ("unified/fluyt/c/cpu.stat", "usage_usec 7\n"),
        ("unified/fluyt/c/pids.current", "5\n"),
    ]);
    assert_eq!(fixture.host.oom_kill_count("fluyt", "c").unwrap(), Some(2));
    let stats = fixture.host.stats("fluyt", "c").unwrap();
    let all = (stats.memory_current_bytes, stats.cpu_usage_nanos, stats.pids_current);
    assert_eq!(all, (Some(4096), Some(7000), Some(5)));

    let fixture = Fixture::new(
        &[("memory", "memory"), ("cpuacct", "cpuacct")],
        &[
            ("memory/fluyt/c/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
            ("memory/fluyt/c/memory.usage_in_bytes", "8192\n"),
            ("cpuacct/fluyt/c/cpuacct.usage", "123\n"),
        ],
    );
    assert_eq!(fixture.host.oom_kill_count("fluyt", "c").unwrap(), Some(1));
    let stats = fixture.host.stats("fluyt", "c").unwrap();
    let all = (stats.memory_current_bytes, stats.cpu_usage_nanos, stats.pids_current);
    assert_eq!(all, (Some(8192), Some(123), None));
}

#[test]
fn a_group_that_has_not_run_since_is_as_it_was_but_for_block_devices() {
    let fixture = v2(&[
        ("unified/fluyt/c/cpu.stat", "usage_usec 7\n"),
        ("unified/fluyt/c/memory.current", "4096\n"),
        ("unified/fluyt/c/pids.current", "5\n"),
        ("unified/fluyt/c/io.stat", "8:0 rbytes=1 wbytes=1\n"),
        ("unified/fluyt/c/io.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
    ]);
    let first = fixture.host.stats("fluyt", "c").unwrap();
    let read = |stats: Stats, pressure_is_new: bool| {
        let before = Before { stats, pressure_is_new };
        fixture.host.stats_of("fluyt", &["c"], &[Some(before)]).unwrap()[0]
    };
    let read_again = |stats: Stats| {
        let found = read(stats, false);
        (found.pids_current, found.io_read_bytes)
    };
    fixture.write("unified/fluyt/c/pids.current", "6\n");
    fixture.write("unified/fluyt/c/io.stat", "8:0 rbytes=2 wbytes=1\n");
    assert_eq!(read_again(first), (Some(5), Some(2)));
    // One that waits may wait on without running, and the kernel tells of it every two seconds.
    fixture.write("unified/fluyt/c/io.pressure", "some avg10=3.50 avg60=0.00 avg300=0.00 total=9\n");
    let waited = Stats { io_pressure_percent: Some(0.1), ..first };
    assert_eq!(
        read(waited, false),
        Stats { io_read_bytes: Some(2), io_pressure_percent: Some(3.5), ..first }
    );
    assert_eq!(read(waited, true).io_pressure_percent, Some(0.1));
    assert_eq!(read(first, false).io_pressure_percent, Some(0.0));
    assert_eq!(read_again(Stats { memory_current_bytes: Some(1), ..first }).0, Some(6));
    fixture.write("unified/fluyt/c/cpu.stat", "usage_usec 8\n");
    assert_eq!(read_again(first).0, Some(6));
    // Where nobody counts CPU time nothing is known to be as it was.
    assert_eq!(read_again(Stats::default()).0, Some(6));
}

#[test]
fn names_that_are_paths_reach_no_file() {
    let fixture = v2(&[("secret", "x")]);
    for (parent, name, file) in
        [("../..", "c", "x"), ("fluyt", "../..", "x"), ("fluyt", "c", "../../../secret")]
    {
        let error = fixture.host.read_file(parent, name, file).unwrap_err();
        assert!(matches!(error, CgroupError::FieldInvalid { .. }), "{error}");
    }
    assert!(fixture
        .host
        .create("fluyt", "..", &Limits::default(), &DeviceAccess::Default(Vec::new()))
        .is_err());
    assert!(fixture.host.kill("a/../..", "c").is_err());
    assert!(Path::new(&fixture.path("secret")).exists());
}

#[test]
fn a_refused_update_leaves_every_limit_as_it_was() {
    let v1 = Fixture::new(
        &[("memory", "memory"), ("cpu", "cpu"), ("pids", "pids")],
        &[
            ("memory/fluyt/c/memory.limit_in_bytes", "67108864\n"),
            ("memory/fluyt/c/memory.memsw.limit_in_bytes", "134217728\n"),
            ("cpu/fluyt/c/cpu.shares", "512\n"),
        ],
    );
    let v2 = v2(&[
        ("unified/fluyt/c/memory.max", "67108864\n"),
        ("unified/fluyt/c/memory.swap.max", "67108864\n"),
        ("unified/fluyt/c/cpu.weight", "59\n"),
        ("unified/fluyt/c/cpuset.cpus", "\n"),
    ]);
    // The last file, pids.max, is absent in both: the kernel refuses it after all the others were set.
    let limits = Limits {
        memory_limit_bytes: Some(200 * M),
        memory_swap_limit_bytes: Some(300 * M),
        cpu_shares: Some(2048),
        pids_limit: Some(16),
        ..Limits::default()
    };
    let on_v2 = Limits { cpuset_cpus: Some("0".into()), ..limits.clone() };
    for (fixture, limits) in [(&v1, &limits), (&v2, &on_v2)] {
        let error = fixture.host.update("fluyt", "c", limits).unwrap_err();
        assert!(matches!(error, CgroupError::LimitRejected { .. }), "{error:?}");
    }
    let one_line = |fixture: &Fixture, file: &str| fixture.read(file).trim().to_owned();
    // A file keeps what a shorter value does not cover, which a control file does not.
    assert!(v1.read("memory/fluyt/c/memory.limit_in_bytes").starts_with("67108864"));
    assert_eq!(one_line(&v1, "memory/fluyt/c/memory.memsw.limit_in_bytes"), "134217728");
    assert!(v1.read("cpu/fluyt/c/cpu.shares").starts_with("512"));
    assert!(one_line(&v2, "unified/fluyt/c/memory.max").starts_with("67108864"));
    assert!(v2.read("unified/fluyt/c/cpu.weight").starts_with("59"));
    assert!(v2.read("unified/fluyt/c/cpuset.cpus").starts_with('\n'));
}

#[test]
fn block_devices_are_read_where_groups_can_have_them() {
    let fixture = v2(&[
        ("unified/fluyt/cgroup.subtree_control", "cpu io\n"),
        ("unified/fluyt/c/io.stat", "8:0 rbytes=1 wbytes=2\n"),
    ]);
    assert_eq!(fixture.host.stats("fluyt", "c").unwrap().io_write_bytes, Some(2));
    fixture.write("unified/fluyt/cgroup.subtree_control", "cpu\n");
    assert_eq!(fixture.host.stats("fluyt", "c").unwrap().io_write_bytes, None);
}
