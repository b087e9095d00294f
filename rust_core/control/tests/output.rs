//! What a container writes is in its log, whole and exact.

mod support;

use std::time::Instant;

use logs::{LogHub, LogReader, ReadRange, Stream};
use support::{output, readable, wait_exit, Scene, TIMEOUT};

#[test]
fn s01_the_last_piece_needs_no_newline() {
    let ended = Scene::new().run("echo hello; printf world");
    assert_eq!(ended.stdout, b"hello\nworld");
}

#[test]
fn s06_bytes_are_exact() {
    let ended = Scene::new().run(r"printf '\355\253\356\333\003\000'");
    assert_eq!(ended.stdout, [0xed, 0xab, 0xee, 0xdb, 0x03, 0x00]);
}

#[test]
fn s05_a_line_of_100_kib_is_one_line() {
    let scene = Scene::new();
    let spec = scene.script("head -c 102400 /dev/zero | tr '\\0' x; echo");
    let supervisor = scene.start(&spec);
    wait_exit(&supervisor);
    let range = ReadRange { tail_lines: Some(1), ..Default::default() };
    let records = LogReader::open(&spec.log_dir, &range).unwrap().read_final(1 << 20).unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].data.len(), 102_401);
    scene.finish(&spec, supervisor);
}

#[test]
fn stdout_and_stderr_are_kept_apart() {
    let ended = Scene::new().run("echo a; echo b >&2; exit 7");
    assert_eq!((&ended.stdout[..], &ended.stderr[..]), (&b"a\n"[..], &b"b\n"[..]));
    assert_eq!(ended.record.exit_code(), Some(7));
}

#[test]
fn s02_a_follower_of_100_000_lines_misses_none() {
    let scene = Scene::new();
    let spec = scene.script("seq 100000");
    let supervisor = scene.start(&spec);
    std::thread::sleep(std::time::Duration::from_millis(7));
    let hub = LogHub::new().unwrap();
    let mut reader = LogReader::follow(&spec.log_dir, &ReadRange::default(), &hub).unwrap();
    let mut numbers = Vec::new();
    let mut is_over = false;
    loop {
        let records = if is_over { reader.read_final(1 << 16) } else { reader.read(1 << 16) }.unwrap();
        let is_drained = is_over && records.is_empty();
        let text = |data: Vec<u8>| String::from_utf8(data).unwrap();
        numbers
            .extend(records.into_iter().map(|record| text(record.data).trim_end().parse::<u32>().unwrap()));
        if is_drained {
            break;
        }
        is_over = is_over || supervisor.poll_exit().unwrap() != control::ExitState::Running;
        if !is_over {
            readable(hub.fileno(), Instant::now() + std::time::Duration::from_millis(20));
            hub.take().unwrap();
        }
    }
    assert!(numbers.iter().copied().eq(1..=100_000));
    scene.finish(&spec, supervisor);
}

#[test]
fn s03_a_follower_over_rotation_gets_the_marker_at_the_end() {
    let scene = Scene::new();
    let mut spec = scene.script("seq 10000; echo marker");
    (spec.log_segment_bytes, spec.log_segment_count) = (1024, 1);
    let supervisor = scene.start(&spec);
    let ended = scene.finish(&spec, supervisor);
    assert!(ended.text().ends_with("10000\nmarker\n"));
    let bytes: u64 =
        std::fs::read_dir(&spec.log_dir).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= 1024, "{bytes}");
}

#[test]
fn a_held_log_waits_for_its_reader_and_loses_nothing() {
    let scene = Scene::new();
    // Nothing is written before the hold stands: what was may be gone.
    let mut spec = scene.script("read line; seq 5000; echo marker");
    (spec.log_segment_bytes, spec.log_segment_count, spec.open_stdin) = (1024, 1, true);
    let supervisor = scene.start(&spec);
    let hub = LogHub::new().unwrap();
    let mut reader = LogReader::follow(&spec.log_dir, &ReadRange::default(), &hub).unwrap();
    supervisor.hold_log(Some(reader.segment())).unwrap();
    let stdin = supervisor.stdin_fd().unwrap().expect("stdin was asked for");
    rustix::io::write(&stdin, b"go\n").unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"marker\n") {
        let records = reader.read(700).unwrap();
        let is_empty = records.is_empty();
        bytes.extend(records.into_iter().flat_map(|record| record.data));
        supervisor.hold_log(Some(reader.segment())).unwrap();
        // Bounded without progress, not in all: the files of 225 segments may take long on a busy disk.
        if is_empty && !reader.has_news() {
            assert!(readable(hub.fileno(), Instant::now() + TIMEOUT), "the follower hung");
            hub.take().unwrap();
        }
    }
    let expected: String =
        (1..=5000).map(|number| format!("{number}\n")).chain(["marker\n".to_owned()]).collect();
    assert!(bytes == expected.as_bytes(), "a held log has no gap");
    scene.finish(&spec, supervisor);
}

#[test]
fn a_hold_stops_the_process_and_its_end_or_a_closed_daemon_lets_it_go_on() {
    let scene = Scene::new();
    let mut spec = scene.script("seq 200000");
    (spec.log_segment_bytes, spec.log_segment_count) = (4096, 1);
    let supervisor = scene.start(&spec);
    supervisor.hold_log(Some(1)).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    if supervisor.poll_exit().unwrap() == control::ExitState::Running {
        drop(supervisor);
        let again = scene.host.adopt(&spec.run_dir).unwrap();
        if let Some(again) = again {
            wait_exit(&again);
        }
    }
    support::wait_until("the record", || control::read_exit_record(&spec.run_dir).unwrap().is_some());
    assert!(output(&spec.log_dir, Stream::Stdout).ends_with(b"200000\n"));
    scene.remove_groups(&spec);
}

#[test]
fn a_second_run_appends_to_the_same_log() {
    let scene = Scene::new();
    let spec = scene.script("echo once more");
    for _ in 0..2 {
        let supervisor = scene.start(&spec);
        scene.finish(&spec, supervisor);
    }
    assert_eq!(output(&spec.log_dir, Stream::Stdout), b"once more\nonce more\n");
}
