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
from fluytd.containers.model import Container, State
from fluytd.containers.ports import ProbeResult
from fluytd.containers.table import Entry
from fluytd.errors import ContainerWrongState, ExecNotFound, LimitExceeded, ProcessNotFound
from fluytd.execs.model import DisconnectPolicy, ExecSession, ExecSpec
from fluytd.execs.resolve import exec_start
from fluytd.execs.session import JoinedExec
from fluytd.ids import ExecId

#: Further processes of one container at a time.
MAX_EXECS_PER_CONTAINER: Final = 128
#: Ended sessions of one container that can still be asked for, the oldest given up first.
MAX_ENDED_EXECS_PER_CONTAINER: Final = 32
#: Most bytes that a probe's command may write; the rest is dropped.
MAX_PROBE_OUTPUT_BYTES: Final = 64 * 1024
#: Exit code of a probe that was broken off. Source: moby `daemon/health.go`.
_NO_EXIT_CODE: Final = -1
_SIGHUP: Final = 1


class ExecService:
    """Made once; belongs to the event loop."""

    def __init__(self, ctx: Context) -> None:
        """`ctx`: that of the containers."""
        self._ctx = ctx
        self.clock = ctx.clock
        self._by_id: dict[str, JoinedExec] = {}
        self._has_adopted = False
        self._is_stopping = False

    def stop(self) -> None:
        """The daemon stops: processes go on, whatever becomes of their callers' streams."""
        self._is_stopping = True

    def _adopt(self) -> None:
        """What an earlier daemon began is known, and goes on without its caller. Nothing is called before recovery."""
        if self._has_adopted:
            return
        self._has_adopted = True
        for entry in self._ctx.table:
            run = entry.run
            if run is None or run.ended.is_set():
                continue
            for process in run.process.execs():
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
        exec_ = await self._begin(self._ctx.table.find(reference), spec)
        try:
            await exec_.started()
        except BaseException:
            self.forget(exec_)
            raise
        return exec_

    async def _begin(self, entry: Entry, spec: ExecSpec) -> JoinedExec:
        self._adopt()
        container, run = entry.container, entry.run
        if container.state is not State.RUNNING or run is None or run.ended.is_set():
            raise ContainerWrongState(
                id=container.id, state=container.state.value, allowed_states=[State.RUNNING.value]
            )
        self._make_room(container.id)
        start = exec_start(ExecId.new(), container, spec, self._ctx.host, is_held=not spec.detach)
        failpoints.hit("exec.start.process")
        process = await self._ctx.workers.run(self._ctx.runtime.exec, run.process, start)
        session = ExecSession(start.id, container.id, spec, self._ctx.clock.now_unix_nanos())
        exec_ = self._by_id[start.id] = JoinedExec(session, run, process)
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
        """Nothing of it is kept; one that runs is killed. Idempotent."""
        self._by_id.pop(exec_.session.id, None)
        exec_.run.on_exec_news.pop(exec_.session.id, None)
        exec_.close()
        if not exec_.run.ended.is_set():
            exec_.process.forget()

    def find(self, exec_id: str) -> JoinedExec:
        """Raises EXEC_NOT_FOUND."""
        self._adopt()
        exec_ = self._by_id.get(exec_id)
        if exec_ is None:
            raise ExecNotFound(id=exec_id)
        return exec_

    def list(self, reference: str) -> list[ExecSession]:
        """Sessions of a container, or of all (an empty reference), newest first. Raises CONTAINER_NOT_FOUND."""
        self._adopt()
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


class ExecProbe:
    """Implements `containers.ports.Probe` by further processes."""

    def __init__(self, execs: ExecService) -> None:
        """Runs commands by `execs`."""
        self._execs = execs

    async def run(self, container: Container, args: Sequence[str], timeout_millis: int) -> ProbeResult:
        """See `Probe.run`."""
        execs = self._execs
        reader = object()
        exec_ = await execs.start(container.id, ExecSpec(tuple(args)))
        output = bytearray()

        async def collect() -> None:
            async for batch in exec_.output(reader, asyncio.Event()):
                for chunk in batch.chunks:
                    output.extend(chunk.data[: MAX_PROBE_OUTPUT_BYTES - len(output)])

        try:
            await asyncio.wait_for(collect(), timeout_millis / 1000)
        except TimeoutError:
            text = f"the check was killed after its timeout of {timeout_millis} ms\n".encode()
            return ProbeResult(_NO_EXIT_CODE, text + bytes(output), execs.clock.now_unix_nanos())
        finally:
            exec_.leave(reader)
            if not exec_.is_over:
                exec_.process.kill()
            execs.forget(exec_)
        status = exec_.session.exit
        end = exec_.session.exit_time_unix_nanos or execs.clock.now_unix_nanos()
        return ProbeResult(_NO_EXIT_CODE if status is None else status.shell_code, bytes(output), end)
