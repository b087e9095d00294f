"""Numbers of project quotas that this engine gives to what it bounds: volumes and writable layers. Pure.

Who has a number says so in its record; none is noted a second time.
"""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Final

from fluytd.errors import LimitExceeded

#: The range unless the settings say otherwise: beyond what others take, who begin low.
FIRST_PROJECT_ID: Final = 1 << 20
PROJECT_COUNT: Final = 1 << 16
#: The smallest bound: what stands in it before anything is written takes some of it.
MIN_BOUND_BYTES: Final = 1024**2
#: A bound of bytes is one of inodes too: empty files take no bytes, but inodes, which run out as well. One for each
#: block, since whatever is not empty takes a block, and this many at least.
BYTES_PER_INODE: Final = 4096
MIN_BOUND_INODES: Final = 1024


def inode_bound(limit_bytes: int) -> int:
    """Most inodes of what may take so many bytes."""
    return max(MIN_BOUND_INODES, limit_bytes // BYTES_PER_INODE)


class Projects:
    """A range of numbers. Belongs to the event loop."""

    def __init__(self, first: int, count: int) -> None:
        """`first`, `count`: the range, which nobody else on the host's file systems uses."""
        self.first: int = first
        self.last: int = first + count - 1
        self._next: int = first
        #: Each tells the numbers that its records hold; 0 is none.
        self.holders: list[Callable[[], Iterable[int]]] = []

    def held(self) -> frozenset[int]:
        """The numbers that records hold."""
        return frozenset(number for holder in self.holders for number in holder()) - {0}

    def take(self, is_counted: Callable[[int], bool]) -> int:
        """A number that no record holds and for which nothing `is_counted`: of who had it last, files may be left. The
        caller records it before anything is awaited. Raises LIMIT_EXCEEDED."""
        held = self.held()
        for number in chain(range(self._next, self.last + 1), range(self.first, self._next)):
            if number not in held and not is_counted(number):
                self._next = number + 1 if number < self.last else self.first
                return number
        count = self.last - self.first + 1
        raise LimitExceeded(
            limit="quota_project_count", limit_value=count, actual=count + 1, subject="numbers of project quotas"
        )
