"""RPC bodies of BuildService: convert in, call the service, convert out."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import ExitStack, aclosing
from typing import Any, Final

from fluyt.v1 import builds_pb2, builds_pb2_grpc
from fluytd.api.convert import builds as convert
from fluytd.api.convert.operations import to_operation
from fluytd.api.convert.values import from_page_token, page_size, to_page_token
from fluytd.api.interceptors.identity import LOCAL_PRINCIPAL, principal_of
from fluytd.builds.agents import AgentSession
from fluytd.builds.service import BuildService
from fluytd.errors import FieldInvalid

DEFAULT_PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1_000
#: Missing chunks that one answer names.
MAX_MISSING_LISTED: Final = 10_000
#: Bytes of chunks that are given to the store at once.
_BATCH_BYTES: Final = 4 * 1024 * 1024
#: As in `images_service`.
ACTOR: Final = "root"
_NANOS: Final = 1_000_000_000


class BuildServicer(builds_pb2_grpc.BuildServiceServicer):
    """Builds images for callers, and shows and prunes the cache."""

    def __init__(self, builds: BuildService) -> None:
        """Serves `builds`."""
        self._builds = builds

    async def BuildImage(self, request: builds_pb2.BuildImageRequest, context: Any) -> builds_pb2.BuildImageResponse:
        wanted = convert.from_request(request)
        principal = principal_of(context)
        if principal != LOCAL_PRINCIPAL:
            convert.refuse_files_of_host(request)
        agents = self._builds.agents.find(request.agent_session_id, principal)
        operation = await self._builds.build(wanted, agents=agents, request_id=request.request_id, actor=ACTOR)
        return builds_pb2.BuildImageResponse(operation=to_operation(operation))

    async def UploadContext(
        self, request_iterator: AsyncIterator[builds_pb2.UploadContextRequest], context: Any
    ) -> builds_pb2.UploadContextResponse:
        contexts = self._builds.contexts
        context_id = ""
        batch: list[bytes] = []
        size_bytes = 0
        # What a caller that goes away has offered is not kept.
        with ExitStack() as uploading:
            async for message in request_iterator:
                part = message.WhichOneof("part")
                if not context_id:
                    if part != "open":
                        raise FieldInvalid(field="open", rule="must come first")
                    context_id = message.open.context_id or secrets.token_hex(16)
                    uploading.enter_context(contexts.uploading(context_id))
                    if not message.open.context_id:
                        await contexts.offer(context_id, ())
                elif part == "offer":
                    await contexts.offer(context_id, convert.from_entries(message.offer.entries))
                elif part == "chunk":
                    batch.append(message.chunk)
                    size_bytes += len(message.chunk)
                    if size_bytes >= _BATCH_BYTES:
                        await contexts.put(batch)
                        batch, size_bytes = [], 0
                else:
                    raise FieldInvalid(field="part", rule="must be offer or chunk after open")
            if not context_id:
                raise FieldInvalid(field="open", rule="must come first")
            await contexts.put(batch)
            return convert.to_missing(context_id, await contexts.missing(context_id), MAX_MISSING_LISTED)

    async def ServeBuildAgents(
        self, request_iterator: AsyncIterator[builds_pb2.ServeBuildAgentsRequest], context: Any
    ) -> AsyncIterator[builds_pb2.ServeBuildAgentsResponse]:
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("part") != "offer":
            raise FieldInvalid(field="offer", rule="must be the first message")
        with self._builds.agents.session(first.offer.ids, principal_of(context)) as session:
            yield builds_pb2.ServeBuildAgentsResponse(ready=builds_pb2.BuildAgentsReady(session_id=session.id))
            hearing = asyncio.create_task(_hear(session, request_iterator))
            hearing.add_done_callback(lambda _: session.close())
            try:
                async for said in session.said():
                    yield convert.to_agent(said)
                await hearing  # raises what was wrong with the caller's messages
            finally:
                hearing.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await hearing

    async def ReadBuildLog(
        self, request: builds_pb2.ReadBuildLogRequest, context: Any
    ) -> AsyncIterator[builds_pb2.ReadBuildLogResponse]:
        async with aclosing(self._builds.follow_log(request.operation_id, request.position_bytes)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                yield convert.to_log(piece)

    async def ListBuilds(self, request: builds_pb2.ListBuildsRequest, context: Any) -> builds_pb2.ListBuildsResponse:
        limit = page_size(request.page_size, default=DEFAULT_PAGE_SIZE, maximum=MAX_PAGE_SIZE)
        entries, after = self._builds.history.entries(), from_page_token(request.page_token)
        if after:
            ids = [entry.id for entry in entries]
            if after not in ids:
                raise FieldInvalid(field="page_token", rule="its build is gone; begin with the first page")
            entries = entries[ids.index(after) + 1 :]
        page = entries[:limit]
        response = builds_pb2.ListBuildsResponse(builds=[convert.to_build(entry, has_steps=False) for entry in page])
        if len(entries) > limit:
            response.next_page_token = to_page_token(page[-1].id)
        return response

    async def GetBuild(self, request: builds_pb2.GetBuildRequest, context: Any) -> builds_pb2.GetBuildResponse:
        return builds_pb2.GetBuildResponse(build=convert.to_build(self._builds.history.get(request.id), has_steps=True))

    async def PruneBuildHistory(
        self, request: builds_pb2.PruneBuildHistoryRequest, context: Any
    ) -> builds_pb2.PruneBuildHistoryResponse:
        if len(request.ids) > MAX_PAGE_SIZE:
            raise FieldInvalid(field="ids", rule=f"must be at most {MAX_PAGE_SIZE}")
        history = self._builds.history
        ids = [*request.ids, *(history.ended_ids() if request.all else ())]
        return builds_pb2.PruneBuildHistoryResponse(deleted=await history.delete(ids))

    async def ListBuildCache(
        self, request: builds_pb2.ListBuildCacheRequest, context: Any
    ) -> builds_pb2.ListBuildCacheResponse:
        limit = page_size(request.page_size, default=DEFAULT_PAGE_SIZE, maximum=MAX_PAGE_SIZE)
        after = from_page_token(request.page_token)
        records = await self._builds.records()
        if after:
            keys = [record.key for record in records]
            if after not in keys:
                raise FieldInvalid(field="page_token", rule="its record is gone; begin with the first page")
            records = records[keys.index(after) + 1 :]
        page = records[:limit]
        response = builds_pb2.ListBuildCacheResponse(
            records=convert.to_records(page, [self._builds.is_in_use(record) for record in page])
        )
        if len(records) > limit:
            response.next_page_token = to_page_token(page[-1].key)
        return response

    async def SaveBuildCache(
        self, request: builds_pb2.SaveBuildCacheRequest, context: Any
    ) -> AsyncIterator[builds_pb2.SaveBuildCacheResponse]:
        tag, present = convert.from_save_cache(request)
        spec = convert.from_cache_spec(request.spec)
        async with aclosing(self._builds.save_cache(request.build_id, spec, tag, present)) as parts:
            async for part in parts:
                yield convert.to_saved_cache(part)

    async def PruneBuildCache(
        self, request: builds_pb2.PruneBuildCacheRequest, context: Any
    ) -> builds_pb2.PruneBuildCacheResponse:
        if request.keep_bytes < 0:
            raise FieldInvalid(field="keep_bytes", rule="must not be negative")
        unused_nanos = request.unused_for.seconds * _NANOS + request.unused_for.nanos
        if unused_nanos < 0:
            raise FieldInvalid(field="unused_for", rule="must not be negative")
        doomed = await self._builds.doomed(unused_nanos, request.keep_bytes, takes_shared=request.all)
        operation = await self._builds.prune(
            doomed,
            unused_seconds=unused_nanos / _NANOS,
            dry_run=request.dry_run,
            request_id=request.request_id,
            actor=ACTOR,
        )
        return builds_pb2.PruneBuildCacheResponse(operation=to_operation(operation))


async def _hear(session: AgentSession, requests: AsyncIterator[builds_pb2.ServeBuildAgentsRequest]) -> None:
    """The caller has closed its side. Raises FIELD_INVALID, LIMIT_EXCEEDED."""
    async for message in requests:
        match message.WhichOneof("part"):
            case "answer":
                session.answer(message.answer.connection, message.answer.data)
            case "end":
                session.answer(message.end.connection, None)
            case _:
                raise FieldInvalid(field="part", rule="must be answer or end after offer")
