"""The further processes of this engine's containers. It knows no transport.

Sessions are kept in memory and by the supervisors: a next daemon finds process, output and end there, and shows
what was asked for as unknown.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from fluytd import failpoints
from fluytd.containers.context import Context
from fluytd.containers.model import State
from fluytd.containers.ports import ExecProcess
from fluytd.containers.table import Entry, Run
from fluytd.errors import ContainerWrongState, EngineError, ExecNotFound, LimitExceeded, ProcessNotFound
from fluytd.execs.model import DisconnectPolicy, ExecSession, ExecSpec
from fluytd.execs.resolve import exec_start
from fluytd.execs.session import JoinedExec
from fluytd.ids import ExecId

#: Further processes of one container at a time.
MAX_EXECS_PER_CONTAINER: Final = 128
#: Ended sessions of one container that can still be asked for, the oldest given up first.
MAX_ENDED_EXECS_PER_CONTAINER: Final = 32
_SIGHUP: Final = 1


class ExecService:
    """Made once; belongs to the event loop."""

    def __init__(self, ctx: Context) -> None:
        """`ctx`: that of the containers."""
        self._ctx = ctx
        self.clock = ctx.clock
        self._by_id: dict[str, JoinedExec] = {}
        self._adopted = asyncio.Event()
        self._is_stopping = False

    def stop(self) -> None:
        """The daemon stops: processes go on, whatever becomes of their callers' streams."""
        self._is_stopping = True

    def adopt(self) -> None:
        """What an earlier daemon began is known, and goes on without its caller; a probe of it, whose answer nobody
        awaits any more, is being killed. Called once, after recovery and before any caller is served."""
        self._adopted.set()
        for entry in self._ctx.table:
            run = entry.run
            if run is None or run.ended.is_set():
                continue
            for process in run.process.execs():
                if ExecId.is_of_probe(process.id):
                    _end(run, process)
                    continue
                time = process.start_time_unix_nanos or self._ctx.clock.now_unix_nanos()
                unknown = ExecSpec((), policy=DisconnectPolicy.KEEP)
                exec_ = JoinedExec(ExecSession(process.id, entry.container.id, unknown, time), run, process)
                self._by_id[process.id] = exec_
                run.on_exec_news[process.id] = exec_.look
                exec_.look()

    async def start(self, reference: str, spec: ExecSpec) -> JoinedExec:
        """The process has been executed in the running container; its output is held for a reader unless `detach`.

        Raises CONTAINER_NOT_FOUND, CONTAINER_AMBIGUOUS, CONTAINER_WRONG_STATE (paused or not running), FIELD_INVALID,
        LIMIT_EXCEEDED (MAX_EXECS_PER_CONTAINER), PROCESS_START_FAILED (exit code 126 or 127 where command or
        directory is at fault), USER_INVALID, SUPERVISOR_LOST. Cancelled, a process on its way is killed.
        """
        entry = self._ctx.table.find(reference)
        self._make_room(entry.container.id)
        exec_ = await self._begin(entry, ExecId.new(), spec)
        self._by_id[exec_.session.id] = exec_
        try:
            await exec_.started()
        except BaseException:
            self.forget(exec_)
            raise
        return exec_

    async def begin_probe(self, container_id: str, args: Sequence[str]) -> JoinedExec:
        """A health check's process is on its way. It is no session: it is not found, listed or counted, and belongs to
        the caller, who ends it by `forget`. Raises as `start`, but for what `JoinedExec.started` tells. Waits until
        `adopt` was called, as recovery has containers checked again before it has found them all."""
        await self._adopted.wait()
        return await self._begin(self._ctx.table.find(container_id), ExecId.new_of_probe(), ExecSpec(tuple(args)))

    async def _begin(self, entry: Entry, exec_id: ExecId, spec: ExecSpec) -> JoinedExec:
        container, run = entry.container, entry.run
        if container.state is not State.RUNNING or run is None or run.ended.is_set():
            raise ContainerWrongState(
                id=container.id, state=container.state.value, allowed_states=[State.RUNNING.value]
            )
        start = exec_start(exec_id, container, spec, self._ctx.host, is_held=not spec.detach)
        failpoints.hit("exec.start.process")
        process = await self._ctx.workers.run(self._ctx.runtime.exec, run.process, start)
        session = ExecSession(start.id, container.id, spec, self._ctx.clock.now_unix_nanos())
        exec_ = JoinedExec(session, run, process)
        run.on_exec_news[start.id] = exec_.look
        failpoints.hit("exec.start.begun")
        # What was told before anybody listened.
        exec_.look()
        return exec_

    def _make_room(self, container_id: str) -> None:
        own = [one for one in self._by_id.values() if one.session.container_id == container_id]
        for ended in [one for one in own if one.is_over][: -MAX_ENDED_EXECS_PER_CONTAINER + 1]:
            self.forget(ended)
        live = sum(not one.is_over for one in own)
        if live >= MAX_EXECS_PER_CONTAINER:
            raise LimitExceeded(
                limit="MAX_EXECS_PER_CONTAINER",
                limit_value=MAX_EXECS_PER_CONTAINER,
                actual=live + 1,
                subject=f"container {container_id}",
            )

    def forget(self, exec_: JoinedExec) -> None:
        """It is known no more; one that runs is killed. Idempotent."""
        self._by_id.pop(exec_.session.id, None)
        exec_.close()
        _end(exec_.run, exec_.process)

    def find(self, exec_id: str) -> JoinedExec:
        """Raises EXEC_NOT_FOUND."""
        exec_ = self._by_id.get(exec_id)
        if exec_ is None:
            raise ExecNotFound(id=exec_id)
        return exec_

    def list(self, reference: str) -> list[ExecSession]:
        """Sessions of a container, or of all (an empty reference), newest first. Raises CONTAINER_NOT_FOUND."""
        container_id = self._ctx.table.find(reference).container.id if reference else ""
        found = [one.session for one in self._by_id.values()]
        return [one for one in reversed(found) if not container_id or one.container_id == container_id]

    def disconnected(self, exec_: JoinedExec) -> None:
        """Its caller is gone: what the policy says has been done. What the daemon's own stop ends says nothing
        about the caller."""
        if exec_.is_over or self._is_stopping:
            return
        match exec_.session.spec.policy:
            case DisconnectPolicy.KEEP:
                return
            case DisconnectPolicy.SIGNAL:
                with contextlib.suppress(ProcessNotFound):
                    exec_.process.signal(_SIGHUP)
            case DisconnectPolicy.KILL:
                exec_.process.kill()


def _end(run: Run, process: ExecProcess) -> None:
    """One that runs is being killed, and the supervisor keeps nothing of it from its end on. Idempotent."""

    def is_over() -> bool:
        return process.exit_record is not None or process.has_failed

    def look() -> None:
        if run.ended.is_set() or is_over():
            run.on_exec_news.pop(process.id, None)
            if not run.ended.is_set():
                process.forget()

    # The supervisor gives up only what has ended: what is forgotten before would keep its place there for ever.
    run.on_exec_news[process.id] = look
    if not run.ended.is_set() and not is_over():
        with contextlib.suppress(EngineError):  # a supervisor that has gone has taken it along
            process.take(None)
        process.kill()
    look()
