"""The processes of a running container. It changes nothing."""

from fluytd.containers import user_ids
from fluytd.containers.context import Context
from fluytd.containers.model import EXECUTED
from fluytd.containers.process_ports import ProcessInfo
from fluytd.containers.table import Entry
from fluytd.containers.transitions import check_state


async def list_processes(ctx: Context, entry: Entry) -> list[tuple[ProcessInfo, int]]:
    """All processes of the container, further ones that callers started in it too, by host pid, each with its user as
    the container sees it.

    Raises CONTAINER_WRONG_STATE, IO_FAILED.
    """
    container = entry.container
    check_state(container, EXECUTED)
    found = await ctx.workers.run(ctx.runtime.list_processes, container.id)
    return [(process, user_ids.inside(container.ids, process.uid)) for process in found]
