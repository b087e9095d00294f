"""RPC bodies of LogService."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fluyt.v1 import logs_pb2, logs_pb2_grpc
from fluytd.api.convert.containers import from_reference
from fluytd.api.convert.logs import from_request, to_responses
from fluytd.logs.service import LogService


class LogServicer(logs_pb2_grpc.LogServiceServicer):
    """Reads logs for callers."""

    def __init__(self, logs: LogService) -> None:
        """Serves `logs`."""
        self._logs = logs

    async def ReadLogs(self, request: logs_pb2.ReadLogsRequest, context: Any) -> AsyncIterator[Any]:
        wanted, streams = from_request(request)
        events = self._logs.read(from_reference(request), wanted, follow=request.follow, streams=streams)
        async with aclosing(events) as reading:
            async for event in reading:
                for response in to_responses(event):
                    yield response
