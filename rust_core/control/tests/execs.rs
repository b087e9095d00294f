//! Further processes in running containers, through a real supervisor.
#![allow(missing_docs)]

mod support;

use std::sync::Arc;
use std::time::Instant;

use control::exec::Facts;
use control::spool::{SpoolStream, MAX_UNREAD_BYTES};
use control::{Exec, ExecStart, ExitStatus, Supervisor};
use support::{readable, wait_until, Scene, TIMEOUT};

fn exec(args: &[&str]) -> ExecStart {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    ExecStart {
        id: format!("e{}", std::process::id()),
        args: owned(args),
        env: owned(&["PATH=/bin"]),
        cwd: "/".to_owned(),
        user: String::new(),
        additional_groups: Vec::new(),
        capabilities: owned(&process::capabilities::default_names()),
        seccomp_profile: "default".to_owned(),
        no_new_privileges: false,
        apparmor_profile: String::new(),
        process_label: String::new(),
        rlimits: Vec::new(),
        oom_score_adj: None,
        open_stdin: false,
        terminal: None,
        is_held: true,
    }
}

fn script(text: &str) -> ExecStart {
    exec(&["sh", "-c", text])
}

/// Waits until what is known of a process fits.
fn until(supervisor: &Supervisor, exec: &Exec, what: impl Fn(&Facts) -> bool) -> Facts {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        supervisor.poll_exit().expect("it is polled");
        let facts = exec.facts();
        if what(&facts) {
            return facts;
        }
        assert!(readable(supervisor.fileno(), deadline), "no news in time: {facts:?}");
    }
}

/// Waits until it has written so much, and takes it.
fn until_written(supervisor: &Supervisor, exec: &Exec, bytes: u64) {
    loop {
        let facts = until(supervisor, exec, |facts| facts.extent.head > 0 || facts.exit.is_some());
        if facts.extent.content_bytes >= bytes || facts.exit.is_some() {
            return;
        }
        let head = facts.extent.head;
        supervisor.take_exec_output(exec.id(), Some(head)).expect("it is told");
        until(supervisor, exec, |facts| facts.extent.head > head || facts.exit.is_some());
    }
}

fn ended(supervisor: &Supervisor, exec: &Exec) -> Facts {
    until(supervisor, exec, |facts| facts.exit.is_some() || facts.failure.is_some())
}

fn code(facts: &Facts) -> ExitStatus {
    facts.exit.expect("it has ended").status
}

fn output(exec: &Exec, stream: SpoolStream) -> String {
    let (records, _) = exec.read(exec.extent().oldest, usize::MAX).expect("it is read");
    let bytes = records.into_iter().filter(|record| record.stream == stream).flat_map(|record| record.data);
    String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
}

/// A container that stays, and what is done with it.
fn in_container(work: impl FnOnce(&Scene, &Supervisor)) {
    let scene = Scene::new();
    // The program itself: a shell would become it a moment after the start.
    let spec = scene.spec(&["sleep", "1000"]);
    let supervisor = scene.start(&spec);
    work(&scene, &supervisor);
    supervisor.signal(9).expect("it is killed");
    scene.finish(&spec, supervisor);
}

fn run(scene: &Scene, supervisor: &Supervisor, start: &ExecStart) -> (Arc<Exec>, Facts) {
    let exec = scene.host.exec(supervisor, start).expect("it is asked for");
    let facts = ended(supervisor, &exec);
    (exec, facts)
}

#[test]
fn a_process_joins_the_container_and_tells_its_output_apart_and_its_code() {
    in_container(|scene, supervisor| {
        let start = script("echo out; echo err >&2; cat /proc/1/comm; exit 7");
        let (exec, facts) = run(scene, supervisor, &start);
        assert_eq!(code(&facts), ExitStatus::Exited(7));
        assert_eq!(output(&exec, SpoolStream::Stdout), "out\nsleep\n");
        assert_eq!(output(&exec, SpoolStream::Stderr), "err\n");
        assert_eq!(facts.extent.content_bytes, 10 + 4);
    });
}

#[test]
fn z04_it_has_no_descriptor_but_its_three() {
    in_container(|scene, supervisor| {
        let (exec, facts) = run(scene, supervisor, &script("ls /proc/self/fd"));
        assert_eq!(code(&facts), ExitStatus::Exited(0));
        // The fourth is the directory that is listed.
        assert_eq!(output(&exec, SpoolStream::Stdout), "0\n1\n2\n3\n");
    });
}

#[test]
fn s07_input_reaches_it_and_its_end_too() {
    in_container(|scene, supervisor| {
        let start = ExecStart { open_stdin: true, ..exec(&["cat"]) };
        let exec = scene.host.exec(supervisor, &start).expect("it is asked for");
        until(supervisor, &exec, |facts| facts.is_started);
        let stdin = exec.stdin_fd().expect("a copy").expect("there is one");
        rustix::io::write(&stdin, b"hi\n").expect("it is written");
        drop(stdin);
        supervisor.close_exec_stdin(&exec).expect("it is told");
        assert_eq!(code(&ended(supervisor, &exec)), ExitStatus::Exited(0));
        assert_eq!(output(&exec, SpoolStream::Stdout), "hi\n");
    });
}

#[test]
fn s08_its_end_is_told_though_its_stdin_stays_open() {
    in_container(|scene, supervisor| {
        let start = ExecStart { open_stdin: true, ..exec(&["true"]) };
        let (_, facts) = run(scene, supervisor, &start);
        assert_eq!(code(&facts), ExitStatus::Exited(0));
    });
}

#[test]
fn s10_a_terminal_has_its_size_at_the_first_instruction_and_changes_it() {
    in_container(|scene, supervisor| {
        let text = "test -t 0 && test -t 1 && test -t 2 || exit 9; stty size; \
                    trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.05; done";
        let start = ExecStart {
            terminal: Some((120, 40)),
            open_stdin: true,
            args: [
                "/bin/busybox",
                "sh",
                "-c",
                &text.replace("stty", "/bin/busybox stty").replace("test -t", "/bin/busybox test -t"),
            ]
            .map(str::to_owned)
            .to_vec(),
            ..exec(&[])
        };
        let exec = scene.host.exec(supervisor, &start).expect("it is asked for");
        until_written(supervisor, &exec, 15);
        assert_eq!(output(&exec, SpoolStream::Stdout), "40 120\r\nready\r\n");
        exec.resize(200, 50).expect("it is resized");
        assert_eq!(code(&ended(supervisor, &exec)), ExitStatus::Exited(4));
        assert_eq!(output(&exec, SpoolStream::Stdout), "40 120\r\nready\r\n50 200\r\n");
    });
}

#[test]
fn t10_a_failure_names_what_was_at_fault_and_the_container_goes_on() {
    in_container(|scene, supervisor| {
        for (start, exit_code, path) in [
            (ExecStart { cwd: "/nowhere".to_owned(), ..exec(&["true"]) }, 126, "/nowhere"),
            (exec(&["nothing"]), 127, "nothing"),
        ] {
            let (_, facts) = run(scene, supervisor, &start);
            let failure = facts.failure.expect("a failure");
            assert_eq!((failure.exit_code, failure.path.as_str()), (exit_code, path), "{failure}");
            supervisor.forget_exec(&start.id).expect("it is told");
        }
        assert_eq!(code(&run(scene, supervisor, &exec(&["true"])).1), ExitStatus::Exited(0));
    });
}

#[test]
fn a_reader_that_takes_nothing_makes_the_process_wait_and_loses_nothing() {
    in_container(|scene, supervisor| {
        let start = script("head -c 1000000 /dev/zero; echo -n end");
        let exec = scene.host.exec(supervisor, &start).expect("it is asked for");
        let facts = until(supervisor, &exec, |facts| facts.extent.head > 0);
        assert!(facts.extent.head <= MAX_UNREAD_BYTES);
        let (mut position, mut length, mut last) = (0, 0, Vec::new());
        while length < 1_000_003 {
            let (records, next) = exec.read(position, 1 << 20).expect("it is read");
            assert!(exec.extent().head - position <= MAX_UNREAD_BYTES);
            for record in records {
                assert_eq!(record.offset, length);
                length += record.data.len() as u64;
                last = record.data;
            }
            position = next;
            supervisor.take_exec_output(exec.id(), Some(position)).expect("it is told");
            until(supervisor, &exec, |facts| facts.extent.head > position || facts.exit.is_some());
        }
        assert!(last.ends_with(b"end"));
        assert_eq!(code(&ended(supervisor, &exec)), ExitStatus::Exited(0));
    });
}

#[test]
fn killing_takes_all_that_it_has_started() {
    in_container(|scene, supervisor| {
        let exec =
            scene.host.exec(supervisor, &script("sleep 77 & sleep 77 & echo on; wait")).expect("asked for");
        until(supervisor, &exec, |facts| facts.extent.content_bytes > 0);
        supervisor.kill_exec(exec.id()).expect("it is told");
        assert_eq!(code(&ended(supervisor, &exec)), ExitStatus::Killed(9));
        supervisor.forget_exec(exec.id()).expect("it is told");
        wait_until("its children are gone", || {
            let (exec, _) = run(scene, supervisor, &script("cat /proc/[0-9]*/cmdline | tr '\\0' ' '"));
            let found = output(&exec, SpoolStream::Stdout);
            supervisor.forget_exec(exec.id()).expect("it is told");
            !found.contains("sleep 77")
        });
    });
}

#[test]
fn it_ends_with_the_container_and_its_end_is_told_before_the_containers() {
    let scene = Scene::new();
    let spec = scene.script("sleep 1000");
    let supervisor = scene.start(&spec);
    let exec = scene.host.exec(&supervisor, &script("echo on; sleep 1000")).expect("asked for");
    until(&supervisor, &exec, |facts| facts.extent.content_bytes > 0);
    supervisor.signal(9).expect("it is killed");
    support::wait_exit(&supervisor);
    assert_eq!(code(&exec.facts()), ExitStatus::Killed(9));
    let record = control::read_exec_record(&spec.run_dir, exec.id()).expect("it is read");
    assert_eq!(record.expect("a record").status, ExitStatus::Killed(9));
    scene.finish(&spec, supervisor);
}

#[test]
fn another_daemon_finds_it_with_its_output_and_its_end() {
    let scene = Scene::new();
    let spec = scene.script("sleep 1000");
    let first = scene.start(&spec);
    let exec = scene.host.exec(&first, &script("echo before; sleep 0.3; echo after; exit 3")).expect("asked");
    until(&first, &exec, |facts| facts.extent.content_bytes > 0);
    let second = scene.host.adopt(&spec.run_dir).expect("adopted").expect("it listens");
    drop(first);
    let found = second.execs();
    assert_eq!(found.len(), 1);
    assert!(found[0].facts().is_started);
    assert_eq!(code(&ended(&second, &found[0])), ExitStatus::Exited(3));
    assert_eq!(output(&found[0], SpoolStream::Stdout), "before\nafter\n");
    second.signal(9).expect("it is killed");
    scene.finish(&spec, second);
}
