"""The look for what nothing owns finds each kind of it; without that the other tests here would prove nothing."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.recovery.crash import BYSTANDER, CrashedEngine, get, until_nothing_unowned
from tests.support import leftovers

ID = "f" * 64
#: Hierarchies of this host.
HIERARCHIES = [path for path in Path("/sys/fs/cgroup").glob("*") if (path / "cgroup.procs").exists()]


@contextmanager
def directory(path: Path) -> Iterator[None]:
    """A directory stands there for the block."""
    path.mkdir()
    try:
        yield
    finally:
        path.rmdir()


@contextmanager
def file(path: Path) -> Iterator[None]:
    """A file stands there for the block."""
    path.write_bytes(b"x")
    try:
        yield
    finally:
        path.unlink()


@contextmanager
def process_in_group(parent: Path) -> Iterator[None]:
    """A process is in a group below `parent` for the block."""
    group = parent / ID
    with directory(group), subprocess.Popen(["sleep", "1000"]) as process:
        try:
            (group / "cgroup.procs").write_text(str(process.pid))
            yield
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("data/containers", "directory: "),
        ("run/containers", "run directory: "),
        ("data/layers", "layer: "),
        ("data/ingest", "ingest: "),
        ("data/removed", "removed: "),
        ("data/content", "content: "),
    ],
)
def test_a_directory_that_nothing_owns_is_found(engine: CrashedEngine, place: str, told: str) -> None:
    until_nothing_unowned(engine)
    with directory(engine.root / place / ID):
        assert told + ID in leftovers.nothing_unowned(engine)


def test_a_blob_that_no_image_has_is_found(engine: CrashedEngine) -> None:
    blob = engine.root / "data" / "content" / "blobs" / "sha256" / ID
    with file(blob):
        assert f"blob: {blob}" in leftovers.nothing_unowned(engine)


def test_a_blob_that_an_image_lacks_is_found(engine: CrashedEngine) -> None:
    (image,) = leftovers.list_images(engine)
    blob = engine.root / "data" / "content" / "blobs" / image.id.replace(":", "/")
    elsewhere = engine.root / "aside"
    blob.rename(elsewhere)
    try:
        assert f"image {image.id} lacks its blob {image.id}" in leftovers.nothing_unowned(engine)
    finally:
        elsewhere.rename(blob)


def test_groups_and_their_processes_are_found(engine: CrashedEngine) -> None:
    parents = [path / engine.cgroup_parent for path in HIERARCHIES if (path / engine.cgroup_parent).is_dir()]
    assert parents
    with process_in_group(parents[0]):
        found = leftovers.nothing_unowned(engine)
        assert f"cgroup: {parents[0] / ID}" in found
        assert any(line.startswith("process: ") and "sleep" in line for line in found)


def test_a_supervisor_whose_container_is_not_known_is_found(engine: CrashedEngine) -> None:
    bystander = get(engine, BYSTANDER)
    found = [one for one in leftovers.processes_of(engine) if bystander.id in one.arguments]
    assert len(found) == 1
    assert found[0].holds_below(engine.root)
    # To a look that knows of no container all of it is unowned.
    told = list(leftovers._processes(engine, {}))
    assert any(line.startswith("process: ") and bystander.id in line for line in told)


def test_a_container_without_its_supervisor_is_found(engine: CrashedEngine) -> None:
    bystander = get(engine, BYSTANDER)
    missing = type(bystander)(id=ID, host_pid=os.getpid())
    told = list(leftovers._processes(engine, {bystander.id: bystander, ID: missing}))
    assert f"container {ID} has 0 supervisors" in told
    assert not any(bystander.id in line for line in told)
