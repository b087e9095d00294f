"""Copies of volumes on file systems whose files can share blocks, and on those whose files cannot."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt.v1 import volumes_pb2
from tests.e2e.containers.steps import IMAGE
from tests.e2e.volumes.steps import create, delete, get, output, volume
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.reflink_disks import extents, reflink_disk

MIB = 1024**2
#: What the file holds; nothing that a file system could leave out.
CONTENT = os.urandom(MIB) * 48


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("xfs", marks=pytest.mark.needs("reflink-xfs")),
        pytest.param("btrfs", marks=pytest.mark.needs("reflink-btrfs")),
    ],
)
def sharing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A daemon with busybox, whose data root is on such a file system."""
    with reflink_disk(request.param, tmp_path_factory.mktemp("disk")) as root, Engine(root) as engine:
        engine.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield engine
        engine.stop()


def clone(engine: Engine, source: str, name: str) -> Path:
    """Where the copy's data is."""
    request = volumes_pb2.CloneVolumeRequest(source=source, name=name)
    return Path(engine.volumes.CloneVolume(request).volume.mountpoint)


def test_a_copy_shares_the_blocks_until_one_side_writes(sharing: Engine) -> None:
    origin = Path(create(sharing, "origin").mountpoint)
    (origin / "deep").mkdir()
    first, second = origin / "deep" / "large", origin / "other-name"
    first.write_bytes(CONTENT)
    first.chmod(0o2640)
    os.chown(first, 7, 8)
    second.hardlink_to(first)
    assert {is_shared for _, _, is_shared in extents(first)} == {False}
    os.sync()
    room = os.statvfs(origin).f_bfree * os.statvfs(origin).f_frsize
    copied = clone(sharing, "origin", "copy") / "deep" / "large"
    os.sync()
    taken = room - os.statvfs(origin).f_bfree * os.statvfs(origin).f_frsize
    assert taken < len(CONTENT) // 4, "the copy has blocks of its own"
    assert extents(copied) == extents(first)
    assert {is_shared for _, _, is_shared in extents(copied)} == {True}
    assert (copied.stat().st_uid, copied.stat().st_gid, copied.stat().st_mode & 0o7777) == (7, 8, 0o2640)
    assert copied.stat().st_nlink == 2
    assert copied.read_bytes() == CONTENT
    # A container that writes to the copy has a block of its own from then on, and the origin all that it had.
    script = "dd if=/dev/zero of=/v/deep/large bs=4096 count=1 conv=notrunc 2>/dev/null"
    output(sharing, IMAGE, script, mounts=[volume("/v", "copy")])
    assert copied.read_bytes() == bytes(4096) + CONTENT[4096:]
    assert first.read_bytes() == CONTENT
    assert extents(copied) != extents(first)
    # Nor does the copy go with its origin.
    delete(sharing, "origin")
    assert copied.read_bytes()[4096:] == CONTENT[4096:]
    delete(sharing, "copy")


def test_a_copy_of_a_file_with_holes_has_them(sharing: Engine) -> None:
    origin = Path(create(sharing, "holes").mountpoint)
    with (origin / "f").open("wb") as file:
        file.seek(64 * MIB)
        file.write(b"end")
    copied = clone(sharing, "holes", "holes-copy") / "f"
    assert copied.stat().st_size == 64 * MIB + 3
    assert copied.stat().st_blocks * 512 <= MIB
    assert copied.read_bytes()[-3:] == b"end"
    for name in ("holes", "holes-copy"):
        delete(sharing, name)


def test_where_blocks_cannot_be_shared_the_data_is_copied_without_its_holes(engine: Engine) -> None:
    """The other way of the same call."""
    origin = Path(create(engine, "plain").mountpoint)
    (origin / "f").write_bytes(CONTENT[: 4 * MIB])
    with (origin / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(256 * MIB)
        file.write(b"end")
    copied = clone(engine, "plain", "plain-copy")
    assert (copied / "f").read_bytes() == CONTENT[: 4 * MIB]
    sparse = (copied / "sparse").stat()
    assert (sparse.st_size, sparse.st_blocks * 512 < MIB) == (256 * MIB + 3, True)
    with (copied / "sparse").open("rb") as file:
        assert file.read(5) == b"begin"
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"end"
    assert get(engine, "plain-copy").mountpoint == str(copied)
    for name in ("plain", "plain-copy"):
        delete(engine, name)
