"""A request with an id gets one answer, however often it is sent. It knows neither RPCs nor messages, only bytes.

Answers are kept, failures are not: a retry of a request that failed tries again. A daemon that dies between a request's
effect and the record of its answer forgets the answer; the retry then meets the effect (NAME_IN_USE, for example).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from fluytd.clock import Clock
from fluytd.errors import FieldInvalid, RequestIdReused
from fluytd.state import requests as rows
from fluytd.state.db import Database, Transaction

#: How long an answer is kept.
ANSWER_LIFETIME_NANOS: Final = 24 * 3600 * 1_000_000_000
#: Most answers kept at once; the oldest go first.
MAX_ANSWERS: Final = 10_000
#: Longest request id.
MAX_REQUEST_ID_CHARS: Final = 128
#: Answers saved between two looks for old ones.
_TRIM_INTERVAL: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Flight:
    """A request at work."""

    method: str
    request_digest: bytes
    response: "asyncio.Task[bytes]"


class RequestService:
    """Answers by request id, in memory while the work runs and in the records afterwards."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Keeps its answers in `database`, open from the first request to the last."""
        self._database = database
        self._clock = clock
        self._flights: dict[str, _Flight] = {}
        self._saved_count = 0

    async def answer(
        self, request_id: str, method: str, request_digest: bytes, work: Callable[[], Awaitable[bytes]]
    ) -> bytes:
        """The first answer to this request, from `work` if there is none yet.

        Callers with the same id at the same time share one `work`. Cancelling this call does not end the work; its
        answer is kept for the retry. Raises FIELD_INVALID for an id that is malformed, REQUEST_ID_REUSED if the id
        stands for another method or content, and whatever `work` raises.
        """
        check_request_id(request_id)
        flight = self._flights.get(request_id)
        if flight is None:
            task = asyncio.ensure_future(self._find_or_work(request_id, method, request_digest, work))
            flight = self._flights[request_id] = _Flight(method, request_digest, task)
            task.add_done_callback(lambda done: self._land(request_id, done))
        elif (flight.method, flight.request_digest) != (method, request_digest):
            raise RequestIdReused(request_id=request_id)
        return await asyncio.shield(flight.response)

    def _land(self, request_id: str, done: "asyncio.Task[bytes]") -> None:
        del self._flights[request_id]
        if not done.cancelled():
            done.exception()  # taken note of: the caller may have gone

    async def _find_or_work(
        self, request_id: str, method: str, request_digest: bytes, work: Callable[[], Awaitable[bytes]]
    ) -> bytes:
        oldest = self._clock.now_unix_nanos() - ANSWER_LIFETIME_NANOS
        kept = await self._database.read(lambda txn: rows.find(txn, request_id, not_before_unix_nanos=oldest))
        if kept is not None:
            if (kept.method, kept.request_digest) != (method, request_digest):
                raise RequestIdReused(request_id=request_id)
            return kept.response
        answer = rows.Answer(method, request_digest, await work())
        is_trim_due = self._saved_count % _TRIM_INTERVAL == 0
        self._saved_count += 1

        def save(txn: Transaction) -> None:
            if is_trim_due:
                rows.trim(txn, not_before_unix_nanos=oldest, max_count=MAX_ANSWERS)
            rows.save(txn, request_id, answer, time_unix_nanos=self._clock.now_unix_nanos())

        await self._database.write(save)
        return answer.response


def check_request_id(request_id: str) -> None:
    """Raises FIELD_INVALID unless it is 1 to 128 printable ASCII characters."""
    if not 1 <= len(request_id) <= MAX_REQUEST_ID_CHARS:
        raise FieldInvalid(field="request_id", rule=f"must have 1 to {MAX_REQUEST_ID_CHARS} characters")
    if not (request_id.isascii() and request_id.isprintable()):
        raise FieldInvalid(field="request_id", rule="must be printable ASCII")
