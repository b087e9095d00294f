"""What networks by plugins need: the programs and lists of the host, and the store."""

from collections.abc import Mapping
from typing import Protocol

from fluytd.networks.cni.model import PluginAttachment


class PluginEnd(Protocol):
    """What came of an execution; see `_core.network.PluginEnd`."""

    @property
    def end(self) -> str: ...
    @property
    def code(self) -> int: ...
    @property
    def output(self) -> bytes: ...
    @property
    def errors(self) -> bytes: ...


class Plugins(Protocol):
    """Configuration lists and plugins that the host's operator has installed. All methods block."""

    def read_list(self, name: str) -> str:
        """The text of the list of that name. Raises FIELD_INVALID, IO_FAILED."""

    def find(self, kind: str) -> str:
        """The program of a plugin. Raises FIELD_INVALID."""

    def run(self, kind: str, environment: Mapping[str, str], config: bytes, file_name: str) -> PluginEnd:
        """Executes a plugin with this environment and where others are found, and nothing else; it reads the
        configuration from a file of this name, and no two with one name run at once. Raises FIELD_INVALID,
        IO_FAILED."""

    def forget(self, file_name: str) -> None:
        """The file of that name is gone. Idempotent."""


class PluginRecords(Protocol):
    """Attachments in the durable store."""

    async def load(self) -> list[PluginAttachment]:
        """All, in no order; one that does not read back is logged and left out. Raises IO_FAILED."""

    def save(self, attachment: PluginAttachment) -> None:
        """Stored durably. Blocking, never on the event loop. Raises STORAGE_FULL, IO_FAILED."""

    def delete(self, attachment: PluginAttachment) -> None:
        """Removed. Blocking, never on the event loop. Raises STORAGE_FULL, IO_FAILED."""
