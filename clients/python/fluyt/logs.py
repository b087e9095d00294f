"""Logs of containers."""

from collections.abc import Iterator
from datetime import datetime

import grpc

from fluyt.errors import iterate
from fluyt.v1 import logs_pb2, logs_pb2_grpc


def read(
    connection: grpc.Channel,
    container: str,
    *,
    follow: bool = False,
    tail_lines: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    cursor: str = "",
) -> Iterator[logs_pb2.LogRecord]:
    """The records of a container's log, in the order written; `record.cursor` is where to go on later.

    Args:
        follow: go on until the container has ended.
        tail_lines: begin so many lines before the present end; None: at the oldest.
        since: only records of this time or later; a datetime with a time zone.
        until: only records before this time; a datetime with a time zone.
        cursor: begin right after the record that carried it.
    """
    request = logs_pb2.ReadLogsRequest(container=container, follow=follow, tail_lines=tail_lines, cursor=cursor)
    if since is not None:
        request.since_time.FromDatetime(since)
    if until is not None:
        request.until_time.FromDatetime(until)
    for message in iterate(logs_pb2_grpc.LogServiceStub(connection).ReadLogs(request)):
        yield from message.batch.records
