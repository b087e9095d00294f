"""Holds work in flight keeps on content that no image names yet. It lives in memory: no work survives the daemon.

A lease is taken before it is looked whether the content is there. A deletion asks here first and is announced here, so
that neither a present blob is deleted under a pull that has just seen it, nor a deleted one taken for present.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager


class Lease:
    """What one piece of work holds."""

    def __init__(self, leases: "Leases") -> None:
        self._leases = leases
        self._held: set[str] = set()

    async def add(self, resources: Iterable[str]) -> None:
        """Nothing of `resources` (digests of blobs, ids of layers) is deleted until the lease ends.

        Returns once deletions that had begun have ended, so that what is there then stays.
        """
        for resource in set(resources) - self._held:
            self._held.add(resource)
            await self._leases.hold(resource)

    @property
    def resources(self) -> frozenset[str]:
        """All that it holds; nothing once it has ended."""
        return frozenset(self._held)

    def release(self) -> None:
        """The lease ends. Idempotent."""
        for resource in self._held:
            self._leases.drop(resource)
        self._held.clear()


class Leases:
    """All holds and all deletions under way. Belongs to the event loop."""

    def __init__(self) -> None:
        self._holds: Counter[str] = Counter()
        self._deletions: dict[str, asyncio.Event] = {}

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease]:
        """A lease for the length of the block."""
        lease = Lease(self)
        try:
            yield lease
        finally:
            lease.release()

    def is_held(self, resource: str) -> bool:
        """True if any work holds it."""
        return resource in self._holds

    async def hold(self, resource: str) -> None:
        """Counts one more hold; waits for a deletion that has begun."""
        self._holds[resource] += 1
        deletion = self._deletions.get(resource)
        if deletion is not None:
            await deletion.wait()

    def drop(self, resource: str) -> None:
        """Counts one hold less."""
        self._holds[resource] -= 1
        if self._holds[resource] <= 0:
            del self._holds[resource]

    @asynccontextmanager
    async def deletion(self, resource: str) -> AsyncIterator[bool]:
        """Yields whether the resource may be deleted within the block: nobody holds it and nobody else deletes it."""
        if resource in self._holds or resource in self._deletions:
            yield False
            return
        ended = self._deletions[resource] = asyncio.Event()
        try:
            yield True
        finally:
            del self._deletions[resource]
            ended.set()
