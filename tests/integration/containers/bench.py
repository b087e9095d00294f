"""A container service on the real core: private roots, a private cgroup parent, one layer with busybox-static."""

import os
import shutil
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from random import SystemRandom

from fluytd._core import cgroup, process
from fluytd.clock import SystemClock
from fluytd.containers.cdi_registry import CdiRegistry
from fluytd.containers.directories import ContainerDirectories
from fluytd.containers.host_devices import HostDevices
from fluytd.containers.model import ExitStatus, ImageFacts
from fluytd.containers.run import Exited, Output, RunEvent
from fluytd.containers.service import ContainerService
from fluytd.containers.spec import ContainerSpec, PlatformChoice
from fluytd.containers.start_facts import HostFacts, StartSettings
from fluytd.containers.supervisor import CoreRuntime
from fluytd.logs.reader import LogReaders
from fluytd.operations.model import Operation
from fluytd.recovery.apply import Report, recover
from fluytd.registries.model import Credentials
from fluytd.state.containers import ContainerRecords
from fluytd.state.db import Database
from fluytd.workers import Workers
from tests.support.fakes.containers import IMAGE
from tests.support.fakes.networks import attachments

BUSYBOX = Path("/bin/busybox")
SUPERVISOR = Path(__file__).parents[3] / "server" / "fluytd" / "libexec" / "fluyt-supervisor"
USERS = "root:x:0:0::/root:/bin/sh\n1000:x:0:0::/:/bin/sh\nevil:x:notanum:10::/:/bin/sh\n"


class OneLayer:
    """An image of one directory."""

    def __init__(self, layer: Path) -> None:
        self._layer = layer

    async def find(self, reference: str, platform: PlatformChoice | None) -> ImageFacts:
        return IMAGE

    async def pull(
        self, reference: str, platform: PlatformChoice | None, auth: Credentials | None
    ) -> AsyncGenerator[Operation, None]:
        none: tuple[Operation, ...] = ()
        for operation in none:
            yield operation

    def ids_of(self, reference: str) -> Sequence[str]:
        return [IMAGE.image_id]

    def lower_dirs(self, image: ImageFacts) -> tuple[str, ...]:
        return (str(self._layer),)

    async def released(self, image: ImageFacts) -> None:
        """Nothing is kept here."""


def make_layer(layer: Path) -> None:
    """A root file system with busybox and what its commands need."""
    (layer / "bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, layer / "bin" / "busybox")
    for name in ("sh", "true", "sleep", "echo", "cat", "seq", "id", "env", "printf", "head", "tr", "grep", "ls"):
        (layer / "bin" / name).symlink_to("busybox")
    for name in ("etc", "proc", "sys", "dev", "tmp", "root"):
        (layer / name).mkdir()
    (layer / "etc" / "passwd").write_text(USERS)


class CoreBench:
    """The service and hands on its roots. `open` first, `close` last."""

    def __init__(self, base: Path) -> None:
        self.data_root, self.run_root, self._layer = base / "data", base / "run", base / "layer"
        for path in (self.data_root, self.run_root):
            path.mkdir()
        make_layer(self._layer)
        self.cgroup_parent = f"fluyt-test-{os.getpid()}-{base.name}"
        self._clock = SystemClock()
        self._logs = LogReaders()
        self._workers = Workers(8, 1)

    async def open(self) -> Report:
        """A service over what stands, as a daemon that starts makes it."""
        self.db = Database(self.data_root / "state.db", self._clock, max_events=10_000)
        await self.db.open()
        self._logs.start()
        facts = HostFacts(
            tuple(process.default_capabilities()),
            tuple(process.all_capabilities()),
            frozenset(os.sched_getaffinity(0)),
            frozenset({0}),
        )
        settings = StartSettings(self.cgroup_parent, 16 << 20, 5, str(SUPERVISOR))
        self.service = ContainerService(
            runtime=CoreRuntime(SUPERVISOR, self.run_root, settings, facts, HostDevices(CdiRegistry(()))),
            directories=ContainerDirectories(self.data_root, self.run_root),
            images=OneLayer(self._layer),
            records=ContainerRecords(self.db),
            open_log=self._logs.follow,
            workers=self._workers,
            clock=self._clock,
            random=SystemRandom(),
            host=facts,
            networking=attachments(),
        )
        return await recover(self.service.ctx)

    async def leave(self) -> None:
        """The service ends as a daemon does; containers run on."""
        await self.service.close()
        self._logs.close()
        await self.db.close()

    async def run(self, *args: str, spec: ContainerSpec | None = None) -> tuple[bytes, bytes, ExitStatus]:
        """(stdout, stderr, end) of a container that removes itself."""
        wanted = spec or ContainerSpec(image="busybox", args=args, auto_remove=True)
        events: list[object] = [event async for event in self.service.run(wanted, "", detach=False)]
        return output(events, "stdout"), output(events, "stderr"), ending(events)

    async def close(self) -> None:
        """All containers are gone, and nothing of them is left on the host."""
        for entry in self.service.ctx.table:
            await self.service.delete(entry.container.id, force=True)
        await self.leave()
        self._workers.close()
        assert cgroup.list_groups(self.cgroup_parent) == []
        self._assert_gone()

    def _assert_gone(self) -> None:
        assert list((self.data_root / "containers").iterdir()) == []
        assert list((self.run_root / "containers").iterdir()) == []
        for hierarchy in Path("/sys/fs/cgroup").glob(f"*/{self.cgroup_parent}"):
            hierarchy.rmdir()


def output(events: list[object], stream: str) -> bytes:
    """All that was written to a stream."""
    records = [record for event in events if isinstance(event, Output) for record in event.records]
    return b"".join(record.data for record in records if record.stream == stream)


def ending(events: list[object]) -> ExitStatus:
    """How the process ended."""
    last = events[-1]
    assert isinstance(last, Exited)
    assert last.container.exit is not None
    return last.container.exit


__all__ = ["CoreBench", "RunEvent", "ending", "output"]
