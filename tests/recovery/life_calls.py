"""The calls that drive a container, each with what it makes of a life, and how a container is seen to stand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import duration_pb2

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_pb2
from tests.recovery.crash import CALL_SECONDS, CrashedEngine
from tests.recovery.life_model import EXITED, Life, RefusedError
from tests.support import leftovers

SHORT: Final = duration_pb2.Duration(nanos=100_000_000)
#: What a call may be refused with where another one changed the container before.
REFUSED: Final = {"CONTAINER_WRONG_STATE", "CONTAINER_NOT_FOUND"}
#: Calls that send a signal first.
SENDING: Final = {"stop", "terminate", "kill", "delete by force", "restart"}
#: Those of them that do not wait for the end.
UNAWAITED: Final = {"terminate", "kill"}
#: Those that start it, also once it has ended.
STARTING: Final = {"start", "restart"}
#: How a start ended that the daemon did not live to make: 125 stands for a process that could not be started.
START_UNDONE: Final = ("exit_code", 125)
#: Those after which it ends, and is found live until then.
ENDING: Final = {"stop", "terminate", "kill"}


@dataclass(frozen=True)
class Call:
    """One call about one container: how it is made, and what it makes of a life."""

    name: str
    make: Callable[[CrashedEngine, str], object]
    effect: Callable[[Life], Life | None]

    def on(self, life: Life | None) -> Life | None:
        """The life after it; the same if it is refused."""
        try:
            return life if life is None else self.effect(life)
        except RefusedError:
            return life


def _call(
    name: str, method: str, request: type[Any], effect: Callable[[Life], Life | None], /, **fields: object
) -> Call:
    def make(engine: CrashedEngine, container: str) -> object:
        return getattr(engine.containers, method)(request(container=container, **fields), timeout=CALL_SECONDS)

    return Call(name, make, effect)


CALLS: Final = [
    _call("start", "StartContainer", containers_pb2.StartContainerRequest, Life.start),
    _call("stop", "StopContainer", containers_pb2.StopContainerRequest, Life.stop, timeout=SHORT),
    _call("kill", "KillContainer", containers_pb2.KillContainerRequest, Life.kill),
    _call("terminate", "KillContainer", containers_pb2.KillContainerRequest, Life.terminate, signal="SIGTERM"),
    _call("pause", "PauseContainer", containers_pb2.PauseContainerRequest, Life.pause),
    _call("resume", "ResumeContainer", containers_pb2.ResumeContainerRequest, Life.resume),
    _call("restart", "RestartContainer", containers_pb2.RestartContainerRequest, Life.restart, timeout=SHORT),
    _call("delete", "DeleteContainer", containers_pb2.DeleteContainerRequest, Life.delete),
    _call(
        "delete by force", "DeleteContainer", containers_pb2.DeleteContainerRequest, Life.delete_by_force, force=True
    ),
]


THAWING: Final = next(call for call in CALLS if call.name == "resume")


def updating(limit: int) -> Call:
    """UpdateContainer to a bound of processes."""

    def make(engine: CrashedEngine, container: str) -> object:
        request = containers_pb2.UpdateContainerRequest(container=container)
        request.resources.pids_limit = limit
        return engine.containers.UpdateContainer(request, timeout=CALL_SECONDS)

    return Call("update", make, lambda life: life.update(limit))


def renaming(name: str) -> Call:
    """RenameContainer to a name that nobody has."""
    request = containers_pb2.RenameContainerRequest
    return _call("rename", "RenameContainer", request, lambda life: life.rename(name), name=name)


def described(container: container_pb2.Container | None) -> str:
    if container is None:
        return "gone"
    state = container_pb2.Container.State.Name(container.state)
    return f"{container.name} {state} {exit_of(container)} {container.reason} {container.failure.reason}"


def exit_of(container: container_pb2.Container) -> tuple[str, int] | None:
    kind = container.WhichOneof("exit")
    return None if kind is None else (kind, getattr(container, kind))


def stands_as(found: container_pb2.Container | None, life: Life | None) -> bool:
    """Whether the container stands as the model says. Lists leave limits out: the kernel shows them.

    One that is told to run and whose process has ended is about to be told otherwise.
    """
    if found is None or life is None:
        return found is None and life is None
    if (found.name, found.state) != (life.name, life.state):
        return False
    if life.is_live:
        return leftovers.process_of(found.host_pid) is not None
    return life.state != EXITED or exit_of(found) == life.exit
