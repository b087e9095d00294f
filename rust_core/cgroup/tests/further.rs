//! Limits that most containers do without, on real groups.

mod bench;

use std::time::Duration;

use bench::{on_each, spawn_in};
use cgroup::{CgroupError, DeviceAccess, HugePages, IoDevice, Limits};

/// All that most containers do without: made at the start or in an update, read back, taken away again.
#[test]
fn further_limits_are_given_at_once_or_later_and_taken_back_whole() {
    on_each(&["blkio", "cpu", "memory"], |bench| {
        let device = IoDevice { number: (7, 0), read_bytes_per_second: 1 << 20, ..IoDevice::default() };
        let wanted = Limits {
            cpu_quota_micros: Some(50_000),
            cpu_burst_micros: Some(20_000),
            memory_swappiness: Some(7),
            oom_kill_disabled: Some(true),
            io_weight: Some(300),
            io_devices: vec![device.clone()],
            ..Limits::default()
        };
        let read = |file: &str| bench.host.read_file(&bench.parent, "c", file).unwrap().unwrap_or_default();
        let shown = || {
            (
                read("cpu.cfs_burst_us").trim().to_owned(),
                read("memory.swappiness").trim().to_owned(),
                read("memory.oom_control").lines().next().unwrap_or_default().to_owned(),
                read("blkio.throttle.read_bps_device").trim().to_owned(),
            )
        };
        let given = ["20000", "7", "oom_kill_disable 1", "7:0 1048576"].map(str::to_owned);
        let [burst, swappiness, oom, device_line] = given;
        let given = (burst, swappiness, oom, device_line);
        let group = bench.create("c", &wanted);
        assert_eq!(shown(), given);
        assert!(spawn_in(&group, "true").wait().unwrap().success());
        // A quota below the burst is taken with a burst below it, and a refused write takes all before it back.
        let less =
            Limits { cpu_quota_micros: Some(10_000), cpu_burst_micros: Some(5_000), ..Limits::default() };
        bench.host.update(&bench.parent, "c", &less).unwrap();
        assert_eq!(shown().0, "5000");
        let broken = Limits {
            cpuset_cpus: None,
            memory_swappiness: Some(9),
            io_devices: vec![
                IoDevice { read_bytes_per_second: 9, ..device.clone() },
                IoDevice { number: (4095, 1), read_bytes_per_second: 9, ..IoDevice::default() },
            ],
            ..Limits::default()
        };
        let error = bench.host.update(&bench.parent, "c", &broken).unwrap_err();
        assert!(matches!(error, CgroupError::LimitRejected { .. }), "{error}");
        assert_eq!((shown().1.as_str(), shown().3.as_str()), ("7", "7:0 1048576"));

        bench.host.remove(&bench.parent, "c", Duration::from_secs(5)).unwrap();
        let group = bench.create("c", &Limits::default());
        let mut child = spawn_in(&group, "exec sleep 100");
        let late = Limits { io_devices: vec![device.clone()], ..Limits::default() };
        bench.host.update(&bench.parent, "c", &late).unwrap();
        assert_eq!(shown().3, "7:0 1048576");
        assert_eq!(read("cgroup.procs").trim(), child.id().to_string());
        let none = IoDevice { read_bytes_per_second: 0, ..device };
        bench
            .host
            .update(&bench.parent, "c", &Limits { io_devices: vec![none], ..Limits::default() })
            .unwrap();
        assert_eq!(shown().3, "");
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

#[test]
fn real_time_is_lifted_through_the_parent_and_huge_pages_are_bounded_where_the_host_has_them() {
    on_each(&["cpu"], |bench| {
        let limits = Limits { cpu_real_time_runtime_micros: Some(1_000), ..Limits::default() };
        match bench.host.create(&bench.parent, "c", &limits, &DeviceAccess::All) {
            Ok(_) => {
                let runtime = bench.host.read_file(&bench.parent, "c", "cpu.rt_runtime_us").unwrap();
                assert_eq!(runtime.as_deref().map(str::trim), Some("1000"));
            }
            Err(error) => {
                assert!(
                    matches!(error, CgroupError::ControllerMissing { controller: "cpu_real_time", .. }),
                    "{error}"
                );
            }
        }
    });
    on_each(&["hugetlb"], |bench| {
        let pages = HugePages { page_size: "2MB".to_owned(), limit_bytes: 4 << 20 };
        bench.create("c", &Limits { huge_pages: vec![pages], ..Limits::default() });
        let bound = bench.host.read_file(&bench.parent, "c", "hugetlb.2MB.max").unwrap();
        let bound = bound.or(bench.host.read_file(&bench.parent, "c", "hugetlb.2MB.limit_in_bytes").unwrap());
        assert_eq!(bound.as_deref().map(str::trim), Some("4194304"));
    });
}
