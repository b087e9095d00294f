"""A disk that fills up under a pull, a load, an import or a commit: a typed error, the space comes back, and the daemon
serves on."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fluyt.v1 import containers_pb2
from tests.e2e.images.steps import (
    begin,
    ended,
    import_rootfs,
    load,
    pull,
    refused,
    small_image,
    small_layer,
    staged,
    stored,
)
from tests.support import image_files, images, tarball
from tests.support.engine import Engine
from tests.support.images import Image
from tests.support.registry import FaultyRegistry
from tests.support.wait import until_now

MIB = 1024 * 1024
DISK_BYTES = 24 * MIB


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine whose data root is a file system of 24 MiB."""
    root = tmp_path_factory.mktemp("full")
    (root / "data").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0755", "none", str(root / "data")]
    subprocess.run(mount, check=True)
    try:
        with Engine(root) as running:
            yield running
    finally:
        subprocess.run(["umount", str(root / "data")], check=True)


def free_bytes(root: Path) -> int:
    found = os.statvfs(root / "data")
    return found.f_bavail * found.f_frsize


def great(size_bytes: int) -> Image:
    """An image whose layer does not compress."""
    return images.image([images.layer(tarball.file("f", os.urandom(size_bytes)), compression="none")])


def of_zeros(size_bytes: int) -> Image:
    """An image whose layer is small until it is unpacked."""
    return images.image([images.layer(tarball.file("f", bytes(size_bytes)))])


def works_still(engine: Engine, registry: FaultyRegistry, free_before: int) -> None:
    """The space is there again, and what fits is taken."""
    assert staged(engine) == []
    assert free_bytes(engine.root) > free_before - 2 * MIB  # what the records grew by
    image = small_image()
    registry.put("small", "1", image)
    assert pull(engine, f"{registry.address}/small:1").image_id == image.config_digest


@pytest.mark.parametrize("kind", ["blob", "unpacked"])
def test_a_pull_that_does_not_fit(small_disk: Engine, registry: FaultyRegistry, kind: str) -> None:
    free, before = free_bytes(small_disk.root), stored(small_disk)
    image = great(DISK_BYTES + 4 * MIB) if kind == "blob" else of_zeros(2 * DISK_BYTES)
    registry.put("great", "1", image)
    last = ended(small_disk, begin(small_disk, f"{registry.address}/great:1"))
    assert last.failure.reason == "STORAGE_FULL"
    assert last.failure.metadata["errno"] == "28"
    assert last.failure.metadata["operation"]
    assert stored(small_disk) == before
    works_still(small_disk, registry, free)


@pytest.mark.parametrize("kind", ["spool", "blob", "unpacked", "decompressed"])
def test_a_load_that_does_not_fit(small_disk: Engine, registry: FaultyRegistry, kind: str) -> None:
    free, before = free_bytes(small_disk.root), stored(small_disk)
    archive = {
        "spool": lambda: image_files.oci_archive({"a:1": great(DISK_BYTES + 4 * MIB)}),
        "blob": lambda: image_files.oci_archive({"a:1": great(DISK_BYTES * 5 // 8)}),
        "unpacked": lambda: image_files.oci_archive({"a:1": of_zeros(2 * DISK_BYTES)}),
        "decompressed": lambda: image_files.docker_archive({"a:1": of_zeros(2 * DISK_BYTES)}, compression="gzip"),
    }[kind]()
    found = refused(lambda: load(small_disk, archive))
    assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL")
    assert found.metadata["errno"] == "28"
    assert stored(small_disk) == before
    works_still(small_disk, registry, free)


@pytest.mark.parametrize("fills", ["random bytes", "zeros"])
def test_a_commit_that_does_not_fit(small_disk: Engine, registry: FaultyRegistry, fills: str) -> None:
    load(small_disk, image_files.oci_archive({"base:1": images.busybox_image()}))
    source = {"random bytes": "/dev/urandom", "zeros": "/dev/zero"}[fills]
    size = (free_bytes(small_disk.root) - MIB) * 2 // 3
    script = f"head -c {size} {source} > /f; touch /done; exec sleep 1000"
    container = small_disk.start_container("base:1", "", "sh", "-c", script)
    try:
        # What the container wrote is on the same disk, so that its layer has no place beside it.
        done = small_disk.root / "data" / "containers" / container.id / "upper" / "done"
        until_now(done.exists, "the container has written")
        free, before = free_bytes(small_disk.root), stored(small_disk)
        request = containers_pb2.CommitContainerRequest(container=container.id, reference="committed:1", no_pause=True)
        found = refused(lambda: small_disk.containers.CommitContainer(request))
        assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL")
        assert found.metadata["errno"] == "28"
        assert stored(small_disk) == before
        assert staged(small_disk) == []
        assert free_bytes(small_disk.root) > free - MIB
    finally:
        small_disk.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=container.id, force=True))
    works_still(small_disk, registry, free)


@pytest.mark.parametrize("kind", ["spool", "unpacked"])
def test_an_import_that_does_not_fit(small_disk: Engine, registry: FaultyRegistry, kind: str) -> None:
    free, before = free_bytes(small_disk.root), stored(small_disk)
    image = great(DISK_BYTES + 4 * MIB) if kind == "spool" else of_zeros(2 * DISK_BYTES)
    found = refused(lambda: import_rootfs(small_disk, image.layers[0].blob))
    assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL")
    assert stored(small_disk) == before
    works_still(small_disk, registry, free)
    assert import_rootfs(small_disk, small_layer().tar).image.id
