"""Where output goes: files, the journal beside them (a socket of the test's own), or nowhere."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt.v1 import logs_pb2
from fluyt.v1.types import container_spec_pb2
from tests.e2e.containers.steps import (
    IMAGE,
    WRONG_STATE,
    create,
    delete,
    get,
    read_logs,
    refused,
    start,
    started,
    touch,
    wait,
)
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.sizes import bytes_below
from tests.support.wait import until_now

JOURNALD = container_spec_pb2.LogSpec(driver=container_spec_pb2.LogSpec.DRIVER_JOURNALD)
NONE = container_spec_pb2.LogSpec(driver=container_spec_pb2.LogSpec.DRIVER_NONE)
#: Room for an entry that the kernel takes as a datagram at all.
MAX_DATAGRAM_BYTES = 1024 * 1024


class Journal:
    """What the journal's socket gets, by its native protocol."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(20)
        #: Entries that came as a file because no datagram held them.
        self.file_count = 0

    def take(self) -> dict[str, bytes]:
        """The next entry."""
        data, fds, _, _ = socket.recv_fds(self._socket, MAX_DATAGRAM_BYTES, 1)
        if fds:
            self.file_count += 1
            with os.fdopen(fds[0], "rb") as file:
                file.seek(0)
                data = file.read()
        fields: dict[str, bytes] = {}
        while data:
            name, _, rest = data.partition(b"\n")
            size = int.from_bytes(rest[:8], "little")
            assert rest[8 + size : 9 + size] == b"\n"
            fields[name.decode()], data = rest[8 : 8 + size], rest[9 + size :]
        return fields

    def set_send_bound(self, size: int) -> None:
        """Bytes that the socket holds; the senders' own bound is the host's."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def close(self) -> None:
        """Nobody listens any more."""
        self._socket.close()
        self.path.unlink()


@pytest.fixture(scope="module")
def journal_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Path]]:
    """An engine whose journal is a socket that tests make."""
    root = tmp_path_factory.mktemp("jrnl")
    path = root / "journal"
    with Engine(root, options=("--journal-socket-path", str(path))) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield running, path


@pytest.fixture
def journal(journal_engine: tuple[Engine, Path]) -> Iterator[Journal]:
    """A journal that listens."""
    listening = Journal(journal_engine[1])
    yield listening
    listening.close()


def test_each_line_is_an_entry_of_the_journal_and_stands_in_the_files(
    journal_engine: tuple[Engine, Path], journal: Journal
) -> None:
    engine, _ = journal_engine
    script = r"printf 'one\n\355\253\356\333\003\000\n'; echo bad >&2; printf 'no newline'"
    made = create(engine, "sh", "-c", script, log=JOURNALD, name="told")
    start(engine, made.id)
    wait(engine, made.id)
    entries = [journal.take() for _ in range(4)]
    assert {entry["MESSAGE"] for entry in entries} == {b"one", b"\xed\xab\xee\xdb\x03\x00", b"bad", b"no newline"}
    priorities = {entry["MESSAGE"]: entry["PRIORITY"] for entry in entries}
    assert (priorities[b"one"], priorities[b"bad"]) == (b"6", b"3")
    names = {"CONTAINER_ID": made.id[:12], "CONTAINER_ID_FULL": made.id, "CONTAINER_NAME": "told", "IMAGE_NAME": IMAGE}
    for entry in entries:
        assert {name: entry[name].decode() for name in names} == names
    assert b"one\n" in engine.logs(made.id)
    assert get(engine, made.id).spec.log.driver == JOURNALD.driver
    delete(engine, made.id)


def test_a_line_of_any_length_arrives_whole_in_pieces(journal_engine: tuple[Engine, Path], journal: Journal) -> None:
    engine, _ = journal_engine
    size = 300_000
    made = started(engine, "sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x; echo; echo end", log=JOURNALD)
    pieces = []
    while (entry := journal.take())["MESSAGE"] != b"end":
        pieces.append(entry)
    assert b"".join(piece["MESSAGE"] for piece in pieces) == b"x" * size
    assert ["CONTAINER_PARTIAL_MESSAGE" in piece for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    wait(engine, made.id)
    delete(engine, made.id)


def test_labels_and_variables_that_are_named_stand_with_each_line_and_change_no_field_of_ours(
    journal_engine: tuple[Engine, Path], journal: Journal
) -> None:
    engine, _ = journal_engine
    log = container_spec_pb2.LogSpec(
        driver=JOURNALD.driver, detail_labels=["com.example.role", "container_name", "absent"], detail_env=["MODE"]
    )
    labels = {"com.example.role": "a b", "container_name": "another", "other": "x"}
    made = create(engine, "echo", "line", log=log, labels=labels, env=["MODE=fast", "SECRET=x"], name="detailed")
    start(engine, made.id)
    entry = journal.take()
    wait(engine, made.id)
    assert (entry["COM_EXAMPLE_ROLE"], entry["MODE"], entry["CONTAINER_NAME"]) == (b"a b", b"fast", b"detailed")
    assert not {"OTHER", "SECRET", "ABSENT"} & entry.keys()
    delete(engine, made.id)


def test_a_journal_that_goes_away_costs_the_container_nothing(journal_engine: tuple[Engine, Path]) -> None:
    engine, path = journal_engine
    first = Journal(path)
    running = started(
        engine, "sh", "-c", "echo 1; while [ ! -e /go ]; do sleep .05; done; echo 2; echo 3", log=JOURNALD
    )
    assert first.take()["MESSAGE"] == b"1"
    first.close()
    touch(engine, running.id, "/go")
    assert wait(engine, running.id).exit_code == 0
    assert engine.logs(running.id) == b"1\n2\n3\n"
    delete(engine, running.id)


def test_a_host_without_a_journal_is_told_at_the_start(journal_engine: tuple[Engine, Path]) -> None:
    engine, path = journal_engine
    made = create(engine, "true", log=JOURNALD)
    _, reason, metadata = refused(lambda: start(engine, made.id))
    assert (reason, metadata["field"]) == ("FIELD_INVALID", "spec.log.driver")
    assert str(path) in metadata["rule"]
    delete(engine, made.id)


def test_the_engine_says_what_happens_to_the_output_of_who_names_no_driver(tmp_path: Path) -> None:
    with Engine(tmp_path, options=("--log-driver", "none")) as engine:
        engine.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        kept = container_spec_pb2.LogSpec(driver=container_spec_pb2.LogSpec.DRIVER_FILE)
        bounded = container_spec_pb2.LogSpec(segment_count=3)
        for log, driver in ((None, NONE.driver), (bounded, NONE.driver), (kept, kept.driver)):
            made = create(engine, "echo", "here", log=log)
            assert get(engine, made.id).spec.log.driver == driver, log
            start(engine, made.id)
            wait(engine, made.id)
            if driver == kept.driver:
                assert engine.logs(made.id) == b"here\n"
            else:
                assert refused(lambda made=made: read_logs(engine, made.id))[1] == "LOG_NOT_KEPT"  # type: ignore[misc]
            delete(engine, made.id)


def test_a_container_without_a_log_has_none_to_read_and_runs_as_any(engine: Engine) -> None:
    running = started(engine, "sh", "-c", "seq 200000; while [ ! -e /go ]; do sleep .05; done", log=NONE)
    told = refused(lambda: read_logs(engine, running.id))
    assert told == (WRONG_STATE, "LOG_NOT_KEPT", {"id": running.id, "driver": "none"})
    log_dir = engine.root / "data" / "containers" / running.id / "log"
    until_now(lambda: bytes_below(log_dir) > 64 * 1024, "much was written")
    assert bytes_below(log_dir) <= 128 * 1024
    assert engine.run(IMAGE, "echo", "heard", log=NONE)[0] == b"heard\n"


def test_a_driver_that_is_not_known_is_refused(engine: Engine) -> None:
    unknown = container_spec_pb2.LogSpec(driver=99)  # type: ignore[arg-type]
    _, reason, metadata = refused(lambda: create(engine, "true", log=unknown))
    assert (reason, metadata["field"]) == ("FIELD_INVALID", "spec.log.driver")


def test_the_time_of_a_line_is_found_without_reading_what_comes_before(engine: Engine) -> None:
    made = started(engine, "sh", "-c", "seq 300000; sleep .3; echo late", log=container_spec_pb2.LogSpec())
    wait(engine, made.id)
    records, _ = read_logs(engine, made.id)
    late = records[-1]
    before = _read_bytes(engine)
    request = logs_pb2.ReadLogsRequest(container=made.id, since_time=late.time)
    found = [event for event in engine.logs_api.ReadLogs(request, timeout=20) if event.WhichOneof("event") == "batch"]
    assert [record.data for batch in found for record in batch.batch.records] == [b"late\n"]
    size = sum(len(record.data) + 40 for record in records)
    assert _read_bytes(engine) - before < size / 3


def _read_bytes(engine: Engine) -> int:
    """Bytes that the daemon has read by read(2) and its like. Source: proc_pid_io(5), rchar."""
    lines = Path(f"/proc/{engine.process.pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar"))
