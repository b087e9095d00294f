"""Log requests and events <-> messages. Pure."""

from collections.abc import Sequence
from typing import Final

from fluyt.v1 import logs_pb2
from fluyt.v1.types import output_pb2
from fluytd.api.convert.values import from_timestamp
from fluytd.errors import FieldInvalid
from fluytd.logs.ports import ReadRange
from fluytd.logs.service import LogBatch, LogEnd, LogGap

STREAMS: Final = {
    "stdout": output_pb2.OUTPUT_STREAM_STDOUT,
    "stderr": output_pb2.OUTPUT_STREAM_STDERR,
}
_STREAM_NAMES: Final = {value: name for name, value in STREAMS.items()}


def from_request(request: logs_pb2.ReadLogsRequest) -> tuple[ReadRange, frozenset[str]]:
    """Where to read, and which streams (empty: both). Raises FIELD_INVALID."""
    streams = set()
    for index, value in enumerate(request.streams):
        if value not in _STREAM_NAMES:
            raise FieldInvalid(field=f"streams[{index}]", rule=f"{value} is not a stream")
        streams.add(_STREAM_NAMES[value])
    wanted = ReadRange(
        cursor=request.cursor or None,
        tail_lines=request.tail_lines if request.HasField("tail_lines") else None,
        since_unix_nanos=from_timestamp(request.since_time, "since_time") if request.HasField("since_time") else None,
        until_unix_nanos=from_timestamp(request.until_time, "until_time") if request.HasField("until_time") else None,
    )
    return wanted, frozenset(streams)


def to_responses(event: LogBatch | LogGap | LogEnd) -> Sequence[logs_pb2.ReadLogsResponse | bytes]:
    """The messages of one event; records come serialized from the core, each message within its bound."""
    match event:
        case LogGap(skipped_segments=count):
            return [logs_pb2.ReadLogsResponse(gap=logs_pb2.LogGap(skipped_segments=count))]
        case LogEnd(reason=reason, cursor=cursor):
            end = logs_pb2.LogEnd(reason=logs_pb2.LogEnd.Reason.Value(f"REASON_{reason.name}"), cursor=cursor)
            return [logs_pb2.ReadLogsResponse(end=end)]
        case LogBatch(messages=messages):
            return messages
