//! Commands that are missing or cannot be executed, and working directories. Needs root.

mod support;

use std::os::unix::fs::{symlink, PermissionsExt};
use std::time::{Duration, Instant};

use support::{bind, strings, tmpfs, Container};

fn command(args: &[&str]) -> Container {
    Container::new("").with(|spec| spec.args = strings(args))
}

fn executable(container: &Container, path: &str) {
    let permissions = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(container.image(path), permissions).expect("changed");
}

#[track_caller]
fn fails(container: &Container, step: &str, exit_code: u64) -> String {
    let outcome = container.run();
    assert_eq!(
        (outcome.failure("step").as_str(), outcome.failure("exit_code").as_u64()),
        (Some(step), Some(exit_code))
    );
    outcome.result["text"].as_str().expect("a text").to_owned()
}

#[test]
fn t01_a_command_that_is_not_there_is_127() {
    for args in [&["nosuch"][..], &["/bin/nosuch"], &["/nosuch/x"], &["./nosuch"], &["/bin/busybox/x"]] {
        let text = fails(&command(args), "Exec", 127);
        assert!(text.contains(args[0]), "{text}");
    }
    let text =
        fails(&command(&["sh"]).with(|spec| spec.env = strings(&["PATH=/none::/nowhere"])), "Exec", 127);
    assert!(text.contains("PATH"), "{text}");
}

#[test]
fn t01_a_command_that_cannot_be_executed_is_126() {
    fails(&command(&["/etc"]), "Exec", 126);
    fails(&command(&["/etc/plain"]).file("etc/plain", "x"), "Exec", 126);
    let text = command(&["/etc/text"]).file("etc/text", "no format");
    executable(&text, "etc/text");
    fails(&text, "Exec", 126);
    let plain_in_path = command(&["tool"]).file("bin/tool", "x");
    fails(&plain_in_path, "Exec", 126);
}

#[test]
fn a_file_that_cannot_be_executed_does_not_hide_one_later_in_path() {
    let container = command(&["tool"]).file("usr/bin/tool", "x").file("bin/tool", "#!/bin/sh\necho found\n");
    executable(&container, "bin/tool");
    assert_eq!(container.run().output(), "found");
}

#[test]
fn a_missing_interpreter_is_told_apart_from_a_missing_file() {
    let container = command(&["/script"]).file("script", "#!/no/such/interpreter\n");
    executable(&container, "script");
    let text = fails(&container, "Exec", 127);
    assert!(text.contains("interpreter"), "{text}");
}

#[test]
fn no_command_at_all_is_refused_before_anything_is_done() {
    // A command without a name is one that is not found, as a shell says it.
    fails(&command(&[]), "Spec", 127);
    fails(&command(&[""]), "Spec", 127);
}

#[test]
fn without_path_in_the_environment_the_default_one_is_searched() {
    let container = Container::new("echo \"${PATH-unset}\"; env").with(|spec| spec.env = strings(&["A=1"]));
    let outcome = container.run();
    assert!(outcome.output().contains("A=1") && outcome.output().contains("HOME=/"), "{outcome:?}");
}

#[test]
fn t09_a_missing_working_directory_is_made() {
    let outcome = Container::new("pwd; stat -c %a:%u /new/deep")
        .with(|spec| spec.cwd = "/new/deep/er".to_owned())
        .run();
    assert_eq!(outcome.output(), "/new/deep/er\n755:0");
    let outcome = Container::new("pwd; stat -c %a .").with(|spec| {
        spec.cwd = "/v/sub".to_owned();
        spec.mounts = vec![tmpfs("/v", "mode=700")];
    });
    assert_eq!(outcome.run().output(), "/v/sub\n755");
}

#[test]
fn t09_a_working_directory_below_a_volume_is_made_in_the_volume() {
    let container = Container::new("pwd");
    std::fs::create_dir(container.host("volume")).expect("made");
    let mount = bind(&container.host("volume"), "/v");
    let container = container.with(|spec| {
        spec.cwd = "/v/sub".to_owned();
        spec.mounts = vec![mount];
    });
    assert_eq!(container.run().output(), "/v/sub");
    assert!(container.host("volume/sub").is_dir());
    assert!(!container.host("upper/v/sub").exists());
}

#[test]
fn t10_the_working_directory_is_entered_as_the_user() {
    let container = |user: &str| {
        let container = Container::new("pwd").with(|spec| {
            spec.cwd = "/h".to_owned();
            spec.user = user.to_owned();
        });
        std::fs::create_dir(container.image("h")).expect("made");
        std::fs::set_permissions(container.image("h"), std::fs::Permissions::from_mode(0o700))
            .expect("changed");
        std::os::unix::fs::chown(container.image("h"), Some(1000), Some(1000)).expect("changed");
        container
    };
    assert_eq!(container("0").run().output(), "/h");
    assert_eq!(container("1000").run().output(), "/h");
    let text = fails(&container("1001"), "Cwd", 126);
    assert!(text.contains("\"/h\"") && text.contains("Permission denied"), "{text}");
    let without = container("0").with(|spec| spec.capabilities.retain(|name| name != "DAC_OVERRIDE"));
    fails(&without, "Cwd", 126);
}

#[test]
fn a_working_directory_that_is_a_file_is_126_and_named() {
    let text =
        fails(&Container::new("pwd").file("f", "").with(|spec| spec.cwd = "/f".to_owned()), "Cwd", 126);
    assert!(text.contains("/f"), "{text}");
    let text =
        fails(&Container::new("pwd").file("f", "").with(|spec| spec.cwd = "/f/x".to_owned()), "Cwd", 126);
    assert!(text.contains("/f/x"), "{text}");
    fails(&Container::new("pwd").with(|spec| spec.cwd = "relative".to_owned()), "Spec", 125);
}

#[test]
fn z04_a_working_directory_of_the_host_cannot_be_had_through_proc() {
    for number in 0..=20 {
        let direct = Container::new("ls -d ../../../../bin; pwd")
            .with(|spec| spec.cwd = format!("/proc/self/fd/{number}"));
        fails(&direct, "Cwd", 126);
        let linked = Container::new("pwd").with(|spec| spec.cwd = "/w".to_owned());
        symlink(format!("/proc/self/fd/{number}"), linked.image("w")).expect("linked");
        fails(&linked, "Cwd", 126);
    }
    for path in ["/proc/self/cwd", "/proc/self/root", "/proc/1/cwd", "/proc/self/fd"] {
        let outcome =
            Container::new("ls ../../../../../bin/busybox").with(|spec| spec.cwd = path.to_owned()).run();
        assert!(outcome.result["failure"].is_object() || outcome.exit_code() == 0, "{outcome:?}");
    }
}

#[test]
fn z11_a_link_to_the_running_program_is_not_executed() {
    for target in ["/proc/self/exe", "/proc/1/exe", "/proc/thread-self/exe"] {
        let container = command(&["/x"]);
        symlink(target, container.image("x")).expect("linked");
        let text = fails(&container, "Exec", 126);
        assert!(text.contains("/x"), "{text}");
    }
}

#[test]
fn a_fifo_or_a_device_as_command_does_not_hang() {
    let start = Instant::now();
    let container = command(&["/fifo"]);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        container.image("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o777),
        0,
    )
    .expect("made");
    fails(&container, "Exec", 126);
    fails(&command(&["/dev/zero"]), "Exec", 126);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn arguments_longer_than_the_kernel_takes_are_126() {
    let long = "x".repeat(200_000);
    fails(&command(&["echo", &long]), "Exec", 126);
}

#[test]
fn t13_parallel_starts_do_not_mix() {
    let threads: Vec<_> = (0..50)
        .map(|number| {
            std::thread::spawn(move || {
                let container =
                    Container::new("echo $VALUE").with(|spec| spec.env.push(format!("VALUE={number}")));
                // Mounts of the neighbours' containers are never on the host, so the leak check holds here too.
                assert_eq!(container.run().output(), number.to_string());
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("it prints its own value");
    }
}
