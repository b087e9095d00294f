"""Threads for calls that block. It knows nothing of what it runs.

Two bounded pools: short calls (a container's start, a small file) never wait behind transfers of minutes.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """The engine's threads. Made once by the composition root, closed after the last service."""

    def __init__(self, worker_count: int, transfer_worker_count: int) -> None:
        """`worker_count`: threads for short calls; `transfer_worker_count`: threads for downloads and extraction."""
        self._short = ThreadPoolExecutor(worker_count, thread_name_prefix="worker")
        self._transfers = ThreadPoolExecutor(transfer_worker_count, thread_name_prefix="transfer")

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a call that ends within milliseconds; one thread hop.

        Cancelling the await does not end the call; its result is then dropped.
        """
        return await _run(self._short, fn, *args, **kwargs)

    async def run_transfer(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a call that may take minutes; a cancel token ends it, cancelling the await does not."""
        return await _run(self._transfers, fn, *args, **kwargs)

    def close(self) -> None:
        """No further call is accepted; returns when the running ones have ended. Blocking."""
        self._short.shutdown(wait=True)
        self._transfers.shutdown(wait=True, cancel_futures=True)


async def _run(pool: Executor, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    loop = asyncio.get_running_loop()
    if kwargs:
        return await loop.run_in_executor(pool, lambda: fn(*args, **kwargs))
    return await loop.run_in_executor(pool, fn, *args)
