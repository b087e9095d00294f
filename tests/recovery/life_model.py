"""What one container's life may be: how each call changes it, and which events tell of it in which order. Pure."""

import dataclasses
import signal
from dataclasses import dataclass, field
from typing import Any, Final

from fluyt.v1 import events_pb2
from fluyt.v1.types import container_pb2, container_spec_pb2

CREATED: Final = container_pb2.Container.STATE_CREATED
RUNNING: Final = container_pb2.Container.STATE_RUNNING
PAUSED: Final = container_pb2.Container.STATE_PAUSED
EXITED: Final = container_pb2.Container.STATE_EXITED
#: The states in which a container has processes and is at rest.
LIVE: Final = frozenset({RUNNING, PAUSED})
#: How a container ended the last time: a code or a number of a signal; None before that.
Exit = tuple[str, int] | None
KILLED: Final = ("signal", int(signal.SIGKILL))


@dataclass(frozen=True)
class Kind:
    """What a container does, and what the engine is to do with it."""

    word: str
    #: Writes a line once it does what it is to do.
    script: str
    #: How it ends by SIGTERM; None: not at all.
    on_term: Exit
    #: How it ends by itself at once; None: it does not.
    at_once: Exit = None
    is_always_restarted: bool = False
    is_removed: bool = False

    def spec(self, image: str) -> container_spec_pb2.ContainerSpec:
        """The specification."""
        spec = container_spec_pb2.ContainerSpec(
            image=image, args=["sh", "-c", self.script], auto_remove=self.is_removed
        )
        # A stop that a new daemon carries on has the time of the specification.
        spec.stop_timeout.FromMilliseconds(200)
        if self.is_always_restarted:
            spec.restart_policy.mode = container_spec_pb2.RestartPolicy.MODE_ALWAYS
        return spec


_STAY: Final = "trap 'exit 3' TERM; echo ready; sleep 1000 & wait"
_KINDS: Final = (
    Kind("stays", _STAY, ("exit_code", 3)),
    Kind("deaf", "trap '' TERM; echo ready; while :; do sleep 1000; done", None),
    Kind("ends", "echo ready; exit 5", None, ("exit_code", 5)),
    Kind("kept", _STAY, ("exit_code", 3), is_always_restarted=True),
    Kind("passing", _STAY, ("exit_code", 3), is_removed=True),
)
KINDS: Final = {kind.word: kind for kind in _KINDS}


class RefusedError(Exception):
    """The engine must refuse the call, and nothing changes."""


@dataclass(frozen=True)
class Life:
    """One container as it must be once everything has come to rest. The methods are calls; None is one that is gone."""

    name: str
    kind: Kind
    state: container_pb2.Container.State.ValueType = CREATED
    exit: Exit = None
    pids_limit: int = 0
    #: SIGTERM waits for a frozen process.
    is_term_waiting: bool = False

    def __str__(self) -> str:
        """As failures tell it."""
        state = container_pb2.Container.State.Name(self.state)
        waiting = ", SIGTERM waits" if self.is_term_waiting else ""
        return f"<{self.name} {self.kind.word} {state} {self.exit}{waiting}>"

    @property
    def is_live(self) -> bool:
        """It has processes."""
        return self.state in LIVE

    def start(self) -> "Life | None":
        """StartContainer."""
        if self.state == RUNNING:
            return self
        if self.state == PAUSED:
            raise RefusedError
        if self.kind.at_once is None:
            return dataclasses.replace(self, state=RUNNING)
        return None if self.kind.is_removed else dataclasses.replace(self, state=EXITED, exit=self.kind.at_once)

    def stop(self) -> "Life | None":
        """StopContainer with a short time."""
        return self.ended(self.kind.on_term or KILLED) if self.is_live else self

    def kill(self) -> "Life | None":
        """KillContainer."""
        if not self.is_live:
            raise RefusedError
        return self.ended(KILLED)

    def terminate(self) -> "Life | None":
        """KillContainer with SIGTERM, which is its stop signal."""
        if not self.is_live:
            raise RefusedError
        if self.state == PAUSED:
            return dataclasses.replace(self, is_term_waiting=True)
        return self.ended(self.kind.on_term) if self.kind.on_term else self

    def pause(self) -> "Life | None":
        """PauseContainer."""
        if not self.is_live:
            raise RefusedError
        return dataclasses.replace(self, state=PAUSED)

    def resume(self) -> "Life | None":
        """ResumeContainer."""
        if not self.is_live:
            raise RefusedError
        if self.kind.at_once is not None:
            return self.ended(self.kind.at_once)
        running = dataclasses.replace(self, state=RUNNING, is_term_waiting=False)
        return running.ended(self.kind.on_term) if self.is_term_waiting and self.kind.on_term else running

    def restart(self) -> "Life | None":
        """RestartContainer with a short time; one that removes itself stays for the start that follows."""
        if not self.is_live:
            return self.start()
        at_rest = dataclasses.replace(self, state=EXITED, exit=self.kind.on_term or KILLED, is_term_waiting=False)
        return at_rest.start()

    def update(self, pids_limit: int) -> "Life | None":
        """UpdateContainer."""
        return dataclasses.replace(self, pids_limit=pids_limit)

    def rename(self, name: str) -> "Life | None":
        """RenameContainer."""
        return dataclasses.replace(self, name=name)

    def delete(self) -> "Life | None":
        """DeleteContainer without force."""
        if self.is_live:
            raise RefusedError
        return None

    def delete_by_force(self) -> "Life | None":
        """DeleteContainer with force."""
        return None

    def end_by_itself(self) -> "Life | None":
        """Its first process gets SIGTERM from somebody else."""
        after = self.terminate()
        return after.after_own_end() if after is not None else None

    def lose_supervisor(self) -> "Life | None":
        """Its supervisor is killed."""
        after = self.ended(KILLED)
        return after.after_own_end() if after is not None else None

    def after_own_end(self) -> "Life":
        """What its policy makes of an end that no caller wanted."""
        is_due = self.kind.is_always_restarted and self.state == EXITED
        return dataclasses.replace(self, state=RUNNING) if is_due else self

    def after_daemon_start(self) -> "Life":
        """What a daemon that comes up makes of it: `always` is started also where a caller had stopped it."""
        return self.after_own_end()

    def at_rest(self) -> "Life | None":
        """What becomes of it with no further call: one that ends by itself at once does, unless it is frozen."""
        return self.ended(self.kind.at_once) if self.state == RUNNING and self.kind.at_once else self

    def ended(self, how: Exit) -> "Life | None":
        """Its process has ended so."""
        if self.kind.is_removed:
            return None
        return dataclasses.replace(self, state=EXITED, exit=how, is_term_waiting=False)


@dataclass
class Told:
    """What the events have told of one container so far."""

    name: str
    state: container_pb2.Container.State.ValueType = CREATED
    host_pid: int = 0
    is_stopping: bool = False
    #: It has ended after it was asked to stop, and that it has stopped was not told yet.
    owes_stopped: bool = False
    #: Id of each session -> the last that was told of it.
    execs: dict[str, str] = field(default_factory=dict)


#: What must have been told of a session before each fact of it.
_BEFORE_EXEC: Final = {"exec_created": None, "exec_started": "exec_created", "exec_exited": "exec_started"}


class Chronicle:
    """Reads the events of an engine in order and holds each to those before it."""

    def __init__(self) -> None:
        #: Number of the last event that was read.
        self.sequence = 0
        #: Id of each container that there is -> what was told of it.
        self.told: dict[str, Told] = {}

    def read(self, event: events_pb2.Event) -> None:
        """Takes in the next event. Raises AssertionError if it does not fit what came before."""
        assert event.sequence == self.sequence + 1, f"after event {self.sequence} comes {event.sequence}"
        self.sequence = event.sequence
        kind = event.WhichOneof("fact")
        if kind is None or not kind.startswith(("container_", "exec_")):
            return
        fact = getattr(event, kind)
        if kind == "container_created":
            assert fact.container_id not in self.told, f"made twice: {event}"
            self.told[fact.container_id] = Told(fact.name)
            return
        told = self.told.get(fact.container_id)
        assert told is not None, f"of no container: {event}"
        before = dataclasses.replace(told, execs=dict(told.execs))
        assert self._fits(kind, fact, told), f"{kind} after {before}: {event}"
        assert fact.name == told.name, f"of another name than {told.name}: {event}"

    def _fits(self, kind: str, fact: Any, told: Told) -> bool:
        """Takes the fact over; False if it cannot have happened."""
        is_live = told.state in LIVE
        match kind:
            case "container_started":
                told.state, told.host_pid, told.is_stopping = RUNNING, fact.host_pid, False
                return not is_live and not told.owes_stopped
            case "container_start_failed":
                return not is_live
            case "container_paused":
                fits, told.state = told.state == RUNNING, PAUSED
                return fits
            case "container_resumed":
                fits, told.state = told.state == PAUSED, RUNNING
                return fits
            case "container_stopping":
                told.is_stopping = True
                return is_live
            case "container_lost" if fact.state == container_pb2.Container.STATE_UNKNOWN:
                return True
            case "container_signalled" | "container_lost" | "container_out_of_memory":
                return is_live
            case "container_exited":
                told.state, told.owes_stopped, told.is_stopping = EXITED, told.is_stopping, False
                return is_live
            case "container_stopped":
                fits, told.owes_stopped = told.owes_stopped, False
                return fits
            case "container_renamed":
                fits, told.name = fact.previous_name == told.name, fact.name
                return bool(fits)
            case "container_deleted":
                del self.told[fact.container_id]
                return not is_live and not told.owes_stopped and "exec_started" not in told.execs.values()
            case "exec_created" | "exec_started" | "exec_exited":
                last = told.execs.get(fact.exec_id)
                told.execs[fact.exec_id] = kind
                return last == _BEFORE_EXEC[kind]
            case _:
                return kind in {"container_updated", "container_health_changed"}
