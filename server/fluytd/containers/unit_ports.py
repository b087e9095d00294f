"""What the scopes of containers need of systemd."""

from collections.abc import Sequence
from typing import Protocol

from fluytd.containers.units import Property


class Units(Protocol):
    """Transient units of the host's systemd. Every call is blocking and bounded in time, may be made from any thread,
    and raises SYSTEMD_UNAVAILABLE or SYSTEMD_UNIT_FAILED."""

    def start(self, name: str, properties: Sequence[Property]) -> None:
        """The unit runs. One of that name that was left behind is stopped first."""

    def attach(self, name: str, subgroup: str, pid: int) -> None:
        """A process is in a group below the unit's, which is made."""

    def get(self, name: str, properties: Sequence[str]) -> list[Property]:
        """What these properties are now."""

    def set(self, name: str, properties: Sequence[Property]) -> None:
        """They are this from now on, until the unit ends."""

    def stop(self, name: str) -> None:
        """The unit is gone, its processes killed. Idempotent."""

    def list(self, pattern: str) -> Sequence[tuple[str, str]]:
        """(name, description) of the units that systemd has loaded."""

    def close(self) -> None:
        """The connection is given up. Idempotent."""
