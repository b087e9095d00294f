"""Containers on layers of either kind, and of both kinds in one image."""

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fluyt.v1 import containers_pb2, engine_pb2, engine_pb2_grpc, images_pb2
from tests.support import image_files, images, tarball
from tests.support.engine import PATIENCE_SECONDS, Engine
from tests.support.inside import touch

pytestmark = pytest.mark.needs("erofs")

KINDS = ("directory", "erofs")

UPPER = (
    tarball.directory("data"),
    tarball.file("data/text", "of the upper layer\n"),
    tarball.file("data/tool", "#!/bin/sh\necho ran\n", mode=0o755),
    tarball.hardlink("data/same", "data/text"),
    tarball.whiteout("etc/passwd"),
    tarball.file("implied/below", "x"),
)
LOOK = "cat /data/text /data/same; /data/tool; ls -a /etc /implied; stat -c '%a %u:%g' /implied;find / -xdev -name text"


def options(kind: str) -> tuple[str, str]:
    return ("--layer-store", kind)


def stored_kinds(root: Path) -> list[str]:
    """What each visible layer of an engine is made of."""
    layers = [path for path in (root / "data" / "layers").iterdir() if not path.name.startswith(".")]
    return sorted("erofs" if (path / "index.erofs").exists() else "directory" for path in layers)


def two_layers() -> bytes:
    base = images.busybox_image()
    return image_files.oci_archive({"two:1": images.image([*base.layers, images.layer(*UPPER)])})


@pytest.fixture
def seen_in_directories(tmp_path: Path) -> Iterator[bytes]:
    """What the container sees where layers are directories."""
    root = tmp_path / "d"
    root.mkdir()
    with Engine(root, options=options("directory")) as engine:
        engine.load(two_layers())
        yield engine.run("two:1", "sh", "-c", LOOK)[0]


def test_a_container_sees_the_same_in_both_kinds(tmp_path: Path, seen_in_directories: bytes) -> None:
    root = tmp_path / "e"
    root.mkdir()
    with Engine(root, options=options("erofs")) as engine:
        info = engine_pb2_grpc.EngineServiceStub(engine.channel).GetInfo(engine_pb2.GetInfoRequest())
        assert info.storage.layer_store == "erofs"
        engine.load(two_layers())
        assert stored_kinds(root) == ["erofs", "erofs"]
        out, err, ended = engine.run("two:1", "sh", "-c", LOOK)
        assert (out, err, ended.exit_code) == (seen_in_directories, b"", 0)
        assert out.count(b"of the upper layer\n") == 2
        assert b"/data/text" in out
        assert b"passwd" not in out
        assert engine.left_on_host() == []


def test_an_image_of_layers_of_both_kinds_runs(tmp_path: Path, seen_in_directories: bytes) -> None:
    root = tmp_path / "m"
    root.mkdir()
    first = Engine(root, options=options("directory"))
    first.load(image_files.oci_archive({"busybox:1": images.busybox_image()}))
    first.stop()
    for kind in ("erofs", "directory"):
        with Engine(root, options=options(kind)) as engine:
            engine.load(two_layers())
            assert stored_kinds(root) == ["directory", "erofs"]
            assert engine.run("two:1", "sh", "-c", LOOK)[0] == seen_in_directories


def test_a_container_on_erofs_layers_outlives_the_daemon_that_mounted_them(tmp_path: Path) -> None:
    engine = Engine(tmp_path, options=options("erofs"))
    engine.load(two_layers())
    script = "until [ -e /go ]; do sleep 0.05; done; cat /data/text; md5sum /bin/busybox"
    pid = engine.start_container("two:1", "old", "sh", "-c", script).host_pid
    engine.kill()
    # Nothing of these files was read before, and who mounted them is dead.
    touch(pid, "/go")
    engine.start()
    with engine:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while b"busybox" not in engine.logs("old"):
            assert time.monotonic() < deadline, engine.logs("old")
            time.sleep(0.05)
        assert engine.logs("old").startswith(b"of the upper layer\n")
        assert engine.run("two:1", "cat", "/data/text")[0] == b"of the upper layer\n"


def test_a_deleted_image_frees_its_erofs_layers(tmp_path: Path) -> None:
    with Engine(tmp_path, options=options("erofs")) as engine:
        engine.load(two_layers())
        engine.run("two:1", "true")
        engine.start_container("two:1", "user", "sleep", "1000")
        with pytest.raises(grpc.RpcError):
            engine.images.DeleteImage(images_pb2.DeleteImageRequest(image="two:1"))
        assert len(stored_kinds(tmp_path)) == 2
        engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container="user", force=True))
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image="two:1"))
        assert stored_kinds(tmp_path) == []
        links = [str(path.readlink()) for path in Path(f"/proc/{engine.process.pid}/fd").iterdir()]
        assert not [link for link in links if "data.tar" in link or "index.erofs" in link]
