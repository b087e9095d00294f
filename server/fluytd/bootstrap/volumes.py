"""Volumes: their directories, their records, their service."""

from collections.abc import Callable, Mapping

from fluytd.api.volume_drivers import SocketDrivers
from fluytd.bootstrap.base import Base
from fluytd.bootstrap.images import ImageParts
from fluytd.containers.service import ContainerService
from fluytd.host.quotas import ProjectQuotas
from fluytd.roots import empty_directory
from fluytd.state.volumes import StoredVolumes
from fluytd.volumes.context import VolumeContext
from fluytd.volumes.meter import VolumeMeter
from fluytd.volumes.ports import VolumeHolder
from fluytd.volumes.service import VolumeService
from fluytd.volumes.store import CoreVolumeDirectories

#: Who is told as the actor until callers by TCP have names of their own in events.
ACTOR = "root"


class _Late:
    """What volumes ask of containers, which are made later."""

    def __init__(self, get: Callable[[], ContainerService]) -> None:
        self._get = get

    def volume_holders(self, volume_id: str) -> list[VolumeHolder]:
        """See `Holders.volume_holders`."""
        return self._get().volume_holders(volume_id)

    def all_volume_holders(self) -> Mapping[str, list[VolumeHolder]]:
        """See `Holders.all_volume_holders`."""
        return self._get().all_volume_holders()

    def note_volume_name(self, volume_id: str, name: str) -> None:
        """See `Holders.note_volume_name`."""
        self._get().note_volume_name(volume_id, name)


async def volumes_of(
    base: Base, images: ImageParts, containers: Callable[[], ContainerService], quotas: ProjectQuotas
) -> VolumeService:
    """None is known yet (see `VolumeService.open`)."""
    root = base.config.data_root
    layers = images.layers.core
    directories = await base.workers.run(CoreVolumeDirectories, root, layers, empty_directory(root), quotas)
    service = VolumeService(
        VolumeContext(
            directories=directories,
            drivers=SocketDrivers(base.config.volume_drivers_dir),
            records=StoredVolumes(base.database, ACTOR),
            holders=_Late(containers),
            workers=base.workers,
            clock=base.clock,
            meter=VolumeMeter(directories, base.workers),
            quotas=quotas,
        )
    )
    table = service.ctx.table
    quotas.projects.holders.append(lambda: [entry.volume.project_id for entry in table])
    base.undo.push_async_callback(service.close)
    return service
