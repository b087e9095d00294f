//! Who the process is inside: ids, groups, home, capabilities. Needs root.

mod support;

use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use support::{strings, Container};

const PASSWD: &str = "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n1000:x:0:0::/:/bin/sh\n\
    evil:x:notanum:10::/:/bin/sh\nhuge:x:4294967296:10::/:/bin/sh\n";
const GROUP: &str = "root:x:0:\nwheel:x:10:root,app\napp:x:1000:\nwww:x:33:\n";
const SHOW: &str = "echo $(id -u) $(id -g) $(grep Groups: /proc/self/status) $HOME";

fn as_user(user: &str, script: &str) -> Container {
    Container::new(script)
        .file("etc/passwd", PASSWD)
        .file("etc/group", GROUP)
        .with(|spec| spec.user = user.to_owned())
}

#[test]
fn t07_t14_each_user_has_its_ids_groups_and_home() {
    for (user, expected) in [
        ("", "0 0 Groups: 0 10 /root"),
        ("app", "1000 1000 Groups: 10 1000 /home/app"),
        ("app:www", "1000 33 Groups: 33 /home/app"),
        ("1000", "1000 1000 Groups: 10 1000 /home/app"),
        ("1234:5", "1234 5 Groups: 5 /"),
    ] {
        assert_eq!(as_user(user, SHOW).run().output(), expected, "{user:?}");
    }
    let more = as_user("1000:1000", SHOW).with(|spec| spec.additional_groups = strings(&["2000", "www"]));
    assert_eq!(more.run().output(), "1000 1000 Groups: 33 1000 2000 /home/app");
    let home = as_user("app", SHOW).with(|spec| spec.env.push("HOME=/mine".to_owned()));
    assert_eq!(home.run().output(), "1000 1000 Groups: 10 1000 /mine");
}

#[test]
fn t05_t06_a_user_that_is_no_user_does_not_start() {
    for user in ["evil", "huge", "4294967296", "4294967295", "nobody-here", "app:nogroup", "-1"] {
        let outcome = as_user(user, SHOW).run();
        assert_eq!(
            (outcome.failure("step").as_str(), outcome.failure("exit_code").as_u64()),
            (Some("User"), Some(125))
        );
        assert_eq!(outcome.stdout, "");
    }
}

#[test]
fn an_image_without_the_files_knows_numbers_only() {
    let numbers = Container::new(SHOW).with(|spec| spec.user = "7:8".to_owned());
    assert_eq!(numbers.run().output(), "7 8 Groups: 8 /");
    let name = Container::new(SHOW).with(|spec| spec.user = "root".to_owned()).run();
    assert_eq!(name.failure("step"), "User");
}

#[test]
fn t15_files_that_would_hang_or_mislead_stop_names_within_seconds_and_numbers_not_at_all() {
    type Prepare = fn(&Container);
    let fifo: Prepare = |container| {
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        let cwd = rustix::fs::CWD;
        rustix::fs::mknodat(cwd, container.image("fifo"), rustix::fs::FileType::Fifo, mode, 0).expect("made");
        symlink("/fifo", container.image("etc/passwd")).expect("linked");
    };
    let circle: Prepare = |container| {
        symlink("/proc/self/../../etc/passwd", container.image("etc/passwd")).expect("linked");
    };
    let host: Prepare = |container| {
        symlink("/proc/1/root/etc/passwd", container.image("etc/passwd")).expect("linked");
    };
    let huge: Prepare = |container| {
        let file = std::fs::File::create(container.image("etc/passwd")).expect("made");
        file.set_len(1 << 30).expect("grown");
    };
    let device: Prepare = |container| {
        symlink("/dev/zero", container.image("etc/passwd")).expect("linked");
    };
    let directory: Prepare = |container| {
        std::fs::create_dir(container.image("etc/passwd")).expect("made");
    };
    let terminal: Prepare = |container| {
        symlink("/dev/stdin", container.image("etc/passwd")).expect("linked");
    };
    for (what, prepare) in [
        ("fifo", fifo),
        ("circle", circle),
        ("host", host),
        ("huge", huge),
        ("device", device),
        ("directory", directory),
        ("stdin", terminal),
    ] {
        let start = Instant::now();
        for (user, starts) in [("app", false), ("root", false), ("5", true), ("", true)] {
            // Nothing inside may look at the file either.
            let container =
                Container::new("grep Uid: /proc/self/status").with(|spec| spec.user = user.to_owned());
            prepare(&container);
            let outcome = container.run();
            assert_eq!(outcome.result["exit_code"] == 0, starts, "{what} {user:?}: {outcome:?}");
            if what == "huge" && user == "app" {
                assert!(outcome.result["text"]
                    .as_str()
                    .is_some_and(|text| text.contains("MAX_USER_FILE_BYTES")));
            }
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{what}");
    }
}

fn status(container: &Container, key: &str) -> String {
    let container_status = container.run();
    let line =
        container_status.output().lines().find(|line| line.starts_with(key)).expect("a line").to_owned();
    line.split_whitespace().nth(1).expect("a value").to_owned()
}

#[test]
fn t08_capabilities_are_the_default_ones_for_root_and_none_for_others() {
    let script = "cat /proc/self/status";
    let (none, default) = ("0000000000000000", "00000000a80425fb");
    for (user, effective) in [("", default), ("1000", none), ("app:0", none)] {
        let container = as_user(user, script);
        assert_eq!(status(&container, "CapInh"), none);
        assert_eq!(status(&container, "CapAmb"), none);
        assert_eq!(status(&container, "CapEff"), effective, "{user}");
        assert_eq!(status(&container, "CapPrm"), effective, "{user}");
        assert_eq!(status(&container, "CapBnd"), default, "{user}");
    }
    let none_at_all = as_user("", script).with(|spec| spec.capabilities.clear());
    assert_eq!(status(&none_at_all, "CapEff"), none);
    assert_eq!(status(&none_at_all, "CapBnd"), none);
}

#[test]
fn capabilities_that_the_engine_lacks_are_left_out_and_told() {
    let container = as_user("", "true").with(|spec| {
        spec.capabilities = process::capabilities::kernel_names().into_iter().map(str::to_owned).collect();
    });
    let outcome = container.run();
    let held = rustix::thread::capabilities(None).expect("known").permitted;
    let clamps = outcome.result["clamps"].as_array().expect("a list");
    let is_told = clamps.iter().any(|clamp| clamp.as_str().is_some_and(|text| text.contains("SYS_RESOURCE")));
    assert_eq!(is_told, !held.contains(rustix::thread::CapabilitySet::SYS_RESOURCE), "{clamps:?}");
}

#[test]
fn an_unknown_capability_is_refused() {
    let outcome = as_user("", "true").with(|spec| spec.capabilities = strings(&["SUPER_USER"])).run();
    assert_eq!(
        (outcome.failure("step").as_str(), outcome.failure("path").as_str()),
        (Some("Spec"), Some("SUPER_USER"))
    );
}

#[test]
fn a_user_can_open_its_own_standard_output() {
    let outcome = as_user("app", "echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin").run();
    assert_eq!((outcome.output(), outcome.stderr.as_str()), ("out\ninput", "err\n"));
}

#[test]
fn no_new_privileges_is_set_on_request_only() {
    let script = "cat /proc/self/status";
    for (is_set, value) in [(false, "0"), (true, "1")] {
        for user in ["", "app"] {
            let container = as_user(user, script).with(|spec| spec.no_new_privileges = is_set);
            assert_eq!(status(&container, "NoNewPrivs"), value);
        }
    }
}
