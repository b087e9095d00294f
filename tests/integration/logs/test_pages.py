"""Pages of a log as the core serializes them, read with the generated messages beside the records themselves."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluyt.v1 import logs_pb2
from fluyt.v1.types import output_pb2
from fluytd._core import logs

MAX_MESSAGE_BYTES = 1024 * 1024
#: A line is one record up to here. Source: rust_core/logs/src/reader.rs, MAX_RECORD_BYTES.
MAX_RECORD_BYTES = 1024 * 1024
MAX_PIECE_BYTES = 512 * 1024
STREAMS = {"stdout": output_pb2.OUTPUT_STREAM_STDOUT, "stderr": output_pb2.OUTPUT_STREAM_STDERR}


def write_log(folder: Path, lines: list[tuple[str, bytes]]) -> None:
    """One segment in CRI's format; long lines in pieces."""
    folder.mkdir(exist_ok=True)
    with (folder / "00000001.log").open("wb") as log:
        for number, (stream, line) in enumerate(lines):
            head = f"2026-11-25T04:23:43.{number:09}Z {stream} "
            pieces = [line[at : at + 32 * 1024] for at in range(0, len(line), 32 * 1024)] or [b""]
            for piece in pieces[:-1]:
                log.write(head.encode() + b"P " + piece + b"\n")
            log.write(head.encode() + b"F " + pieces[-1] + b"\n")


def pages(folder: Path, *, stdout: bool = True, stderr: bool = True) -> Iterator[tuple[list[bytes], str]]:
    """(messages, cursor) until the end."""
    reader = logs.LogReader(str(folder))
    while (page := reader.read_page(256 * 1024, True, stdout, stderr)).cursor is not None:
        yield page.messages, page.cursor
    assert page.messages == []
    reader.close()


def records_of(messages: list[bytes]) -> list[logs_pb2.LogRecord]:
    """Of each message a batch and nothing else, within the bound."""
    found: list[logs_pb2.LogRecord] = []
    for data in messages:
        assert len(data) < MAX_MESSAGE_BYTES
        message = logs_pb2.ReadLogsResponse.FromString(data)
        assert message.WhichOneof("event") == "batch"
        assert message.batch.records
        # What is written is exactly what protobuf itself writes.
        assert message.SerializeToString(deterministic=True) == data
        found.extend(message.batch.records)
    return found


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["stdout", "stderr"]),
            st.binary(max_size=300).map(lambda data: data.replace(b"\n", b"\r")),
        ),
        max_size=40,
    )
)
def test_messages_say_what_the_records_say(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    write_log(folder, lines)
    plain = logs.LogReader(str(folder)).read_final(1 << 30)
    told = [record for messages, _ in pages(folder) for record in records_of(messages)]
    assert [(one.stream, one.data, one.time.ToNanoseconds(), one.cursor) for one in told] == [
        (STREAMS[one.stream], one.data, one.time_unix_nanos, one.cursor) for one in plain
    ]
    assert [(STREAMS[stream], data + b"\n") for stream, data in lines] == [(one.stream, one.data) for one in told]


def test_a_stream_that_is_not_wanted_is_left_out_and_the_cursor_is_behind_it(tmp_path: Path) -> None:
    write_log(tmp_path / "log", [("stdout", b"a"), ("stderr", b"b"), ("stdout", b"c")])
    [(messages, cursor)] = pages(tmp_path / "log", stdout=False)
    assert [one.data for one in records_of(messages)] == [b"b\n"]
    reader = logs.LogReader(str(tmp_path / "log"), cursor=cursor)
    assert reader.read_final(1024) == []
    write_log(tmp_path / "other", [("stdout", b"a")])
    [(messages, cursor)] = pages(tmp_path / "other", stdout=False)
    assert (messages, bool(cursor)) == ([], True)


@pytest.mark.parametrize("length", [MAX_PIECE_BYTES - 1, MAX_PIECE_BYTES, MAX_RECORD_BYTES - 1, 3 * MAX_RECORD_BYTES])
def test_a_long_line_is_whole_in_messages_within_their_bound(tmp_path: Path, length: int) -> None:
    line = bytes(range(256)).replace(b"\n", b"\r") * (length // 256) + b"x" * (length % 256)
    write_log(tmp_path / "log", [("stdout", b"first"), ("stdout", line), ("stdout", b"last")])
    records = [one for messages, _ in pages(tmp_path / "log") for one in records_of(messages)]
    assert b"".join(one.data for one in records) == b"first\n" + line + b"\nlast\n"
    assert max(len(one.data) for one in records) <= MAX_PIECE_BYTES
    # Only where a line or a record ends there is a place to go on from.
    assert all(one.cursor for one in records if one.data.endswith(b"\n"))


def test_a_reader_that_is_closed_says_so(tmp_path: Path) -> None:
    write_log(tmp_path / "log", [])
    reader = logs.LogReader(str(tmp_path / "log"))
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read_page(1024, True, True, True)
