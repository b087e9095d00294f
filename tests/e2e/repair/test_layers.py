"""CheckStorage with `repair`: damaged layers of both kinds are made again, also below running containers."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fluyt.v1 import containers_pb2
from tests.e2e.repair.steps import (
    IMAGE,
    TREE,
    beside,
    blob,
    check,
    flip,
    kind,
    layer,
    pulled,
    repaired,
    spoil_meta,
    truncate,
)
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.inside import touch
from tests.support.registry import FaultyRegistry
from tests.support.wait import until_now


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
        touch(container.host_pid, "/go")
        until_now(lambda: b"extra" in engine.logs("old"), "the container looks at its root")
        told = engine.logs("old")
        assert b"/bin/busybox\n" in told
        assert (b"/extra\n" in told.splitlines(keepends=True)) == is_directory
        assert engine.run("busybox:1", "ls", "/extra")[2].exit_code != 0
    engine.kill()
    engine.start()
    assert beside(engine) == []
    assert check(engine)[0] == []
