"""File systems with project quotas, made in files and mounted on the host for the length of a test."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fluytd._core import host

#: Makes a file system of this kind in a file. xfs needs no preparation; ext4 has to keep room for what it counts.
MAKERS: Final = {
    "ext4": ("mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota,root_owner=0:0"),
    "xfs": ("mkfs.xfs", "-q"),
}
#: Nothing of it is taken before it is written; xfs refuses to be smaller than 300 MB.
DISK_BYTES: Final = 512 * 1024**2


@contextmanager
def quota_disk(kind: str, directory: Path) -> Iterator[Path]:
    """A mounted file system that keeps bounds of projects. Raises CalledProcessError, FileNotFoundError where the host
    has no such thing."""
    image, place = directory / f"{kind}.img", directory / kind
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run([*MAKERS[kind], str(image)], check=True, capture_output=True)
    place.mkdir()
    subprocess.run(
        ["mount", "-t", kind, "-o", "loop,prjquota", str(image), str(place)], check=True, capture_output=True
    )
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def has_project_quota(kind: str) -> bool:
    """Whether this host can have such a file system; tried."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            with quota_disk(kind, Path(directory)) as place:
                return host.project_quota(str(place)).is_available
        except (subprocess.CalledProcessError, OSError):
            return False
