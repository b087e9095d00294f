"""Committed images on both kinds of layer store, judged by others: a real registry, skopeo, umoci, podman, tar."""

import gzip
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluyt.v1 import images_pb2
from fluyt.v1.types import operation_pb2
from tests.e2e.containers import file_steps as files
from tests.e2e.images.steps import import_rootfs
from tests.support import image_files, images, tarball
from tests.support.engine import Engine
from tests.support.registry import RealRegistry

pytestmark = pytest.mark.needs("docker-registry")

IMAGE = "base:1"
#: Files of every id.
ALL_IDS = ["--default-userns", "host"]
LOOK = (
    "cd /; find . -xdev -path ./proc -prune -o -path ./sys -prune -o -path ./dev -prune -o -path ./etc -prune -o -print"
)
SCRIPT = """
    rm -rf /gone /dir/old; rm /dir/file; mkdir /dir/old; echo new > /dir/old/new; ln /dir/old/new /hard
    ln -s /etc/passwd /link; mkfifo /pipe; echo own > /own; chmod 4711 /own; chown 3000000:7 /dir; mv /move /moved
"""


@pytest.fixture(params=["directory", "erofs"])
def engine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine of each kind of layer store, with an image of three layers."""
    if request.param == "erofs":
        _skip_without_erofs(request)
    root = tmp_path / "engine"
    root.mkdir()
    with Engine(root, options=["--layer-store", request.param, *ALL_IDS]) as running:
        lower = images.layer(
            tarball.directory("gone"),
            tarball.file("gone/file", "x"),
            tarball.directory("dir"),
            tarball.directory("dir/old"),
            tarball.file("dir/old/file", "old"),
        )
        upper = images.layer(tarball.file("dir/file", "x"), tarball.directory("move"), tarball.file("move/in", "in\n"))
        running.load(image_files.oci_archive({IMAGE: images.busybox_image(lower, upper)}))
        yield running


def _skip_without_erofs(request: pytest.FixtureRequest) -> None:
    from fluytd._core import host  # noqa: PLC0415

    features = {one.name: one for one in host.probe(str(request.config.rootpath))}
    if not any("erofs" in name and one.is_available for name, one in features.items()):
        pytest.skip("erofs")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RealRegistry]:
    """A real one."""
    with RealRegistry(tmp_path / "registry") as running:
        yield running


def run(*command: str | Path, **options: Any) -> bytes:
    """Standard output of a program that must succeed."""
    ended = subprocess.run(command, capture_output=True, check=False, **options)
    assert ended.returncode == 0, ended.stderr.decode()
    output: bytes = ended.stdout
    return output


def committed(engine: Engine, reference: str) -> tuple[str, bytes]:
    """(container, what a container of the committed image sees)."""
    container = files.ended(engine, SCRIPT, image=IMAGE)
    files.check_config(engine, files.commit(engine, container, reference))
    return container, engine.run(reference, "sh", "-c", LOOK)[0]


@pytest.mark.needs("skopeo", "umoci", "podman")
def test_r18_a_committed_image_is_whole_for_a_registry_skopeo_umoci_and_podman(
    engine: Engine, registry: RealRegistry, tmp_path: Path
) -> None:
    name = f"{registry.address}/team/made:1"
    container, _ = committed(engine, name)
    pushed = engine.push(name)
    assert pushed.state == operation_pb2.Operation.STATE_SUCCEEDED, pushed
    layout = tmp_path / "layout"
    run("skopeo", "copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{layout}:made")
    _check_layout(layout)
    bundle = tmp_path / "bundle"
    run("umoci", "unpack", "--image", f"{layout}:made", bundle)
    exported = tmp_path / "exported"
    exported.mkdir()
    run("tar", "-xpC", exported, "--numeric-owner", input=files.export(engine, container))
    assert _tree(bundle / "rootfs") == _tree(exported)
    # Podman takes no long path for what it keeps while it runs.
    with tempfile.TemporaryDirectory(prefix="podman-", dir="/tmp") as root:
        podman = ["podman", "--root", f"{root}/s", "--runroot", f"{root}/r", "--storage-driver", "vfs"]
        run(*podman, "pull", "-q", f"oci:{layout}:made")
        image = run(*podman, "images", "-q").decode().split()[0]
        mounted = Path(run(*podman, "image", "mount", image).decode().strip())
        seen = _tree(mounted)
        run(*podman, "image", "umount", image)
    assert seen == _tree(exported)


def _lines(seen: bytes) -> list[bytes]:
    return sorted(seen.splitlines())


def _check_layout(layout: Path) -> None:
    def read(digest: str) -> bytes:
        return (layout / "blobs" / digest.replace(":", "/")).read_bytes()

    manifest = json.loads(read(json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]))
    config = json.loads(read(manifest["config"]["digest"]))
    plain = [hashlib.sha256(gzip.decompress(read(layer["digest"]))).hexdigest() for layer in manifest["layers"]]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{one}" for one in plain]
    assert sum(not step.get("empty_layer") for step in config["history"]) == len(plain)


def _tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Path -> what is there; what engines make to mount on is left out."""
    found: dict[str, tuple[object, ...]] = {}
    made = {"dev", "proc", "sys", "etc", "run"}
    for folder, names, others in os.walk(root):
        if Path(folder) == root:
            names[:] = [name for name in names if name not in made]
        for name in names + others:
            path = Path(folder, name)
            status = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            target = str(path.readlink()) if path.is_symlink() else ""
            size = len(content)
            digest = hashlib.sha256(content).hexdigest()
            found[str(path.relative_to(root))] = (
                oct(status.st_mode),
                status.st_uid,
                status.st_gid,
                size,
                digest,
                target,
            )
    return {path: fact for path, fact in found.items() if path not in made}


def test_a_committed_image_goes_to_another_engine_as_an_archive(engine: Engine, tmp_path: Path) -> None:
    _, seen = committed(engine, "made/saved:1")
    archive = b"".join(
        part.chunk for part in engine.images.SaveImages(images_pb2.SaveImagesRequest(images=["made/saved:1"]))
    )
    root = tmp_path / "other"
    root.mkdir()
    with Engine(root, options=ALL_IDS) as other:
        other.load(archive)
        assert _lines(other.run("made/saved:1", "sh", "-c", LOOK)[0]) == _lines(seen)
        out, _, last = other.run("made/saved:1", "sh", "-c", "cat /moved/in /hard; ls /dir/old /gone; readlink /link")
        assert (out, last.exit_code) == (b"in\nnew\n/dir/old:\nnew\n/etc/passwd\n", 0)


def test_an_exported_container_is_imported_and_runs(engine: Engine) -> None:
    container, seen = committed(engine, "made/other:1")
    import_rootfs(engine, files.export(engine, container), reference="made/imported:1")
    assert _lines(engine.run("made/imported:1", "sh", "-c", LOOK)[0]) == _lines(seen)
    assert engine.run("made/imported:1", "cat", "/moved/in")[0] == b"in\n"
