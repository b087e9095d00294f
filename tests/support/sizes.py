"""What files take, counted while a daemon adds and removes some of them."""

import stat
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path) -> Iterator[tuple[Path, int]]:
    """Each regular file below `folder` and its bytes, in no order. What goes while they are counted is left out."""
    try:
        paths = list(folder.iterdir())
    except FileNotFoundError:
        return
    for path in paths:
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from files_below(path)
        elif stat.S_ISREG(status.st_mode):
            yield path, status.st_size


def bytes_below(folder: Path) -> int:
    """The sum of `files_below`."""
    return sum(size for _, size in files_below(folder))
