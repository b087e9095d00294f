//! Seccomp, sysctls, limits, privileged containers. Needs root.

mod support;

use std::fs;

use process::seccomp::{compile, Profile};
use process::spec::Network;
use support::{rlimit, strings, Container};

fn all_capabilities() -> Vec<String> {
    process::capabilities::kernel_names().into_iter().map(str::to_owned).collect()
}

/// With every capability, so that only the filter can refuse.
fn filtered(script: &str, filter_for: &[&str]) -> Container {
    Container::new(script).with(|spec| {
        spec.capabilities = all_capabilities();
        spec.seccomp_filters = compile(&Profile::Default, &strings(filter_for)).expect("it compiles");
    })
}

#[test]
fn the_default_filter_refuses_what_dockers_does() {
    let tries = "t() { \"$@\" >/dev/null 2>&1 && echo \"$1 works\"; }; \
        t unshare -m true; t mount -t tmpfs none /tmp; t chroot / true; t umount /proc; t hostname other; echo done";
    assert_eq!(filtered(tries, &[]).run().output(), "done");
    let allowed = filtered(tries, &["SYS_ADMIN", "SYS_CHROOT"]).run();
    assert_eq!(allowed.output(), "unshare works\nmount works\nchroot works\nhostname works\ndone");
    let unconfined = Container::new(tries).with(|spec| spec.capabilities = all_capabilities());
    assert!(unconfined.run().output().contains("unshare works"));
}

#[test]
fn the_filter_is_in_force_for_root_and_for_users_with_and_without_no_new_privileges() {
    for user in ["", "1000"] {
        for no_new_privileges in [false, true] {
            let container = Container::new("cat /proc/self/status").with(|spec| {
                spec.user = user.to_owned();
                spec.no_new_privileges = no_new_privileges;
                spec.seccomp_filters = compile(&Profile::Default, &spec.capabilities).expect("it compiles");
            });
            let outcome = container.run();
            let line =
                |key: &str| outcome.output().lines().find(|line| line.starts_with(key)).map(str::to_owned);
            assert_eq!(line("Seccomp:").as_deref(), Some("Seccomp:\t2"));
            assert_eq!(line("Seccomp_filters:").as_deref(), Some("Seccomp_filters:\t1"));
            assert_eq!(line("CapInh:").as_deref(), Some("CapInh:\t0000000000000000"));
        }
    }
}

#[test]
fn ordinary_work_goes_on_under_the_filter() {
    let script = "mkdir /d && touch /d/f && chown 5:6 /d/f && stat -c %u:%g /d/f && sh -c 'exit 3'; echo $?; \
        ping -c 1 -w 2 127.0.0.1 >/dev/null && echo ping; mknod /d/n c 1 3 && echo node; sleep 0.01; find / -name f -xdev";
    let container = Container::new(script).with(|spec| {
        spec.seccomp_filters = compile(&Profile::Default, &spec.capabilities).expect("it compiles")
    });
    assert_eq!(container.run().output(), "5:6\n3\nping\nnode\n/d/f");
}

#[test]
fn a_filter_that_is_none_is_a_failure() {
    let outcome = Container::new("true").with(|spec| spec.seccomp_filters = vec![vec![0; 12]]).run();
    assert_eq!(outcome.failure("step"), "Seccomp");
}

#[test]
fn a_profile_that_the_kernel_does_not_have_is_a_failure() {
    // Without AppArmor, as without this profile.
    let absent = |spec: &mut process::spec::Spec| spec.apparmor_profile = "fluyt-test-absent".to_owned();
    let outcome = Container::new("true").with(absent).run();
    assert_eq!(outcome.failure("step"), "AppArmor");
    assert_eq!(Container::new("echo ok").with(|spec| spec.apparmor_profile.clear()).run().output(), "ok");
}

#[test]
fn labels_of_selinux_where_there_is_none_are_a_failure_and_none_is_none() {
    if fs::exists("/sys/fs/selinux/enforce").unwrap_or(false) {
        return; // tests/e2e/selinux looks at what comes of them
    }
    let process = |spec: &mut process::spec::Spec| spec.process_label = "u:r:container_t:s0:c1,c2".to_owned();
    let outcome = Container::new("true").with(process).run();
    assert_eq!(outcome.failure("step"), "SeLinux");
    let files =
        |spec: &mut process::spec::Spec| spec.mount_label = "u:r:container_file_t:s0:c1,c2".to_owned();
    let outcome = Container::new("true").with(files).run();
    assert_eq!(outcome.failure("step"), "Root");
    assert_eq!(Container::new("echo ok").run().output(), "ok");
}

#[test]
fn z10_sysctls_of_the_container_are_set_and_the_hosts_are_out_of_reach() {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).expect("a parameter");
    let before = (read("kernel/shm_rmid_forced"), read("kernel/core_pattern"), read("net/ipv4/ip_forward"));
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let good = Container::new("cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_forward")
        .with(|spec| spec.sysctls = pairs(&[("kernel.shm_rmid_forced", "1"), ("net.ipv4.ip_forward", "1")]));
    assert_eq!(good.run().output(), "1\n1");
    for (key, value, network) in [
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/x", Network::None),
        ("kernel.core_pattern", "|/x", Network::None),
        ("vm.swappiness", "1", Network::None),
        ("net.ipv4.ip_forward", "1", Network::Host),
        ("net.ipv4.no_such_thing", "1", Network::None),
    ] {
        let bad = Container::new("true").with(|spec| {
            spec.sysctls = pairs(&[(key, value)]);
            spec.network = network;
        });
        let outcome = bad.run();
        assert_eq!(
            (outcome.failure("step").as_str(), outcome.failure("path").as_str()),
            (Some("Sysctl"), Some(key))
        );
    }
    assert_eq!(
        (read("kernel/shm_rmid_forced"), read("kernel/core_pattern"), read("net/ipv4/ip_forward")),
        before
    );
}

#[test]
fn rlimits_are_in_force_and_what_cannot_be_raised_is_clamped_and_told() {
    let container = Container::new("ulimit -n; ulimit -Hn; ulimit -c").with(|spec| {
        spec.rlimits = vec![rlimit("RLIMIT_NOFILE", 100, 200), rlimit("RLIMIT_CORE", 0, 0)];
    });
    assert_eq!(container.run().output(), "100\n200\n0");

    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let container = Container::new("ulimit -n").with(|spec| {
        spec.rlimits = vec![rlimit("RLIMIT_NOFILE", hard as i64 + 1, hard as i64 + 1)];
    });
    let outcome = container.run();
    let clamps = outcome.result["clamps"].as_array().expect("a list");
    if outcome.output() == hard.to_string() {
        assert!(
            clamps[0].as_str().is_some_and(|text| text.starts_with("rlimits[nofile].hard: ")),
            "{clamps:?}"
        );
    } else {
        assert!(clamps.is_empty(), "{clamps:?}");
    }
}

#[test]
fn tiny_limits_do_not_keep_the_command_from_starting() {
    let container = Container::new("").with(|spec| {
        spec.args = strings(&["true"]);
        spec.user = "1000".to_owned();
        spec.rlimits = vec![
            rlimit("RLIMIT_NOFILE", 3, 3),
            rlimit("RLIMIT_NPROC", 1, 1),
            rlimit("RLIMIT_FSIZE", 0, 0),
            rlimit("RLIMIT_MEMLOCK", 0, 0),
        ];
        spec.seccomp_filters = compile(&Profile::Default, &spec.capabilities).expect("it compiles");
    });
    assert_eq!(container.run().output(), "");
}

#[test]
fn a_limit_too_small_to_execute_is_told_and_not_a_mystery() {
    let container = Container::new("").with(|spec| {
        spec.args = strings(&["true"]);
        spec.rlimits = vec![rlimit("RLIMIT_STACK", 0, 0), rlimit("RLIMIT_AS", 4096, 4096)];
    });
    let outcome = container.run();
    // Either execve refuses, or the kernel kills the process while it becomes the program: never a hang, never silence.
    assert!(outcome.result["failure"].is_object() || outcome.result["signal"].is_u64(), "{outcome:?}");
}

#[test]
fn the_oom_score_is_set_or_clamped_and_told() {
    let raised =
        Container::new("cat /proc/self/oom_score_adj").with(|spec| spec.oom_score_adj = Some(500)).run();
    assert_eq!(raised.output(), "500");
    let lowered =
        Container::new("cat /proc/self/oom_score_adj").with(|spec| spec.oom_score_adj = Some(-999)).run();
    if lowered.output() != "-999" {
        let clamps = lowered.result["clamps"].as_array().expect("a list");
        assert!(clamps[0].as_str().is_some_and(|text| text.starts_with("oom_score_adj: ")), "{clamps:?}");
    }
}

#[test]
fn a_privileged_container_has_the_hosts_devices_and_a_writable_sys() {
    let container = Container::new("ls /dev; grep ' /sys ' /proc/self/mountinfo").with(|spec| {
        spec.is_privileged = true;
        spec.capabilities = all_capabilities();
        spec.masked_paths.clear();
        spec.read_only_paths.clear();
    });
    let outcome = container.run();
    let inside = outcome.output();
    for entry in fs::read_dir("/dev").expect("read").flatten() {
        use std::os::unix::fs::FileTypeExt;
        let kind = entry.file_type().expect("a type");
        if kind.is_char_device() || kind.is_block_device() {
            let name = entry.file_name().into_string().expect("utf-8");
            assert!(inside.lines().any(|line| line == name) || name == "console", "{name} is missing");
        }
    }
    assert!(inside.lines().last().is_some_and(|line| line.contains(" rw,")), "{inside}");
}
