"""The time, passed in so that tests can set it. It never sleeps."""

import time
from typing import Protocol


class Clock(Protocol):
    """What the engine asks of a clock."""

    def now_unix_nanos(self) -> int:
        """Wall-clock time since 1970 in nanoseconds; may jump."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""


class SystemClock:
    """The host's clock."""

    def now_unix_nanos(self) -> int:
        """CLOCK_REALTIME."""
        return time.time_ns()

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC."""
        return time.monotonic()
