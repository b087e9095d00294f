//! Random chunks, rotations and readers against a model that keeps everything in memory.

use std::path::Path;

use logs::format::MAX_PIECE_BYTES;
use logs::{Hold, LogLimits, LogReader, LogRecord, LogWriter, ReadRange, Stream};
use proptest::prelude::*;

type Chunk = (bool, Vec<u8>);

fn stream(is_stderr: bool) -> Stream {
    if is_stderr {
        Stream::Stderr
    } else {
        Stream::Stdout
    }
}

/// Short lines, empty lines, pieces, and now and then one that needs several pieces.
fn chunk() -> impl Strategy<Value = Chunk> {
    let byte = prop_oneof![3 => Just(b'a'), 1 => Just(b'\n'), 1 => any::<u8>()];
    let short = proptest::collection::vec(byte, 1..60);
    let long = (1..3 * MAX_PIECE_BYTES).prop_map(|length| vec![b'x'; length]);
    (any::<bool>(), prop_oneof![60 => short, 1 => long])
}

fn chunks() -> impl Strategy<Value = Vec<Chunk>> {
    proptest::collection::vec(chunk(), 0..80)
}

fn read_all(dir: &Path, range: &ReadRange) -> Vec<LogRecord> {
    let mut reader = LogReader::open(dir, range).unwrap();
    let mut records = Vec::new();
    loop {
        let more = reader.read_final(100).unwrap();
        if more.is_empty() {
            return records;
        }
        records.extend(more);
    }
}

/// A line of the model: stream, bytes, time of its first chunk, place of its last.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    stream: Stream,
    data: Vec<u8>,
    time: i64,
    last: (usize, usize),
}

/// The lines of chunks written at times 1, 2, 3, …, ended ones in the order of their ends, then the others.
fn model(chunks: &[Chunk]) -> Vec<Line> {
    let mut ended = Vec::new();
    let mut open: [Option<Line>; 2] = [None, None];
    for (index, (is_stderr, bytes)) in chunks.iter().enumerate() {
        for (place, part) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let slot = &mut open[usize::from(*is_stderr)];
            let line = slot.get_or_insert_with(|| Line {
                stream: stream(*is_stderr),
                data: Vec::new(),
                time: index as i64 + 1,
                last: (0, 0),
            });
            line.data.extend_from_slice(part);
            line.last = (index, place);
            if part.ends_with(b"\n") {
                ended.extend(slot.take());
            }
        }
    }
    let mut rest: Vec<Line> = open.into_iter().flatten().collect();
    rest.sort_by_key(|line| line.last);
    ended.extend(rest);
    ended
}

fn write_all(dir: &Path, chunks: &[Chunk], segment_bytes: u64) {
    let mut writer = LogWriter::open(dir, LogLimits::new(segment_bytes, 1_000_000)).unwrap();
    for (index, (is_stderr, bytes)) in chunks.iter().enumerate() {
        assert_eq!(writer.write(stream(*is_stderr), bytes, index as i64 + 1, Hold::None), bytes.len());
    }
}

fn assert_same(records: &[LogRecord], lines: &[Line]) {
    let plain = |stream: Stream, data: &[u8], time: i64| (stream, data.to_vec(), time);
    let got: Vec<_> = records.iter().map(|r| plain(r.stream, &r.data, r.time_unix_nanos)).collect();
    let expected: Vec<_> = lines.iter().map(|l| plain(l.stream, &l.data, l.time)).collect();
    assert_eq!(got, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_was_written_is_read_line_by_line(chunks in chunks(), segment_bytes in 256u64..8192) {
        let temp = tempfile::tempdir().unwrap();
        write_all(temp.path(), &chunks, segment_bytes);
        assert_same(&read_all(temp.path(), &ReadRange::default()), &model(&chunks));
    }

    #[test]
    fn s04_a_tail_is_the_last_lines(chunks in chunks(), segment_bytes in 256u64..8192, count in 0usize..40) {
        let temp = tempfile::tempdir().unwrap();
        write_all(temp.path(), &chunks, segment_bytes);
        let all = model(&chunks);
        let mut places: Vec<_> = all.iter().map(|line| line.last).collect();
        places.sort_unstable();
        let kept = &places[places.len().saturating_sub(count)..];
        let expected: Vec<Line> = all.iter().filter(|line| kept.contains(&line.last)).cloned().collect();
        let range = ReadRange { tail_lines: Some(count as u64), ..Default::default() };
        assert_same(&read_all(temp.path(), &range), &expected);
    }

    #[test]
    fn s04_since_is_inclusive_and_until_exclusive(
        chunks in chunks(), segment_bytes in 4000u64..50_000, since in 0i64..90, until in 0i64..90,
    ) {
        let temp = tempfile::tempdir().unwrap();
        write_all(temp.path(), &chunks, segment_bytes);
        let mut expected = model(&chunks);
        expected.retain(|line| (since..until).contains(&line.time));
        let range = ReadRange { since_unix_nanos: Some(since), until_unix_nanos: Some(until), ..Default::default() };
        assert_same(&read_all(temp.path(), &range), &expected);
    }

    #[test]
    fn s04_a_tail_until_a_time_is_the_last_lines_before_it(
        chunks in chunks(), segment_bytes in 256u64..8192, count in 0usize..10, until in 0usize..90,
    ) {
        let temp = tempfile::tempdir().unwrap();
        write_all(temp.path(), &chunks, segment_bytes);
        // What stood there before that time says which lines; those that were open then are read to their ends.
        let before = model(&chunks[..until.saturating_sub(1).min(chunks.len())]);
        let mut places: Vec<_> = before.iter().map(|line| line.last).collect();
        places.sort_unstable();
        let kept = &places[places.len().saturating_sub(count)..];
        let numbered = |lines: &[Line]| -> Vec<((Stream, usize), Line)> {
            let mut counts = [0, 0];
            let number = |line: &Line| {
                let count: &mut usize = &mut counts[usize::from(line.stream == Stream::Stderr)];
                *count += 1;
                ((line.stream, *count), line.clone())
            };
            lines.iter().map(number).collect()
        };
        let mut wanted = numbered(&before);
        wanted.retain(|(_, line)| kept.contains(&line.last));
        let mut expected = numbered(&model(&chunks));
        expected.retain(|(place, _)| wanted.iter().any(|(one, _)| one == place));
        let expected: Vec<Line> = expected.into_iter().map(|(_, line)| line).collect();
        let range = ReadRange {
            tail_lines: Some(count as u64), until_unix_nanos: Some(until as i64), ..Default::default()
        };
        assert_same(&read_all(temp.path(), &range), &expected);
    }

    #[test]
    fn reading_goes_on_from_any_records_cursor(chunks in chunks(), segment_bytes in 256u64..8192, pick: prop::sample::Index) {
        let temp = tempfile::tempdir().unwrap();
        write_all(temp.path(), &chunks, segment_bytes);
        let all = model(&chunks);
        let records = read_all(temp.path(), &ReadRange::default());
        prop_assume!(!records.is_empty());
        let at = pick.index(records.len());
        let range = ReadRange { cursor: Some(records[at].cursor.to_string()), ..Default::default() };
        assert_same(&read_all(temp.path(), &range), &all[at + 1..]);
    }

    #[test]
    fn a_held_log_loses_nothing_while_it_rotates(
        chunks in chunks(), segment_bytes in 256u64..2048, segment_count in 1u64..4, budget in 1usize..4000,
    ) {
        let temp = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::open(temp.path(), LogLimits::new(segment_bytes, segment_count)).unwrap();
        let mut reader = LogReader::open(temp.path(), &ReadRange::default()).unwrap();
        let mut records: Vec<LogRecord> = Vec::new();
        for (index, (is_stderr, bytes)) in chunks.iter().enumerate() {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let taken = writer.write(stream(*is_stderr), rest, index as i64 + 1, Hold::Wait(reader.segment()));
                rest = &rest[taken..];
                let more = reader.read(budget).unwrap();
                prop_assert!(taken > 0 || !more.is_empty() || reader.segment() + 1 >= writer.segment());
                records.extend(more);
            }
        }
        while let Some(more) = Some(reader.read_final(budget).unwrap()).filter(|more| !more.is_empty()) {
            records.extend(more);
        }
        assert_same(&records, &model(&chunks));
    }

    #[test]
    fn s03_a_reader_of_a_bounded_log_gets_whole_lines_in_order_and_the_last(
        count in 1u32..3000, segment_count in 1u64..3, every in 1u32..200,
    ) {
        let temp = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::open(temp.path(), LogLimits::new(1024, segment_count)).unwrap();
        let mut reader = LogReader::open(temp.path(), &ReadRange::default()).unwrap();
        let mut numbers: Vec<u32> = Vec::new();
        let mut take = |records: Vec<LogRecord>| {
            for record in records {
                numbers.push(String::from_utf8(record.data).unwrap().trim_end().parse().unwrap());
            }
        };
        for number in 0..count {
            writer.write(Stream::Stdout, format!("{number}\n").as_bytes(), i64::from(number), Hold::None);
            if number % every == 0 {
                take(reader.read(1000).unwrap());
            }
        }
        while let Some(more) = Some(reader.read(1 << 20).unwrap()).filter(|more| !more.is_empty()) {
            take(more);
        }
        prop_assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert_eq!(numbers.last().copied(), Some(count - 1));
    }
}
