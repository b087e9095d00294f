"""What further processes need."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol

from fluytd.events.model import Fact
from fluytd.execs.model import ExecSession


class Records(Protocol):
    """Sessions in the durable store. Writes are carried out in the order of the calls, whether awaited or not. The rows
    of a container's sessions go with the container's."""

    async def load(self) -> list[ExecSession]:
        """All that can be read, oldest first. Raises IO_FAILED, DATA_CORRUPT if there is no reading at all."""

    def save(self, session: ExecSession, facts: Sequence[Fact], labels: Mapping[str, str]) -> Awaitable[None]:
        """Stores the session together with what happened to it, told with the container's labels; done when it is
        stored. Raises STORAGE_FULL, IO_FAILED when awaited."""

    def delete(self, exec_id: str) -> Awaitable[None]:
        """Removes the record; idempotent. As `save` otherwise."""
