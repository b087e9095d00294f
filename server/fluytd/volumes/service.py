"""The volumes of this engine: one method a verb. It knows no transport."""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from fluytd import failpoints
from fluytd.containers.volume_mounts import bound_device, check_local_options
from fluytd.errors import (
    EngineError,
    FieldInvalid,
    VersionConflict,
    VolumeDriverFailed,
    VolumeDriverNotFound,
    VolumeInUse,
    VolumeNotFound,
)
from fluytd.events.model import VolumeRenamed
from fluytd.operations.ports import CancelToken
from fluytd.volumes import make, model
from fluytd.volumes.context import VolumeContext
from fluytd.volumes.meter import VolumeSize
from fluytd.volumes.model import MAX_PRUNED, Volume, VolumeFilter, VolumeState, VolumeWish
from fluytd.volumes.ports import VolumeHolder
from fluytd.volumes.servers import with_addresses

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: Bytes of one part of an export, all but the last; what the API promises as the most.
CHUNK_BYTES: Final = 256 * 1024
_ID: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Exported:
    """The end of an export: all of it was sent."""

    size_bytes: int
    entry_count: int


@dataclass(frozen=True, slots=True)
class Shown:
    """A volume with what stands around it."""

    volume: Volume
    #: Absolute, on the host.
    data_path: str
    #: None: not known.
    size: VolumeSize | None
    #: Containers that have it, oldest first.
    container_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went, or would go."""

    names: list[str]
    reclaimed_bytes: int


class VolumeService:
    """Made once; belongs to the event loop. Verbs that change something are carried to their end although the caller
    may be cancelled, but for those that copy data."""

    def __init__(self, ctx: VolumeContext) -> None:
        """Knows no volume before `open`."""
        self.ctx = ctx

    async def open(self) -> None:
        """Every volume of an earlier daemon is known; what it left half made or half deleted is gone, and what it was
        putting in place is there. Called once, before containers are recovered. One volume that cannot be seen to
        hinders no other. Raises IO_FAILED if there is no reading at all."""
        ctx = self.ctx
        loaded = await ctx.records.load()
        for volume_id, failure in loaded.unreadable.items():
            _log.error("volume %s: its record cannot be read and is left alone: %s", volume_id, failure.message)
        standing = set(await ctx.workers.run(ctx.directories.list))
        known = set(loaded.unreadable)
        for volume in loaded.volumes:
            known.add(volume.id)
            failpoints.hit("volume.recover")
            try:
                await self._recover(volume, is_standing=volume.id in standing)
            except EngineError as error:
                _log.error("volume %s: it could not be brought in order: %s", volume.name, error)
        for name in sorted(standing - known):
            if _ID.fullmatch(name):
                await ctx.workers.run(ctx.directories.remove, name)

    async def _recover(self, volume: Volume, *, is_standing: bool) -> None:
        ctx = self.ctx
        if volume.state is not VolumeState.READY:
            try:
                await make.remove_data(ctx, volume)
            except (VolumeDriverFailed, VolumeDriverNotFound) as error:
                # Kept until its driver is there again: it can be deleted then.
                ctx.table.add(model.deleting(volume))
                _log.error("volume %s: what is left of it cannot be removed now: %s", volume.name, error)
                return
            await ctx.records.delete(volume, ())
            return
        ctx.table.add(volume)
        if not volume.is_local:
            return
        if is_standing:
            await ctx.workers.run(ctx.directories.settle, volume.id)
        else:
            _log.error("volume %s: its data is gone from the data root", volume.name)

    def measure(self) -> None:
        """What volumes take is counted from now on, once `ctx.meter.run` runs."""
        self.ctx.meter.open(self.ctx.table, self.ctx.holders)

    async def close(self) -> None:
        """Verbs under way have ended."""
        while self.ctx.tasks:
            await asyncio.wait(self.ctx.tasks)

    async def create(self, wish: VolumeWish) -> Volume:
        """The volume is there, durably; one of this name that is as wished is answered as it is.

        Raises FIELD_INVALID, LIMIT_EXCEEDED, VOLUME_DRIVER_NOT_FOUND, VOLUME_EXISTS, OPERATION_IN_PROGRESS,
        STORAGE_FULL, IO_FAILED: nothing is left then.
        """
        wish = model.normalised(wish)
        check(self.ctx, wish)
        # Who creates a volume means one of the local driver if none is named; who mounts one takes it as it is.
        wish = replace(wish, driver=wish.driver or model.LOCAL_DRIVER)

        async def work() -> Volume:
            entry = make.entry_for(self.ctx, wish)
            async with entry.lock:
                return await make.made(self.ctx, entry)

        return await self.ctx.complete(work(), "volume create")

    def get(self, name: str) -> Volume:
        """The record, from memory. Raises VOLUME_NOT_FOUND."""
        volume = self.ctx.table.find(name).volume
        if volume.state is VolumeState.CREATING:
            raise VolumeNotFound(volume=name)
        return volume

    async def list(self, wanted: VolumeFilter) -> Sequence[Shown]:
        """All that fit, by name, from memory but for the sizes of those with a bound."""
        holders, fitting = self._fitting(wanted)
        counted = await self._counted(fitting)
        return [self._shown(volume, holders.get(volume.id, ()), counted.get(volume.id)) for volume in fitting]

    def _fitting(self, wanted: VolumeFilter) -> tuple[Mapping[str, Sequence[VolumeHolder]], Sequence[Volume]]:
        holders = self.ctx.holders.all_volume_holders()
        volumes = [entry.volume for entry in self.ctx.table if entry.volume.state is not VolumeState.CREATING]
        return holders, [volume for volume in volumes if wanted.accepts(volume, is_held=volume.id in holders)]

    async def show(self, volume: Volume) -> Shown:
        """The volume with what is known of it now."""
        counted = await self._counted([volume])
        return self._shown(volume, self.ctx.held(volume), counted.get(volume.id))

    async def _counted(self, volumes: Sequence[Volume]) -> Mapping[str, VolumeSize]:
        """What those with a bound take, by their ids: the file system has counted, and nothing is estimated, also while
        a container writes."""
        bounded = [volume for volume in volumes if volume.project_id]
        return await self.ctx.workers.run(self._usages, bounded) if bounded else {}

    def _usages(self, volumes: Sequence[Volume]) -> Mapping[str, VolumeSize]:
        found = {}
        for volume in volumes:
            try:
                found[volume.id] = VolumeSize(self.ctx.quotas.usage(volume.project_id), is_estimate=False)
            except EngineError as error:
                _log.warning("what volume %s takes cannot be told: %s", volume.name, error)
        return found

    def _shown(self, volume: Volume, holders: Sequence[VolumeHolder], counted: VolumeSize | None) -> Shown:
        size = counted or self.ctx.meter.size(volume, is_live=any(one.is_live for one in holders))
        path = self.ctx.directories.data_path(volume.id)
        return Shown(volume, path, size, tuple(one.container_id for one in holders))

    async def delete(self, name: str, *, expected_version: int = 0, force: bool = False) -> int:
        """It is gone with its data; the bytes freed. `force`: one that is not there is no failure,
        nor is a driver that does not remove it.

        Raises as `make.destroyed`.
        """
        if force and self.ctx.table.named(name) is None:
            return 0

        async def work() -> int:
            entry = self.ctx.table.find(name)
            async with entry.lock:
                return await make.destroyed(self.ctx, entry, expected_version=expected_version, is_forced=force)

        return await self.ctx.complete(work(), "volume delete")

    async def rename(self, name: str, new_name: str, *, expected_version: int = 0) -> Volume:
        """It has the new name, durably, and the old one is free; containers keep it.

        Raises VOLUME_NOT_FOUND, VOLUME_EXISTS, VOLUME_IN_USE (a container runs with it), VERSION_CONFLICT,
        FIELD_INVALID, STORAGE_FULL, IO_FAILED.
        """
        model.check_name(new_name, "new_name")

        async def work() -> Volume:
            entry = self.ctx.table.find(name)
            async with entry.lock:
                volume = self._ready(name)
                if expected_version and expected_version != volume.version:
                    raise VersionConflict(id=name, expected=expected_version, actual=volume.version)
                if new_name == volume.name:
                    return volume
                self.ctx.check_unheld(volume, by_live_only=True)
                self.ctx.table.rename(entry, new_name)
                entry.volume = model.renamed(volume, new_name)
                failpoints.hit("volume.rename.record")
                await self.ctx.records.save(entry.volume, (VolumeRenamed(new_name, name),), durable=True)
                self.ctx.holders.note_volume_name(volume.id, new_name)
                return entry.volume

        return await self.ctx.complete(work(), "volume rename")

    async def prune(self, wanted: VolumeFilter, *, has_all: bool, dry_run: bool) -> Pruned:
        """Volumes that no container has and that fit are gone, by name; without `has_all` only anonymous ones.

        One that cannot be deleted hinders no other; the first such failure is raised once all were tried.
        """
        return await self.ctx.complete(self._prune(wanted, has_all=has_all, dry_run=dry_run), "volume prune")

    async def _prune(self, wanted: VolumeFilter, *, has_all: bool, dry_run: bool) -> Pruned:
        pruned, failure = Pruned([], 0), None
        freed = 0
        _, unheld = self._fitting(replace(wanted, is_dangling=True))
        doomed = [volume for volume in unheld if has_all or volume.is_anonymous]
        for volume in doomed[:MAX_PRUNED]:
            entry = self.ctx.table.get(volume.id)
            if entry is None or entry.lock.locked():
                continue  # somebody is at work on it
            try:
                if dry_run:
                    freed += (await self.ctx.meter.count(volume.id)).bytes
                else:
                    async with entry.lock:
                        freed += await make.destroyed(self.ctx, entry)
            except (VolumeNotFound, VolumeInUse):
                continue  # somebody was quicker
            except EngineError as error:
                _log.error("volume %s: it could not be pruned: %s", volume.name, error)
                failure = failure or error
                continue
            pruned.names.append(volume.name)
        if failure is not None:
            raise failure
        return replace(pruned, reclaimed_bytes=freed)

    async def clone(self, source: str, name: str, labels: dict[str, str]) -> Volume:
        """A volume of this name has all that the other holds now; without labels of its own it has the other's. What
        options name is copied into a directory; the copy of memory is memory.

        Cancelled, it leaves nothing, and has ended on return. Raises VOLUME_NOT_FOUND, VOLUME_EXISTS, FIELD_INVALID,
        LIMIT_EXCEEDED, STORAGE_FULL, IO_FAILED: nothing is left then.
        """
        if not name:
            raise FieldInvalid(field="name", rule="must be given")
        origin = self._ready(source)
        check_is_local(origin)
        options = origin.driver_options if origin.is_memory else {}
        wish = VolumeWish(name, origin.driver, options, labels or origin.labels, origin.limit_bytes)
        check(self.ctx, wish)
        cancel = self.ctx.directories.new_cancel_token()

        async def fill(volume: Volume) -> None:
            if origin.is_memory:
                return
            failpoints.hit("volume.clone.copy")
            shown = await self._found(origin)
            await self.ctx.workers.run_transfer(self.ctx.directories.copy, shown, volume.id, cancel)

        async def work() -> Volume:
            # The source's lock keeps it from being deleted; it is taken first, since nobody waits for a source with a
            # copy's lock in hand.
            held = self.ctx.table.find(source)
            async with held.lock:
                self._ready(source)
                entry = self.ctx.table.add(make.new_volume(self.ctx, wish))
                async with entry.lock:
                    return await make.made(self.ctx, entry, fill)

        return await self._cancellable(work(), cancel)

    async def export(self, name: str) -> AsyncGenerator[bytes | Exported, None]:
        """Yields its data as tar in parts of at most CHUNK_BYTES, then `Exported`. Nothing is read ahead of the caller
        and nothing is locked: a container that writes changes what is not read yet.

        Raises VOLUME_NOT_FOUND (also if it is deleted meanwhile), LIMIT_EXCEEDED, IO_FAILED.
        """
        volume, workers = self._ready(name), self.ctx.workers
        check_has_data(volume)
        cancel = self.ctx.directories.new_cancel_token()
        archive = await workers.run(self.ctx.directories.archive, await self._found(volume), cancel)
        size = 0
        try:
            while chunk := await workers.run(archive.read, CHUNK_BYTES):
                size += len(chunk)
                yield chunk
        finally:
            cancel.cancel()
            await asyncio.shield(asyncio.ensure_future(workers.run(archive.close)))
        self._ready(name)
        yield Exported(size, archive.entry_count)

    async def import_archive(self, name: str, archive_fd: int) -> tuple[Volume, int]:
        """The tar in the open file is part of the volume's data, which is made if absent; (volume, entries).

        Cancelled, what was unpacked stays, and it has ended on return. Raises FIELD_INVALID, LAYER_CORRUPT,
        LAYER_REJECTED, LIMIT_EXCEEDED, STORAGE_FULL, IO_FAILED.
        """
        if not name:
            raise FieldInvalid(field="options.name", rule="must be given")
        cancel = self.ctx.directories.new_cancel_token()
        if self.ctx.table.named(name) is None:
            await self.create(VolumeWish(name))

        async def work() -> tuple[Volume, int]:
            entry = self.ctx.table.find(name)
            async with entry.lock:
                volume = self._ready(name)
                check_has_data(volume)
                if volume.is_read_only:
                    raise FieldInvalid(field="options.name", rule=f"the options of volume {volume.name} say ro")
                shown = await self._found(volume)
                failpoints.hit("volume.import.unpack")
                try:
                    unpack = self.ctx.directories.unpack
                    count = await self.ctx.workers.run_transfer(unpack, archive_fd, shown, cancel)
                finally:
                    self.ctx.meter.note_change(volume.id)
                return volume, count

        return await self._cancellable(work(), cancel)

    async def _cancellable(self, work: Coroutine[Any, Any, T], cancel: CancelToken) -> T:
        """The result of work that looks at `cancel`; even where the caller is cancelled, it has ended on return."""
        task = asyncio.ensure_future(self.ctx.complete(work, "volume data"))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            cancel.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # taken note of: nobody is left to hear of it
            raise

    async def _found(self, volume: Volume) -> Volume:
        """The volume with the address of the server that its options name, or the place that they bind, which answers.
        Raises VOLUME_SERVER_UNREACHABLE, MOUNT_SOURCE_UNRESPONSIVE."""
        if not volume.is_local:
            return volume
        place = bound_device(volume.driver_options)
        if place is not None and self.ctx.sources is not None:
            await self.ctx.sources.check_paths([place])
        return replace(volume, driver_options=await with_addresses(volume.driver_options, volume.name))

    def _ready(self, name: str) -> Volume:
        volume = self.get(name)
        if volume.state is VolumeState.DELETING:
            raise VolumeNotFound(volume=name)
        return volume


def check(ctx: VolumeContext, wish: VolumeWish, at: str = "") -> None:
    """Raises FIELD_INVALID, LIMIT_EXCEEDED, VOLUME_DRIVER_NOT_FOUND, PROJECT_QUOTA_UNAVAILABLE for a volume that this
    engine cannot make."""
    model.check_wish(wish, at)
    if wish.driver not in ("", model.LOCAL_DRIVER):
        ctx.drivers.check(wish.driver)
        return
    check_local_options(wish.driver_options, f"{at}driver_options")
    if wish.limit_bytes and wish.driver_options:
        raise FieldInvalid(field=f"{at}limit_bytes", rule="only a directory has a bound, not what options name")
    if wish.limit_bytes:
        ctx.quotas.check()


def check_is_local(volume: Volume) -> None:
    """Raises FIELD_INVALID for a volume whose data another program keeps."""
    if not volume.is_local:
        rule = f"volume {volume.name} is kept by its driver {volume.driver}, which alone can copy it"
        raise FieldInvalid(field="name", rule=rule)


def check_has_data(volume: Volume) -> None:
    """Raises FIELD_INVALID for a volume that has no data but in containers, or none that the engine keeps."""
    check_is_local(volume)
    if volume.is_memory:
        rule = f"volume {volume.name} is memory: each container that runs with it has its own, and nobody else any"
        raise FieldInvalid(field="name", rule=rule)
