"""Deleting all containers that do not run and that a filter takes. It decides only which; `delete.py` deletes."""

import logging
from dataclasses import dataclass, replace
from typing import Final

from fluytd.containers import delete, model, sizes
from fluytd.containers.context import Context
from fluytd.containers.query import ContainerFilter, of_images
from fluytd.containers.table import Entry
from fluytd.errors import ContainerNotFound, ContainerWrongState, EngineError

_log = logging.getLogger(__name__)

#: Most containers that one prune deletes; another one deletes the next.
MAX_PRUNED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went, or would go."""

    ids: list[str]
    reclaimed_bytes: int


async def prune(ctx: Context, wanted: ContainerFilter, *, dry_run: bool) -> Pruned:
    """Containers that are CREATED or EXITED and fit are gone, oldest first, but for those that a verb is at work on or
    that wait for their restart. `dry_run`: they stay, and the bytes are those of their writable layers alone.

    One that cannot be deleted hinders no other; the first such failure is raised once all were tried: CGROUP_BUSY,
    IO_FAILED.
    """
    wanted = replace(of_images(wanted, ctx.images.ids_of), states=model.DELETABLE)
    entries = [entry for entry in ctx.table if wanted.accepts(entry.container) and is_idle(entry)][:MAX_PRUNED]
    pruned: list[str] = []
    reclaimed = 0
    failure: EngineError | None = None
    for entry in entries:
        if dry_run:
            usage = await sizes.writable_usage(ctx, entry.container.id)
            if usage is None:
                continue  # somebody was quicker
            size, _ = usage
        elif not is_idle(entry):
            continue
        else:
            try:
                size = await delete.delete(ctx, entry, force=False)
            except (ContainerNotFound, ContainerWrongState):
                continue  # somebody was quicker
            except EngineError as error:
                _log.error("container %s: it could not be pruned: %s", entry.container.id, error)
                failure = failure or error
                continue
        pruned.append(entry.container.id)
        reclaimed += size
    if failure is not None:
        raise failure
    return Pruned(pruned, reclaimed)


def is_idle(entry: Entry) -> bool:
    """Whether no verb is at work on it and no restart is to come."""
    return not entry.lock.locked() and entry.restarting is None
