"""Conversions that several nouns need: times, spans, failures, pages. Pure."""

import base64
import binascii
from typing import Any, Final

from google.protobuf import duration_pb2, timestamp_pb2

from fluyt.v1.types import failure_pb2, output_pb2
from fluytd.containers.terminals import MAX_TERMINAL_SIZE
from fluytd.errors import EngineError, Failure, FieldInvalid, FieldNotBuilt

_NANOS: Final = 1_000_000_000
_MILLIS: Final = 1_000
_NANOS_PER_MILLI: Final = 1_000_000
#: Longest span taken from a caller: far beyond any use, and no sum of it overflows.
MAX_SPAN_MILLIS: Final = 100 * 365 * 24 * 3600 * 1000


def to_timestamp(unix_nanos: int | None) -> timestamp_pb2.Timestamp | None:
    """A time, or None."""
    return None if unix_nanos is None else timestamp_of(unix_nanos)


def timestamp_of(unix_nanos: int) -> timestamp_pb2.Timestamp:
    """A time."""
    return timestamp_pb2.Timestamp(seconds=unix_nanos // _NANOS, nanos=unix_nanos % _NANOS)


def from_timestamp(time: timestamp_pb2.Timestamp, field: str) -> int:
    """Nanoseconds since 1970. Raises FIELD_INVALID for nanoseconds out of range or a time before 1970."""
    if not 0 <= time.nanos < _NANOS or not 0 <= time.seconds < 1 << 33:
        raise FieldInvalid(field=field, rule="must be a valid time after 1970")
    return time.seconds * _NANOS + time.nanos


def from_size(message: output_pb2.TerminalSize, field: str) -> tuple[int, int]:
    """(columns, rows) of a terminal. Raises FIELD_INVALID."""
    width, height = message.width, message.height
    if not (0 < width <= MAX_TERMINAL_SIZE and 0 < height <= MAX_TERMINAL_SIZE):
        raise FieldInvalid(field=field, rule=f"must have a width and height of 1 to {MAX_TERMINAL_SIZE}")
    return width, height


def from_duration(span: duration_pb2.Duration, field: str) -> int:
    """Milliseconds, rounded up for what is below one. Raises FIELD_INVALID for a malformed or absurdly long span."""
    if abs(span.nanos) >= _NANOS or span.seconds * span.nanos < 0:
        raise FieldInvalid(field=field, rule="must be a valid duration")
    millis = span.seconds * _MILLIS + -(-span.nanos // _NANOS_PER_MILLI)
    if abs(millis) > MAX_SPAN_MILLIS:
        raise FieldInvalid(field=field, rule=f"must be at most {MAX_SPAN_MILLIS} ms")
    return millis


def to_duration(millis: int) -> duration_pb2.Duration:
    """A span."""
    return duration_pb2.Duration(seconds=millis // _MILLIS, nanos=millis % _MILLIS * _NANOS_PER_MILLI)


def to_failure(failure: Failure | None) -> failure_pb2.Failure | None:
    """A failure that stands in a record, or None."""
    if failure is None:
        return None
    return failure_pb2.Failure(
        code=int(failure.code),
        reason=failure.reason,
        message=failure.message,
        metadata=failure.metadata,
        next_step=failure.next_step,
    )


def page_size(asked: int, *, default: int, maximum: int, field: str = "page_size") -> int:
    """How many items a page has at most; too large a wish is cut. Raises FIELD_INVALID if negative. Source: AIP-158."""
    if asked < 0:
        raise FieldInvalid(field=field, rule="must not be negative")
    return min(asked or default, maximum)


def to_page_token(key: str) -> str:
    """An opaque token for the item after which the next page begins."""
    return base64.urlsafe_b64encode(key.encode()).decode()


def from_page_token(token: str) -> str:
    """The key that `to_page_token` was given; empty for the first page. Raises FIELD_INVALID."""
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise FieldInvalid(field="page_token", rule="must be a next_page_token of an earlier answer") from None


def refuse_fields(message: Any, fields: tuple[str, ...], path: str) -> None:
    """Raises FIELD_NOT_BUILT, with the path below `path`, for the first of these fields that is set."""
    for name in fields:
        descriptor = message.DESCRIPTOR.fields_by_name[name]
        value = getattr(message, name)
        if (message.HasField(name) if descriptor.has_presence else bool(value)) and value:
            raise not_built(f"{path}.{name}")


def not_built(path: str) -> EngineError:
    """That the field at `path` asks for something that this version does not do."""
    return FieldNotBuilt(field=path)


def choice(table: Any, value: int, field: str) -> Any:
    """What an enum's value stands for. Raises FIELD_INVALID for one that is not in the table."""
    if value not in table:
        raise FieldInvalid(field=field, rule=f"{value} is not a value of this enum")
    return table[value]
