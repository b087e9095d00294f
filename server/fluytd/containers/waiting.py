"""Supervisors that wait with an interface in their network namespace, for containers on networks to come.

It decides how many wait. It knows neither how an interface is made nor what becomes of one that is taken.
"""

import threading
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from fluytd.networks.ports import Namespace

#: Most that wait; each is a process, a network namespace, a veth pair, and six descriptors.
MAX_WAITING: Final = 4


class Ready(Protocol):
    """A supervisor without a container; see `_core.process.ReadySupervisor`."""

    def is_alive(self) -> bool:
        """See there."""

    def close(self) -> None:
        """See there. Blocking."""


R = TypeVar("R", bound=Ready)
N = TypeVar("N", bound=Namespace)


class WaitingSupervisors(Generic[R, N]):
    """Those that wait. None does before the first container with an interface was started: many engines have none.

    They end with this process, and interfaces go with their namespaces. Shared between threads.
    """

    def __init__(self, make: Callable[[], tuple[R, N]]) -> None:
        """`make`: another one, with the namespace that has its interface. Blocking."""
        self._make = make
        self._lock = threading.Lock()
        self._waiting: list[tuple[R, N]] = []
        self._is_wanted = False

    def take(self) -> tuple[R, N] | None:
        """One that waited, the caller's from now on; None if none does. Never blocks for long."""
        with self._lock:
            self._is_wanted = True
            while self._waiting:
                ready, namespace = self._waiting.pop()
                # Whatever ended one while it waited must not fail a start.
                if ready.is_alive():
                    return ready, namespace
        return None

    def fill(self) -> None:
        """As many wait as may. To be called by one thread at a time. Raises as `make`. Blocking (2 ms each)."""
        while self._is_wanted and len(self._waiting) < MAX_WAITING:
            made = self._make()
            with self._lock:
                self._waiting.append(made)

    def close(self) -> None:
        """None waits, and none will. Blocking."""
        with self._lock:
            self._is_wanted, waiting, self._waiting = False, self._waiting, []
        for ready, _ in waiting:
            ready.close()
