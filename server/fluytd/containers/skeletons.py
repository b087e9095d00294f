"""Directories of containers that are made before there is one, and trees that are removed after it has gone.

D/prepared/<name>/     what `directories.py` draws, empty; a creation fills it and renames it to containers/<id>, so
                       that what stands there is whole
D/removed/<name>/      renamed from containers/<id> by a removal that nobody waits for

Both renames take microseconds where making or removing a tree takes more than a millisecond. What stands in either
place belongs to no container: the next start of the daemon removes it.
"""

import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from fluytd import failpoints
from fluytd.errors import EngineError

#: Skeletons that wait for the next creations.
READY_SKELETONS: Final = 8
#: Name and mode of each directory of a skeleton.
DIRECTORIES: Final = (("upper", 0o755), ("work", 0o700), ("log", 0o700))
#: Files of a skeleton, empty, and their modes: users other than root read them inside.
FILES: Final = (("hosts", 0o644), ("hostname", 0o644), ("resolv.conf", 0o644))
_MODE: Final = 0o710

#: A path, its permissions, and names in it with theirs. See `_core.host.make_tree`.
MakeTree = Callable[[str, int, Sequence[tuple[str, int]], Sequence[tuple[str, int]]], None]
_log = logging.getLogger(__name__)


class Skeletons:
    """The two places below one data root. Thread-safe."""

    def __init__(self, data_root: Path, make_tree: MakeTree, remove_tree: Callable[[str], None]) -> None:
        """Both places are there; what an earlier daemon left in them waits for `tidy`. Blocking."""
        self._make_tree = make_tree
        self._remove_tree = remove_tree
        self._prepared = f"{data_root}/prepared"
        self._removed = f"{data_root}/removed"
        self._ready: deque[str] = deque()
        #: Two that prepare at once would each make what is missing.
        self._preparing = threading.Lock()
        # Names of this daemon, unlike those of an earlier one whose trees may still stand.
        self._names = (f"{time.time_ns():x}-{number}" for number in itertools.count())
        for place in (self._prepared, self._removed):
            Path(place).mkdir(mode=0o700, parents=True, exist_ok=True)
        for entry in list(os.scandir(self._prepared)):
            self.drop(entry.path)

    def take(self) -> str:
        """A skeleton of the caller's, who renames or drops it. Raises IO_FAILED or STORAGE_FULL; nothing of it stands
        then. Blocking if none was ready."""
        try:
            return self._ready.popleft()
        except IndexError:
            path = f"{self._prepared}/{next(self._names)}"
        try:
            self._make(path)
        except BaseException:
            self._remove_tree(path)
            raise
        return path

    def prepare(self) -> None:
        """`READY_SKELETONS` wait. Raises IO_FAILED or STORAGE_FULL. Blocking."""
        with self._preparing:
            while len(self._ready) < READY_SKELETONS:
                path = f"{self._prepared}/{next(self._names)}"
                failpoints.hit("container.prepare.directories")
                self._make(path)
                self._ready.append(path)

    def _make(self, path: str) -> None:
        # Part of it may stand after a failure.
        self._make_tree(path, _MODE, DIRECTORIES, FILES)

    def drop(self, path: str) -> None:
        """Nothing stands at `path` any more; an absent one is no error. Raises OSError of the rename."""
        try:
            Path(path).rename(f"{self._removed}/{next(self._names)}")
        except FileNotFoundError:
            return

    def clear(self) -> None:
        """Nothing waits and nothing that was dropped is left. Blocking."""
        while self._ready:
            self.drop(self._ready.popleft())
        self.tidy()

    def tidy(self) -> None:
        """What was dropped so far is gone; what cannot be removed is logged, and tried again next time. Blocking."""
        for entry in os.scandir(self._removed):
            failpoints.hit("container.tidy.directories")
            try:
                self._remove_tree(entry.path)
            except EngineError as error:
                _log.error("%s cannot be removed: %s", entry.path, error)
