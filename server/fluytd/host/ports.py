"""What the host service needs of others."""

from pathlib import Path
from typing import Protocol

from fluytd.host.model import HostFacts, Storage


class Probe(Protocol):
    """Looks the host up. The functions of `probe.py`."""

    def probe(self, data_root: Path) -> HostFacts:
        """Everything about the host. Blocking."""

    def storage(self, data_root: Path) -> Storage:
        """The file system below the data root. Blocking."""
