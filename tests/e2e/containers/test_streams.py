"""What a container wrote: whole, in order, byte for byte, while it runs and afterwards."""

import concurrent.futures
import time

import grpc
import pytest
from google.protobuf import timestamp_pb2

from fluyt.v1 import logs_pb2
from fluyt.v1.types import container_spec_pb2, output_pb2
from tests.e2e.containers.steps import (
    IMAGE,
    INVALID,
    NOT_FOUND,
    create,
    delete,
    read_logs,
    refusal,
    refused,
    start,
    started,
    text,
    touch,
    wait,
)
from tests.support.engine import Engine
from tests.support.wait import until_now

BINARY = b"\xed\xab\xee\xdb\x03\x00"
End = logs_pb2.LogEnd


def numbers(first: int, last: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(first, last + 1))


@pytest.mark.parametrize("follow", [True, False])
def test_s01_the_last_piece_without_a_newline_is_kept_and_the_stream_ends(engine: Engine, follow: bool) -> None:
    container = started(engine, "sh", "-c", "echo hello; printf world")
    if not follow:
        wait(engine, container.id)
    records, end = read_logs(engine, container.id, follow=follow)
    assert text(records) == b"hello\nworld"
    assert end.reason == (End.REASON_EXITED if follow else End.REASON_REACHED_END)


@pytest.mark.parametrize("script", ["true", "printf ''", "printf '\\n'", "printf '\\n\\n x'", "printf 'a\\r\\n'"])
def test_s01_empty_lines_and_none_at_all_are_kept_as_they_are(engine: Engine, script: str) -> None:
    container = started(engine, "sh", "-c", script)
    wait(engine, container.id)
    expected = {"true": b"", "printf ''": b"", "printf '\\n'": b"\n", "printf '\\n\\n x'": b"\n\n x"}
    assert text(read_logs(engine, container.id)[0]) == expected.get(script, b"a\r\n")


def test_s02_a_follower_that_comes_at_any_time_sees_every_line_once_and_in_order(engine: Engine) -> None:
    container = create(engine, "seq", "100000")
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        start(engine, container.id)
        followers = [pool.submit(read_logs, engine, container.id, follow=True) for _ in range(3)]
        for follower in followers:
            assert text(follower.result()[0]) == numbers(1, 100_000)
    assert text(read_logs(engine, container.id)[0]) == numbers(1, 100_000)


def test_s03_a_follower_across_rotation_sees_the_marker_at_the_end_and_then_the_end(engine: Engine) -> None:
    log = container_spec_pb2.LogSpec(segment_size_bytes=1024, segment_count=1)
    container = create(engine, "sh", "-c", "seq 10000; echo marker", log=log)
    start(engine, container.id)
    request = logs_pb2.ReadLogsRequest(container=container.id, follow=True)
    events = list(engine.logs_api.ReadLogs(request, timeout=30))
    assert events[-1].end.reason == End.REASON_EXITED
    records = [record for event in events for record in event.batch.records]
    assert records[-1].data == b"marker\n"
    shown = [int(record.data) for record in records[:-1]]
    assert shown == sorted(set(shown))
    if shown != list(range(1, 10_001)):
        assert [event for event in events if event.WhichOneof("event") == "gap"]


@pytest.mark.parametrize(("tail", "first"), [(5000, 15_001), (1, 20_000), (20_000, 1), (30_000, 1)])
def test_s04_a_tail_is_exactly_the_last_lines(engine: Engine, tail: int, first: int) -> None:
    container = started(engine, "seq", "20000")
    wait(engine, container.id)
    assert text(read_logs(engine, container.id, tail_lines=tail)[0]) == numbers(first, 20_000)


def test_s04_a_tail_of_none_gives_only_what_is_new(engine: Engine) -> None:
    script = "n=0; while [ ! -e /go ]; do n=$((n+1)); echo $n; sleep .02; done"
    container = started(engine, "sh", "-c", script)
    until_now(lambda: engine.logs(container.id).count(b"\n") > 5, "some lines are old")
    assert read_logs(engine, container.id, tail_lines=0)[0] == []
    old = engine.logs(container.id).count(b"\n")
    request = logs_pb2.ReadLogsRequest(container=container.id, follow=True, tail_lines=0)
    stream = engine.logs_api.ReadLogs(request, timeout=30)
    shown = list(next(stream).batch.records)
    touch(engine, container.id, "/go")
    shown += [record for event in stream for record in event.batch.records]
    lines = [int(record.data) for record in shown]
    assert lines[0] > old
    assert lines == list(range(lines[0], engine.logs(container.id).count(b"\n") + 1))


def test_s04_since_is_inclusive_and_until_exclusive(engine: Engine) -> None:
    container = started(engine, "sh", "-c", "for n in 1 2 3 4; do echo $n; sleep .03; done")
    wait(engine, container.id)
    records, _ = read_logs(engine, container.id)
    assert text(records) == b"1\n2\n3\n4\n"
    second, fourth = records[1].time, records[3].time
    assert text(read_logs(engine, container.id, since_time=second)[0]) == b"2\n3\n4\n"
    assert text(read_logs(engine, container.id, until_time=fourth)[0]) == b"1\n2\n3\n"
    assert text(read_logs(engine, container.id, since_time=second, until_time=fourth)[0]) == b"2\n3\n"
    assert text(read_logs(engine, container.id, since_time=fourth, until_time=second)[0]) == b""


def test_s04_a_cursor_goes_on_right_after_its_record(engine: Engine) -> None:
    container = started(engine, "seq", "1000")
    wait(engine, container.id)
    records, end = read_logs(engine, container.id)
    for at in (0, 499, 998):
        assert text(read_logs(engine, container.id, cursor=records[at].cursor)[0]) == numbers(at + 2, 1000)
    assert read_logs(engine, container.id, cursor=end.cursor)[0] == []


@pytest.mark.parametrize("cursor", ["x", "1:2", "-1", "9" * 60, "a" * 5000, "\n"])
def test_s04_what_is_no_cursor_is_refused(engine: Engine, cursor: str) -> None:
    container = started(engine, "echo", "a")
    wait(engine, container.id)
    assert refused(lambda: read_logs(engine, container.id, cursor=cursor))[:2] == (INVALID, "CURSOR_INVALID")


def test_s04_a_negative_tail_and_a_log_of_nobody_are_refused(engine: Engine) -> None:
    container = create(engine, "true")
    assert refused(lambda: read_logs(engine, container.id, tail_lines=-1))[:2] == (INVALID, "FIELD_INVALID")
    assert refused(lambda: read_logs(engine, "nosuch"))[:2] == (NOT_FOUND, "CONTAINER_NOT_FOUND")


def test_s04_a_tail_is_the_last_lines_across_segments_and_of_any_length(engine: Engine) -> None:
    log = container_spec_pb2.LogSpec(segment_size_bytes=4096, segment_count=200)
    container = create(engine, "seq", "20000", log=log)
    start(engine, container.id)
    wait(engine, container.id)
    assert text(read_logs(engine, container.id, tail_lines=5000)[0]) == numbers(15_001, 20_000)
    script = "for n in 1 2 3 4; do head -c 20000 /dev/zero | tr '\\0' $n; echo; done; printf 5"
    container = started(engine, "sh", "-c", script)
    wait(engine, container.id)
    lines = [b"%d" % n * 20_000 + b"\n" for n in range(1, 5)]
    for tail, wanted in ((1, b"5"), (2, lines[3] + b"5"), (3, lines[2] + lines[3] + b"5")):
        assert text(read_logs(engine, container.id, tail_lines=tail)[0]) == wanted


def test_s04_a_follower_ends_when_its_time_has_come(engine: Engine) -> None:
    container = started(engine, "sh", "-c", "echo a; sleep 100")
    until_now(lambda: engine.logs(container.id) == b"a\n", "the line is written")
    until = timestamp_pb2.Timestamp()
    until.FromNanoseconds(time.time_ns() + 100_000_000)
    records, end = read_logs(engine, container.id, follow=True, until_time=until)
    assert (text(records), end.reason) == (b"a\n", End.REASON_UNTIL)


def test_s01_a_follower_of_what_is_deleted_is_told_so_after_all_output(engine: Engine) -> None:
    container = started(engine, "sh", "-c", "echo a; sleep 100")
    until_now(lambda: engine.logs(container.id) == b"a\n", "the line is written")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        following = pool.submit(read_logs, engine, container.id, follow=True)
        delete(engine, container.id, force=True)
        try:
            records, end = following.result()
        except grpc.RpcError as error:  # it came after the deletion
            told = refusal(error)[:2]
            assert told == (NOT_FOUND, "CONTAINER_NOT_FOUND")
        else:
            assert text(records) == b"a\n"
            assert end.reason in {End.REASON_DELETED, End.REASON_EXITED}


def test_s02_the_caller_of_a_run_gets_every_line_once_and_in_order(engine: Engine) -> None:
    out, err, ended = engine.run(IMAGE, "seq", "100000")
    assert (out, err, ended.exit_code) == (numbers(1, 100_000), b"", 0)


@pytest.mark.parametrize("length", [16_383, 16_384, 16_385, 102_400])
def test_s05_a_long_line_is_one_line(engine: Engine, length: int) -> None:
    container = started(engine, "sh", "-c", f"echo before; head -c {length} /dev/zero | tr '\\0' x; echo")
    wait(engine, container.id)
    line = b"x" * length + b"\n"
    assert text(read_logs(engine, container.id)[0]) == b"before\n" + line
    assert text(read_logs(engine, container.id, tail_lines=1)[0]) == line
    assert engine.run(IMAGE, "sh", "-c", f"head -c {length} /dev/zero | tr '\\0' x; echo")[0] == line


def test_s06_binary_bytes_are_exact_live_and_in_the_log(engine: Engine) -> None:
    script = "printf '\\355\\253\\356\\333\\003\\000'"
    assert engine.run(IMAGE, "sh", "-c", script)[0] == BINARY
    container = started(engine, "sh", "-c", script)
    wait(engine, container.id)
    assert text(read_logs(engine, container.id)[0]) == BINARY
    every = 'i=0; while [ $i -lt 256 ]; do printf "\\\\$(printf %o $i)"; i=$((i+1)); done'
    container = started(engine, "sh", "-c", every)
    wait(engine, container.id)
    assert text(read_logs(engine, container.id)[0]) == bytes(range(256))


def test_the_two_streams_are_told_apart(engine: Engine) -> None:
    container = started(engine, "sh", "-c", "echo a; echo b >&2; echo c")
    wait(engine, container.id)
    stdout, stderr = output_pb2.OUTPUT_STREAM_STDOUT, output_pb2.OUTPUT_STREAM_STDERR
    assert text(read_logs(engine, container.id, streams=[stdout])[0]) == b"a\nc\n"
    assert text(read_logs(engine, container.id, streams=[stderr])[0]) == b"b\n"
