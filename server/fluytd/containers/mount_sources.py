"""Sources of mounts, and files of containers, on file systems that may not answer.

A thread that waits for such a file system cannot be given up: it would be missing to all other containers, and would
keep the daemon itself from ending. So a process is asked to look first.
"""

import asyncio
import os
import re
import select
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from fluytd.containers.model import Container
from fluytd.containers.process_ports import Look, Process, Runtime
from fluytd.containers.volume_mounts import bind_source
from fluytd.errors import MountSourceUnresponsive
from fluytd.workers import Workers

#: How long a look may take.
LOOK_SECONDS: Final = 10.0
#: Types whose answers come from a server or from another program. Source: proc_pid_mountinfo(5).
_MAY_HANG: Final = re.compile(
    rb" (?P<place>/[^ ]*) [^ ]+(?: [a-z_]+:\d+| unbindable)* - "
    rb"(?P<type>fuse(?:blk)?(?:\.[^ ]*)?|nfs4?|cifs|smb3|ceph|9p|afs|lustre|virtiofs|autofs) "
)
_TABLE: Final = Path("/proc/self/mountinfo")
#: Links that are followed. Source: path_resolution(7).
_MAX_LINKS: Final = 40


class MountSources:
    """Looks before somebody of the daemon does. Belongs to the event loop."""

    def __init__(self, runtime: Runtime, workers: Workers) -> None:
        """`runtime`: executes what looks."""
        self._runtime = runtime
        self._workers = workers
        self._watched: int | None = None
        self._changes = select.poll()
        #: Types of file systems that may not answer, by their places.
        self._kinds: dict[str, str] = {}

    async def check(self, container: Container, sources: Mapping[str, str]) -> None:
        """See `ports.MountSources.check`. What else is wrong with a source is not told."""
        binds = [bind.source for bind in container.resolved.binds or container.spec.binds]
        volumes = [bind_source(volume, sources) for volume in container.resolved.volumes]
        await self.check_paths([path for path in (*binds, *volumes) if path])

    async def check_paths(self, paths: Iterable[str]) -> None:
        """As `check`, of these."""
        wanted = list(paths)
        if not wanted or not (kinds := self._present_kinds()):
            return
        for path in wanted:
            kind = await self._workers.run(kind_on_the_way, path, kinds)
            if kind is not None:
                await self._look(path, kind, partial(self._runtime.look, os.fsencode(path)))

    async def check_inside(self, process: Process, path: bytes) -> None:
        """See `ports.MountSources.check_inside`."""
        try:
            table = await self._workers.run(Path(f"/proc/{process.host_pid}/mountinfo").read_bytes)
        except OSError:
            return  # it has ended, and has no mounts any more
        if kinds := parsed(table):
            kind = ", ".join(sorted(set(kinds.values())))
            await self._look(os.fsdecode(path), kind, partial(self._runtime.look, path, process))

    def _present_kinds(self) -> dict[str, str]:
        # Read anew only when the kernel says that something was mounted or unmounted.
        if self._watched is None:
            self._watched = os.open(_TABLE, os.O_RDONLY | os.O_CLOEXEC)
            self._changes.register(self._watched, select.POLLPRI)
        elif not self._changes.poll(0):
            return self._kinds
        self._kinds = parsed(_TABLE.read_bytes())
        return self._kinds

    async def _look(self, path: str, kind: str, begin: Callable[[], Look]) -> None:
        looking = await self._workers.run(begin)
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        fd = looking.fileno()
        loop.add_reader(fd, ended.set)
        try:
            await asyncio.wait_for(ended.wait(), LOOK_SECONDS)
        except TimeoutError:
            raise MountSourceUnresponsive(path=path, file_system=kind, seconds=f"{LOOK_SECONDS:g}") from None
        finally:
            loop.remove_reader(fd)
            looking.close()


def parsed(table: bytes) -> dict[str, str]:
    """Types of the file systems of this mount table that may not answer, by their places."""
    found = {}
    for match in _MAY_HANG.finditer(table):
        # Space, tab, newline and backslash are written as octal numbers.
        place = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), match["place"])
        found[os.fsdecode(place)] = match["type"].decode("ascii", "replace")
    return found


def kind_on_the_way(path: str, kinds: Mapping[str, str]) -> str | None:
    """The type of the first such file system on the way to the path, links included; nothing on it is touched."""
    place, left, links = Path("/"), [part for part in path.split("/") if part][::-1], 0
    if "/" in kinds:
        return kinds["/"]
    while left:
        part = left.pop()
        if part == "..":
            place = place.parent
            continue
        place /= part
        if str(place) in kinds:
            return kinds[str(place)]
        try:
            target = str(place.readlink())
        except OSError:
            continue  # it is no link, or not there
        links += 1
        if links > _MAX_LINKS:
            return None
        place = Path("/") if target.startswith("/") else place.parent
        left += [step for step in target.split("/") if step and step != "."][::-1]
    return None
