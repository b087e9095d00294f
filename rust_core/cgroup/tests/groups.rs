//! Real groups on this host, below a parent of their own that is removed again.

mod bench;

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bench::{on_each, spawn_in};
use cgroup::{CgroupError, DeviceAccess, DeviceControl, DeviceKind, DeviceRule, Limits, Mode};

const M: i64 = 1 << 20;

#[test]
fn a_group_is_made_limited_and_removed_without_a_trace() {
    on_each(&["memory", "cpu", "pids"], |bench| {
        let limits = Limits {
            memory_limit_bytes: Some(64 * M),
            memory_swap_limit_bytes: Some(96 * M),
            cpu_quota_micros: Some(50_000),
            cpu_shares: Some(1024),
            pids_limit: Some(16),
            ..Limits::default()
        };
        let group = bench.create("c1", &limits);
        if bench.is_v1("memory") {
            assert_eq!(bench.read("c1", "memory.limit_in_bytes"), "67108864");
            assert_eq!(bench.read("c1", "memory.memsw.limit_in_bytes"), "100663296");
            assert_eq!(bench.read("c1", "cpu.shares"), "1024");
            assert_eq!(bench.read("c1", "cpu.cfs_quota_us"), "50000");
        } else {
            assert_eq!(bench.read("c1", "memory.max"), "67108864");
            assert_eq!(bench.read("c1", "memory.swap.max"), "33554432");
            assert_eq!(bench.read("c1", "cpu.weight"), "100");
            assert_eq!(bench.read("c1", "cpu.max"), "50000 100000");
        }
        assert_eq!(bench.read("c1", "pids.max"), "16");
        assert_eq!(bench.host.list_groups(&bench.parent).unwrap(), ["c1"]);
        assert_eq!(group.report().clamps, []);
        let files = group.join_files().unwrap();
        assert_eq!(files.unified.is_some(), bench.host.layout().mode() != Mode::V1);
        bench.host.remove(&bench.parent, "c1", Duration::ZERO).unwrap();
        bench.host.remove(&bench.parent, "c1", Duration::ZERO).unwrap();
        assert_eq!(bench.directories("c1"), Vec::<PathBuf>::new());
        assert_eq!(bench.host.list_groups(&bench.parent).unwrap(), Vec::<String>::new());
        assert_eq!(bench.host.read_file(&bench.parent, "c1", "pids.max").unwrap(), None);
    });
}

#[test]
fn a_group_lies_only_in_the_hierarchies_it_needs() {
    on_each(&["cpuset"], |bench| {
        if bench.host.layout().mode() != Mode::Hybrid {
            eprintln!("SKIPPED: not a hybrid host");
            return;
        }
        bench.create("plain", &Limits::default());
        let names = |name: &str| {
            let mut names: Vec<String> = bench
                .directories(name)
                .iter()
                .map(|path| {
                    path.ancestors().nth(2).unwrap().file_name().unwrap().to_string_lossy().into_owned()
                })
                .collect();
            names.sort();
            names
        };
        assert_eq!(names("plain"), ["cpu", "devices", "memory", "pids", "unified"]);
        let limits = Limits { cpuset_cpus: Some("0".into()), ..Limits::default() };
        bench.create("pinned", &limits);
        assert_eq!(names("pinned"), ["cpu", "cpuset", "devices", "memory", "pids", "unified"]);
        assert_eq!(bench.read("pinned", "cpuset.cpus"), "0");
        assert_eq!(bench.read("pinned", "cpuset.mems"), "0", "filled from the parent");
    });
}

#[test]
fn a_refused_value_is_named_and_leaves_nothing() {
    on_each(&["cpuset"], |bench| {
        let limits = Limits { cpuset_cpus: Some("900000".into()), ..Limits::default() };
        let error =
            bench.host.create(&bench.parent, "c", &limits, &DeviceAccess::Default(Vec::new())).unwrap_err();
        let CgroupError::LimitRejected { file, value, errno } = &error else { panic!("{error:?}") };
        assert!(file.ends_with("c/cpuset.cpus") && value == "900000" && *errno != 0, "{error}");
        assert_eq!(bench.directories("c"), Vec::<PathBuf>::new());
    });
}

#[test]
fn an_empty_group_left_by_a_crash_is_replaced_and_a_used_one_is_busy() {
    on_each(&["pids"], |bench| {
        let limits = Limits { pids_limit: Some(16), ..Limits::default() };
        bench.create("c", &limits);
        let group = bench.create("c", &Limits::default());
        assert_eq!(bench.read("c", "pids.max"), "max");
        let mut child = spawn_in(&group, "exec sleep 60");
        let error =
            bench.host.create(&bench.parent, "c", &limits, &DeviceAccess::Default(Vec::new())).unwrap_err();
        assert!(matches!(error, CgroupError::Busy { .. }), "{error}");
        let error = bench.host.remove(&bench.parent, "c", Duration::from_millis(20)).unwrap_err();
        assert!(matches!(error, CgroupError::Busy { .. }), "{error}");
        bench.host.kill(&bench.parent, "c").unwrap();
        child.wait().unwrap();
        bench.host.remove(&bench.parent, "c", Duration::from_secs(1)).unwrap();
    });
}

#[test]
fn a_parent_that_was_removed_is_made_again() {
    on_each(&[], |bench| {
        bench.create("a", &Limits::default());
        bench.host.remove(&bench.parent, "a", Duration::ZERO).unwrap();
        for hierarchy in bench.host.layout().hierarchies() {
            let _ = fs::remove_dir(hierarchy.mount_point.join(&bench.parent));
        }
        bench.create("b", &Limits::default());
    });
}

#[test]
fn c03_a_frozen_group_is_killed_and_removed_in_less_than_two_seconds() {
    on_each(&[], |bench| {
        let group = bench.create("frozen", &Limits::default());
        let mut child = spawn_in(&group, "sleep 60 & exec sleep 60");
        let start = Instant::now();
        bench.host.freeze(&bench.parent, "frozen").unwrap();
        bench.host.freeze(&bench.parent, "frozen").unwrap();
        bench.host.kill(&bench.parent, "frozen").unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        bench.host.remove(&bench.parent, "frozen", Duration::from_secs(2)).unwrap();
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(bench.directories("frozen"), Vec::<PathBuf>::new());
    });
}

#[test]
fn a_thawed_group_runs_on() {
    on_each(&[], |bench| {
        let group = bench.create("c", &Limits::default());
        let mut child = spawn_in(&group, "sleep 0.05; exit 7");
        bench.host.freeze(&bench.parent, "c").unwrap();
        std::thread::sleep(Duration::from_millis(150));
        assert!(child.try_wait().unwrap().is_none(), "a frozen process does not end");
        bench.host.thaw(&bench.parent, "c").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
    });
}

#[test]
fn groups_made_inside_are_killed_and_removed_too() {
    on_each(&[], |bench| {
        let group = bench.create("c", &Limits::default());
        let nested: Vec<PathBuf> = group.paths().map(|path| path.join("inner/most")).collect();
        nested.iter().for_each(|path| fs::create_dir_all(path).unwrap());
        let mut child = spawn_in(&group, "exec sleep 60");
        let pid = child.id().to_string();
        for path in &nested {
            fs::write(path.join("cgroup.procs"), &pid).unwrap();
        }
        bench.host.kill(&bench.parent, "c").unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        bench.host.remove(&bench.parent, "c", Duration::from_secs(1)).unwrap();
        assert_eq!(bench.directories("c"), Vec::<PathBuf>::new());
    });
}

#[test]
fn killing_and_removing_what_is_absent_is_no_error() {
    on_each(&[], |bench| {
        bench.host.kill(&bench.parent, "nobody").unwrap();
        bench.host.remove(&bench.parent, "nobody", Duration::ZERO).unwrap();
        assert_eq!(bench.host.list_groups(&bench.parent).unwrap(), Vec::<String>::new());
        let error = bench.host.freeze(&bench.parent, "nobody").unwrap_err();
        assert!(matches!(error, CgroupError::Io(_)), "{error}");
    });
}

#[test]
fn c05_the_seventeenth_process_of_sixteen_is_refused() {
    on_each(&["pids"], |bench| {
        let group = bench.create("c", &Limits { pids_limit: Some(16), ..Limits::default() });
        let script = "for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do sleep 30 & done; wait";
        let mut child = spawn_in(&group, script);
        let deadline = Instant::now() + Duration::from_secs(10);
        let refused = loop {
            let events = bench.read("c", "pids.events");
            let count = events.strip_prefix("max ").and_then(|count| count.parse::<u32>().ok()).unwrap_or(0);
            if count > 0 || Instant::now() > deadline {
                break count;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(refused > 0, "no fork was refused");
        assert!(bench.host.stats(&bench.parent, "c").unwrap().pids_current.unwrap() <= 16);
        bench.host.kill(&bench.parent, "c").unwrap();
        child.wait().unwrap();
        bench.host.remove(&bench.parent, "c", Duration::from_secs(2)).unwrap();
    });
}

#[test]
fn c04_a_process_killed_for_want_of_memory_is_counted_and_a_new_group_starts_at_zero() {
    on_each(&["memory"], |bench| {
        let limits = Limits {
            memory_limit_bytes: Some(8 * M),
            memory_swap_limit_bytes: Some(8 * M),
            ..Limits::default()
        };
        let group = bench.create("c", &limits);
        assert_eq!(bench.host.oom_kill_count(&bench.parent, "c").unwrap(), Some(0));
        let mut child = spawn_in(&group, "tail /dev/zero; exit 0");
        assert_eq!(child.wait().unwrap().code(), Some(0), "the parent lives on");
        assert_eq!(bench.host.oom_kill_count(&bench.parent, "c").unwrap(), Some(1));
        bench.host.remove(&bench.parent, "c", Duration::from_secs(1)).unwrap();
        bench.create("c", &limits);
        assert_eq!(bench.host.oom_kill_count(&bench.parent, "c").unwrap(), Some(0));
    });
}

#[test]
fn c06_limits_grow_and_shrink_while_the_process_runs() {
    on_each(&["memory"], |bench| {
        let of = |memory: i64, total: i64| Limits {
            memory_limit_bytes: Some(memory * M),
            memory_swap_limit_bytes: Some(total * M),
            ..Limits::default()
        };
        let group = bench.create("c", &of(64, 128));
        let mut child = spawn_in(&group, "exec sleep 60");
        for (memory, total) in [(200, 300), (64, 128), (100, 110), (32, 256), (64, 128)] {
            let clamps = bench.host.update(&bench.parent, "c", &of(memory, total)).unwrap();
            assert_eq!(clamps, []);
            if bench.is_v1("memory") {
                assert_eq!(bench.read("c", "memory.limit_in_bytes"), (memory * M).to_string());
                assert_eq!(bench.read("c", "memory.memsw.limit_in_bytes"), (total * M).to_string());
            } else {
                assert_eq!(bench.read("c", "memory.max"), (memory * M).to_string());
                assert_eq!(bench.read("c", "memory.swap.max"), ((total - memory) * M).to_string());
            }
        }
        bench.host.kill(&bench.parent, "c").unwrap();
        child.wait().unwrap();
    });
}

#[test]
fn a_cpuset_given_later_holds_for_the_processes_that_run() {
    on_each(&["cpuset"], |bench| {
        let group = bench.create("c", &Limits::default());
        let mut child = spawn_in(&group, "sleep 60 & exec sleep 60");
        let limits = Limits { cpuset_cpus: Some("0".into()), ..Limits::default() };
        bench.host.update(&bench.parent, "c", &limits).unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
        bench.host.kill(&bench.parent, "c").unwrap();
        child.wait().unwrap();
        bench.host.remove(&bench.parent, "c", Duration::from_secs(1)).unwrap();
        assert_eq!(bench.directories("c"), Vec::<PathBuf>::new());
    });
}

#[test]
fn only_the_default_devices_open_unless_the_group_is_privileged() {
    on_each(&[], |bench| {
        let keep = tempfile::tempdir().unwrap();
        let forbidden = keep.path().join("kmsg");
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            &forbidden,
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::from_raw_mode(0o600),
            rustix::fs::makedev(1, 11),
        );
        made.unwrap();
        let script = format!(
            ": > /dev/null && : < /dev/zero || exit 3; : < {} && exit 4; exit 0",
            forbidden.display()
        );
        let script = script.replace(": <", "head -c0 <");
        let group = bench.create("c", &Limits::default());
        if group.report().devices == DeviceControl::NotEnforced {
            eprintln!("SKIPPED on the {} layout: it judges no devices", bench.host.layout().mode().name());
            return;
        }
        assert_eq!(spawn_in(&group, &script).wait().unwrap().code(), Some(0));
        let group = bench.host.create(&bench.parent, "p", &Limits::default(), &DeviceAccess::All).unwrap();
        assert_eq!(group.report().devices, DeviceControl::Unrestricted);
        assert_eq!(spawn_in(&group, &script).wait().unwrap().code(), Some(4));
        let rule = DeviceRule {
            kind: DeviceKind::Character,
            major: Some(1),
            minor: Some(11),
            read: true,
            write: false,
            make: false,
        };
        let access = DeviceAccess::Default(vec![rule]);
        let group = bench.host.create(&bench.parent, "r", &Limits::default(), &access).unwrap();
        assert_eq!(spawn_in(&group, &script).wait().unwrap().code(), Some(4), "one more may be opened");
    });
}

#[test]
fn a_host_that_controls_no_devices_says_so() {
    on_each(&[], |bench| {
        let group = bench.create("c", &Limits::default());
        let is_clamped = group.report().clamps.iter().any(|clamp| clamp.limit == "devices");
        assert_eq!(is_clamped, group.report().devices == DeviceControl::NotEnforced);
        let group = bench.host.create(&bench.parent, "p", &Limits::default(), &DeviceAccess::All).unwrap();
        assert_eq!(group.report().devices, DeviceControl::Unrestricted);
    });
}

#[test]
fn a_limit_that_no_hierarchy_can_hold_is_an_error_and_makes_nothing() {
    on_each(&[], |bench| {
        if bench.host.layout().home("memory").is_some() {
            return;
        }
        let limits = Limits { memory_limit_bytes: Some(64 * M), ..Limits::default() };
        let error =
            bench.host.create(&bench.parent, "c", &limits, &DeviceAccess::Default(Vec::new())).unwrap_err();
        let expected = CgroupError::ControllerMissing { controller: "memory", limit: "memory_limit_bytes" };
        assert_eq!(error, expected);
        assert_eq!(bench.directories("c"), Vec::<PathBuf>::new());
    });
}

#[test]
fn stats_tell_what_the_group_uses() {
    on_each(&["memory", "pids"], |bench| {
        let group = bench.create("c", &Limits::default());
        let mut child = spawn_in(&group, "n=0; while [ $n -lt 20000 ]; do n=$((n+1)); done; exec sleep 60");
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let stats = bench.host.stats(&bench.parent, "c").unwrap();
            let is_full = stats.memory_current_bytes > Some(0)
                && stats.cpu_usage_nanos > Some(0)
                && stats.pids_current == Some(1);
            if is_full {
                break;
            }
            assert!(Instant::now() < deadline, "{stats:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        bench.host.kill(&bench.parent, "c").unwrap();
        child.wait().unwrap();
    });
}

#[test]
fn a_group_made_by_several_threads_at_once_is_made_for_each() {
    on_each(&["pids"], |bench| {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for n in 0..5 {
                        let name = format!("t{thread}-{n}");
                        bench.create(&name, &Limits { pids_limit: Some(9), ..Limits::default() });
                        bench.host.remove(&bench.parent, &name, Duration::from_secs(1)).unwrap();
                    }
                });
            }
        });
        assert_eq!(bench.host.list_groups(&bench.parent).unwrap(), Vec::<String>::new());
    });
}

/// Prints what each step costs; run it alone with `--nocapture`. A timing is never a condition here.
#[test]
fn each_step_is_measured() {
    on_each(&["memory", "pids"], |bench| {
        let limits = Limits { memory_limit_bytes: Some(64 * M), pids_limit: Some(64), ..Limits::default() };
        bench.create("warm", &limits);
        let mut text = String::new();
        let default = DeviceAccess::Default(Vec::new());
        for (label, access, limits) in [
            ("no limits, privileged", &DeviceAccess::All, Limits::default()),
            ("no limits", &default, Limits::default()),
            ("memory+pids", &default, limits),
        ] {
            let (mut create, mut join, mut remove) = (Vec::new(), Vec::new(), Vec::new());
            for n in 0..40 {
                let name = format!("m{n}");
                let start = Instant::now();
                let group = bench.host.create(&bench.parent, &name, &limits, access).unwrap();
                create.push(start.elapsed().as_micros());
                let start = Instant::now();
                drop(group.join_files().unwrap());
                join.push(start.elapsed().as_micros());
                let start = Instant::now();
                bench.host.remove(&bench.parent, &name, Duration::from_secs(1)).unwrap();
                remove.push(start.elapsed().as_micros());
            }
            let p50 = |times: &mut Vec<u128>| {
                times.sort_unstable();
                times[times.len() / 2]
            };
            text.push_str(&format!(
                "{label}: create {} µs, join files {} µs, remove {} µs (p50)\n",
                p50(&mut create),
                p50(&mut join),
                p50(&mut remove)
            ));
        }
        std::io::stdout().write_all(text.as_bytes()).unwrap();
        assert!(Path::new("/proc/self/mountinfo").exists());
    });
}
