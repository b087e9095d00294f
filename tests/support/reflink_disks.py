"""File systems whose files can share blocks, made in files and mounted on the host for the length of a test."""

import array
import fcntl
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: Makes a file system of this kind in a file, and what mkfs needs to be told for files to share blocks.
MAKERS: Final = {"xfs": ("mkfs.xfs", "-q", "-m", "reflink=1"), "btrfs": ("mkfs.btrfs", "-q")}
#: Nothing of it is taken before it is written; xfs refuses to be smaller than 300 MB.
DISK_BYTES: Final = 512 * 1024**2
#: Source: linux/fiemap.h.
_FS_IOC_FIEMAP: Final = 0xC020660B
_FIEMAP_FLAG_SYNC: Final = 1
_FIEMAP_EXTENT_SHARED: Final = 0x2000
_HEAD, _EXTENT = struct.Struct("=QQLLLL"), struct.Struct("=QQQQQLLLL")
_MAX_EXTENTS: Final = 256


@contextmanager
def reflink_disk(kind: str, directory: Path) -> Iterator[Path]:
    """A mounted file system of the kind. Raises CalledProcessError, FileNotFoundError where the host has no such."""
    image, place = directory / f"{kind}.img", directory / kind
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run([*MAKERS[kind], str(image)], check=True, capture_output=True)
    place.mkdir()
    subprocess.run(["mount", "-t", kind, "-o", "loop", str(image), str(place)], check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def has_reflinks(kind: str) -> bool:
    """Whether this host can have such a file system; tried."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            with reflink_disk(kind, Path(directory)) as place:
                return place.is_dir()
        except (subprocess.CalledProcessError, OSError):
            return False


def extents(path: Path) -> list[tuple[int, int, bool]]:
    """Where the file's blocks are: (offset on the disk, bytes, whether another file has them too)."""
    buffer = array.array("B", bytes(_HEAD.size + _MAX_EXTENTS * _EXTENT.size))
    _HEAD.pack_into(buffer, 0, 0, 2**64 - 1, _FIEMAP_FLAG_SYNC, 0, _MAX_EXTENTS, 0)
    with path.open("rb") as file:
        fcntl.ioctl(file, _FS_IOC_FIEMAP, buffer)
    count = _HEAD.unpack_from(buffer)[3]
    assert count < _MAX_EXTENTS, "the file is in too many pieces to be told"
    found = (_EXTENT.unpack_from(buffer, _HEAD.size + number * _EXTENT.size) for number in range(count))
    return [(one[1], one[2], bool(one[5] & _FIEMAP_EXTENT_SHARED)) for one in found]
