"""RPC bodies of ExecService."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from fluyt.v1 import execs_pb2, execs_pb2_grpc
from fluytd.api.callers import carry_out
from fluytd.api.convert.containers import from_reference
from fluytd.api.convert.execs import from_spec, to_chunk, to_session
from fluytd.api.convert.values import from_page_token, from_size, page_size, to_page_token
from fluytd.containers.terminals import parse_detach_keys
from fluytd.errors import FieldInvalid
from fluytd.execs.caller import ExecCaller
from fluytd.execs.service import ExecService
from fluytd.execs.session import JoinedExec
from fluytd.requests.service import RequestService

EXEC_RPC: Final = "/fluyt.v1.ExecService/Exec"
DEFAULT_PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1_000


class ExecServicer(execs_pb2_grpc.ExecServiceServicer):
    """Further processes in containers for callers."""

    def __init__(self, execs: ExecService, requests: RequestService) -> None:
        """Serves `execs`; `requests` keeps which session a request id stands for."""
        self._execs = execs
        self._requests = requests

    async def Exec(
        self, request: AsyncIterator[execs_pb2.ExecRequest], context: Any
    ) -> AsyncIterator[execs_pb2.ExecResponse]:
        first = await anext(request, None)
        if first is None or first.WhichOneof("action") != "start":
            raise FieldInvalid(field="start", rule="must be the first message")
        exec_ = await self._started(first.start)
        yield execs_pb2.ExecResponse(started=to_session(exec_.session))
        if exec_.session.spec.detach:
            return
        async with aclosing(self._joined(exec_, ExecCaller(exec_), request, execs_pb2.ExecResponse, 0)) as responses:
            async for response in responses:
                yield response

    async def _started(self, start: execs_pb2.ExecStart) -> JoinedExec:
        """The session, or with a request id that was used before the one that it stands for."""
        reference, spec = from_reference(start, "start.container"), from_spec(start.spec)
        if not start.request_id:
            return await self._execs.start(reference, spec)

        async def work() -> bytes:
            return (await self._execs.start(reference, spec)).session.id.encode()

        digest = hashlib.sha256(start.SerializeToString(deterministic=True)).digest()
        return self._execs.find((await self._requests.answer(start.request_id, EXEC_RPC, digest, work)).decode())

    async def AttachExec(
        self, request: AsyncIterator[execs_pb2.AttachExecRequest], context: Any
    ) -> AsyncIterator[execs_pb2.AttachExecResponse]:
        first = await anext(request, None)
        if first is None or first.WhichOneof("action") != "open":
            raise FieldInvalid(field="open", rule="must be the first message")
        options = first.open
        if options.offset_bytes < 0:
            raise FieldInvalid(field="open.offset_bytes", rule="must not be negative")
        exec_ = self._execs.find(_given(options.id, "open.id"))
        has_terminal = exec_.session.spec.tty
        parse_detach_keys(options.detach_keys, "open.detach_keys", has_terminal=has_terminal)
        if options.HasField("terminal_size"):
            exec_.process.resize(*from_size(options.terminal_size, "open.terminal_size"))
        offset = options.offset_bytes
        yield execs_pb2.AttachExecResponse(offset_bytes=offset, attached=to_session(exec_.session))
        caller = ExecCaller(exec_, options.detach_keys)
        async with aclosing(self._joined(exec_, caller, request, execs_pb2.AttachExecResponse, offset)) as responses:
            async for response in responses:
                yield response

    async def _joined(
        self, exec_: JoinedExec, caller: ExecCaller, requests: AsyncIterator[Any], response: Any, offset: int
    ) -> AsyncGenerator[Any, None]:
        """Output, then the end; meanwhile the caller's messages are carried out."""
        give_input = asyncio.create_task(carry_out(caller, requests))
        has_left = False
        try:
            async with aclosing(exec_.output(caller, caller.left, offset)) as outputs:
                async for output in outputs:
                    for chunk in output.chunks:
                        skipped = max(0, offset - chunk.offset_bytes)
                        offset = chunk.offset_bytes + len(chunk.data)
                        yield response(offset_bytes=offset, **{chunk.stream: to_chunk(chunk, skipped)})
            if give_input.done() and not give_input.cancelled():
                give_input.result()  # raises what was wrong with the caller's messages
            has_left = True
            if caller.is_detached:
                yield response(offset_bytes=offset, detached=to_session(exec_.session))
            else:
                yield response(offset_bytes=offset, exited=to_session(exec_.session))
        finally:
            give_input.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await give_input
            exec_.leave(caller)
            if not has_left:
                self._execs.disconnected(exec_)

    async def GetExec(self, request: execs_pb2.GetExecRequest, context: Any) -> execs_pb2.GetExecResponse:
        return execs_pb2.GetExecResponse(exec=to_session(self._execs.find(_given(request.id, "id")).session))

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


def _given(exec_id: str, field: str) -> str:
    if not exec_id:
        raise FieldInvalid(field=field, rule="must be given")
    return exec_id
