"""Whether calls are let in: not before recovery has ended, not once the daemon stops. It does not know what they do."""

import asyncio
from enum import Enum, auto
from typing import Final

from fluytd.errors import EngineStarting, EngineStopping

#: RPCs that answer at any time, since they tell what is going on.
ALWAYS_SERVED: Final = frozenset({"/fluyt.v1.EngineService/GetVersion", "/fluyt.v1.EngineService/GetInfo"})


class Phase(Enum):
    """Where the daemon stands."""

    STARTING = auto()
    SERVING = auto()
    STOPPING = auto()


class Gate:
    """The daemon's phase, and the calls under way that may last for ever. Used on the event loop only."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self._lasting: set[asyncio.Task[object]] = set()

    def check(self, rpc: str) -> None:
        """Raises ENGINE_STARTING or ENGINE_STOPPING unless calls of `rpc` are let in now."""
        if self.phase is Phase.SERVING or rpc in ALWAYS_SERVED:
            return
        if self.phase is Phase.STARTING:
            raise EngineStarting(detail="what the last run left is being put in order")
        raise stopping()

    def enter(self) -> "asyncio.Task[object] | None":
        """Notes the present task as a call that `stop` may end; give the result to `leave`."""
        task = asyncio.current_task()
        if task is not None:
            self._lasting.add(task)
        return task

    def leave(self, task: "asyncio.Task[object] | None") -> None:
        """The call is over."""
        if task is not None:
            self._lasting.discard(task)

    def open(self) -> None:
        """Calls are let in."""
        self.phase = Phase.SERVING

    def stop(self) -> None:
        """No further call is let in, and those that may last for ever are cancelled; short ones end by themselves."""
        self.phase = Phase.STOPPING
        for task in tuple(self._lasting):
            task.cancel()

    @property
    def is_stopping(self) -> bool:
        """Whether a cancelled call was cancelled by `stop`."""
        return self.phase is Phase.STOPPING


def stopping() -> EngineStopping:
    """The error of a call that the daemon's stop refuses or ends."""
    return EngineStopping(detail="containers run on; streams can be taken up again from their cursor or sequence")
