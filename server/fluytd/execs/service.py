"""The further processes of this engine's containers. It knows no transport.

A session's record tells what was asked and how it ended; its process and its output are its supervisor's. A next daemon
puts both together again.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from fluytd import failpoints
from fluytd.containers.context import Context
from fluytd.containers.model import State
from fluytd.containers.process_ports import ExecProcess
from fluytd.containers.process_spec import ExecStart
from fluytd.containers.table import Entry, Run
from fluytd.errors import (
    ContainerWrongState,
    EngineError,
    ExecNotFound,
    LimitExceeded,
    ProcessNotFound,
    ProcessStartFailed,
    SupervisorLost,
)
from fluytd.events.model import ExecCreated, ExecExited, ExecStarted, Fact
from fluytd.execs import model
from fluytd.execs.gone import GoneProcess
from fluytd.execs.model import DisconnectPolicy, ExecSession, ExecSpec, ExecState
from fluytd.execs.ports import Records
from fluytd.execs.resolve import exec_start
from fluytd.execs.session import JoinedExec
from fluytd.ids import ExecId

_log = logging.getLogger(__name__)

#: Further processes of one container at a time.
MAX_EXECS_PER_CONTAINER: Final = 128
#: Ended sessions of one container that can still be asked for, the oldest given up first.
MAX_ENDED_EXECS_PER_CONTAINER: Final = 32
#: How long the end of a container may take to be told after it has kept a process from starting.
ENDING_SECONDS: Final = 2.0
_SIGHUP: Final = 1


class ExecService:
    """Made once; belongs to the event loop."""

    def __init__(self, ctx: Context, records: Records) -> None:
        """`ctx`: that of the containers."""
        self._ctx = ctx
        self._records = records
        self.clock = ctx.clock
        self._by_id: dict[str, JoinedExec] = {}
        #: How many of a container are on their way and not joined yet.
        self._beginning: Counter[str] = Counter()
        #: What an earlier daemon recorded, until `adopt`, and ids of those that ended since: no record says so.
        self._loaded: list[ExecSession] = []
        self._unrecorded: set[str] = set()
        #: Those of these whose start no record tells either.
        self._untold_starts: set[str] = set()
        self._adopted = asyncio.Event()
        self._is_stopping = False
        ctx.on_removed = self._container_removed
        ctx.on_found_ended = self._container_found_ended

    def stop(self) -> None:
        """The daemon stops: processes go on, whatever becomes of their callers' streams."""
        self._is_stopping = True

    async def load(self) -> None:
        """The records of earlier daemons are read, with what run directories tell of those that ended since. Called
        once, before recovery gives these up."""
        for session in await self._records.load():
            self._loaded.append(await self._with_end(session))

    async def _with_end(self, session: ExecSession) -> ExecSession:
        if session.state is ExecState.EXITED:
            return session
        try:
            ending = await self._ctx.workers.run(self._ctx.runtime.read_exec_ending, session.container_id, session.id)
        except EngineError as error:
            _log.error("session %s: how it ended cannot be told: %s", session.id, error)
            return session
        if ending is None:
            return session
        self._unrecorded.add(session.id)
        if session.state is ExecState.STARTING:
            self._untold_starts.add(session.id)
        return model.ended(session, ending.status, ending.exit_time_unix_nanos)

    def adopt(self) -> None:
        """What an earlier daemon began is known, and goes on without its caller; a probe of it, whose answer nobody
        awaits any more, is being killed. Called once, after recovery and before any caller is served."""
        self._adopted.set()
        found: dict[str, tuple[str, Run, ExecProcess]] = {}
        for entry in self._ctx.table:
            run = entry.run
            if run is None or run.ended.is_set():
                continue
            for process in run.process.execs():
                if ExecId.is_of_probe(process.id):
                    _end(run, process)
                else:
                    found[process.id] = (entry.container.id, run, process)
        for session in self._loaded:
            if (living := found.pop(session.id, None)) is not None:
                self._inherit(session, *living[1:])
            else:
                self._keep_ended(session)
        self._loaded.clear()
        self._unrecorded.clear()
        self._untold_starts.clear()
        # Begun right before the last daemon died: what was asked is not known.
        for container_id, run, process in found.values():
            time = process.start_time_unix_nanos or self._ctx.clock.now_unix_nanos()
            unknown = ExecSpec((), policy=DisconnectPolicy.KEEP)
            session = ExecSession(process.id, container_id, unknown, time)
            if (owner := self._ctx.table.get(container_id)) is not None:
                self._save(owner, session, (self._created(owner, session),))
            self._inherit(session, run, process)

    def _inherit(self, session: ExecSession, run: Run, process: ExecProcess) -> None:
        """Joins a process that an earlier daemon began. Nobody waits to be told why it could not be started: then it is
        forgotten, as its caller would have done."""

        def changed(before: ExecSession, after: ExecSession) -> None:
            self._changed(before, after)
            if after.is_unstarted:
                asyncio.get_running_loop().call_soon(self._forget_by_id, after.id)

        self._join(session, run, process, changed)

    def _forget_by_id(self, exec_id: str) -> None:
        if (exec_ := self._by_id.get(exec_id)) is not None:
            self.forget(exec_)

    def _join(
        self,
        session: ExecSession,
        run: Run,
        process: ExecProcess,
        on_change: Callable[[ExecSession, ExecSession], None] | None = None,
    ) -> JoinedExec:
        exec_ = JoinedExec(session, run, process, on_change or self._changed)
        self._by_id[session.id] = exec_
        run.on_exec_news[session.id] = exec_.look
        exec_.look()
        return exec_

    def _keep_ended(self, session: ExecSession) -> None:
        """A session of an earlier daemon that no supervisor knows."""
        entry = self._ctx.table.get(session.container_id)
        if entry is None or session.state is ExecState.STARTING:
            self._noted(self._records.delete(session.id), session.id)
            return
        if session.state is ExecState.RUNNING:
            lost = SupervisorLost(id=session.container_id, detail="how the process ended was not recorded")
            now = self._ctx.clock.now_unix_nanos()
            session = model.ended(session, None, now, failure=lost.failure)
            self._unrecorded.add(session.id)
        if session.id in self._unrecorded:
            is_untold = session.id in self._untold_starts
            started = (ExecStarted(session.id, session.container_id, entry.container.name),) if is_untold else ()
            self._save(entry, session, (*started, self._exited(session)))
        self._by_id[session.id] = JoinedExec(session, None, GoneProcess(session.id, session.output_bytes))

    def _container_found_ended(self, entry: Entry) -> None:
        """The ends of its sessions are told before its own, which may be followed by its removal."""
        own = [session for session in self._loaded if session.container_id == entry.container.id]
        self._loaded = [session for session in self._loaded if session not in own]
        for session in own:
            self._keep_ended(session)

    def _container_removed(self, entry: Entry) -> None:
        """The records of its sessions went with its own."""
        for exec_ in [one for one in self._by_id.values() if one.session.container_id == entry.container.id]:
            del self._by_id[exec_.session.id]
            exec_.close()
            # Run and session know each other: their files would stay open until a collection of garbage.
            if exec_.run is not None:
                exec_.run.on_exec_news.pop(exec_.session.id, None)
            if not exec_.has_readers:
                exec_.process = GoneProcess(exec_.session.id, exec_.session.output_bytes)

    async def start(self, reference: str, spec: ExecSpec) -> JoinedExec:
        """The process has been executed in the running container, and its session is recorded; its output is held for a
        reader unless `detach`.

        Raises CONTAINER_NOT_FOUND, CONTAINER_AMBIGUOUS, CONTAINER_WRONG_STATE (paused or not running), FIELD_INVALID,
        LIMIT_EXCEEDED (MAX_EXECS_PER_CONTAINER), PROCESS_START_FAILED (exit code 126 or 127 where command or
        directory is at fault), USER_INVALID, SUPERVISOR_LOST. Cancelled, a process on its way is killed.
        """
        entry = self._ctx.table.find(reference)
        run, start = self._prepare(entry, ExecId.new(), spec)
        self._make_room(entry.container.id)
        session = ExecSession(start.id, entry.container.id, spec, self._ctx.clock.now_unix_nanos())
        # Awaited below, beside the start: a daemon that dies between the two finds either of them, or both.
        recorded = self._save(entry, session, (self._created(entry, session),))
        self._beginning[entry.container.id] += 1
        try:
            process = await self._begin(run, start)
        except BaseException as error:
            self._noted(self._records.delete(session.id), session.id)
            await _check_not_ended(run, error)
            raise
        finally:
            self._begun(entry.container.id)
        exec_ = self._join(session, run, process)
        try:
            await exec_.started()
            await recorded
        except BaseException as error:
            self.forget(exec_)
            await _check_not_ended(run, error)
            raise
        return exec_

    async def begin_probe(self, container_id: str, args: Sequence[str]) -> JoinedExec:
        """A health check's process is on its way. It is no session: it is not found, listed, recorded or counted, and
        belongs to the caller, who ends it by `forget`. Raises as `start`, but for what `JoinedExec.started` tells.
        Waits until `adopt` was called, as recovery has containers checked again before it has found them all."""
        await self._adopted.wait()
        entry, spec = self._ctx.table.find(container_id), ExecSpec(tuple(args))
        run, start = self._prepare(entry, ExecId.new_of_probe(), spec)
        session = ExecSession(start.id, entry.container.id, spec, self._ctx.clock.now_unix_nanos())
        exec_ = JoinedExec(session, run, await self._begin(run, start))
        run.on_exec_news[start.id] = exec_.look
        # What was told before anybody listened.
        exec_.look()
        return exec_

    def _prepare(self, entry: Entry, exec_id: ExecId, spec: ExecSpec) -> tuple[Run, ExecStart]:
        container, run = entry.container, entry.run
        if container.state is not State.RUNNING or run is None or run.ended.is_set():
            raise ContainerWrongState(
                id=container.id, state=container.state.value, allowed_states=[State.RUNNING.value]
            )
        return run, exec_start(exec_id, container, spec, self._ctx.host, is_held=not spec.detach)

    async def _begin(self, run: Run, start: ExecStart) -> ExecProcess:
        failpoints.hit("exec.start.process")
        process = await self._ctx.workers.run(self._ctx.runtime.exec, run.process, start)
        failpoints.hit("exec.start.begun")
        return process

    def _changed(self, before: ExecSession, session: ExecSession) -> None:
        """What it has come to is told and being recorded. Of one that could not be started nothing is kept."""
        entry = self._ctx.table.get(session.container_id)
        if session.start_time_unix_nanos is None or entry is None:
            self._noted(self._records.delete(session.id), session.id)
            return
        facts: list[Fact] = []
        if before.state is ExecState.STARTING:
            facts.append(ExecStarted(session.id, session.container_id, entry.container.name))
        if session.state is ExecState.EXITED:
            facts.append(self._exited(session))
        self._save(entry, session, facts)

    @staticmethod
    def _created(entry: Entry, session: ExecSession) -> ExecCreated:
        return ExecCreated(session.id, session.container_id, entry.container.name)

    def _exited(self, session: ExecSession) -> ExecExited:
        entry = self._ctx.table.get(session.container_id)
        name = entry.container.name if entry is not None else ""
        exit_code, signal = (session.exit.exit_code, session.exit.signal) if session.exit is not None else (None, None)
        return ExecExited(session.id, session.container_id, name, exit_code, signal)

    def _save(self, entry: Entry | None, session: ExecSession, facts: Sequence[Fact]) -> Awaitable[None]:
        labels = entry.container.resolved.labels if entry is not None else {}
        return self._noted(self._records.save(session, facts, labels), session.id)

    @staticmethod
    def _noted(write: Awaitable[None], exec_id: str) -> Awaitable[None]:
        """Memory and the supervisor are the authority: who does not await the write need not, a failure is logged."""
        future = asyncio.ensure_future(write)

        def note(done: "asyncio.Future[None]") -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                _log.error("session %s: its record was not stored: %s", exec_id, error)

        future.add_done_callback(note)
        return future

    def _make_room(self, container_id: str) -> None:
        own = [one for one in self._by_id.values() if one.session.container_id == container_id]
        for ended in [one for one in own if one.is_over][: -MAX_ENDED_EXECS_PER_CONTAINER + 1]:
            self.forget(ended)
        live = sum(not one.is_over for one in own) + self._beginning[container_id]
        if live >= MAX_EXECS_PER_CONTAINER:
            raise LimitExceeded(
                limit="MAX_EXECS_PER_CONTAINER",
                limit_value=MAX_EXECS_PER_CONTAINER,
                actual=live + 1,
                subject=f"container {container_id}",
            )

    def _begun(self, container_id: str) -> None:
        self._beginning[container_id] -= 1
        if not self._beginning[container_id]:
            del self._beginning[container_id]

    def forget(self, exec_: JoinedExec) -> None:
        """It is known no more; one that runs is killed. Idempotent."""
        if self._by_id.pop(exec_.session.id, None) is not None:
            self._noted(self._records.delete(exec_.session.id), exec_.session.id)
        exec_.close()
        if exec_.run is not None:
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
        """A caller is gone: if it was the last, what the policy says has been done. What the daemon's own stop ends
        says nothing about the caller."""
        if exec_.is_over or exec_.has_readers or self._is_stopping:
            return
        match exec_.session.spec.policy:
            case DisconnectPolicy.KEEP:
                return
            case DisconnectPolicy.SIGNAL:
                with contextlib.suppress(ProcessNotFound):
                    exec_.process.signal(_SIGHUP)
            case DisconnectPolicy.KILL:
                exec_.process.kill()


async def _check_not_ended(run: Run, error: BaseException) -> None:
    """Raises CONTAINER_WRONG_STATE where a process could not be started because its container was ending: then nothing
    is wrong with the process, the host or the supervisor. One that is killed from outside is no such end."""
    is_command = isinstance(error, ProcessStartFailed) and error.metadata["exit_code"] in {"126", "127"}
    if is_command or not isinstance(error, ProcessStartFailed | SupervisorLost):
        return
    # The supervisor reaps the first process a moment after the kernel has ended all others.
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(run.recorded.wait(), ENDING_SECONDS)
    if run.recorded.is_set() and (final := await run.final()).reason != SupervisorLost.reason:
        raise ContainerWrongState(id=final.id, state=final.state.value, allowed_states=[State.RUNNING.value]) from error


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
