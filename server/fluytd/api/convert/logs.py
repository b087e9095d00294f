"""Log requests and records <-> messages. Pure."""

from typing import Final

from fluyt.v1 import logs_pb2
from fluyt.v1.types import output_pb2
from fluytd.api.convert.values import from_timestamp, timestamp_of
from fluytd.errors import FieldInvalid
from fluytd.logs.ports import LogRecord, ReadRange
from fluytd.logs.service import LogBatch, LogEnd, LogGap

STREAMS: Final = {
    "stdout": output_pb2.OUTPUT_STREAM_STDOUT,
    "stderr": output_pb2.OUTPUT_STREAM_STDERR,
}
_STREAM_NAMES: Final = {value: name for name, value in STREAMS.items()}
#: Most bytes of one record in a message; a longer line goes out in several.
MAX_RECORD_BYTES: Final = 512 * 1024
#: Most bytes of records in one message.
MAX_BATCH_BYTES: Final = 256 * 1024


def from_request(request: logs_pb2.ReadLogsRequest) -> tuple[ReadRange, frozenset[str]]:
    """Where to read, and which streams (empty: both). Raises FIELD_INVALID."""
    streams = set()
    for value in request.streams:
        if value not in _STREAM_NAMES:
            raise FieldInvalid(field="streams", rule=f"{value} is not a stream")
        streams.add(_STREAM_NAMES[value])
    wanted = ReadRange(
        cursor=request.cursor or None,
        tail_lines=request.tail_lines if request.HasField("tail_lines") else None,
        since_unix_nanos=from_timestamp(request.since_time, "since_time") if request.HasField("since_time") else None,
        until_unix_nanos=from_timestamp(request.until_time, "until_time") if request.HasField("until_time") else None,
    )
    return wanted, frozenset(streams)


def to_responses(event: LogBatch | LogGap | LogEnd) -> list[logs_pb2.ReadLogsResponse]:
    """The messages of one event, each within the bound of a message."""
    match event:
        case LogGap(skipped_segments=count):
            return [logs_pb2.ReadLogsResponse(gap=logs_pb2.LogGap(skipped_segments=count))]
        case LogEnd(reason=reason, cursor=cursor):
            end = logs_pb2.LogEnd(reason=logs_pb2.LogEnd.Reason.Value(f"REASON_{reason.name}"), cursor=cursor)
            return [logs_pb2.ReadLogsResponse(end=end)]
        case LogBatch(records=records):
            return _batches([message for record in records for message in _to_records(record)])


def _to_records(record: LogRecord) -> list[logs_pb2.LogRecord]:
    data, time = record.data, timestamp_of(record.time_unix_nanos)
    pieces = [data[at : at + MAX_RECORD_BYTES] for at in range(0, len(data), MAX_RECORD_BYTES)] or [b""]
    messages = [logs_pb2.LogRecord(stream=STREAMS[record.stream], data=piece, time=time) for piece in pieces]
    # Only the last piece has a place to go on from: a cursor stands between lines.
    messages[-1].cursor = record.cursor
    return messages


def _batches(records: list[logs_pb2.LogRecord]) -> list[logs_pb2.ReadLogsResponse]:
    responses: list[logs_pb2.ReadLogsResponse] = []
    batch = logs_pb2.LogBatch()
    size = 0
    for record in records:
        if batch.records and size + len(record.data) > MAX_BATCH_BYTES:
            responses.append(logs_pb2.ReadLogsResponse(batch=batch))
            batch, size = logs_pb2.LogBatch(), 0
        batch.records.append(record)
        size += len(record.data)
    if batch.records:
        responses.append(logs_pb2.ReadLogsResponse(batch=batch))
    return responses
