"""The history of builds on disk: bounded in number, and what cannot be read of it costs that build alone."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluytd.builds import history
from fluytd.builds.history import BuildHistory
from fluytd.builds.history_files import BuildHistoryFiles
from fluytd.builds.log import JOINED_NANOS, BuildLog, frame, frames
from fluytd.builds.model import BuildEntry
from fluytd.operations.model import OperationState
from fluytd.workers import Workers


@pytest.fixture
def workers() -> Iterator[Workers]:
    """Threads."""
    made = Workers(2, 2)
    yield made
    made.close()


def _history(root: Path, workers: Workers) -> BuildHistory:
    return BuildHistory(BuildHistoryFiles(root, workers), lambda: 9, max_log_bytes=100)


async def _built(kept: BuildHistory, number: int) -> str:
    build_id = f"{number:032x}"
    log = await kept.begin(BuildEntry(id=build_id, create_time_unix_nanos=number))
    log.write(1, "stdout", 0, b"output")
    await kept.end(build_id, OperationState.SUCCEEDED)
    return build_id


async def test_the_oldest_go_beyond_the_bound(
    tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_BUILDS", 3)
    kept = _history(tmp_path, workers)
    ids = [await _built(kept, number) for number in range(5)]
    assert [entry.id for entry in kept.entries()] == ids[:1:-1]
    assert sorted(path.name for path in (tmp_path / "build_history").iterdir()) == sorted(
        f"{build_id}.{kind}" for build_id in ids[2:] for kind in ("json", "log")
    )
    again = _history(tmp_path, workers)
    await again.open()
    assert again.entries() == kept.entries()


async def test_damage_costs_one_build(tmp_path: Path, workers: Workers) -> None:
    kept = _history(tmp_path, workers)
    ids = [await _built(kept, number) for number in range(4)]
    root = tmp_path / "build_history"
    (root / f"{ids[0]}.json").write_text('{"id": 7')
    (root / f"{ids[1]}.json").write_text(json.dumps({"id": ids[2], "create_time_unix_nanos": 1}))
    (root / f"{ids[3]}.log").write_bytes((root / f"{ids[3]}.log").read_bytes()[:-2])
    (root / "left.json.part").write_text("half")
    (root / "left.log").write_text("of nobody")
    again = _history(tmp_path, workers)
    await again.open()
    assert [entry.id for entry in again.entries()] == [ids[3], ids[2]]
    assert len(list(root.iterdir())) == 4
    log = await again.log(ids[3])
    assert log is not None
    assert log.pieces == ()


async def test_output_beyond_the_bound_leaves_the_disk_too(
    tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fluytd.builds.log.MAX_LOG_BYTES", 100)
    kept = _history(tmp_path, workers)
    build_id = "0" * 32
    log = await kept.begin(BuildEntry(id=build_id, create_time_unix_nanos=1))
    for number in range(50):
        log.write(1, "stderr", number * (JOINED_NANOS + 1), b"%010d" % number)
    await kept.end(build_id, OperationState.FAILED)
    pieces = list(frames((tmp_path / "build_history" / f"{build_id}.log").read_bytes()))
    assert [piece.data for piece in pieces] == [b"%010d" % number for number in range(40, 50)]
    assert (pieces[0].offset_bytes, kept.get(build_id).log_size_bytes) == (400, 500)


def test_frames_are_read_up_to_the_first_that_is_none() -> None:
    log = BuildLog()
    log.write(3, "stderr", 7, b"one")
    log.write(4, "stdout", 8, b"two")
    data = b"".join(map(frame, log.pieces))
    assert tuple(frames(data)) == log.pieces
    for cut in range(1, len(data)):
        assert tuple(frames(data[:cut])) in ((), log.pieces[:1])
    assert tuple(frames(data[:4] + b"\x07" + data[5:])) == ()
    assert tuple(frames(b"\xff" * 200)) == ()
