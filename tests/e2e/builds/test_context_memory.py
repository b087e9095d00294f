"""The Python client's memory of folders: what did not change is neither read nor offered, a change is never missed."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from fluyt import builds, context_memory, contexts
from fluyt.context_memory import Files, Memory, cache_directory
from fluyt.v1 import builds_pb2
from tests.e2e.builds.steps import build, context
from tests.e2e.cli.program import PROGRAM
from tests.support.engine import Engine

#: How long an inode must have been left alone.
QUIET_SECONDS = 3.1
COPY = "FROM busybox:1\nCOPY . /all\nRUN cat /all/f\n"


class Parts(grpc.StreamUnaryClientInterceptor):  # type: ignore[misc] # grpc has no types for it
    """Keeps the names of the parts that each upload sends."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def intercept_stream_unary(self, continuation: Any, details: Any, request_iterator: Any) -> Any:
        parts: list[str] = []
        self.calls.append(parts)

        def passed_on() -> Iterator[Any]:
            for request in request_iterator:
                parts.append(request.WhichOneof("part"))
                yield request

        return continuation(details, passed_on())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where memories are."""
    monkeypatch.setattr(context_memory, "cache_directory", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def walked(folder: Path, cache: Path, begin_seconds: int | None = None, *, keeps: bool = True) -> contexts.Walked:
    """A walk with what the walk before it has kept, and it is kept in turn."""
    memory, files = Memory(folder, cache), Files(begin_seconds)
    found = contexts.walk(folder, lambda path, is_directory: False, memory, files)
    if keeps:
        memory.keep(files, found.listing(), "0" * 32)
    return found


def test_a_folder_that_did_not_change_is_neither_read_nor_offered_again(
    engine: Engine, cache: Path, tmp_path: Path
) -> None:
    files = {f"d{number}/f": f"{number}" for number in range(40)} | {"f": "first\n", "empty": "", "link": "-> f"}
    folder = context(tmp_path / "folder", {**files, "large": bytes(2 * contexts.CHUNK_BYTES + 1)})
    time.sleep(QUIET_SECONDS)
    parts = Parts()
    channel = grpc.intercept_channel(engine.channel, parts)
    first = builds.upload_context(channel, folder)
    assert parts.calls[0] == ["open", "offer"]
    assert parts.calls[1][:2] == ["open", "chunk"]
    assert walked(folder, cache, keeps=False).read_count == 0
    again = builds.upload_context(channel, folder)
    assert (again, parts.calls[2:]) == (first, [["open"]])
    # Two writes of the same size, the time of change set back: only that of the inode tells.
    status = (folder / "f").stat()
    (folder / "f").write_text("other\n")
    os.utime(folder / "f", ns=(status.st_atime_ns, status.st_mtime_ns))
    changed = walked(folder, cache, keeps=False)
    assert changed.read_count == 1
    assert build(engine, folder, COPY).output == b"other\n"
    # Without a memory everything is read and offered.
    del parts.calls[:]
    builds.upload_context(channel, folder, remembers=False)
    assert parts.calls == [["open", "offer"]]


def test_a_file_that_changed_just_before_is_read_again(cache: Path, tmp_path: Path) -> None:
    folder = context(tmp_path / "folder", {"f": "f"})
    assert [walked(folder, cache).read_count for _ in range(2)] == [1, 1]
    assert [walked(folder, cache, 2**40).read_count for _ in range(2)] == [1, 0]


def test_a_context_that_the_engine_has_forgotten_is_offered_again(engine: Engine, cache: Path, tmp_path: Path) -> None:
    folder = context(tmp_path / "folder", {"f": "kept\n"})
    first = builds.upload_context(engine.channel, folder)
    (engine.root / "data" / "contexts" / "trees" / first).unlink()
    builds.prune_cache(engine.channel, all=True)
    second = builds.upload_context(engine.channel, folder)
    assert second != first
    source = builds_pb2.BuildSource(context_id=second)
    assert build(engine, source, COPY).output == b"kept\n"


def test_a_memory_that_is_damaged_or_of_another_folder_or_anothers_is_none(cache: Path, tmp_path: Path) -> None:
    folder, other = context(tmp_path / "folder", {"f": "f"}), context(tmp_path / "other", {"f": "f"})
    walked(folder, cache, 2**40)
    (place,) = cache.iterdir()
    whole = place.read_bytes()
    assert list(Memory(folder, cache).files) == [b"f"]
    damaged = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in (0, 20, len(whole) - 40, len(whole) - 1)]
    for data in (*damaged, b"", whole[:20], whole[:-1], whole + b"x"):
        place.write_bytes(data)
        assert Memory(folder, cache).files == {}, data[:20]
    walked(other, cache, 2**40)
    (theirs,) = set(cache.iterdir()) - {place}
    place.write_bytes(theirs.read_bytes())
    assert Memory(folder, cache).files == {}
    place.write_bytes(whole)
    os.chown(place, 1, 1)
    assert Memory(folder, cache).files == {}
    place.unlink()
    place.symlink_to(theirs)
    assert Memory(folder, cache).files == {}
    # That nothing can be kept does no harm.
    assert walked(folder, tmp_path / "folder" / "f" / "below").read_count == 1


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, Path("/x/fluyt/contexts")),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, Path("/h/.cache/fluyt/contexts")),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, None),
        ({}, None),
    ],
)
def test_memories_are_in_the_callers_cache(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], place: Path | None
) -> None:
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_directory() == place


def test_memories_beyond_the_bound_go(cache: Path, tmp_path: Path) -> None:
    for number in range(context_memory.MAX_FOLDERS + 3):
        walked(context(tmp_path / f"folder{number}", {"f": "f"}), cache, 2**40)
    assert len(list(cache.iterdir())) == context_memory.MAX_FOLDERS
    assert walked(tmp_path / f"folder{number}", cache, 2**40).read_count == 0
    assert walked(tmp_path / "folder0", cache, 2**40).read_count == 1


@pytest.mark.needs("command-line")
def test_the_command_line_and_the_client_know_what_the_other_has_read(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path / "folder", {"Dockerfile": "FROM busybox:1\nCOPY . /all\n", "f": "f", "d/g": "g"})
    time.sleep(QUIET_SECONDS)
    environment = {
        "PATH": os.environ["PATH"],
        "XDG_CACHE_HOME": str(tmp_path / "xdg"),
        "FLUYT_HOST": f"unix://{engine.root}/run/fluytd.sock",
    }
    subprocess.run([PROGRAM, "build", "-q", str(folder)], env=environment, check=True, capture_output=True)
    shared = tmp_path / "xdg" / "fluyt" / "contexts"
    (place,) = shared.iterdir()
    assert walked(folder, shared).read_count == 0
    # What the client has written the command line takes for its own, and keeps the client's context in it.
    before = Memory(folder, shared)
    assert before.contexts(walked(folder, shared).listing()) == ["0" * 32]
    subprocess.run([PROGRAM, "build", "-q", str(folder)], env=environment, check=True, capture_output=True)
    after = Memory(folder, shared)
    assert after.files == before.files
    assert after.contexts(walked(folder, shared).listing()) == ["0" * 32]
    assert list(shared.iterdir()) == [place]
