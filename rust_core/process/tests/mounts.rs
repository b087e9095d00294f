//! What the container has mounted, and that nothing of it crosses to or from the host. Needs root.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use support::{bind, strings, tmpfs, Container, Outcome};

fn mounts(outcome: &Outcome) -> Vec<(String, String, String)> {
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ").expect("a mount");
        let left: Vec<&str> = left.split(' ').collect();
        let kind = right.split(' ').next().expect("a type");
        (left[4].to_owned(), kind.to_owned(), left[5].to_owned())
    };
    outcome.output().lines().map(parse).collect()
}

#[test]
fn the_container_has_its_own_mounts_and_none_of_the_host() {
    let outcome = Container::new("cat /proc/self/mountinfo").run();
    let found = mounts(&outcome);
    let masks = ["/proc/", "/sys/"];
    let plain: Vec<(&str, &str)> = found
        .iter()
        .filter(|(path, _, _)| !masks.iter().any(|prefix| path.starts_with(prefix)))
        .map(|(path, kind, _)| (path.as_str(), kind.as_str()))
        .collect();
    let mut expected = [
        ("/", "overlay"),
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
    ];
    let mut plain = plain;
    plain.sort_unstable();
    expected.sort_unstable();
    assert_eq!(plain, expected);
    let options = |wanted: &str| {
        found.iter().find(|(path, _, _)| path == wanted).map(|(_, _, options)| options.clone()).expect(wanted)
    };
    assert!(options("/proc").contains("nosuid,nodev,noexec"));
    assert!(options("/sys").starts_with("ro,nosuid,nodev,noexec"));
    assert!(options("/dev/shm").contains("nosuid,nodev,noexec"));
    assert!(options("/dev").contains("nosuid"));
}

#[test]
fn dev_holds_the_standard_nodes_and_links_and_they_work() {
    let outcome = Container::new(
        "for n in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' /dev/$n; done; \
         for l in fd stdin stdout stderr ptmx; do echo $l $(readlink /dev/$l); done; \
         echo x > /dev/null && dd if=/dev/zero bs=1 count=1 2>/dev/null | wc -c; \
         echo x 2>/dev/null > /dev/full || echo full; stat -c %a:%g /dev/pts/ptmx; stat -c %a /dev/shm",
    )
    .run();
    assert_eq!(
        outcome.output(),
        "/dev/null character special file 1:3 666\n/dev/zero character special file 1:5 666\n\
         /dev/full character special file 1:7 666\n/dev/random character special file 1:8 666\n\
         /dev/urandom character special file 1:9 666\n/dev/tty character special file 5:0 666\n\
         fd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\nstderr /proc/self/fd/2\nptmx pts/ptmx\n\
         1\nfull\n666:0\n1777"
    );
}

#[test]
fn shm_has_its_size() {
    let script =
        "dd if=/dev/zero of=/dev/shm/x bs=1024 count=2048 2>/dev/null || echo full; stat -c %s /dev/shm/x";
    let outcome = Container::new(script).with(|spec| spec.shm_size_bytes = 1 << 20).run();
    assert_eq!(outcome.output(), format!("full\n{}", 1 << 20));
}

#[test]
fn what_is_written_lands_in_the_upper_directory_and_not_in_the_image() {
    let container =
        Container::new("echo changed > /etc/f; echo new > /n; cat /etc/f").file("etc/f", "original");
    assert_eq!(container.run().output(), "changed");
    assert_eq!(fs::read_to_string(container.image("etc/f")).expect("read"), "original");
    assert_eq!(fs::read_to_string(container.host("upper/n")).expect("read"), "new\n");
}

#[test]
fn m07_a_read_only_root_refuses_writes_and_leaves_mounts_writable() {
    let container = Container::new(
        "touch /x 2>&1; touch /etc/y 2>/dev/null || echo no; echo z > /dev/null && touch /tmp/t /dev/shm/s && echo yes",
    )
    .with(|spec| {
        spec.is_root_read_only = true;
        spec.mounts = vec![tmpfs("/tmp", "")];
    });
    let outcome = container.run();
    assert!(outcome.output().contains("Read-only file system"), "{outcome:?}");
    assert!(outcome.output().ends_with("no\nyes"), "{outcome:?}");
}

#[test]
fn z13_masked_paths_read_as_empty_and_read_only_ones_cannot_be_written() {
    let outcome = Container::new(
        "for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do test -e $f && cat $f | wc -c; done; \
         ls -A /sys/firmware /proc/scsi /proc/acpi 2>/dev/null | grep -v : | grep -c .; \
         echo 1 2>/dev/null > /proc/sys/kernel/core_pattern || echo refused; \
         echo b 2>/dev/null > /proc/sysrq-trigger || echo refused; touch /sys/kernel/x 2>/dev/null || echo refused; \
         echo x 2>/dev/null >> /proc/kcore; umount /proc/kcore 2>/dev/null || echo held; true",
    )
    .with(|spec| spec.masked_paths.push("/proc/kcore".to_owned()))
    .run();
    let output = outcome.output();
    assert!(output.ends_with("0\nrefused\nrefused\nrefused\nheld"), "{output}");
    assert!(output.lines().take_while(|line| *line != "refused").all(|line| line == "0"), "{output}");
}

#[test]
fn z13_a_volume_over_dev_does_not_unmask() {
    let container = Container::new("cat /proc/keys | wc -c; cat /proc/kcore | wc -c");
    fs::create_dir(container.host("dev")).expect("made");
    symlink("/proc/sys/kernel/core_pattern", container.host("dev/null")).expect("linked");
    let mount = bind(&container.host("dev"), "/dev");
    let outcome = container.with(|spec| spec.mounts = vec![mount]).run();
    if outcome.result["failure"].is_null() {
        assert_eq!(outcome.output(), "0\n0");
    }
}

#[test]
fn an_image_that_links_a_place_of_the_kernels_file_systems_does_not_start() {
    for name in ["proc", "sys", "dev"] {
        let container = Container::new("true");
        symlink("/tmp", container.image(name)).expect("linked");
        let outcome = container.run();
        assert_eq!(
            (outcome.failure("step").as_str(), outcome.failure("path").as_str()),
            (Some("Mount"), Some(&*format!("/{name}")))
        );
        let container = Container::new("true").file(name, "a file");
        assert_eq!(container.run().failure("step"), "Mount");
    }
}

#[test]
fn m05_a_bind_makes_its_target_and_refuses_the_wrong_kind() {
    let prepare = |destination: &str, is_file: bool| {
        let container =
            Container::new("cat /made/f 2>/dev/null || ls /made/d").file("file", "").file("dir/x", "");
        fs::write(container.host("f"), "content").expect("written");
        fs::create_dir(container.host("d")).expect("made");
        fs::write(container.host("d/inside"), "").expect("written");
        let mount = bind(&container.host(if is_file { "f" } else { "d" }), destination);
        container.with(|spec| spec.mounts = vec![mount])
    };
    assert_eq!(prepare("/made/f", true).run().output(), "content");
    assert_eq!(prepare("/made/d", false).run().output(), "inside");
    for (destination, is_file) in [("/dir", true), ("/file", false)] {
        let outcome = prepare(destination, is_file).run();
        assert_eq!(
            (outcome.failure("step").as_str(), outcome.failure("path").as_str()),
            (Some("Mount"), Some(destination))
        );
    }
}

#[test]
fn m04_a_bind_of_nothing_fails_before_the_start_and_makes_nothing() {
    let container = Container::new("true").with(|spec| {
        spec.mounts = vec![bind(std::path::Path::new("/no/such/source"), "/x")];
    });
    let outcome = container.run();
    assert_eq!(
        (outcome.failure("step").as_str(), outcome.failure("path").as_str()),
        (Some("BindSource"), Some("/no/such/source"))
    );
    assert!(!container.host("upper/x").exists());
    assert!(!std::path::Path::new("/no").exists());
}

#[test]
fn m06_tmpfs_has_its_size_mode_and_flags() {
    let container = Container::new(
        "stat -c %a /t; dd if=/dev/zero of=/t/x bs=1024 count=2048 2>/dev/null || echo full; grep ' /t ' /proc/self/mountinfo",
    )
    .with(|spec| spec.mounts = vec![tmpfs("/t", "size=1m,mode=1770")]);
    let outcome = container.run();
    assert!(outcome.output().starts_with("1770\nfull\n"), "{outcome:?}");
    assert!(outcome.output().contains("nosuid,nodev,noexec"), "{outcome:?}");
    let bad = Container::new("true").with(|spec| spec.mounts = vec![tmpfs("/t", "size=much")]).run();
    assert_eq!((bad.failure("step").as_str(), bad.failure("path").as_str()), (Some("Mount"), Some("/t")));
}

#[test]
fn m01_mounts_below_mounts_are_all_there() {
    let container = Container::new("grep -c -E ' /run(/lock)? | /tmp(/s)? ' /proc/self/mountinfo; ls /tmp/s");
    fs::create_dir(container.host("s")).expect("made");
    fs::write(container.host("s/inside"), "").expect("written");
    let below = bind(&container.host("s"), "/tmp/s");
    let container = container
        .with(|spec| spec.mounts = vec![tmpfs("/run", ""), tmpfs("/run/lock", ""), tmpfs("/tmp", ""), below]);
    assert_eq!(container.run().output(), "4\ninside");
}

#[test]
fn m03_a_read_only_bind_keeps_the_flags_of_the_hosts_mount() {
    // The host side is mounted in a namespace of the test's own, which unshare(1) makes.
    let container = Container::new("grep ' /v ' /proc/self/mountinfo; touch /v/x 2>&1");
    fs::create_dir(container.host("flags")).expect("made");
    let mut mount = bind(&container.host("flags"), "/v");
    mount.is_read_only = true;
    let container = container.with(|spec| spec.mounts = vec![mount]);
    let spec = container.host("spec.json");
    fs::write(&spec, serde_json::to_vec(&container.spec).expect("JSON")).expect("written");
    let script = format!(
        "mount -t tmpfs -o nosuid,nodev,noexec t {} && exec {} {} {}",
        container.host("flags").display(),
        support::start_program().display(),
        spec.display(),
        container.host("result.json").display(),
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().expect("unshare(1) runs");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(stdout.contains("ro,nosuid,nodev,noexec"), "{stdout} {output:?}");
    assert!(stdout.contains("Read-only"), "{stdout}");
}

#[test]
fn z05_a_destination_is_resolved_inside_the_root_whatever_links_a_volume_has() {
    let container = Container::new("ls /v/d/new; ls -d /outside* 2>/dev/null; true");
    for name in ["a", "b", "canary"] {
        fs::create_dir(container.host(name)).expect("made");
    }
    fs::write(container.host("b/inside"), "").expect("written");
    let canary = container.host("canary");
    symlink(&canary, container.host("a/d")).expect("linked");
    let mounts = vec![bind(&container.host("a"), "/v"), bind(&container.host("b"), "/v/d/new")];
    let container = container.with(|spec| spec.mounts = mounts);
    assert_eq!(container.run().output(), "inside");
    assert_eq!(fs::read_dir(&canary).expect("read").count(), 0, "made on the host");
}

#[test]
fn a_destination_through_proc_does_not_reach_an_open_descriptor() {
    for number in 0..20 {
        let container = Container::new("true");
        symlink(format!("/proc/self/fd/{number}"), container.image("x")).expect("linked");
        let container = container.with(|spec| spec.mounts = vec![tmpfs("/x/y", "")]);
        assert_eq!(container.run().failure("step"), "Mount");
    }
}

#[test]
fn a_file_can_be_bound_over_etc_hosts_and_the_root_stays_clean() {
    let container = Container::new("cat /etc/hosts /etc/hostname");
    fs::write(container.host("hosts"), "127.0.0.1 localhost\n").expect("written");
    let mounts =
        vec![bind(&container.host("hosts"), "/etc/hosts"), bind(&container.host("hosts"), "/etc/hostname")];
    let outcome = container.with(|spec| {
        spec.mounts = mounts;
        spec.is_root_read_only = true;
    });
    assert_eq!(outcome.run().output(), "127.0.0.1 localhost\n127.0.0.1 localhost");
}

#[test]
fn m09_a_root_of_120_layers_starts() {
    let container = Container::new("cat /f0 /f119");
    let mut layers = Vec::new();
    for number in 0..120 {
        let layer = container.host(&format!("layer-{number}"));
        fs::create_dir(&layer).expect("made");
        fs::write(layer.join(format!("f{number}")), format!("{number} ")).expect("written");
        layers.push(layer.to_str().expect("utf-8").to_owned());
    }
    let container = container.with(|spec| {
        layers.append(&mut spec.root.lower_dirs);
        spec.root.lower_dirs = layers;
    });
    assert_eq!(container.run().output(), "0 119");
}

#[test]
fn a_missing_layer_is_a_failure_that_names_it() {
    let container = Container::new("true").with(|spec| spec.root.lower_dirs = strings(&["/no/such/layer"]));
    let outcome = container.run();
    assert_eq!(outcome.failure("step"), "Root");
    assert!(
        outcome.result["text"].as_str().is_some_and(|text| text.contains("/no/such/layer")),
        "{outcome:?}"
    );
}
