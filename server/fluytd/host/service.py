"""The host as it was probed when the daemon began, and its storage as it is now."""

from pathlib import Path

from fluytd.host.model import HostFacts, Need, Storage
from fluytd.host.ports import Probe
from fluytd.workers import Workers


class HostService:
    """Facts about the host, for GetInfo and for whoever must know what the kernel allows."""

    def __init__(self, probe: Probe, workers: Workers, data_root: Path) -> None:
        """`data_root` must exist before `facts` is first asked for; what is tried there leaves nothing behind."""
        self._probe = probe
        self._workers = workers
        self._data_root = data_root
        self._facts: HostFacts | None = None

    async def facts(self) -> HostFacts:
        """What the host is and allows; looked up once."""
        if self._facts is None:
            self._facts = await self._workers.run(self._probe.probe, self._data_root)
        return self._facts

    async def storage(self) -> Storage:
        """The file system of the data root as it is now."""
        return await self._workers.run(self._probe.storage, self._data_root)

    async def warnings(self) -> list[str]:
        """One sentence for each thing that an operator should know."""
        facts = await self.facts()
        return [
            f"{capability.name} is missing ({capability.detail or 'no detail'}): {capability.next_step}"
            for capability in facts.capabilities
            if not capability.is_available and capability.need is not Need.OPTIONAL
        ]
