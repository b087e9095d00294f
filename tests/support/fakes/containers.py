"""Stands in for core, disk, images and records, so that the container services are tested without a kernel."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from fluytd.containers.model import Container, ExitStatus, ImageFacts
from fluytd.containers.process_ports import Ending, ExecProcess, Look, ProbeResult, Process, ProcessInfo, Stats
from fluytd.containers.process_spec import ExecStart, ResourceLimits
from fluytd.containers.service import ContainerService
from fluytd.containers.spec import PlatformChoice
from fluytd.containers.start_facts import HostFacts, StartPaths
from fluytd.errors import EngineError, ImageNotFound, ProcessNotFound
from fluytd.operations.model import Operation
from fluytd.registries.model import Credentials
from fluytd.workers import Workers
from tests.support.fakes.networks import FakeHostPorts, FakeKernel, attachments
from tests.support.fakes.records import FakeLog, FakeRecords

IMAGE = ImageFacts(
    reference="docker.io/library/busybox:latest",
    image_id="sha256:" + "a" * 64,
    manifest_digest="sha256:" + "b" * 64,
    os="linux",
    architecture="amd64",
    variant="",
    layer_ids=("c" * 64,),
    size_bytes=1000,
    cmd=("sh",),
    env=("PATH=/bin", "FOO=BAR"),
)
HOST = HostFacts(("CHOWN", "KILL"), ("CHOWN", "KILL", "SYS_ADMIN"), frozenset({0, 1}), frozenset({0}))


class FakeClock:
    """Time that only moves when it is asked."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000_000_000

    def now_unix_nanos(self) -> int:
        """A nanosecond later at each call."""
        self.now += 1
        return self.now

    def monotonic(self) -> float:
        """Seconds."""
        return self.now / 1e9


@dataclass(frozen=True)
class FakeExitRecord:
    """What the supervisor of a fake process wrote."""

    exit_code: int | None
    signal: int | None
    oom_kill_count: int
    exit_time_unix_nanos: int


@dataclass(frozen=True)
class FakeStats:
    """Figures that tell by their CPU time which reading they are of."""

    cpu_usage_nanos: int | None = None
    time_unix_nanos: int = 1
    cpu_user_nanos: int | None = None
    cpu_system_nanos: int | None = None
    cpu_throttled_periods: int | None = None
    cpu_throttled_nanos: int | None = None
    memory_current_bytes: int | None = None
    memory_inactive_file_bytes: int | None = None
    memory_limit_bytes: int | None = None
    swap_current_bytes: int | None = None
    pids_current: int | None = None
    pids_limit: int | None = None
    io_read_bytes: int | None = None
    io_write_bytes: int | None = None
    oom_kill_count: int | None = None
    cpu_pressure_percent: float | None = None
    memory_pressure_percent: float | None = None
    io_pressure_percent: float | None = None
    network_receive_bytes: int | None = None
    network_transmit_bytes: int | None = None


class FakeProcess:
    """A process that a test ends."""

    def __init__(self, runtime: FakeRuntime, container_id: str) -> None:
        self._runtime = runtime
        self._id = container_id
        self._here, self._there = socket.socketpair()
        self.host_pid = 4242
        self.supervisor_pid = 4241
        self.start_time_unix_nanos = 1_700_000_000_500_000_000
        self.clamps: list[str] = []
        self.signals: list[int] = []
        self.holds: list[int | None] = []
        self.sizes: list[tuple[int, int]] = []
        self.state = "running"
        self.ignores: set[int] = set()
        self.is_closed = False
        #: How often it was asked to give up waiting for servers, and whether it ends then.
        self.forced = 0
        self.ends_when_forced = False

    def fileno(self) -> int:
        return self._here.fileno()

    def poll_exit(self) -> str:
        return self.state

    def open_root_fd(self) -> int:
        raise ProcessNotFound(host_pid=self.host_pid)

    def take_exec_news(self) -> list[str]:
        return []

    def execs(self) -> list[ExecProcess]:
        return []

    @property
    def exit_record(self) -> FakeExitRecord | None:
        if self.state != "exited":
            return None
        ending = self._runtime.endings[self._id]
        status = ending.status
        return FakeExitRecord(status.exit_code, status.signal, ending.oom_kill_count, ending.exit_time_unix_nanos)

    def resize(self, width: int, height: int) -> None:
        self.sizes.append((width, height))

    def signal(self, number: int) -> None:
        if self.state != "running":
            raise ProcessNotFound(host_pid=self.host_pid)
        self.signals.append(number)
        if number not in self.ignores:
            self.end(ExitStatus(signal=number))

    def end(self, status: ExitStatus, oom_kill_count: int = 0) -> None:
        """The process ends now and its supervisor writes this record."""
        self._runtime.endings[self._id] = Ending(status, oom_kill_count, 1_700_000_001_000_000_000)
        self.state = "exited"
        self._there.send(b"x")

    def lose(self) -> None:
        """The supervisor is killed."""
        self.state = "lost"
        self._there.send(b"x")

    def stdin_fd(self) -> int | None:
        return None

    def close_stdin(self) -> None:
        pass

    def force_servers(self) -> None:
        self.forced += 1
        if self.ends_when_forced:
            self.end(ExitStatus(signal=9))

    def hold_log(self, segment: int | None) -> None:
        self.holds.append(segment)

    def wait_gone(self, timeout_millis: int) -> bool:
        return True

    def kill_supervisor(self) -> None:
        pass

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._here.close()
            self._there.close()


@dataclass
class FakeRuntime:
    """Counts what stands: a run directory and a group for each run that was not released."""

    processes: dict[str, FakeProcess] = field(default_factory=dict)
    endings: dict[str, Ending] = field(default_factory=dict)
    standing: set[str] = field(default_factory=set)
    killed_groups: list[str] = field(default_factory=list)
    #: Ids of each call.
    freezes: list[str] = field(default_factory=list)
    thaws: list[str] = field(default_factory=list)
    start_error: EngineError | None = None
    release_errors: list[EngineError] = field(default_factory=list)
    start_delay: asyncio.Event | None = None
    starts: int = 0
    #: Ids of containers whose processes do not run.
    frozen: set[str] = field(default_factory=set)
    freeze_error: EngineError | None = None
    update_error: EngineError | None = None
    #: Ids of each reading of figures.
    stats_calls: list[list[str]] = field(default_factory=list)
    #: By call: whether earlier figures of each were handed in.
    stats_known: list[list[bool]] = field(default_factory=list)
    pressure_known: list[list[bool]] = field(default_factory=list)
    updates: list[ResourceLimits] = field(default_factory=list)

    def prepare(self) -> None:
        pass

    def check_seccomp(self, profile: str, capabilities: Sequence[str]) -> None:
        """Every profile is one."""

    def check_parent(self, parent: str, field: str) -> None:
        """Every parent is one."""

    def learn(self, container: Container) -> None:
        """Nothing depends on it."""

    def start(self, container: Container, paths: StartPaths, joined: Sequence[Process], *, is_held: bool) -> Process:
        self.starts += 1
        if self.start_error is not None:
            raise self.start_error
        self.standing.add(container.id)
        self.processes[container.id] = FakeProcess(self, container.id)
        return self.processes[container.id]

    def look(self, path: bytes, process: Process | None = None) -> Look:
        raise NotImplementedError

    def exec(self, process: Process, start: ExecStart) -> ExecProcess:
        raise NotImplementedError

    def adopt(self, container_id: str) -> Process | None:
        process = self.processes.get(container_id)
        return process if process is not None and process.state == "running" else None

    def read_ending(self, container_id: str) -> Ending | None:
        return self.endings.get(container_id)

    def read_exec_ending(self, container_id: str, exec_id: str) -> Ending | None:
        return None

    def kill_group(self, container_id: str) -> None:
        self.killed_groups.append(container_id)

    def waiting(self, container_id: str) -> str:
        """See `ports.Runtime.waiting`."""
        return "process 4242 waits"

    def freeze(self, container_id: str) -> None:
        """See `ports.Runtime.freeze`."""
        if self.freeze_error is not None:
            raise self.freeze_error
        self.freezes.append(container_id)
        self.frozen.add(container_id)

    def thaw(self, container_id: str) -> None:
        """See `ports.Runtime.thaw`."""
        self.thaws.append(container_id)
        self.frozen.discard(container_id)

    def stats(self, groups: Sequence[tuple[str, int, tuple[Stats, bool] | None]]) -> Sequence[Stats]:
        self.stats_calls.append([container_id for container_id, _, _ in groups])
        self.stats_known.append([before is not None for _, _, before in groups])
        self.pressure_known.append([before is not None and before[1] for _, _, before in groups])
        return [FakeStats(cpu_usage_nanos=len(self.stats_calls)) for _ in groups]

    def list_processes(self, container_id: str) -> list[ProcessInfo]:
        return []

    def update_limits(self, container_id: str, limits: ResourceLimits, fields: Mapping[str, str]) -> list[str]:
        if self.update_error is not None:
            raise self.update_error
        self.updates.append(limits)
        return []

    def release(self, container_id: str, process: Process | None) -> None:
        if self.release_errors:
            raise self.release_errors.pop()
        if process is not None:
            process.close()
        self.standing.discard(container_id)
        self.endings.pop(container_id, None)

    def list_groups(self) -> list[str]:
        return sorted(self.standing)

    def list_run_dirs(self) -> list[str]:
        return sorted(self.standing)


@dataclass
class FakeDirectories:
    """Counts directories."""

    standing: set[str] = field(default_factory=set)
    create_error: EngineError | None = None

    def paths(
        self, container: Container, lower_dirs: Sequence[str], image_dirs: Mapping[str, Sequence[str]] | None = None
    ) -> StartPaths:
        base = f"/d/{container.id}"
        return StartPaths("/r", base + "/log", tuple(lower_dirs), base, base, base, base, base)

    def create(self, container: Container, lower_dirs: Sequence[str]) -> None:
        if self.create_error is not None:
            raise self.create_error
        self.standing.add(container.id)

    def exists(self, container_id: str) -> bool:
        return container_id in self.standing

    def write_names(self, container: Container) -> None:
        pass

    def remove(self, container_id: str) -> int:
        self.discard(container_id)
        return 7

    def discard(self, container_id: str) -> None:
        self.standing.discard(container_id)

    def drop(self, container_id: str) -> None:
        self.standing.discard(container_id)

    def prepare(self) -> None:
        pass

    def clear(self) -> None:
        pass

    def writable_usage(self, container_id: str) -> tuple[int, bool]:
        return 5, False

    def log_usage(self, container_id: str) -> int:
        return 0

    def log_dir(self, container_id: str) -> str:
        return f"/d/{container_id}/log"

    def list(self) -> list[str]:
        return sorted(self.standing)


@dataclass
class FakeImages:
    """One image."""

    facts: ImageFacts | None = IMAGE
    pulls: int = 0

    async def find(self, reference: str, platform: PlatformChoice | None) -> ImageFacts:
        if self.facts is None or reference != "busybox":
            raise ImageNotFound(reference=reference)
        return self.facts

    async def pull(
        self, reference: str, platform: PlatformChoice | None, auth: Credentials | None
    ) -> AsyncGenerator[Operation, None]:
        self.pulls += 1
        self.facts = IMAGE
        none: tuple[Operation, ...] = ()
        for operation in none:
            yield operation

    def ids_of(self, reference: str) -> Sequence[str]:
        return [self.facts.image_id] if self.facts is not None and reference == "busybox" else []

    def lower_dirs(self, image: ImageFacts) -> tuple[str, ...]:
        return ("/layers/c",)

    async def released(self, image: ImageFacts) -> None:
        """Nothing is kept here."""


class FakeSleep:
    """Waits that end when a test says so."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._wakes: list[asyncio.Event] = []

    async def __call__(self, seconds: float) -> None:
        """Waits for `wake`."""
        self.asked.append(seconds)
        wake = asyncio.Event()
        self._wakes.append(wake)
        await wake.wait()

    def wake(self) -> None:
        """Every wait is over."""
        for wake in self._wakes:
            wake.set()
        self._wakes.clear()


class FakeProbe:
    """Answers checks as a test says, the last answer for ever."""

    def __init__(self) -> None:
        self.answers: list[ProbeResult | EngineError] = [ProbeResult(0, b"", 1)]
        self.asked: list[tuple[tuple[str, ...], int]] = []

    async def run(self, container: Container, args: Sequence[str], timeout_millis: int) -> ProbeResult:
        """The next answer."""
        self.asked.append((tuple(args), timeout_millis))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, EngineError):
            raise answer
        return answer


class Bench:
    """A container service on fakes, with hands on each of them."""

    def __init__(self) -> None:
        self.probe = FakeProbe()
        self.sleep = FakeSleep()
        self.runtime = FakeRuntime()
        self.directories = FakeDirectories()
        self.images = FakeImages()
        self.records = FakeRecords()
        self.log = FakeLog()
        self.workers = Workers(4, 1)
        self.clock = FakeClock()
        self.kernel = FakeKernel()
        self.host_ports = FakeHostPorts()
        self.service = self.restart()

    def restart(self) -> ContainerService:
        """A new service over the same disk, host and records."""
        self.service = ContainerService(
            runtime=self.runtime,
            directories=self.directories,
            images=self.images,
            records=self.records,
            open_log=self.log.open,
            workers=self.workers,
            clock=self.clock,
            random=Random(1),  # noqa: S311 - names need no secrecy
            host=HOST,
            networking=attachments(self.kernel, self.host_ports),
            probe=self.probe,
        )
        self.service.ctx.sleep = self.sleep
        return self.service

    def process(self, container: Container) -> FakeProcess:
        """The process of a container."""
        return self.runtime.processes[container.id]

    def assert_clean(self) -> None:
        """Nothing stands that no record owns."""
        ids = set(self.records.saved)
        assert self.directories.standing <= ids
        assert self.runtime.standing <= ids
        assert {entry.container.id for entry in self.service.ctx.table} == ids

    async def close(self) -> None:
        """All is ended."""
        for process in self.runtime.processes.values():
            if process.state == "running":
                process.end(ExitStatus(exit_code=0))
        await self.service.close()
        for process in self.runtime.processes.values():
            process.close()
        self.workers.close()


__all__ = ["HOST", "IMAGE", "Bench", "FakeProcess", "replace"]
