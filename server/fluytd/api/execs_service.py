"""RPC bodies of ExecService."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from fluyt.v1 import execs_pb2, execs_pb2_grpc
from fluytd.api.convert.containers import from_reference, from_signal
from fluytd.api.convert.execs import from_size, from_spec, to_chunk, to_session
from fluytd.api.convert.values import from_page_token, page_size, to_page_token
from fluytd.errors import FieldInvalid, FieldNotBuilt
from fluytd.execs.service import ExecService
from fluytd.execs.session import JoinedExec

#: Most bytes of input in one message.
MAX_STDIN_BYTES: Final = 256 * 1024
DEFAULT_PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1_000


class ExecServicer(execs_pb2_grpc.ExecServiceServicer):
    """Further processes in containers for callers."""

    def __init__(self, execs: ExecService) -> None:
        """Serves `execs`."""
        self._execs = execs

    async def Exec(
        self, request: AsyncIterator[execs_pb2.ExecRequest], context: Any
    ) -> AsyncIterator[execs_pb2.ExecResponse]:
        first = await anext(request, None)
        if first is None or first.WhichOneof("action") != "start":
            raise FieldInvalid(field="start", rule="must be the first message")
        if first.start.request_id:
            raise FieldNotBuilt(field="start.request_id")
        spec = from_spec(first.start.spec)
        exec_ = await self._execs.start(from_reference(first.start, "start.container"), spec)
        yield execs_pb2.ExecResponse(started=to_session(exec_.session))
        if spec.detach:
            return
        async with aclosing(self._joined(exec_, request, execs_pb2.ExecResponse, 0)) as responses:
            async for response in responses:
                yield response

    async def AttachExec(
        self, request: AsyncIterator[execs_pb2.AttachExecRequest], context: Any
    ) -> AsyncIterator[execs_pb2.AttachExecResponse]:
        first = await anext(request, None)
        if first is None or first.WhichOneof("action") != "open":
            raise FieldInvalid(field="open", rule="must be the first message")
        if first.open.offset_bytes < 0:
            raise FieldInvalid(field="open.offset_bytes", rule="must not be negative")
        exec_ = self._execs.find(first.open.id)
        offset = first.open.offset_bytes
        yield execs_pb2.AttachExecResponse(offset_bytes=offset, attached=to_session(exec_.session))
        async with aclosing(self._joined(exec_, request, execs_pb2.AttachExecResponse, offset)) as responses:
            async for response in responses:
                yield response

    async def _joined(
        self, exec_: JoinedExec, requests: AsyncIterator[Any], response: Any, offset: int
    ) -> AsyncGenerator[Any, None]:
        """Output, then the end; meanwhile the caller's messages are carried out."""
        detached, reader = asyncio.Event(), object()
        give_input = asyncio.create_task(_give_input(exec_, requests, detached))
        has_left = False
        try:
            async with aclosing(exec_.output(reader, detached, offset)) as outputs:
                async for output in outputs:
                    for chunk in output.chunks:
                        skipped = max(0, offset - chunk.offset_bytes)
                        offset = chunk.offset_bytes + len(chunk.data)
                        yield response(offset_bytes=offset, **{chunk.stream: to_chunk(chunk, skipped)})
            if give_input.done() and not give_input.cancelled():
                give_input.result()  # raises what was wrong with the caller's messages
            has_left = True
            if detached.is_set():
                yield response(offset_bytes=offset, detached=to_session(exec_.session))
            else:
                yield response(offset_bytes=offset, exited=to_session(exec_.session))
        finally:
            give_input.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await give_input
            exec_.leave(reader)
            if not has_left:
                self._execs.disconnected(exec_)

    async def GetExec(self, request: execs_pb2.GetExecRequest, context: Any) -> execs_pb2.GetExecResponse:
        return execs_pb2.GetExecResponse(exec=to_session(self._execs.find(request.id).session))

    async def ListExecs(self, request: execs_pb2.ListExecsRequest, context: Any) -> execs_pb2.ListExecsResponse:
        limit = page_size(request.page_size, default=DEFAULT_PAGE_SIZE, maximum=MAX_PAGE_SIZE)
        sessions = self._execs.list(request.container)
        if request.page_token:
            after = from_page_token(request.page_token)
            places = [place for place, one in enumerate(sessions) if one.id == after]
            sessions = sessions[places[0] + 1 :] if places else []
        page, rest = sessions[:limit], sessions[limit:]
        token = to_page_token(page[-1].id) if rest else ""
        return execs_pb2.ListExecsResponse(execs=[to_session(one) for one in page], next_page_token=token)


async def _give_input(exec_: JoinedExec, requests: AsyncIterator[Any], detached: asyncio.Event) -> None:
    """Carries out the caller's messages until it closes its side, which closes the process's stdin."""
    try:
        async for request in requests:
            match request.WhichOneof("action"):
                case "stdin":
                    if len(request.stdin) > MAX_STDIN_BYTES:
                        raise FieldInvalid(field="stdin", rule=f"must have at most {MAX_STDIN_BYTES} bytes")
                    if not exec_.session.spec.open_stdin:
                        raise FieldInvalid(field="stdin", rule="needs `open_stdin` in the spec")
                    await exec_.write_stdin(request.stdin)
                case "close_stdin":
                    exec_.close_stdin()
                case "resize":
                    exec_.process.resize(*from_size(request.resize, "resize"))
                case "signal":
                    number = from_signal(request.signal, "signal")
                    if number is None:
                        raise FieldInvalid(field="signal", rule="must be given")
                    exec_.process.signal(number)
                case "detach":
                    detached.set()
                    return
                case _:
                    raise FieldInvalid(field="action", rule="must be one that is known, and the first kind only once")
        exec_.close_stdin()
    except asyncio.CancelledError:
        raise
    except BaseException:
        detached.set()  # ends the stream, which then tells what was wrong
        raise
