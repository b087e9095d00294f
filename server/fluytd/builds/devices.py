"""CDI devices of the host, as builds ask for them."""

from collections.abc import Sequence
from dataclasses import dataclass

from fluytd.builds.ports import FoundDevice
from fluytd.containers.cdi_registry import CdiRegistry
from fluytd.workers import Workers


@dataclass(frozen=True, slots=True)
class CdiDevices:
    """Implements `ports.HostDevices`."""

    registry: CdiRegistry
    workers: Workers

    async def find(self, name: str) -> Sequence[FoundDevice]:
        """See `ports.HostDevices.find`."""
        return await self.workers.run(self.registry.matches, name)

    async def mount_points(self, names: Sequence[str]) -> tuple[str, ...]:
        """See `ports.HostDevices.mount_points`."""
        edits = await self.workers.run(self.registry.edits, names)
        outside = (node.path for node in edits.asked_nodes if not node.path.startswith("/dev/"))
        return (*outside, *(mount.destination for mount in edits.mounts))

    async def as_written(self, names: Sequence[str]) -> tuple[str, ...]:
        """See `ports.HostDevices.as_written`."""
        return await self.workers.run(self.registry.as_written, names)

    @property
    def places(self) -> str:
        """See `ports.HostDevices.places`."""
        return self.registry.places
