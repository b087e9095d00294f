"""The data of volumes: `<volume_dir>/_data` is what containers see. Paths are absolute ones of the engine's own; what
stands below them is anybody's, and is reached by descriptor only."""

from collections.abc import Sequence

from . import CancelToken

def fill(lower_dirs: Sequence[str], target: str, volume_dir: str, cancel: CancelToken) -> tuple[int, int] | None:
    """What the image of `lower_dirs` (top-most first, at least two) has at `target` stands whole beside the data of the
    empty volume, for `settle`: (entries, bytes). None if the volume has data, or the image no directory there.

    Raises LIMIT_EXCEEDED, STORAGE_FULL, IO_FAILED, KERNEL_FEATURE_MISSING, CANCELLED. Durable. Blocking."""

def settle(volume_dir: str) -> bool:
    """What `fill` made ready is the volume's data, owner and mode of its root too; names that it had got meanwhile stay.
    True if there was something. Idempotent; goes on where a crash ended it. Raises IO_FAILED. Blocking."""

def copy(from_dir: str, to_dir: str, cancel: CancelToken) -> tuple[int, int]:
    """The empty directory has all that the other has: (entries, bytes). Content is shared where the file system can, else
    copied without holes. Raises LIMIT_EXCEEDED, STORAGE_FULL, IO_FAILED, CANCELLED. Blocking."""

def show(kind: str, source: str, data: str, is_read_only: bool) -> int:
    """A detached mount of that file system, in no namespace, without set-user-id, devices and programs: the caller's
    descriptor, which it goes with. Raises FIELD_INVALID, KERNEL_FEATURE_MISSING, IO_FAILED. Blocking."""

def unpack(archive: str, root_dir: str, cancel: CancelToken, max_bytes: int | None = None) -> tuple[int, int]:
    """The entries of the tar (plain, gzip or zstd) stand below the directory, which others may be changing: (entries,
    bytes of files). No name leads out of it. Raises LAYER_CORRUPT, LAYER_REJECTED, LIMIT_EXCEEDED, STORAGE_FULL,
    IO_FAILED, CANCELLED; what was unpacked before stays. `max_bytes`: of the uncompressed tar, and of its files with
    their holes counted. Blocking."""
