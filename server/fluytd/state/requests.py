"""Rows of `request_ids`: what a request id was used for and what it was answered. It decides nothing."""

from dataclasses import dataclass

from fluytd.state.db import Transaction


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer that a request got."""

    #: Full name of the RPC, `/fluyt.v1.ContainerService/CreateContainer`.
    method: str
    #: SHA-256 of the request.
    request_digest: bytes
    #: The response, serialised.
    response: bytes


def find(txn: Transaction, request_id: str, *, not_before_unix_nanos: int) -> Answer | None:
    """The answer kept for an id, None if there is none or it is older than that time."""
    row = txn.one(
        "SELECT method, request_digest, response FROM request_ids"
        " WHERE request_id = ? AND create_time_unix_nanos >= ? AND response IS NOT NULL",
        (request_id, not_before_unix_nanos),
    )
    return Answer(*row) if row else None


def save(txn: Transaction, request_id: str, answer: Answer, *, time_unix_nanos: int) -> None:
    """The answer is kept for the id; an older one is replaced."""
    txn.execute(
        "INSERT OR REPLACE INTO request_ids (request_id, method, request_digest, response, create_time_unix_nanos)"
        " VALUES (?, ?, ?, ?, ?)",
        (request_id, answer.method, answer.request_digest, answer.response, time_unix_nanos),
    )


def trim(txn: Transaction, *, not_before_unix_nanos: int, max_count: int) -> None:
    """Answers older than that time are gone, and of the others the oldest beyond `max_count`."""
    txn.execute("DELETE FROM request_ids WHERE create_time_unix_nanos < ?", (not_before_unix_nanos,))
    txn.execute(
        "DELETE FROM request_ids WHERE request_id IN"
        " (SELECT request_id FROM request_ids ORDER BY create_time_unix_nanos DESC LIMIT -1 OFFSET ?)",
        (max_count,),
    )
