"""Threads for blocking calls."""

import asyncio
import threading

import pytest

from fluytd.workers import Workers


async def test_results_and_errors_reach_the_caller() -> None:
    workers = Workers(2, 1)

    def fail() -> None:
        raise ValueError("told")

    assert await workers.run(lambda a, b: a + b, 1, b=2) == 3
    with pytest.raises(ValueError, match="told"):
        await workers.run(fail)
    assert await workers.run_transfer(threading.get_ident) != threading.get_ident()
    workers.close()


async def test_no_more_calls_run_at_once_than_there_are_threads_and_each_gets_its_turn() -> None:
    workers = Workers(3, 1)
    lock, running, most = threading.Lock(), 0, 0
    # Only three at once get through it; a thread too few would break it.
    barrier = threading.Barrier(3, timeout=10)

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait()
        with lock:
            running -= 1

    await asyncio.gather(*(workers.run(work) for _ in range(9)))
    assert most == 3
    workers.close()


async def test_a_cancelled_await_leaves_the_call_to_its_end() -> None:
    workers = Workers(1, 1)
    go, done = threading.Event(), threading.Event()

    def work() -> None:
        go.wait(5)
        done.set()

    waiting = asyncio.ensure_future(workers.run(work))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    assert await workers.run(done.is_set)
    workers.close()


async def test_close_waits_for_what_was_given_and_refuses_more() -> None:
    workers = Workers(1, 1)
    ran: list[int] = []
    given = [asyncio.ensure_future(workers.run(ran.append, number)) for number in range(5)]
    await asyncio.sleep(0)
    await asyncio.to_thread(workers.close)
    await asyncio.gather(*given)
    assert ran == [0, 1, 2, 3, 4]
    with pytest.raises(RuntimeError, match="closed"):
        await workers.run(ran.append, 6)
