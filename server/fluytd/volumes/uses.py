"""What containers do with volumes: take them when they are created, have them filled, let go of them."""

import logging
from collections.abc import Callable, Sequence

from fluytd import failpoints
from fluytd.containers.model import Container, MountedVolume
from fluytd.containers.spec import VolumeSpec
from fluytd.containers.volume_mounts import server_of
from fluytd.errors import EngineError, VolumeInUse, VolumeNotFound
from fluytd.volumes import make, servers
from fluytd.volumes.context import VolumeContext
from fluytd.volumes.model import LOCAL_DRIVER, VolumeState, VolumeWish, normalised
from fluytd.volumes.service import check
from fluytd.volumes.table import VolumeEntry

_log = logging.getLogger(__name__)


class VolumeUses:
    """Implements `containers.ports.Volumes`."""

    def __init__(self, ctx: VolumeContext) -> None:
        """Over the volumes of `ctx`."""
        self._ctx = ctx

    def take(self, wish: VolumeSpec, at: str) -> MountedVolume:
        """See `ports.Volumes.take`."""
        asked = normalised(VolumeWish(wish.name, wish.driver, wish.driver_options, wish.labels), at)
        check(self._ctx, asked, at)
        volume = make.entry_for(self._ctx, asked).volume
        return MountedVolume(
            target=wish.target,
            volume_id=volume.id,
            name=volume.name,
            driver=volume.driver,
            driver_options=dict(volume.driver_options),
            sub_path=wish.sub_path,
            read_only=wish.read_only,
            no_copy=wish.no_copy,
            # One that was made without a name and is asked for by the one it got is as good as named.
            is_anonymous=not wish.name,
            relabel=wish.relabel,
            position=wish.position,
        )

    def forget(self, taken: Sequence[MountedVolume]) -> None:
        """See `ports.Volumes.forget`."""
        for one in taken:
            entry = self._ctx.table.get(one.volume_id)
            if entry is not None and self._is_unmade(entry):
                self._ctx.table.remove(entry)

    def _is_unmade(self, entry: VolumeEntry) -> bool:
        is_creating = entry.volume.state is VolumeState.CREATING
        return is_creating and not entry.lock.locked() and not self._ctx.held(entry.volume)

    async def provide(self, container: Container, lower_dirs: Callable[[], Sequence[str]]) -> None:
        """See `ports.Volumes.provide`."""
        ctx = self._ctx
        for use in container.resolved.volumes:
            entry = ctx.table.get(use.volume_id)
            if entry is None:
                raise VolumeNotFound(volume=use.name)
            async with entry.lock:
                await make.made(ctx, entry)
                if entry.volume.has_data_here and not use.no_copy and not use.sub_path:
                    await self._fill(entry, use.target, lower_dirs)

    async def _fill(self, entry: VolumeEntry, target: str, lower_dirs: Callable[[], Sequence[str]]) -> None:
        ctx, volume_id = self._ctx, entry.volume.id
        cancel = ctx.directories.new_cancel_token()

        def fill() -> bool:
            failpoints.hit("volume.fill.copy")
            return ctx.directories.fill(volume_id, lower_dirs(), target, cancel)

        if await ctx.workers.run_transfer(fill):
            failpoints.hit("volume.fill.settle")
            await ctx.workers.run(ctx.directories.settle, volume_id)
            ctx.meter.note_change(volume_id)

    async def attach(self, container: Container) -> dict[str, str]:
        """See `ports.Volumes.attach`."""
        found = {}
        for use in _elsewhere(container):
            found[use.volume_id] = await self._ctx.drivers.attach(use.driver, use.volume_id, container.id)
        for use in container.resolved.volumes:
            server = server_of(use.driver_options) if use.driver == LOCAL_DRIVER else None
            if server is not None and use.volume_id not in found:
                found[use.volume_id] = await servers.address_of(server, use.name)
        return found

    async def detach(self, container: Container) -> None:
        """See `ports.Volumes.detach`."""
        for use in _elsewhere(container):
            try:
                await self._ctx.drivers.detach(use.driver, use.volume_id, container.id)
            except EngineError as error:
                _log.error("volume %s: it could not be detached from %s: %s", use.name, container.id, error)

    async def release(self, container: Container, *, removes_anonymous: bool) -> None:
        """See `ports.Volumes.release`."""
        ctx = self._ctx
        for use in container.resolved.volumes:
            entry = ctx.table.get(use.volume_id)
            if entry is None:
                continue
            async with entry.lock:
                if entry.is_removed:
                    continue
                others = [one for one in ctx.held(entry.volume) if one.container_id != container.id]
                if others:
                    continue
                if entry.volume.state is VolumeState.CREATING:
                    ctx.table.remove(entry)
                elif removes_anonymous and use.is_anonymous and entry.volume.is_anonymous:
                    try:
                        await make.destroyed(ctx, entry, apart_from=container.id)
                    except VolumeInUse:
                        _log.info("volume %s stays: another container has taken it", entry.volume.name)


def _elsewhere(container: Container) -> list[MountedVolume]:
    """The volumes that drivers keep, each once."""
    volumes = {use.volume_id: use for use in container.resolved.volumes if use.driver != LOCAL_DRIVER}
    return list(volumes.values())
