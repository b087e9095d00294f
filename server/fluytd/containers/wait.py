"""Waiting for the end or the removal of a container. It changes nothing."""

from enum import StrEnum

from fluytd.containers.context import Context
from fluytd.containers.model import Container, State
from fluytd.containers.networking import is_bridged
from fluytd.containers.release import given_back
from fluytd.containers.table import Entry
from fluytd.errors import ContainerNotFound


class Condition(StrEnum):
    """What is waited for."""

    NOT_RUNNING = "not_running"
    NEXT_EXIT = "next_exit"
    REMOVED = "removed"


async def wait(ctx: Context, reference: str, condition: Condition) -> Container:
    """The container when the condition came to hold; addresses and ports of one that has ended are free then.

    One that removed itself a moment ago answers NOT_RUNNING and REMOVED as it last was (case L05).
    Raises CONTAINER_NOT_FOUND, also when it is deleted before its next exit; CONTAINER_AMBIGUOUS.
    """
    try:
        entry = ctx.table.find(reference)
    except ContainerNotFound:
        last = ctx.table.recall(reference)
        if last is None or condition is Condition.NEXT_EXIT:
            raise
        return last
    if condition is Condition.REMOVED:
        await entry.removed.wait()
        return entry.last_exit or entry.last or entry.container
    ended = await _wait_for_end(entry, condition)
    if is_bridged(ended):
        await given_back(entry)
    return ended


async def _wait_for_end(entry: Entry, condition: Condition) -> Container:
    seen = entry.exit_count
    while True:
        if entry.exit_count != seen and entry.last_exit is not None:
            return entry.last_exit
        container = entry.container
        if condition is Condition.NOT_RUNNING and not container.is_live and container.state is not State.CREATING:
            # While it is being deleted the record as it was says how it ended.
            return entry.last_exit or container
        if entry.removed.is_set():
            raise ContainerNotFound(id=container.id)
        await entry.changed.wait()
