//! The stream cases as seen by a reader of the log.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use logs::reader::MAX_RECORD_BYTES;
use logs::{Hold, LogHub, LogLimits, LogReader, LogRecord, LogWriter, LogsError, ReadRange, Stream};
use rustix::event::{poll, PollFd, PollFlags, Timespec};

const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

fn writer(dir: &Path) -> LogWriter {
    LogWriter::open(dir, LogLimits::new(SEGMENT_BYTES, 5)).unwrap()
}

fn reader(dir: &Path, range: ReadRange) -> LogReader {
    LogReader::open(dir, &range).unwrap()
}

fn bytes(records: &[LogRecord]) -> Vec<u8> {
    records.iter().flat_map(|record| record.data.clone()).collect()
}

fn wait(hub: &LogHub, millis: i64) -> bool {
    let timeout = Timespec { tv_sec: 0, tv_nsec: millis * 1_000_000 };
    let fd = hub.fileno();
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap() > 0
        && !hub.take().unwrap().is_empty()
}

#[test]
fn s01_the_last_piece_is_delivered_and_no_newline_is_invented() {
    let temp = tempfile::tempdir().unwrap();
    let mut log = writer(temp.path());
    let mut reader = reader(temp.path(), ReadRange::default());
    log.write(Stream::Stdout, b"hello\nworld", 1, Hold::None);
    assert_eq!(bytes(&reader.read(1 << 20).unwrap()), b"hello\n");
    assert_eq!(bytes(&reader.read_final(1 << 20).unwrap()), b"world");
    assert!(reader.read_final(1 << 20).unwrap().is_empty());
}

#[test]
fn s02_a_follower_that_joins_at_any_time_misses_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut log = LogWriter::open(temp.path(), LogLimits::new(100_000, 1000)).unwrap();
        let done = &is_done;
        scope.spawn(move || {
            for number in 1..=100_000 {
                log.write(Stream::Stdout, format!("{number}\n").as_bytes(), number, Hold::None);
            }
            done.store(true, Ordering::Release);
        });
        std::thread::sleep(Duration::from_millis(20));
        let hub = LogHub::new().unwrap();
        let mut reader = LogReader::follow(temp.path(), &ReadRange::default(), &hub).unwrap();
        let mut expected = 1u32;
        while expected <= 100_000 {
            let is_last = is_done.load(Ordering::Acquire);
            let records = reader.read(1 << 16).unwrap();
            for record in &records {
                assert_eq!(record.data, format!("{expected}\n").as_bytes());
                expected += 1;
            }
            assert!(!is_last || !records.is_empty(), "ended at {expected}");
            if records.is_empty() {
                wait(&hub, 500);
            }
        }
    });
}

#[test]
fn s05_a_line_of_100_kib_is_one_record_for_a_tail_too() {
    let temp = tempfile::tempdir().unwrap();
    for segment_bytes in [SEGMENT_BYTES, 1024] {
        let mut log = LogWriter::open(temp.path(), LogLimits::new(segment_bytes, 1000)).unwrap();
        let mut line = vec![b'x'; 102_400];
        line.push(b'\n');
        for chunk in line.chunks(4096) {
            log.write(Stream::Stdout, chunk, 1, Hold::None);
        }
        let range = ReadRange { tail_lines: Some(1), ..Default::default() };
        let records = reader(temp.path(), range).read(1 << 20).unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].data, line);
    }
}

#[test]
fn s06_bytes_are_exact() {
    let temp = tempfile::tempdir().unwrap();
    let data = [0xed, 0xab, 0xee, 0xdb, 0x03, 0x00];
    writer(temp.path()).write(Stream::Stdout, &data, 1, Hold::None);
    assert_eq!(bytes(&reader(temp.path(), ReadRange::default()).read_final(100).unwrap()), data);
}

#[test]
fn a_line_without_end_is_delivered_in_pieces_that_can_be_resumed() {
    let temp = tempfile::tempdir().unwrap();
    let mut log = writer(temp.path());
    let chunk = vec![b'z'; 64 * 1024];
    for _ in 0..40 {
        log.write(Stream::Stdout, &chunk, 1, Hold::None);
    }
    let mut first = reader(temp.path(), ReadRange::default());
    let records = first.read(10).unwrap();
    assert_eq!(records.len(), 1);
    assert!(records[0].data.len() >= MAX_RECORD_BYTES && records[0].data.len() < 2 * MAX_RECORD_BYTES);
    let range = ReadRange { cursor: Some(records[0].cursor.to_string()), ..Default::default() };
    let rest = reader(temp.path(), range).read_final(usize::MAX).unwrap();
    assert_eq!(records[0].data.len() + bytes(&rest).len(), 40 * chunk.len());
}

#[test]
fn a_tail_of_none_gives_only_what_comes_later() {
    let temp = tempfile::tempdir().unwrap();
    let mut log = writer(temp.path());
    log.write(Stream::Stdout, b"old\n", 1, Hold::None);
    let mut reader = reader(temp.path(), ReadRange { tail_lines: Some(0), ..Default::default() });
    assert!(reader.read_final(100).unwrap().is_empty());
    log.write(Stream::Stdout, b"new\n", 2, Hold::None);
    assert_eq!(bytes(&reader.read(100).unwrap()), b"new\n");
}

#[test]
fn the_hub_tells_of_growth_and_of_a_first_segment() {
    let temp = tempfile::tempdir().unwrap();
    let hub = LogHub::new().unwrap();
    let mut reader = LogReader::follow(temp.path(), &ReadRange::default(), &hub).unwrap();
    assert!(!wait(&hub, 0) && !reader.has_news());
    let mut log = writer(temp.path());
    assert!(wait(&hub, 0) && reader.has_news());
    assert!(reader.read(100).unwrap().is_empty());
    assert!(!wait(&hub, 0) && !reader.has_news(), "reading takes the news");
    log.write(Stream::Stderr, b"x\n", 1, Hold::None);
    assert!(wait(&hub, 0) && reader.has_news());
    assert_eq!(reader.read(100).unwrap()[0].stream, Stream::Stderr);
}

#[test]
fn a_cursor_that_names_no_place_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    writer(temp.path()).write(Stream::Stdout, b"one\ntwo\n", 1, Hold::None);
    for text in ["1:3", "1:9999", "2:0", "junk", "1:44,o1:7"] {
        let range = ReadRange { cursor: Some(text.to_owned()), ..Default::default() };
        let error = LogReader::open(temp.path(), &range).unwrap_err();
        assert_eq!(error, LogsError::CursorInvalid { cursor: text.to_owned() });
    }
    let range = ReadRange { cursor: Some("1:44".to_owned()), ..Default::default() };
    assert_eq!(bytes(&reader(temp.path(), range).read(100).unwrap()), b"two\n");
}

#[test]
fn a_cursor_into_a_segment_that_was_rotated_away_goes_on_with_the_oldest() {
    let temp = tempfile::tempdir().unwrap();
    let mut log = LogWriter::open(temp.path(), LogLimits::new(1024, 1)).unwrap();
    log.write(Stream::Stdout, b"first\n", 1, Hold::None);
    let cursor = reader(temp.path(), ReadRange::default()).read(1).unwrap()[0].cursor.to_string();
    for number in 0..1000 {
        log.write(Stream::Stdout, format!("{number}\n").as_bytes(), number, Hold::None);
    }
    let range = ReadRange { cursor: Some(cursor), ..Default::default() };
    let records = reader(temp.path(), range).read(1 << 20).unwrap();
    assert_eq!(records.last().unwrap().data, b"999\n");
}

#[test]
fn a_torn_or_foreign_line_is_passed_over_and_counted() {
    let temp = tempfile::tempdir().unwrap();
    let mut log = writer(temp.path());
    log.write(Stream::Stdout, b"one\n", 1, Hold::None);
    let path = temp.path().join("00000001.log");
    let mut content = std::fs::read(&path).unwrap();
    content.extend_from_slice(b"garbage\n");
    content.extend(vec![b'g'; 200_000]);
    content.push(b'\n');
    std::fs::write(&path, &content).unwrap();
    log.write(Stream::Stdout, b"two\n", 1, Hold::None);
    let mut all = reader(temp.path(), ReadRange::default());
    assert_eq!(bytes(&all.read(1000).unwrap()), b"one\ntwo\n");
    assert_eq!(all.skipped_bytes(), 8 + 200_001);
    let range = ReadRange { tail_lines: Some(2), ..Default::default() };
    assert_eq!(bytes(&reader(temp.path(), range).read(1000).unwrap()), b"one\ntwo\n");
}
