"""Waiting for a condition with a deadline, in place of sleeps of a guessed length."""

import asyncio
import inspect
import time
from collections.abc import Callable

#: Far above what a loaded machine needs; a condition that does not come is a failure, not a slow test.
DEADLINE_SECONDS = 15.0
_STEP_SECONDS = 0.005


async def until(condition: Callable[[], object], what: str = "", deadline_seconds: float = DEADLINE_SECONDS) -> None:
    """Returns once `condition()` (or what it awaits to) is true; fails after the deadline, naming `what`."""
    end = time.monotonic() + deadline_seconds
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_seconds} s: {what or inspect.getsource(condition).strip()}")
        await asyncio.sleep(_STEP_SECONDS)


def until_now(condition: Callable[[], object], what: str = "", deadline_seconds: float = DEADLINE_SECONDS) -> None:
    """As `until`, for code that has no loop."""
    end = time.monotonic() + deadline_seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_seconds} s: {what or inspect.getsource(condition).strip()}")
        time.sleep(_STEP_SECONDS)
