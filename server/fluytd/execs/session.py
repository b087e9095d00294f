"""One further process while it is known: what it has come to, and who reads its output."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fluytd.containers.model import ExitStatus
from fluytd.containers.process_ports import ExecOutput, ExecProcess
from fluytd.containers.stdin import StdinPipe
from fluytd.containers.table import Run
from fluytd.errors import SupervisorLost
from fluytd.execs.model import ExecSession, ExecState

#: Output that is read at once: what one reader costs in memory.
BATCH_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Output:
    """It wrote this; `offset_bytes`: of both outputs, up to its end."""

    chunks: Sequence[ExecOutput]
    offset_bytes: int


class JoinedExec:
    """A session. Belongs to the event loop."""

    def __init__(
        self,
        session: ExecSession,
        run: Run | None,
        process: ExecProcess,
        on_change: Callable[[ExecSession, ExecSession], None] = lambda before, after: None,
    ) -> None:
        """`process`: on its way, or ended; `run`: the container's, which wakes this by `look`, None of one that has
        ended and gone. `on_change`: told of each new state."""
        self._on_change = on_change
        self.session = session
        self.run = run
        self.process = process
        self._stdin: StdinPipe | None = None
        self._changed = asyncio.Event()
        #: For each reader the position up to which it has the output.
        self._taken: dict[object, int] = {}

    @property
    def is_over(self) -> bool:
        """It has ended, or could not be started."""
        return self.session.state is ExecState.EXITED

    def look(self) -> None:
        """Takes what the supervisor has told, and wakes who waits."""
        process, session = self.process, self.session
        if self.is_over or self.run is None:
            return
        changes = replace(session, version=session.version + 1, output_bytes=process.content_bytes)
        record = process.exit_record
        if record is not None:
            status = ExitStatus(exit_code=record.exit_code, signal=record.signal)
            changes = replace(
                changes,
                state=ExecState.EXITED,
                host_pid=0,
                exit=status,
                exit_time_unix_nanos=record.exit_time_unix_nanos,
            )
            if process.is_started:
                changes = replace(changes, start_time_unix_nanos=process.start_time_unix_nanos)
        elif process.has_failed:
            changes = replace(changes, state=ExecState.EXITED, host_pid=0)
        elif self.run.ended.is_set():
            # Its supervisor was killed: the container's processes are, too.
            lost = SupervisorLost(id=session.container_id, detail="the process ended with it")
            changes = replace(
                changes, state=ExecState.EXITED, host_pid=0, exit=ExitStatus(signal=9), failure=lost.failure
            )
        elif process.is_started:
            changes = replace(
                changes,
                state=ExecState.RUNNING,
                host_pid=process.host_pid,
                start_time_unix_nanos=process.start_time_unix_nanos,
            )
        self.session = changes
        if changes.state is not session.state:
            self._on_change(session, changes)
        self.wake()

    def wake(self) -> None:
        """Everyone who waits looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def started(self) -> ExecSession:
        """The session once its process has been executed, or has ended already. Raises what kept it from that."""
        while self.session.state is ExecState.STARTING:
            await self._changed.wait()
        if self.process.has_failed:
            self.process.check()
        if self.session.start_time_unix_nanos is None and self.session.failure is not None:
            raise SupervisorLost(id=self.session.container_id, detail="it ended before the process was executed")
        return self.session

    async def ended(self) -> ExecSession:
        """The session once it has ended, or could not be started."""
        while not self.is_over:
            await self._changed.wait()
        return self.session

    async def output(self, reader: object, ended: asyncio.Event, offset_bytes: int = 0) -> AsyncGenerator[Output, None]:
        """Yields output behind `offset_bytes` that is still kept, until the process has ended and all was read, or
        `ended` is set. The process waits for a reader that is slow; leave by `leave`."""
        process = self.process
        position = max(process.oldest, self._taken.get(reader, 0))
        self._take(reader, position)
        position = max(process.oldest, position)
        watch = asyncio.ensure_future(ended.wait())
        try:
            while not ended.is_set():
                # Memory, and a bounded piece of it: a hop to a thread would cost more.
                chunks, position = process.read(position, BATCH_BYTES)
                news = [chunk for chunk in chunks if chunk.offset_bytes + len(chunk.data) > offset_bytes]
                if news:
                    offset_bytes = news[-1].offset_bytes + len(news[-1].data)
                    yield Output(news, offset_bytes)
                if chunks:
                    self._take(reader, position)
                    continue
                if self.is_over and position >= process.head:
                    return
                change = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait((change, watch), return_when=asyncio.FIRST_COMPLETED)
                change.cancel()
        finally:
            watch.cancel()

    def _take(self, reader: object, position: int) -> None:
        self._taken[reader] = position
        if not self.is_over:
            self.process.take(min(self._taken.values()))

    def leave(self, reader: object) -> None:
        """The reader reads no longer: without another one the process does not wait any more. Idempotent."""
        if self._taken.pop(reader, None) is not None and not self.is_over:
            self.process.take(min(self._taken.values(), default=None))

    @property
    def has_readers(self) -> bool:
        """Somebody reads its output."""
        return bool(self._taken)

    async def write_stdin(self, data: bytes) -> None:
        """The input is with the process, or dropped because nobody reads it any more."""
        if self._stdin is None:
            fd = self.process.stdin_fd()
            if fd is None:
                return
            self._stdin = StdinPipe(fd)
        await self._stdin.write(data)

    def close_stdin(self) -> None:
        """The process reads the end of its input; a terminal is told so and stays open for the next. Idempotent."""
        if self._stdin is not None and not self.session.spec.tty:
            self._stdin.close()
        self.process.close_stdin()

    def close(self) -> None:
        """No descriptor of it is held here any more."""
        if self._stdin is not None:
            self._stdin.close()
