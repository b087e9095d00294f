"""Threads for calls that block. It knows nothing of what it runs.

Three bounded pools: short calls (a container's start, a small file) never wait behind transfers of minutes, and neither
behind calls on file systems that may not answer.

A pool is a queue and its threads. `concurrent.futures` does the same with two futures, a condition and a semaphore for
each call, which took 0.3 ms of every hop, several of them a start.
"""

import asyncio
import contextlib
import functools
import queue
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar

from fluytd import tracing

P = ParamSpec("P")
T = TypeVar("T")

#: Threads for foreign calls; made when they are needed.
FOREIGN_WORKERS: Final = 128
#: How long such calls may take to end when the engine does.
FOREIGN_CLOSE_SECONDS: Final = 2.0

_Job = tuple["asyncio.Future[Any]", Callable[[], Any]]


class Workers:
    """The engine's threads. Made by the composition root, used from the event loop, closed after the last service."""

    def __init__(self, worker_count: int, transfer_worker_count: int) -> None:
        """`worker_count`: threads for short calls; `transfer_worker_count`: threads for downloads and extraction."""
        self._short = _Pool(worker_count, "worker")
        self._transfers = _Pool(transfer_worker_count, "transfer")
        self._foreign = _Pool(FOREIGN_WORKERS, "foreign")

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a call that ends within milliseconds; one thread hop.

        Cancelling the await does not end the call; its result is then dropped.
        """
        return await self._submitted(self._short, "work", functools.partial(fn, *args, **kwargs))

    async def run_foreign(self, call: Callable[[], T]) -> T:
        """The result of a call that may wait for others than the kernel, for ever at worst: the caller bounds how many
        there are at once. As `run`, but even where the await is cancelled, the call has ended on return."""
        return await self._ended(self._submitted(self._foreign, "foreign", functools.partial(call)))

    async def run_to_end(self, call: Callable[[], T]) -> T:
        """As `run`, but even where the await is cancelled, the call has ended on return."""
        return await self._ended(self.run(call))

    @staticmethod
    async def _ended(submitted: Coroutine[Any, Any, T]) -> T:
        work = asyncio.ensure_future(submitted)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait({work})
            if not work.cancelled():
                work.exception()  # taken note of: nobody is left to hear of it
            raise

    async def run_transfer(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a call that may take minutes; a cancel token ends it, cancelling the await does not."""
        return await self._submitted(self._transfers, "transfer", functools.partial(fn, *args, **kwargs))

    async def _submitted(self, pool: "_Pool", kind: str, call: "functools.partial[T]") -> T:
        result: T
        if tracing.installed() is None:
            result = await pool.submit(call)
        else:
            with tracing.step(f"{kind}.{getattr(call.func, '__name__', type(call.func).__name__)}"):
                result = await pool.submit(tracing.carried(call))
        return result

    def close(self) -> None:
        """No further call is accepted; returns when all that were have ended, but for foreign ones that do not in time,
        whose threads end with the process. Blocking."""
        self._short.close()
        self._transfers.close()
        self._foreign.close(FOREIGN_CLOSE_SECONDS)


class _Pool:
    """Threads that are started as they are needed, `count` at most."""

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        #: Jobs given and not yet told as done: no thread is idle while there are as many as threads.
        self._pending = 0
        self._is_closed = False

    def submit(self, call: Callable[[], Any]) -> "asyncio.Future[Any]":
        if self._is_closed:
            raise RuntimeError("the workers are closed")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending += 1
        if self._pending > len(self._threads) and len(self._threads) < self._count:
            name = f"{self._name}_{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put((future, call))
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, call = job
            result, error = None, None
            try:
                result = call()
            except BaseException as raised:  # noqa: BLE001 - whatever it is, it is the caller's to see
                error = raised
            # A loop that is closed has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                future.get_loop().call_soon_threadsafe(self._tell, future, result, error)
            # Nothing of a call outlives it here.
            del job, future, call, result, error

    def _tell(self, future: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
        self._pending -= 1
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def close(self, timeout: float | None = None) -> None:
        self._is_closed = True
        for _ in self._threads:
            self._jobs.put(None)
        end = None if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
