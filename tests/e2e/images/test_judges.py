"""Docker, podman, skopeo and umoci take what the engine writes, and the engine takes what they write, byte for byte."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fluyt.v1 import images_pb2
from tests.e2e.images.steps import SUCCEEDED, blob, get, listed, load
from tests.support import dockerd, image_files, images, tarball
from tests.support.dockerd import Docker
from tests.support.engine import Engine
from tests.support.registry import RealRegistry
from tests.support.wait import until_now

NAME = "docker.io/judged/app:1"
UPPER = images.layer(
    tarball.directory("data", mode=0o750, uid=7, gid=8),
    tarball.file("data/text", "judged\n", mode=0o4755, uid=70_000),
    tarball.hardlink("data/same", "data/text"),
    tarball.symlink("data/link", "text"),
    tarball.file("data/ü " + "n" * 120, "long\n"),
    tarball.whiteout("etc/group"),
)
IMAGE = images.busybox_image(UPPER, cmd=["cat", "/data/text"], labels={"by": "judges"})
COMPRESSIONS: tuple[tarball.Compression, ...] = ("none", "gzip", "zstd")


def run(*command: str | Path) -> bytes:
    """What a program prints. Raises AssertionError with what it complains of."""
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def saved(engine: Engine, path: Path) -> Path:
    """The image as SaveImages writes it."""
    load(engine, image_files.oci_archive({NAME: IMAGE}))
    parts = engine.images.SaveImages(images_pb2.SaveImagesRequest(images=[NAME]))
    path.write_bytes(b"".join(part.chunk for part in parts))
    return path


def is_loaded_whole(engine: Engine, archive: Path, compression: tarball.Compression) -> None:
    """The archive of another tool gives the image with its own config, its layers' content, and runs."""
    answer = load(engine, tarball.compress(archive.read_bytes(), compression))
    assert [one.image_id for one in answer.images] == [IMAGE.config_digest]
    assert blob(engine, IMAGE.config_digest) == IMAGE.config
    assert [layer.diff_id for layer in get(engine, IMAGE.config_digest).layers] == IMAGE.diff_ids
    out, _, ended = engine.run(IMAGE.config_digest, "sh", "-c", "cat /data/text /data/same; stat -c %a:%u /data/text")
    assert (out, ended.exit_code) == (b"judged\njudged\n4755:70000\n", 0)


def remove_all(engine: Engine) -> None:
    for image in listed(engine):
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=image.id, force=True))


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    """A dockerd that the tests of this file share."""
    root = Path(tempfile.mkdtemp(prefix="dk", dir="/tmp"))
    try:
        with dockerd.running(root) as program:
            yield program
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def podman() -> Iterator[Callable[..., bytes]]:
    """podman on a store of its own."""
    root = Path(tempfile.mkdtemp(prefix="pm", dir="/tmp"))
    prefix = ["podman", "--root", f"{root}/s", "--runroot", f"{root}/r", "--storage-driver", "vfs"]
    try:
        yield lambda *arguments: run(*prefix, "--cgroup-manager", "cgroupfs", *arguments)
    finally:

        def is_removed() -> bool:
            # podman's own cleaning up outlives its commands, and may make something anew.
            shutil.rmtree(root, ignore_errors=True)
            return not root.exists()

        until_now(is_removed)


@pytest.mark.needs("dockerd")
def test_docker_loads_what_was_saved_and_its_own_save_comes_back(
    engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    docker("load", "-q", "-i", str(saved(engine, tmp_path / "ours.tar")))
    (found,) = json.loads(docker("image", "inspect", "judged/app:1"))
    assert found["Id"] == IMAGE.config_digest
    assert found["RootFS"]["Layers"] == IMAGE.diff_ids
    assert found["Config"]["Labels"] == {"by": "judges"}
    docker("save", "-o", str(tmp_path / "theirs.tar"), "judged/app:1")
    for compression in COMPRESSIONS:
        remove_all(engine)
        is_loaded_whole(engine, tmp_path / "theirs.tar", compression)
        assert list(get(engine, NAME).image.references) == [NAME]


@pytest.mark.needs("podman")
def test_podman_unpacks_what_was_saved_and_its_own_saves_come_back(
    engine: Engine, podman: Callable[..., bytes], tmp_path: Path
) -> None:
    podman("load", "-q", "-i", saved(engine, tmp_path / "ours.tar"))
    # Not `podman run`: crun refuses hosts with both versions of cgroups.
    mounted = podman("image", "mount", NAME).decode().strip()
    assert run("chroot", mounted, "cat", "/data/text", "/data/same") == b"judged\njudged\n"
    podman("image", "umount", NAME)
    for form in ("docker-archive", "oci-archive"):
        podman("save", "-q", "--format", form, "-o", tmp_path / form, NAME)
        for compression in COMPRESSIONS:
            remove_all(engine)
            is_loaded_whole(engine, tmp_path / form, compression)


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_an_archive_that_skopeo_made_comes_in(
    engine: Engine, tmp_path: Path, form: str, compression: tarball.Compression
) -> None:
    saved(engine, tmp_path / "ours.tar")
    run("skopeo", "copy", "-q", f"oci-archive:{tmp_path}/ours.tar:{NAME}", f"{form}:{tmp_path}/theirs.tar:{NAME}")
    remove_all(engine)
    is_loaded_whole(engine, tmp_path / "theirs.tar", compression)


def blobs(layout: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (layout / "blobs" / "sha256").iterdir()}


@pytest.mark.needs("skopeo")
def test_skopeo_copies_the_store_out_and_in_blob_for_blob(engine: Engine, tmp_path: Path) -> None:
    load(engine, image_files.oci_archive({NAME: IMAGE}))
    content = engine.root / "data" / "content"
    before = blobs(content)
    run("skopeo", "copy", "-q", f"oci:{content}:{NAME}", f"oci:{tmp_path}/out:{NAME}")
    assert blobs(tmp_path / "out") == before
    remove_all(engine)
    assert blobs(content) == {}
    run("tar", "-cf", tmp_path / "out.tar", "-C", tmp_path / "out", ".")
    load(engine, (tmp_path / "out.tar").read_bytes())
    assert blobs(content) == before
    assert list(get(engine, NAME).image.references) == [NAME]


@pytest.mark.needs("skopeo", "umoci", "docker-registry")
@pytest.mark.parametrize("place", ["store", "registry"])
def test_umoci_unpacks_what_is_stored_and_what_was_pushed(engine: Engine, tmp_path: Path, place: str) -> None:
    load(engine, image_files.oci_archive({NAME: IMAGE}))
    content = engine.root / "data" / "content"
    with RealRegistry(tmp_path / "registry") as registry:
        source = f"oci:{content}:{NAME}"
        if place == "registry":
            assert engine.push(NAME, f"{registry.address}/judged:1").state == SUCCEEDED
            source = f"docker://{registry.address}/judged:1"
        # umoci wants a layout whose entry is named by a plain tag.
        run("skopeo", "copy", "-q", "--src-tls-verify=false", source, f"oci:{tmp_path}/layout:one")
    assert json.loads((tmp_path / "layout/index.json").read_bytes())["manifests"][0]["digest"] == IMAGE.digest
    run("umoci", "unpack", "--image", f"{tmp_path}/layout:one", tmp_path / "bundle")
    root = tmp_path / "bundle" / "rootfs"
    text = (root / "data/text").stat()
    assert (text.st_mode & 0o7777, text.st_uid, text.st_nlink) == (0o4755, 70_000, 2)
    assert (root / "data/same").read_bytes() == b"judged\n"
    assert (root / "data" / ("ü " + "n" * 120)).read_bytes() == b"long\n"
    assert not (root / "etc/group").exists()
