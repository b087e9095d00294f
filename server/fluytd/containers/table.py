"""All containers in memory, by id and by name, with what is known only while the engine runs. It does no I/O."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from fluytd.containers.model import Container
from fluytd.containers.process_ports import Process
from fluytd.containers.selinux import Levels
from fluytd.containers.user_ids import IdRanges, IdSettings
from fluytd.errors import ContainerAmbiguous, ContainerNotFound, NameInUse, VersionConflict

#: Matches that an error about an ambiguous id lists.
_LISTED_MATCHES: Final = 5
#: Containers removed by `auto_remove` whose end can still be asked for (case L05: a wait that comes right after it).
MAX_REMEMBERED: Final = 1_024
#: Number of a log's first segment. Source: rust_core/logs.
FIRST_SEGMENT: Final = 1


class Run:
    """One execution of a container's process, and who reads its output."""

    def __init__(self, process: Process) -> None:
        self.process = process
        #: Set once the process has ended; its output is whole then.
        self.ended = asyncio.Event()
        #: Set once the record says EXITED.
        self.recorded = asyncio.Event()
        self._final: Container | None = None
        self.was_stop_requested = False
        #: Told when the supervisor has news of a further process, by its id.
        self.on_exec_news: dict[str, Callable[[], None]] = {}
        #: Finds out its health.
        self.checking: asyncio.Task[None] | None = None
        #: Does what is to be done once it is unhealthy.
        self.acting: asyncio.Task[None] | None = None
        #: Those who must get all output before an `auto_remove` container goes.
        self._readers: set[object] = set()
        self._no_readers = asyncio.Event()
        self._no_readers.set()
        #: For each reader that must lose nothing: the first log segment that it still needs.
        self._holds: dict[object, int] = {}

    def record_end(self, container: Container) -> None:
        """The record says EXITED now."""
        self._final = container
        self.recorded.set()

    async def final(self) -> Container:
        """The record that tells how this run ended, once there is one."""
        while self._final is None:
            await self.recorded.wait()
        return self._final

    def join(self, reader: object) -> None:
        """The container's log is not removed by `auto_remove` before this reader leaves."""
        self._readers.add(reader)
        self._no_readers.clear()

    def leave(self, reader: object) -> None:
        """The reader has what it wants, or has gone. Idempotent."""
        self.hold(reader, None)
        self._readers.discard(reader)
        if not self._readers:
            self._no_readers.set()

    @property
    def is_held(self) -> bool:
        """A reader must lose nothing."""
        return bool(self._holds)

    async def readers_gone(self) -> None:
        """Returns once no reader is left."""
        await self._no_readers.wait()

    def hold(self, reader: object, segment: int | None) -> None:
        """Log segments from this one on are kept for the reader, however slow it is; None ends that."""
        before = min(self._holds.values(), default=None)
        if segment is None:
            self._holds.pop(reader, None)
        else:
            self._holds[reader] = segment
        after = min(self._holds.values(), default=None)
        if after != before and not self.ended.is_set():
            self.process.hold_log(after)


@dataclass(eq=False, slots=True)
class Entry:
    """One container: its record, and what goes on around it now."""

    container: Container
    #: Held while a verb changes the container; never while something is waited for that another verb must bring about.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    run: Run | None = None
    #: The release of the last run's resources; awaited before the next start and before deletion.
    release: asyncio.Task[None] | None = None
    #: Woken at each change of the record.
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    #: Set once record and files are gone.
    removed: asyncio.Event = field(default_factory=asyncio.Event)
    #: Number of exits seen by this daemon, and the record of the newest; what NEXT_EXIT compares and answers.
    exit_count: int = 0
    last_exit: Container | None = None
    #: The record as it was before it was deleted.
    last: Container | None = None
    #: Readers that came before the start, and whether they must lose nothing; the next run takes them over.
    waiting_readers: dict[object, bool] = field(default_factory=dict)
    #: The restart that its policy has before it, until it begins.
    restarting: asyncio.Task[None] | None = None
    #: How long that restart waits, or the last one waited; 0 after a caller's start.
    restart_delay_millis: int = 0
    #: The size of its terminal as a caller last told it; None: that of its spec. The next run begins with it.
    terminal_size: tuple[int, int] | None = None
    #: Copies that have its mounts open, each done when it has given them up; awaited before the next start.
    copying: "set[asyncio.Future[None]]" = field(default_factory=set)
    #: Its processes are being thawed; an end meanwhile comes after that.
    is_resuming: bool = False

    def cancel_restart(self) -> None:
        """The policy's next restart, if one waits for its time, does not come. The caller holds the lock."""
        if self.restarting is not None:
            self.restarting.cancel()
            self.restarting = None

    def check_present(self, expected_version: int = 0) -> None:
        """It is there, and has the version that the caller expects; 0 is any. The caller holds the lock: of two who
        expect the same version, the second finds what the first has made of it.

        Raises CONTAINER_NOT_FOUND, VERSION_CONFLICT.
        """
        container = self.container
        if self.removed.is_set():
            raise ContainerNotFound(id=container.id)
        if expected_version and expected_version != container.version:
            raise VersionConflict(id=container.id, expected=expected_version, actual=container.version)

    def set(self, container: Container) -> Container:
        """Takes the new record and wakes who waits for a change."""
        self.container = container
        self.wake()
        return container

    def begin_run(self, process: Process) -> Run:
        """The process is the container's run from now on; readers that waited for it have joined it."""
        run = self.run = Run(process)
        for reader, holds in self.waiting_readers.items():
            run.join(reader)
            if holds:
                run.hold(reader, FIRST_SEGMENT)
        self.waiting_readers.clear()
        return run

    def wake(self) -> None:
        """Everyone who awaits `changed` looks again."""
        self.changed.set()
        self.changed = asyncio.Event()


class ContainerTable:
    """The authority on which containers exist and which names are taken."""

    def __init__(self, id_ranges: IdRanges | None = None) -> None:
        #: The ids that containers have.
        self.id_ranges = id_ranges or IdRanges(IdSettings())
        #: The SELinux levels that they have.
        self.levels = Levels()
        self._by_id: dict[str, Entry] = {}
        self._by_name: dict[str, str] = {}
        #: Entries by the images that they have, oldest first, and how many stand on each layer: neither changes
        #: while a container is there, and images ask often.
        self._by_image: dict[str, dict[str, Entry]] = {}
        self._layer_uses: Counter[str] = Counter()
        self._remembered: dict[str, Container] = {}

    def add(self, container: Container) -> Entry:
        """The container is in the table and holds its name. Raises NAME_IN_USE."""
        holder = self._by_name.get(container.name)
        if holder is not None:
            raise NameInUse(name=container.name, holder_id=holder)
        entry = Entry(container)
        self._by_id[container.id] = entry
        self._by_name[container.name] = container.id
        self._note_images(entry)
        self.id_ranges.hold(container.ids)
        self.levels.hold(container.selinux)
        return entry

    def complete(self, entry: Entry, container: Container) -> None:
        """The record names all images now; until its first record only its own is known."""
        self._forget_images(entry.container)
        entry.container = container
        self._note_images(entry)

    def _note_images(self, entry: Entry) -> None:
        for image in entry.container.all_images:
            self._by_image.setdefault(image.image_id, {})[entry.container.id] = entry
        self._layer_uses.update(_layers_of(entry.container))

    def remove(self, entry: Entry) -> None:
        """It is gone from the table and its name is free. Idempotent."""
        container = entry.container
        if self._by_id.pop(container.id, None) is not None:
            self._forget_images(container)
            self.id_ranges.release(container.ids)
            self.levels.release(container.selinux)
        if self._by_name.get(container.name) == container.id:
            del self._by_name[container.name]

    def _forget_images(self, container: Container) -> None:
        for image in container.all_images:
            of_image = self._by_image.get(image.image_id, {})
            of_image.pop(container.id, None)
            if not of_image:
                self._by_image.pop(image.image_id, None)
        for layer_id in _layers_of(container):
            self._layer_uses[layer_id] -= 1
            if not self._layer_uses[layer_id]:
                del self._layer_uses[layer_id]

    def of_image(self, image_id: str) -> list[Entry]:
        """The containers that have the image, as their root or as a mount, oldest first.

        The work is theirs, however many others there are.
        """
        return list(self._by_image.get(image_id, {}).values())

    def uses_layer(self, layer_id: str) -> bool:
        """True if a container, in any state, stands on the layer. Constant time."""
        return layer_id in self._layer_uses

    def rename(self, entry: Entry, name: str) -> None:
        """The name is the container's from now on and the old one is free. Raises NAME_IN_USE."""
        holder = self._by_name.get(name)
        if holder is not None and holder != entry.container.id:
            raise NameInUse(name=name, holder_id=holder)
        del self._by_name[entry.container.name]
        self._by_name[name] = entry.container.id

    @property
    def names(self) -> dict[str, str]:
        """Names that are taken, each with its holder's id; not to be changed."""
        return self._by_name

    def find(self, reference: str) -> Entry:
        """The container of an id, a name, or an unambiguous beginning of an id, looked for in this order.

        Raises CONTAINER_NOT_FOUND, CONTAINER_AMBIGUOUS.
        """
        entry = self._by_id.get(reference)
        if entry is not None:
            return entry
        holder = self._by_name.get(reference)
        if holder is not None:
            return self._by_id[holder]
        matches = [id_ for id_ in self._by_id if id_.startswith(reference)] if reference else []
        if not matches:
            raise ContainerNotFound(id=reference)
        if len(matches) > 1:
            raise ContainerAmbiguous(id=reference, matches=sorted(matches)[:_LISTED_MATCHES])
        return self._by_id[matches[0]]

    def remember(self, container: Container) -> None:
        """Its last record can be asked for after it has gone, for a bounded number of containers."""
        self._remembered[container.id] = container
        if len(self._remembered) > MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]

    def recall(self, reference: str) -> Container | None:
        """The last record of a container that removed itself, by id, beginning of one, or name; the newest first."""
        for container in reversed(self._remembered.values()):
            if reference and (container.id.startswith(reference) or container.name == reference):
                return container
        return None

    def get(self, container_id: str) -> Entry | None:
        """The entry of a whole id, or None."""
        return self._by_id.get(container_id)

    def __iter__(self) -> Iterator[Entry]:
        """All entries, oldest first. The table may be changed meanwhile."""
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)


def _layers_of(container: Container) -> set[str]:
    return {layer_id for image in container.all_images for layer_id in image.layer_ids}
