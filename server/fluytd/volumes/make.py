"""Volumes coming and going: intent first, then the data, then the record that tells of it."""

import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

from fluytd import failpoints
from fluytd.errors import (
    EngineError,
    OperationInProgress,
    VersionConflict,
    VolumeDriverFailed,
    VolumeDriverNotFound,
    VolumeExists,
    VolumeNotFound,
)
from fluytd.events.model import VolumeCreated, VolumeDeleted
from fluytd.volumes import model
from fluytd.volumes.context import VolumeContext
from fluytd.volumes.model import Volume, VolumeState, VolumeWish
from fluytd.volumes.table import VolumeEntry

_log = logging.getLogger(__name__)

_ID_BYTES: Final = 32


def entry_for(ctx: VolumeContext, wish: VolumeWish) -> VolumeEntry:
    """The volume of the wished name, one that is still to be made (see `made`) if there is none. Never blocks.

    Raises VOLUME_EXISTS (it is of another kind), OPERATION_IN_PROGRESS (it is being deleted).
    """
    entry = ctx.table.named(wish.name) if wish.name else None
    if entry is not None:
        if entry.volume.state is VolumeState.DELETING:
            raise OperationInProgress(id=wish.name, operation="deletion")
        if (wish.driver or wish.driver_options or wish.limit_bytes) and not model.is_as_asked(entry.volume, wish):
            raise VolumeExists(volume=wish.name)
        return entry
    return ctx.table.add(new_volume(ctx, wish))


def new_volume(ctx: VolumeContext, wish: VolumeWish) -> Volume:
    """What the wish asks for, with an id of its own, which names it if nobody did. The caller puts it into the table
    before anything is awaited. Raises LIMIT_EXCEEDED, IO_FAILED."""
    volume_id = secrets.token_hex(_ID_BYTES)
    is_local = wish.driver in ("", model.LOCAL_DRIVER)
    return Volume(
        id=volume_id,
        name=wish.name or volume_id,
        create_time_unix_nanos=ctx.clock.now_unix_nanos(),
        driver=wish.driver or model.LOCAL_DRIVER,
        driver_options=dict(wish.driver_options),
        labels=dict(wish.labels),
        is_anonymous=not wish.name,
        limit_bytes=wish.limit_bytes,
        project_id=ctx.quotas.take() if wish.limit_bytes and is_local else 0,
    )


async def made(
    ctx: VolumeContext, entry: VolumeEntry, fill: Callable[[Volume], Awaitable[None]] | None = None
) -> Volume:
    """The volume is READY, durably; one that is already is answered as it is. `fill` puts data into a new one before
    anybody can have it. The caller holds the entry's lock.

    Raises VOLUME_NOT_FOUND (it has gone meanwhile), STORAGE_FULL, IO_FAILED, what `fill` raises: nothing is left then.
    """
    if entry.is_removed:
        raise VolumeNotFound(volume=entry.volume.name)
    volume = entry.volume
    if volume.state is not VolumeState.CREATING:
        return volume
    try:
        failpoints.hit("volume.create.record")
        await ctx.records.save(volume, ())
        failpoints.hit("volume.create.directory")
        if volume.is_local:
            await ctx.workers.run(ctx.directories.create, volume)
        else:
            await ctx.drivers.provision(volume)
        if fill is not None:
            await fill(volume)
        failpoints.hit("volume.create.ready")
        entry.volume = model.ready(volume)
        await ctx.records.save(entry.volume, (VolumeCreated(volume.name),), durable=True)
    except BaseException:
        await undo(ctx, entry)
        raise
    return entry.volume


async def undo(ctx: VolumeContext, entry: VolumeEntry) -> None:
    """Nothing of a volume that could not be made is left; one whose data cannot be removed is DELETING."""
    try:
        await remove_data(ctx, entry.volume)
    except (VolumeDriverFailed, VolumeDriverNotFound) as error:
        _log.warning("volume %s: its driver may have something of it: %s", entry.volume.name, error)
    except EngineError as error:
        _log.error("volume %s: what was made of it could not be removed: %s", entry.volume.name, error)
        entry.volume = model.deleting(entry.volume)
        await ctx.records.save(entry.volume, ())
        return
    ctx.table.remove(entry)
    await ctx.records.delete(entry.volume, ())


async def destroyed(
    ctx: VolumeContext,
    entry: VolumeEntry,
    *,
    expected_version: int = 0,
    apart_from: str = "",
    is_forced: bool = False,
) -> int:
    """Data, record and name are gone; returns the bytes freed, a lower bound for huge ones. The caller holds the lock.
    `apart_from`: a container that has it and is going. `is_forced`: a driver that fails does not hold it back.

    Raises VOLUME_NOT_FOUND, VERSION_CONFLICT, VOLUME_IN_USE; STORAGE_FULL, IO_FAILED,
    VOLUME_DRIVER_NOT_FOUND, VOLUME_DRIVER_FAILED (it stays DELETING and can be deleted again).
    """
    volume = entry.volume
    if entry.is_removed:
        raise VolumeNotFound(volume=volume.name)
    if expected_version and expected_version != volume.version:
        raise VersionConflict(id=volume.name, expected=expected_version, actual=volume.version)
    ctx.check_unheld(volume, apart_from=apart_from)
    # From here to the new state nothing is awaited: no container can take it up in between.
    if volume.state is not VolumeState.DELETING:
        entry.volume = volume = model.deleting(volume)
    size = await ctx.meter.count(volume.id)
    failpoints.hit("volume.delete.record")
    await ctx.records.save(volume, (), durable=True)
    failpoints.hit("volume.delete.data")
    try:
        await remove_data(ctx, volume)
    except (VolumeDriverFailed, VolumeDriverNotFound) as error:
        if not is_forced:
            raise
        _log.warning("volume %s: its driver may still have it: %s", volume.name, error)
    failpoints.hit("volume.delete.forget")
    ctx.table.remove(entry)
    await ctx.records.delete(volume, (VolumeDeleted(volume.name),))
    return size.bytes


async def remove_data(ctx: VolumeContext, volume: Volume) -> None:
    """Whoever keeps its data has nothing of it. Idempotent. Raises as `destroyed`."""
    if volume.is_local:
        await ctx.workers.run(ctx.directories.remove, volume.id)
        if volume.project_id:
            failpoints.hit("volume.quota.release")
            await ctx.workers.run(ctx.quotas.release, volume.project_id)
    else:
        await ctx.drivers.discard(volume.driver, volume.id)
