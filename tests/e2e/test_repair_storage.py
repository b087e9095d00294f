"""CheckStorage with `repair`: what is damaged is made again and says how, on both stores; what cannot be stays."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fluyt.v1 import containers_pb2, engine_pb2, engine_pb2_grpc, events_pb2, images_pb2
from fluytd._core.layer import LayerStore
from tests.support import image_files, images, tarball
from tests.support.engine import Engine
from tests.support.registry import FaultyRegistry, blob_path, body, status
from tests.support.wait import until_now

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


@pytest.fixture(params=["directory", "erofs"])
def engine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine with a layer store of each kind."""
    if request.param == "erofs" and LayerStore(str(tmp_path), "auto").kind != "erofs":
        pytest.skip("this kernel mounts no EROFS images from files")
    with Engine(tmp_path, options=("--layer-store", request.param)) as running:
        yield running


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with FaultyRegistry() as running:
        yield running


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


@pytest.mark.parametrize("damage", [lambda path: flip(path, 50), truncate, empty, Path.unlink])
def test_a_damaged_blob_is_fetched_again(
    engine: Engine, registry: FaultyRegistry, damage: Callable[[Path], None]
) -> None:
    reference = pulled(engine, registry)
    digest = IMAGE.layers[0].digest
    before = blob(engine, digest).read_bytes()
    damage(blob(engine, digest))
    (found,), _ = check(engine, digest)
    assert (found.subject, found.is_repaired, found.action) == (digest, False, "")
    (found,) = repaired(engine)
    assert (found.subject, list(found.references)) == (digest, [reference])
    assert f"fetched from {registry.address}/team/app" in found.action
    assert blob(engine, digest).read_bytes() == before


def test_manifest_and_config_are_had_again(engine: Engine, registry: FaultyRegistry) -> None:
    pulled(engine, registry)
    for digest in (IMAGE.config_digest, IMAGE.digest):
        blob(engine, digest).unlink()
    told = {one.subject: one.action for one in repaired(engine, 2)}
    assert "from the image's record" in told[IMAGE.config_digest]
    # It is what the engine itself would have written.
    assert "from the image's record" in told[IMAGE.digest]


def test_a_manifest_that_others_wrote_is_fetched_again(engine: Engine, registry: FaultyRegistry) -> None:
    image = images.image([TREE], docker=True)
    pulled(engine, registry, image)
    before = blob(engine, image.digest).read_bytes()
    blob(engine, image.digest).unlink()
    (found,) = repaired(engine)
    assert "fetched from" in found.action
    assert blob(engine, image.digest).read_bytes() == before


def test_an_index_is_fetched_again(engine: Engine, registry: FaultyRegistry) -> None:
    index = images.index([images.image([TREE]), images.image([UPPER], architecture="s390x")])
    registry.put("team/app", "1", index)
    assert engine.pull(f"{registry.address}/team/app:1").failure.reason == ""
    blob(engine, index.digest).unlink()
    (found,) = repaired(engine)
    assert (found.subject, "fetched from" in found.action) == (index.digest, True)


def test_what_no_registry_has_is_told_and_the_image_stays_listed(engine: Engine) -> None:
    engine.load(image_files.oci_archive({"app:1": IMAGE}))
    digest = IMAGE.layers[0].digest
    flip(blob(engine, digest), 50)
    damaged = blob(engine, digest).read_bytes()
    (found,), summary = check(engine, repair=True)
    assert (found.subject, found.is_repaired, summary.repaired_count) == (digest, False, 0)
    assert "no registry is known" in found.action
    assert "pull or load it again" in found.action
    assert blob(engine, digest).read_bytes() == damaged
    assert [image.id for image in engine.images.ListImages(images_pb2.ListImagesRequest()).images] == [
        IMAGE.config_digest
    ]


def test_a_registry_that_has_it_no_more_or_lies_changes_nothing(engine: Engine, registry: FaultyRegistry) -> None:
    pulled(engine, registry)
    digest = IMAGE.layers[0].digest
    flip(blob(engine, digest), 50)
    damaged = blob(engine, digest).read_bytes()
    registry.always(blob_path("team/app", digest), status(404))
    (found,), _ = check(engine, repair=True)
    assert not found.is_repaired
    assert "there is no blob" in found.action
    registry.always(blob_path("team/app", digest), body(damaged))
    (found,), _ = check(engine, repair=True)
    assert not found.is_repaired
    assert "digest" in found.action
    assert blob(engine, digest).read_bytes() == damaged
    assert beside(engine) == []


@pytest.mark.parametrize("engine", ["erofs"], indirect=True)
def test_a_plain_blob_is_copied_from_the_layer_that_keeps_its_archive(engine: Engine) -> None:
    engine.load(image_files.oci_archive({"plain:1": PLAIN}))
    digest = PLAIN.layers[0].digest
    before = blob(engine, digest).read_bytes()
    flip(blob(engine, digest), 5)
    (found,) = repaired(engine)
    assert "copied from the layer" in found.action
    assert blob(engine, digest).read_bytes() == before


def change_mode(path: Path) -> None:
    (path / "fs" / "d" / "big").chmod(0o600)


def change_owner(path: Path) -> None:
    os.chown(path / "fs" / "d" / "link", 7, 8, follow_symlinks=False)


def change_time(path: Path) -> None:
    os.utime(path / "fs" / "d", (5, 5))


def change_attribute(path: Path) -> None:
    os.setxattr(path / "fs" / "d" / "big", "user.x", b"y")


def change_content(path: Path) -> None:
    flip(path / "fs" / "d" / "big", 299_999)


def change_link(path: Path) -> None:
    (path / "fs" / "d" / "link").unlink()
    (path / "fs" / "d" / "link").symlink_to("elsewhere")
    os.utime(path / "fs" / "d", (1_000_000, 1_000_000))


def break_hard_link(path: Path) -> None:
    target = path / "fs" / "d" / "again"
    status = target.stat()
    target.unlink()
    target.write_bytes(b"y")
    target.chmod(status.st_mode)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.utime(path / "fs" / "d", (1_000_000, 1_000_000))


def add_file(path: Path) -> None:
    (path / "fs" / "extra").write_bytes(b"")


def add_deep_file(path: Path) -> None:
    (path / "fs" / "d" / "extra").write_bytes(b"")
    os.utime(path / "fs" / "d", (1_000_000, 1_000_000))


def lose_file(path: Path) -> None:
    (path / "fs" / "d" / "big").unlink()
    os.utime(path / "fs" / "d", (1_000_000, 1_000_000))


def lose_tree(path: Path) -> None:
    (path / "fs").rename(path / "gone")


def spoil_meta(path: Path) -> None:
    (path / "meta.json").write_text("{")


def lose_meta(path: Path) -> None:
    (path / "meta.json").unlink()


def lose_folder(path: Path) -> None:
    path.rename(path.parent.parent / "aside")


DIRECTORY_DAMAGE = [
    change_mode,
    change_owner,
    change_time,
    change_attribute,
    change_content,
    change_link,
    break_hard_link,
    add_file,
    add_deep_file,
    lose_file,
    lose_tree,
    spoil_meta,
    lose_meta,
    lose_folder,
]


def spoil_index(path: Path) -> None:
    flip(path / "index.erofs", 1600)


def spoil_archive(path: Path) -> None:
    flip(path / "data.tar", 1600)


def spoil_both(path: Path) -> None:
    spoil_index(path)
    spoil_archive(path)


def cut_archive(path: Path) -> None:
    truncate(path / "data.tar")


def lose_archive(path: Path) -> None:
    (path / "data.tar").unlink()


def lose_index(path: Path) -> None:
    (path / "index.erofs").unlink()


EROFS_DAMAGE = [
    spoil_index,
    spoil_archive,
    spoil_both,
    cut_archive,
    lose_archive,
    lose_index,
    spoil_meta,
    lose_meta,
    lose_folder,
]


@pytest.mark.parametrize(
    ("engine", "damage"),
    [*(("directory", damage) for damage in DIRECTORY_DAMAGE), *(("erofs", damage) for damage in EROFS_DAMAGE)],
    indirect=["engine"],
)
def test_a_damaged_layer_is_made_again_of_its_blob(engine: Engine, damage: Callable[[Path], None]) -> None:
    engine.load(image_files.oci_archive({"app:1": images.image([TREE])}))
    assert check(engine)[0] == []
    damage(layer(engine, TREE))
    (found,), _ = check(engine)
    assert (found.subject, list(found.references)) == (layer(engine, TREE).name, ["docker.io/library/app:1"])
    assert found.failure.reason in {"DATA_CORRUPT", "LAYER_NOT_FOUND"}
    (found,) = repaired(engine)
    assert f"made again of blob {TREE.digest}" in found.action


def test_a_layer_that_stands_on_lower_ones_is_made_again_over_them(engine: Engine) -> None:
    engine.load(image_files.oci_archive({"app:1": IMAGE}))
    assert check(engine)[0] == []
    for path in (engine.root / "data" / "layers").iterdir():
        spoil_meta(path)
    assert len(repaired(engine, 2)) == 2


def test_blob_and_layer_damaged_both_are_had_again(engine: Engine, registry: FaultyRegistry) -> None:
    pulled(engine, registry)
    blob(engine, TREE.digest).unlink()
    lose_folder(layer(engine, TREE))
    told = [one.action for one in repaired(engine, 2)]
    assert "fetched from" in told[0]
    assert "made again of blob" in told[1]


def test_a_layer_named_alone_has_its_blob_fetched_first(engine: Engine, registry: FaultyRegistry) -> None:
    pulled(engine, registry)
    blob(engine, TREE.digest).unlink()
    lose_folder(layer(engine, TREE))
    (found,), _ = check(engine, layer(engine, TREE).name, repair=True)
    assert found.is_repaired
    assert "fetched from" in found.action
    assert check(engine)[0] == []


@pytest.mark.parametrize("engine", ["erofs"], indirect=True)
def test_an_index_is_made_again_of_its_archive_where_the_blob_is_lost(engine: Engine) -> None:
    engine.load(image_files.oci_archive({"app:1": IMAGE}))
    blob(engine, TREE.digest).unlink()
    spoil_index(layer(engine, TREE))
    (found,), _ = check(engine, layer(engine, TREE).name, repair=True)
    assert found.is_repaired, found
    assert "of the archive that it keeps" in found.action
    assert check(engine, layer(engine, TREE).name)[0] == []


@pytest.mark.parametrize("engine", ["directory"], indirect=True)
def test_a_layer_that_cannot_be_made_again_is_told_and_left(engine: Engine) -> None:
    engine.load(image_files.oci_archive({"app:1": IMAGE}))
    blob(engine, TREE.digest).unlink()
    spoil_meta(layer(engine, TREE))
    (found,), _ = check(engine, layer(engine, TREE).name, repair=True)
    assert not found.is_repaired
    assert "pull or load it again" in found.action
    assert (layer(engine, TREE) / "meta.json").read_text() == "{"


@contextlib.contextmanager
def running(engine: Engine, name: str, *args: str) -> Iterator[None]:
    engine.start_container("busybox:1", name, *args)
    try:
        yield
    finally:
        engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=name, force=True))


def test_a_running_container_keeps_what_it_runs_on_and_the_next_has_the_new(engine: Engine) -> None:
    busybox = images.busybox_image()
    engine.load(image_files.oci_archive({"busybox:1": busybox}))
    path = engine.root / "data" / "layers" / busybox.layers[0].diff_id.partition(":")[2]
    is_directory = kind(engine) == "directory"
    wait = "while [ ! -e /go ]; do sleep 0.05; done; ls /bin/busybox; ls /extra"
    with running(engine, "old", "sh", "-c", wait):
        if is_directory:
            (path / "fs" / "extra").write_bytes(b"")
        else:
            flip(path / "data.tar", path.joinpath("data.tar").stat().st_size - 1)
        (found,), _ = check(engine, repair=True)
        assert found.is_repaired, found
        assert "until they are started again" in found.action
        # A directory is in use and kept; a mounted archive is kept by the kernel.
        assert len(beside(engine)) == is_directory
        engine.kill()
        engine.start()
        assert len(beside(engine)) == is_directory
        container = engine.containers.GetContainer(containers_pb2.GetContainerRequest(container="old")).container
        Path(f"/proc/{container.host_pid}/root/go").write_bytes(b"")
        until_now(lambda: b"extra" in engine.logs("old"), "the container looks at its root")
        told = engine.logs("old")
        assert b"/bin/busybox\n" in told
        assert (b"/extra\n" in told.splitlines(keepends=True)) == is_directory
        assert engine.run("busybox:1", "ls", "/extra")[2].exit_code != 0
    engine.kill()
    engine.start()
    assert beside(engine) == []
    assert check(engine)[0] == []


def test_the_files_of_the_layout_are_written_again(engine: Engine) -> None:
    engine.load(image_files.oci_archive({"app:1": IMAGE}))
    content = engine.root / "data" / "content"
    good = {name: (content / name).read_bytes() for name in ("index.json", "oci-layout")}
    for damage in (empty, truncate, Path.unlink):
        for name in good:
            damage(content / name)
        found = repaired(engine, 2)
        assert {one.subject for one in found} == {"content/index.json", "content/oci-layout"}
        assert {name: (content / name).read_bytes() for name in good} == good


def test_what_nothing_needs_is_found_and_swept(engine: Engine) -> None:
    engine.load(image_files.oci_archive({"app:1": IMAGE}))
    data = b"orphan"
    digest = images.digest_of(data)
    blob(engine, digest).write_bytes(data)
    folder = engine.root / "data" / "layers" / ("0" * 64)
    folder.mkdir()
    found, summary = check(engine)
    assert {(one.subject, one.failure.reason) for one in found} == {
        (digest, "CONTENT_ORPHANED"),
        (folder.name, "CONTENT_ORPHANED"),
    }
    assert (summary.damaged_count, summary.repaired_count, blob(engine, digest).exists()) == (2, 0, True)
    assert {one.action for one in repaired(engine, 2)} == {"it was deleted"}
    assert not blob(engine, digest).exists()
    assert not folder.exists()


def test_a_layer_without_a_readable_record_does_not_keep_the_daemon_from_starting(engine: Engine) -> None:
    engine.load(image_files.oci_archive({"app:1": IMAGE}))
    spoil_meta(layer(engine, TREE))
    engine.kill()
    engine.start()
    (found,) = repaired(engine)
    assert found.subject == layer(engine, TREE).name


def test_an_image_whose_record_is_damaged_is_told_and_loses_nothing(engine: Engine) -> None:
    archive = image_files.oci_archive({"app:1": IMAGE})
    engine.load(archive)
    engine.load(image_files.oci_archive({"plain:1": PLAIN}))
    files = set((engine.root / "data" / "content" / "blobs").glob("*/*"))
    engine.kill()
    with contextlib.closing(sqlite3.connect(engine.root / "data" / "state.db")) as records:
        records.execute("UPDATE images SET record = '{' WHERE id = ?", (IMAGE.config_digest,))
        records.commit()
    engine.start()
    listed = engine.images.ListImages(images_pb2.ListImagesRequest()).images
    assert [image.id for image in listed] == [PLAIN.config_digest]
    for _ in range(2):
        (found,), summary = check(engine, repair=True)
        assert (found.subject, found.failure.reason) == (IMAGE.config_digest, "DATA_CORRUPT")
        assert (found.is_repaired, summary.damaged_count) == (False, 1)
        assert "pulled or loaded again" in found.action
    assert set((engine.root / "data" / "content" / "blobs").glob("*/*")) == files
    engine.load(archive)
    assert check(engine)[0] == []
    for name in ("app:1", "plain:1"):
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=name))
    assert list((engine.root / "data" / "content" / "blobs").glob("*/*")) == []


def test_each_finding_is_an_event(engine: Engine, registry: FaultyRegistry) -> None:
    pulled(engine, registry)
    blob(engine, TREE.digest).unlink()
    check(engine)
    repaired(engine)
    request = events_pb2.WatchEventsRequest(from_sequence=1)
    request.filter.facts.append("storage_damaged")
    request.until_time.GetCurrentTime()
    events = [one.event for one in engine.events.WatchEvents(request) if one.WhichOneof("message") == "event"]
    told = [(event.storage_damaged.subject, event.storage_damaged.is_repaired) for event in events]
    assert told == [(TREE.digest, False), (TREE.digest, True)]


def test_a_repair_that_nobody_waits_for_leaves_nothing(engine: Engine, registry: FaultyRegistry) -> None:
    pulled(engine, registry)
    blob(engine, TREE.digest).unlink()
    stub = engine_pb2_grpc.EngineServiceStub(engine.channel)
    stream = stub.CheckStorage(engine_pb2.CheckStorageRequest(repair=True))
    next(iter(stream))
    stream.cancel()
    repaired_or_not, _ = check(engine, repair=True)
    assert all(one.is_repaired for one in repaired_or_not)
    assert check(engine)[0] == []
    assert beside(engine) == []
