"""One crash: a daemon is killed at a failpoint in the middle of a call, and what the next one finds is looked at.

Beside what is tested there are always two containers: the bystander, which runs through all of it and writes a line
every moment, and one that ends while no daemon is there.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc

from fluyt.v1 import containers_pb2, events_pb2
from fluyt.v1.types import container_pb2
from tests.recovery.life_model import Chronicle
from tests.support import leftovers
from tests.support.engine import PATIENCE_SECONDS, Daemon, Engine
from tests.support.preloaded_fluytd import Preloaded
from tests.support.wait import until_now

IMAGE = "busybox:1"
BYSTANDER = "bystander"
#: Counts for ever, some thirty lines a second.
COUNT = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.03; done"
#: Ends with 7 when it is told to.
END_WITH_7 = "trap 'echo told; exit 7' TERM; echo ready; sleep 1000 & wait"
#: How long a call may take that is to kill the daemon, and how long the daemon may take to die of it.
CALL_SECONDS = PATIENCE_SECONDS // 2
EXITED = container_pb2.Container.STATE_EXITED


class CrashedEngine(Engine):
    """An engine with a registry (`host:port`) that outlives its daemons, which come from one loaded process."""

    def __init__(self, root: Path, preloaded: Preloaded, registry: str, *, options: Sequence[str] = ()) -> None:
        """`preloaded` and the registry are the caller's, and closed after this."""
        self._preloaded = preloaded
        #: What the events of all its daemons have told so far.
        self.chronicle = Chronicle()
        self.registry = registry
        super().__init__(root, options=options)

    def execute(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Daemon:
        """See `Engine.execute`."""
        return self._preloaded.start(arguments, environment, self.root / "fluytd.log")


Step = Callable[[CrashedEngine], None]


def nothing(engine: CrashedEngine) -> None:
    """A step that is not needed."""


@dataclass(frozen=True)
class Scenario:
    """How a failpoint is reached, and what must hold afterwards. Each step leaves alone what is not its own."""

    #: Comes by the failpoint; it fails with the daemon, or the daemon dies before it is called.
    act: Step
    #: With the next daemon: what was half done is whole or absent, the same call succeeds, and nothing is left of it.
    again: Step
    #: Makes what `act` needs, with a daemon in which no failpoint is armed.
    prepare: Step = nothing
    #: `prepare` takes content away that an image needs, and `again` looks at that.
    is_damaging: bool = False
    #: `prepare` makes an image's record unreadable: what it needs has no owner until `again` has mended that.
    is_unlisting: bool = False


def crash(engine: CrashedEngine, failpoint: str, scenario: Scenario) -> None:
    """The daemon dies at `failpoint` (`name` or `name:N`) and all that must hold holds; nothing is left but the
    bystander, and a daemon serves."""
    bystander = get(engine, BYSTANDER)
    scenario.prepare(engine)
    ending = start_ready(engine, "ending", END_WITH_7)
    end_in_order(engine)
    until_empty(lambda: leftovers.nothing_left_of_stopped(engine))
    die_at(engine, failpoint, scenario.act)
    os.kill(ending.host_pid, signal.SIGTERM)
    until_gone(ending.host_pid)
    engine.start()
    runs_on(engine, bystander)
    ended = wait_for_end(engine, "ending")
    assert (ended.state, ended.WhichOneof("exit"), ended.exit_code) == (EXITED, "exit_code", 7), ended
    assert engine.logs("ending") == b"ready\ntold\n"
    delete(engine, "ending")
    if not scenario.is_unlisting:
        until_nothing_unowned(engine, is_resumable=True, is_damaged=scenario.is_damaging)
    scenario.again(engine)
    runs_on(engine, bystander)
    until_nothing_unowned(engine)
    read_events(engine, engine.chronicle)
    assert engine.chronicle.told.keys() == {one.id for one in leftovers.list_containers(engine)}


def die_at(engine: CrashedEngine, failpoint: str, act: Step) -> None:
    """A daemon was started, `act` called, and the daemon killed itself. Fails if it lives on or ends otherwise."""
    try:
        engine.start(FLUYT_FAILPOINT=failpoint)
    except AssertionError:
        # It may stand in the way of a start; whether it ended by that is seen below.
        assert engine.process.poll() is not None
    else:
        with suppress(grpc.RpcError):
            act(engine)
    try:
        engine.process.wait(CALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"the daemon did not come by {failpoint}") from None
    finally:
        engine.channel.close()
    assert engine.process.returncode == -signal.SIGKILL, (engine.root / "fluytd.log").read_text()


def read_events(engine: Engine, chronicle: Chronicle) -> None:
    """The chronicle has taken in every event up to now. Raises AssertionError if one is missing or out of order."""
    now = engine.events.WatchEvents(events_pb2.WatchEventsRequest(), timeout=CALL_SECONDS)
    head = next(now).heartbeat.head_sequence
    now.cancel()
    if head > chronicle.sequence:
        request = events_pb2.WatchEventsRequest(from_sequence=chronicle.sequence + 1, until_sequence=head)
        for message in engine.events.WatchEvents(request, timeout=CALL_SECONDS):
            if message.WhichOneof("message") == "event":
                chronicle.read(message.event)
    assert chronicle.sequence >= head, f"there are events up to {head}, {chronicle.sequence} came"


def end_in_order(engine: Engine) -> None:
    """The daemon has ended by itself; containers run on."""
    engine.channel.close()
    engine.process.terminate()
    assert engine.process.wait(PATIENCE_SECONDS) == 0


def runs_on(engine: Engine, before: container_pb2.Container) -> None:
    """The container that counts is the same as before, goes on counting, and no line of it is missing."""
    now = get(engine, before.id)
    assert (now.state, now.host_pid) == (container_pb2.Container.STATE_RUNNING, before.host_pid)
    assert leftovers.process_of(now.host_pid) is not None

    def lines() -> list[bytes]:
        return engine.logs(before.id).splitlines()

    seen = len(lines())
    until_now(lambda: len(lines()) > seen, "the bystander writes on")
    found = lines()
    assert found == [b"%d" % number for number in range(len(found))]


def until_nothing_unowned(engine: Engine, *, is_resumable: bool = False, is_damaged: bool = False) -> None:
    """Nothing stands on the host that nothing owns; what goes a moment after a call has gone.

    `is_resumable`: content that the same call would find again, and that is swept when it does not come, may stand.
    `is_damaged`: content that an image needs may be missing.
    """

    def found() -> list[str]:
        lines = leftovers.nothing_unowned(engine, is_resumable=is_resumable)
        return [line for line in lines if not (is_damaged and line.startswith("image ") and " lacks " in line)]

    until_empty(found)


def until_empty(list_leftovers: Callable[[], list[str]]) -> None:
    """The list has become empty; fails with what stays in it."""
    found: list[str] = []

    def is_clean() -> bool:
        found[:] = list_leftovers()
        return not found

    try:
        until_now(is_clean)
    except AssertionError:
        raise AssertionError("\n".join(["left behind:", *found])) from None


def until_gone(pid: int) -> None:
    """The process and what it may leave unreaped have gone."""
    until_now(lambda: leftovers.process_of(pid) is None, f"process {pid} ends")


def get(engine: Engine, name: str) -> container_pb2.Container:
    """The container as it is."""
    answer: containers_pb2.GetContainerResponse = engine.containers.GetContainer(
        containers_pb2.GetContainerRequest(container=name)
    )
    return answer.container


def find(engine: Engine, name: str) -> container_pb2.Container | None:
    """The container of this name, None if there is none."""
    return next((one for one in leftovers.list_containers(engine) if one.name == name), None)


def start_ready(engine: Engine, name: str, script: str) -> container_pb2.Container:
    """A container whose script has written its first line."""
    started = engine.start_container(IMAGE, name, "sh", "-c", script)
    until_now(lambda: b"\n" in engine.logs(name), f"{name} writes a line")
    return started


def wait_for_end(engine: Engine, name: str) -> container_pb2.Container:
    """The container once it does not run."""
    request = containers_pb2.WaitContainerRequest(
        container=name, condition=containers_pb2.WaitContainerRequest.CONDITION_NOT_RUNNING
    )
    answer: containers_pb2.WaitContainerResponse = engine.containers.WaitContainer(request, timeout=CALL_SECONDS)
    return answer.container


def delete(engine: Engine, name: str) -> None:
    """The container is gone, whatever it did."""
    engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=name, force=True))
