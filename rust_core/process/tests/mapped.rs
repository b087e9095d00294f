//! Containers in a user namespace: whose they are inside, on disk, and on the host.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use process::spec::{Ids, Rlimit};
use support::{bind, tmpfs, Container};

const FIRST: u32 = 1 << 30;
const COUNT: u32 = 65_536;

fn mapped(script: &str) -> Container {
    Container::new(script).with(|spec| spec.ids = Some(Ids { first_id: FIRST, count: COUNT, joined: None }))
}

#[test]
fn root_inside_is_nobody_outside_and_what_it_writes_is_roots_on_disk() {
    let container = mapped("cat /proc/self/uid_map /proc/self/gid_map; echo x >/f; chown 7:8 /f; chown 3:4 /etc/host; stat -c %u:%g / /f /etc/host");
    let container = container.file("/etc/host", "of the image");
    let outcome = container.run();
    let lines: Vec<&str> = outcome.output().lines().map(str::trim).collect();
    let map = lines[0].split_whitespace().collect::<Vec<_>>();
    assert_eq!(map, ["0", &FIRST.to_string(), &COUNT.to_string()]);
    assert_eq!(lines[0], lines[1]);
    assert_eq!(lines[2..], ["0:0", "7:8", "3:4"]);
    let on_disk = |name: &str| {
        let status = fs::symlink_metadata(container.host(name)).expect("it is there");
        (status.uid(), status.gid())
    };
    assert_eq!(on_disk("upper/f"), (7, 8));
    assert_eq!(on_disk("upper/etc/host"), (3, 4));
    assert_eq!(on_disk("lower/etc/host"), (0, 0));
}

#[test]
fn all_its_namespaces_belong_to_its_user_namespace() {
    // Each needs a capability over one of them: mounts, host name, network; process ids and IPC by their file systems.
    let script =
        "mount -t tmpfs x /tmp && hostname other && hostname && ip link set lo down && ip link set lo up && \
        mount -t proc x /tmp && mkdir /q && mount -t mqueue x /q && umount /q && echo all";
    let container = mapped(script).with(|spec| {
        spec.capabilities.extend(["SYS_ADMIN", "NET_ADMIN"].map(str::to_owned));
        // A proc that hides less than the one in sight is refused.
        spec.masked_paths.clear();
        spec.read_only_paths.clear();
    });
    assert_eq!(container.run().output(), "other\nall");
}

#[test]
fn rights_over_the_host_are_none() {
    // With every capability inside: a device node, the clock, a kernel parameter, a lower OOM score, a host's file.
    let script =
        "mknod /n c 1 3 2>&1; date -s 1990-01-01 2>&1 >/dev/null; echo 1 >/proc/sys/vm/overcommit_memory; \
        echo -1000 >/proc/self/oom_score_adj; cat /host/secret; echo over";
    let container = mapped(script);
    let secret = container.host("secret");
    fs::write(&secret, "of the host").expect("written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("set");
    std::os::unix::fs::chown(&secret, Some(200_000), Some(200_000)).expect("changed");
    let directory = container.host("").to_owned();
    let container = container.with(|spec| {
        spec.capabilities = process::capabilities::kernel_names().into_iter().map(str::to_owned).collect();
        spec.read_only_paths.clear();
        spec.mounts.push(bind(&directory, "/host"));
    });
    let outcome = container.run();
    assert!(outcome.output().ends_with("over"), "{outcome:?}");
    assert!(
        !outcome.stdout.contains("of the host"),
        "an owner that the container does not have: {outcome:?}"
    );
    for failed in ["mknod", "date"] {
        assert!(outcome.stdout.contains(failed), "{failed} {outcome:?}");
    }
    for failed in ["overcommit_memory", "oom_score_adj", "write error"] {
        assert!(outcome.stderr.contains(failed) || outcome.stderr.contains("denied"), "{failed} {outcome:?}");
    }
    assert_eq!(fs::read_to_string("/proc/sys/vm/overcommit_memory").expect("read").trim().len(), 1);
}

#[test]
fn files_of_the_host_keep_their_owners() {
    let container = mapped("stat -c %u:%g /host /host/mine && echo new >/host/new && chown 9:9 /host/mine && touch /memory/f && stat -c %u:%g /memory /memory/f");
    let shared = container.host("shared");
    fs::create_dir(&shared).expect("made");
    fs::write(shared.join("mine"), "").expect("written");
    std::os::unix::fs::chown(shared.join("mine"), Some(5), Some(6)).expect("changed");
    let memory = tmpfs("/memory", "mode=755,uid=11,gid=12");
    let container = container.with(|spec| spec.mounts.extend([bind(&shared, "/host"), memory]));
    assert_eq!(container.run().output(), "0:0\n5:6\n11:12\n0:0");
    let owner = |name: &str| fs::metadata(shared.join(name)).expect("it is there").uid();
    assert_eq!((owner("new"), owner("mine")), (0, 9));
}

#[test]
fn what_cannot_show_other_owners_is_refused_by_name() {
    let container = mapped("true").with(|spec| spec.mounts.push(bind("/proc".as_ref(), "/host")));
    let outcome = container.run();
    assert_eq!(outcome.failure("step"), "BindSource");
    assert!(outcome
        .failure("detail")
        .as_str()
        .expect("text")
        .contains("cannot show files with other owners"));
}

#[test]
fn devices_and_terminals_work() {
    let script = "echo x >/dev/null && head -c 3 /dev/zero | wc -c && stat -c %u:%g:%a /dev/null /dev/pts/ptmx /dev/shm && \
        touch /dev/shm/f /dev/new && tty";
    let outcome = mapped(script).run();
    assert!(outcome.stdout.starts_with("3\n0:0:666\n0:0:666\n0:0:1777\n"), "{outcome:?}");
}

#[test]
fn an_id_that_it_does_not_have_is_named() {
    for (user, id) in [("70000", "70000"), ("1:65536", "65536")] {
        let outcome = mapped("true").with(|spec| spec.user = user.to_owned()).run();
        assert_eq!(outcome.failure("step"), "User");
        assert!(
            outcome.failure("detail").as_str().expect("text").contains(&format!("the id {id} ")),
            "{outcome:?}"
        );
    }
    let outcome = mapped("id -u; echo >/dev/stdout").with(|spec| spec.user = "65535:65535".to_owned()).run();
    assert_eq!(outcome.output().trim(), "65535");
}

#[test]
fn limits_are_given_although_no_right_to_raise_them_is_left_inside() {
    // A host that keeps CAP_SYS_RESOURCE from us lets nobody raise one: a lower one must do there.
    let held = fs::read_to_string("/proc/self/status").expect("read");
    let held = held.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("a line").trim().to_owned();
    let can_raise = u64::from_str_radix(&held, 16).expect("a number") & (1 << 24) != 0;
    let (files, score) = if can_raise { (1_048_000, -5) } else { (900, 5) };
    let container = mapped("ulimit -Hn; cat /proc/self/oom_score_adj").with(|spec| {
        spec.rlimits = vec![Rlimit { name: "RLIMIT_NOFILE".to_owned(), soft: files, hard: files }];
        spec.oom_score_adj = Some(score);
    });
    let outcome = container.run();
    assert_eq!(outcome.output(), format!("{files}\n{score}"));
    assert!(outcome.result["clamps"].as_array().expect("a list").is_empty(), "{outcome:?}");
}

#[test]
fn what_fails_before_the_namespace_is_told() {
    let container = mapped("true").with(|spec| {
        let group = process::spec::CgroupV1 { view: "x".to_owned(), dir: "/nonexistent/group".to_owned() };
        spec.cgroup.v1.push(group);
    });
    assert_eq!(container.run().failure("step"), "Cgroup");
}
