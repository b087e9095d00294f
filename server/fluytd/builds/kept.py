"""Contexts that stay in memory for a while, for the build that follows an upload and for the next one."""

import threading
from collections import OrderedDict
from typing import Final, Generic, Protocol, TypeVar

#: Contexts kept, and the bytes of their entries in memory; those used longest ago go first.
MAX_KEPT: Final = 8
MAX_KEPT_BYTES: Final = 32 * 1024 * 1024


class Weighed(Protocol):
    """A context as a tree."""

    @property
    def index_bytes(self) -> int:
        """Bytes that its entries take in memory, about."""


T = TypeVar("T", bound=Weighed)


class KeptTrees(Generic[T]):
    """Whole contexts by their ids, each as it is on disk. Thread-safe."""

    def __init__(self) -> None:
        """None yet."""
        self._trees: OrderedDict[str, T] = OrderedDict()
        self._lock = threading.Lock()
        self._changes = 0

    def get(self, context_id: str) -> T | None:
        """The context, which has been used just now."""
        with self._lock:
            tree = self._trees.get(context_id)
            if tree is not None:
                self._trees.move_to_end(context_id)
            return tree

    @property
    def changes(self) -> int:
        """A number that tells whether a context on disk has changed since: read it before the context."""
        with self._lock:
            return self._changes

    def put(self, context_id: str, tree: T, changes: int) -> None:
        """The context is kept, unless one has changed since it was read, or it is too large."""
        with self._lock:
            if changes != self._changes or tree.index_bytes > MAX_KEPT_BYTES:
                return
            self._trees[context_id] = tree
            self._trees.move_to_end(context_id)
            size_bytes = sum(kept.index_bytes for kept in self._trees.values())
            while len(self._trees) > MAX_KEPT or size_bytes > MAX_KEPT_BYTES:
                _, dropped = self._trees.popitem(last=False)
                size_bytes -= dropped.index_bytes

    def drop(self, context_id: str) -> int:
        """The context has changed on disk just now. Returns `changes`."""
        with self._lock:
            self._changes += 1
            self._trees.pop(context_id, None)
            return self._changes

    def clear(self) -> None:
        """None is kept."""
        with self._lock:
            self._trees.clear()
