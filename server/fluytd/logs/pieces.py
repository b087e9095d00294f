"""Output as pieces of a bounded size: what a process wrote line by line is not handed on line by line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fluytd.logs.ports import LogRecord


@dataclass(frozen=True, slots=True)
class OutputPiece:
    """Bytes that follow each other in one stream."""

    #: `stdout` or `stderr`.
    stream: str
    data: bytes
    #: When the line began that its last bytes belong to.
    time_unix_nanos: int
    #: Reading from it begins right after the piece; empty where that is within a line.
    cursor: str


def joined(records: Sequence[LogRecord], max_bytes: int) -> Iterator[OutputPiece]:
    """The records' bytes in order: neighbours of one stream together up to `max_bytes`, a longer record in several."""
    parts: list[bytes] = []
    size = 0
    for index, record in enumerate(records):
        data = record.data
        while len(data) > max_bytes:
            piece, data = data[:max_bytes], data[max_bytes:]
            yield OutputPiece(record.stream, piece, record.time_unix_nanos, "")
        parts.append(data)
        size += len(data)
        following = records[index + 1] if index + 1 < len(records) else None
        if following is None or following.stream != record.stream or size + len(following.data) > max_bytes:
            yield OutputPiece(record.stream, b"".join(parts), record.time_unix_nanos, record.cursor)
            parts, size = [], 0
