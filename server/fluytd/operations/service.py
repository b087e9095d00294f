"""Begins, follows and ends operations. What the work is, the noun's own service says.

An operation belongs to the engine, not to the caller that began it: its row is written before the work begins, its end
before anyone is told, and those that a restart cut off are FAILED with ENGINE_RESTARTED.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from fluytd import tracing
from fluytd.clock import Clock
from fluytd.errors import (
    Cancelled,
    EngineError,
    EngineRestarted,
    EngineStopping,
    OperationNotFound,
    RequestIdReused,
    unexpected,
)
from fluytd.events.model import ENGINE_ACTOR, NewEvent, OperationEnded, OperationStarted
from fluytd.ids import OperationId
from fluytd.operations.model import Operation, OperationKind, OperationState, Progress, Result
from fluytd.operations.ports import CancelToken
from fluytd.state import operations as rows
from fluytd.state.db import Database, Transaction

_log = logging.getLogger(__name__)

#: How often the progress of a watched operation is sampled.
SAMPLE_SECONDS = 0.1


class OperationHandle:
    """What the work of one operation holds: it tells progress by it and learns from it that it is to end."""

    def __init__(self, operation_id: OperationId, actor: str, cancel_token: CancelToken) -> None:
        self.operation_id = operation_id
        #: Who began it.
        self.actor = actor
        #: Given to every core call of the work.
        self.cancel_token = cancel_token
        #: Set with the token, for what is awaited on the event loop.
        self.cancelled = asyncio.Event()
        self._progress: Callable[[], Progress | None] = lambda: None

    def update(self, progress: Progress) -> None:
        """The operation's progress is this value until the next call."""
        self._progress = lambda: progress

    def track(self, progress: Callable[[], Progress | None]) -> None:
        """The operation's progress is what `progress` returns whenever someone looks; it must be quick."""
        self._progress = progress

    def cancel(self) -> None:
        """Asks the work to end. Idempotent."""
        self.cancel_token.cancel()
        self.cancelled.set()

    def check(self) -> None:
        """Raises CANCELLED once the operation's end was asked for."""
        if self.cancel_token.is_cancelled:
            raise Cancelled(subject=f"operation {self.operation_id}")

    @property
    def progress(self) -> Progress | None:
        """How far the work has come now."""
        return self._progress()


Work = Callable[[OperationHandle], Awaitable[Result]]


class OperationService:
    """All operations, running and ended. Belongs to the event loop."""

    def __init__(
        self, db: Database, clock: Clock, new_cancel_token: Callable[[], CancelToken], *, history: int
    ) -> None:
        """`history`: how many ended operations are kept."""
        self._db = db
        self._clock = clock
        self._new_cancel_token = new_cancel_token
        self._history = history
        self._operations: dict[OperationId, Operation] = {}
        self._by_request: dict[str, OperationId] = {}
        self._handles: dict[OperationId, OperationHandle] = {}
        self._tasks: dict[OperationId, asyncio.Task[None]] = {}
        self._changed: dict[OperationId, asyncio.Event] = {}
        self._is_stopping = False

    async def open(self) -> int:
        """Operations of earlier runs are known; those that were RUNNING are FAILED now. Returns how many those were."""
        operations = await self._db.read(rows.load_all)
        for operation in operations:
            self._remember(operation)
        cut_off = [operation for operation in operations if not operation.is_ended]
        for operation in cut_off:
            await self._end(operation.id, OperationState.FAILED, error=EngineRestarted(id=operation.id))
        return len(cut_off)

    async def close(self) -> None:
        """Running work was told to end and has; on disk its operations stay RUNNING for `open` to fail. Idempotent."""
        self._is_stopping = True
        for operation_id, handle in self._handles.items():
            handle.cancel()
            self._wake(operation_id)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def begin(
        self, kind: OperationKind, subject: str, work: Work, *, request_id: str = "", actor: str = ENGINE_ACTOR
    ) -> Operation:
        """The operation is recorded and its work runs. A request id that was used before gives that operation.

        Args:
            kind: what it does.
            subject: what it does it to.
            work: called once with the handle; what it returns is the result, what it raises the failure.
            request_id: empty for none.
            actor: who began it.

        Raises:
            REQUEST_ID_REUSED: the id belongs to an operation of another kind or subject.
            ENGINE_STOPPING: no work is begun any more.
        """
        if self._is_stopping:
            raise EngineStopping(detail="no operation is begun any more")
        if request_id and request_id in self._by_request:
            return self._repeated(kind, subject, request_id)
        now = self._clock.now_unix_nanos()
        operation = Operation(
            id=OperationId.new(),
            kind=kind,
            subject=subject,
            state=OperationState.RUNNING,
            sequence=1,
            create_time_unix_nanos=now,
            update_time_unix_nanos=now,
            actor=actor,
            request_id=request_id,
        )
        self._remember(operation)

        def record(txn: Transaction) -> None:
            rows.save(txn, operation)
            started = OperationStarted(operation_id=operation.id, kind=kind, subject=subject)
            txn.emit(NewEvent(started, operation.id, actor=actor))

        try:
            await self._db.write(record)
        except BaseException:
            self._forget(operation)
            raise
        handle = OperationHandle(operation.id, actor, self._new_cancel_token())
        self._handles[operation.id] = handle
        self._tasks[operation.id] = asyncio.create_task(self._run(handle, work), name=f"operation {operation.id}")
        return self.get(operation.id)

    def get(self, operation_id: str) -> Operation:
        """The operation as it stands now. Raises OPERATION_NOT_FOUND."""
        operation = self._operations.get(OperationId(operation_id))
        if operation is None:
            raise OperationNotFound(id=operation_id)
        return self._sample(operation)

    def list(self) -> list[Operation]:
        """Every known operation, newest first."""
        return [self._sample(operation) for operation in reversed(self._operations.values())]

    async def wait(self, operation_id: str) -> Operation:
        """The operation once it has ended. Cancelling the await does nothing to it. Raises OPERATION_NOT_FOUND."""
        operation = self.get(operation_id)
        while not operation.is_ended:
            self._check_running(operation)
            await self._event(operation.id).wait()
            operation = self.get(operation_id)
        return operation

    async def watch(self, operation_id: str, after_sequence: int = 0) -> AsyncIterator[Operation]:
        """Yields the operation as it stands, then at each change (put together for a slow caller), lastly its end.

        `after_sequence`: only changes with a higher number. Raises OPERATION_NOT_FOUND, ENGINE_STOPPING.
        """
        operation = self.get(operation_id)
        while True:
            if operation.sequence > after_sequence:
                after_sequence = operation.sequence
                yield operation
            if operation.is_ended:
                return
            self._check_running(operation)
            await self._wait_change(operation)
            operation = self.get(operation_id)

    async def cancel(self, operation_id: str) -> Operation:
        """The operation's end is asked for; one that has ended is left as it is. Raises OPERATION_NOT_FOUND."""
        operation = self.get(operation_id)
        handle = self._handles.get(operation.id)
        if handle is not None and not operation.is_ended and not operation.is_cancel_requested:
            handle.cancel()
            self._change(replace(operation, is_cancel_requested=True))
        return self.get(operation_id)

    async def _run(self, handle: OperationHandle, work: Work) -> None:
        operation_id = handle.operation_id
        try:
            operation = self._operations[operation_id]
            with tracing.step(
                f"operation.{operation.kind.value}", operation_id=operation_id, subject=operation.subject
            ):
                result = await work(handle)
        except Exception as error:  # noqa: BLE001 - each failure of the work is the operation's
            if self._is_stopping and isinstance(error, Cancelled):
                return
            await self._end_failed(operation_id, error)
        else:
            await self._end(operation_id, OperationState.SUCCEEDED, result=result)
        finally:
            self._handles.pop(operation_id, None)
            self._tasks.pop(operation_id, None)
            self._wake(operation_id)

    async def _end_failed(self, operation_id: OperationId, error: Exception) -> None:
        if not isinstance(error, EngineError):
            incident = unexpected()
            _log.error("incident %s in operation %s", incident.metadata["incident_id"], operation_id, exc_info=error)
            error = incident
        was_asked = self._operations[operation_id].is_cancel_requested and isinstance(error, Cancelled)
        state = OperationState.CANCELLED if was_asked else OperationState.FAILED
        await self._end(operation_id, state, error=error)

    async def _end(
        self,
        operation_id: OperationId,
        state: OperationState,
        *,
        result: Result | None = None,
        error: EngineError | None = None,
    ) -> None:
        operation = self._sample(self._operations[operation_id])
        now = self._clock.now_unix_nanos()
        ended = replace(
            operation,
            state=state,
            sequence=operation.sequence + 1,
            update_time_unix_nanos=now,
            end_time_unix_nanos=now,
            result=result,
            failure=error.failure if error else None,
        )

        def record(txn: Transaction) -> None:
            rows.save(txn, ended)
            fact = OperationEnded(operation_id, ended.kind, ended.subject, state, ended.failure)
            txn.emit(NewEvent(fact, operation_id, actor=ended.actor))

        try:
            await self._db.write(record)
        except EngineError as failure:
            # The end is told to those who watch; on disk the operation is RUNNING, so that the next start fails it.
            _log.error("the end of operation %s could not be recorded: %s", operation_id, failure)
        self._operations[operation_id] = ended
        self._wake(operation_id)
        await self._trim()

    async def _trim(self) -> None:
        ended = [operation for operation in self._operations.values() if operation.is_ended]
        surplus = ended[: max(0, len(ended) - self._history)]
        if not surplus:
            return
        for operation in surplus:
            self._forget(operation)
        try:
            await self._db.write(lambda txn: rows.delete(txn, [operation.id for operation in surplus]))
        except EngineError as failure:
            _log.warning("old operations could not be removed: %s", failure)

    def _repeated(self, kind: OperationKind, subject: str, request_id: str) -> Operation:
        operation = self.get(self._by_request[request_id])
        if operation.kind is not kind or operation.subject != subject:
            raise RequestIdReused(request_id=request_id)
        return operation

    def _sample(self, operation: Operation) -> Operation:
        """The operation with its progress of this moment; a changed progress is a change with a number of its own."""
        handle = self._handles.get(operation.id)
        progress = handle.progress if handle is not None and not operation.is_ended else operation.progress
        if progress == operation.progress:
            return operation
        return self._change(replace(operation, progress=progress))

    def _change(self, operation: Operation) -> Operation:
        changed = replace(
            operation, sequence=operation.sequence + 1, update_time_unix_nanos=self._clock.now_unix_nanos()
        )
        self._operations[changed.id] = changed
        self._wake(changed.id)
        return changed

    async def _wait_change(self, operation: Operation) -> None:
        """Returns at a change, or after `SAMPLE_SECONDS` so that progress is looked at again."""
        try:
            async with asyncio.timeout(SAMPLE_SECONDS):
                await self._event(operation.id).wait()
        except TimeoutError:
            return

    def _check_running(self, operation: Operation) -> None:
        if self._is_stopping and operation.id not in self._tasks:
            raise EngineStopping(detail=f"operation {operation.id} was cut off")

    def _event(self, operation_id: OperationId) -> asyncio.Event:
        return self._changed.setdefault(operation_id, asyncio.Event())

    def _wake(self, operation_id: OperationId) -> None:
        event = self._changed.pop(operation_id, None)
        if event is not None:
            event.set()

    def _remember(self, operation: Operation) -> None:
        self._operations[operation.id] = operation
        if operation.request_id:
            self._by_request[operation.request_id] = operation.id

    def _forget(self, operation: Operation) -> None:
        self._operations.pop(operation.id, None)
        if operation.request_id:
            self._by_request.pop(operation.request_id, None)
