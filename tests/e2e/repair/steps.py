"""What the tests of repairs do again and again: images to damage, ways to damage them, and what a repair told."""

import os
from pathlib import Path

from fluyt.v1 import engine_pb2, engine_pb2_grpc
from fluytd._core.layer import LayerStore
from tests.support import images, tarball
from tests.support.engine import Engine
from tests.support.registry import FaultyRegistry

TREE = images.layer(
    tarball.directory("d"),
    tarball.file("d/big", b"x" * 300_000, mode=0o640),
    tarball.file("d/small", "y"),
    tarball.hardlink("d/again", "d/small"),
    tarball.symlink("d/link", "small"),
)
#: Its directory has no entry of its own, so that it is settled over the layer below.
UPPER = images.layer(tarball.file("d/new", "n"), tarball.whiteout("d/small"))
IMAGE = images.image([TREE, UPPER])
PLAIN = images.image([images.layer(tarball.file("plain", "p"), compression="none")])


def kind(engine: Engine) -> str:
    return LayerStore(str(engine.root / "data")).list()[0].kind


def check(
    engine: Engine, *subjects: str, repair: bool = False
) -> tuple[list[engine_pb2.StorageFinding], engine_pb2.StorageCheckSummary]:
    stub = engine_pb2_grpc.EngineServiceStub(engine.channel)
    events = list(stub.CheckStorage(engine_pb2.CheckStorageRequest(subjects=subjects, repair=repair)))
    return [event.finding for event in events if event.WhichOneof("event") == "finding"], events[-1].summary


def repaired(engine: Engine, count: int = 1) -> list[engine_pb2.StorageFinding]:
    """What a repair of everything told; each was made whole, and nothing is left beside the stores."""
    found, summary = check(engine, repair=True)
    assert [one.is_repaired for one in found] == [True] * count, found
    assert (summary.damaged_count, summary.repaired_count) == (count, count)
    assert all(one.action for one in found)
    assert check(engine)[0] == []
    assert beside(engine) == []
    return found


def beside(engine: Engine) -> list[str]:
    """What stands in the place in which content is made again."""
    root = engine.root / "data" / "repair"
    return [str(path) for folder in ("ingest", "layers") for path in (root / folder).iterdir()]


def blob(engine: Engine, digest: str) -> Path:
    return engine.root / "data" / "content" / "blobs" / digest.replace(":", "/")


def layer(engine: Engine, of: images.Layer) -> Path:
    return engine.root / "data" / "layers" / of.diff_id.partition(":")[2]


def flip(path: Path, at: int) -> None:
    """One bit of the file is another, and its times are as before."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def pulled(engine: Engine, registry: FaultyRegistry, image: images.Image = IMAGE) -> str:
    registry.put("team/app", "1", image)
    reference = f"{registry.address}/team/app:1"
    assert engine.pull(reference).failure.reason == ""
    return reference


def spoil_meta(path: Path) -> None:
    (path / "meta.json").write_text("{")
