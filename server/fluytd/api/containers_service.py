"""RPC bodies of ContainerService: convert in, call the service, convert out."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from fluyt.v1 import container_files_pb2, containers_pb2, containers_pb2_grpc
from fluyt.v1.types import container_filter_pb2, container_pb2, stats_pb2
from fluytd.api.briefs import Briefs
from fluytd.api.callers import carry_out
from fluytd.api.convert import container_files
from fluytd.api.convert.auth import from_auth, without_auth
from fluytd.api.convert.container_specs import from_spec
from fluytd.api.convert.containers import (
    from_attach_options,
    from_condition,
    from_filter,
    from_reference,
    from_signal,
    from_timeout,
    from_update,
    to_chunks,
    to_container,
)
from fluytd.api.convert.operations import to_operation
from fluytd.api.convert.stats import from_interval, to_process, to_stats
from fluytd.api.convert.values import from_page_token, page_size, to_page_token
from fluytd.containers.attach import Detached
from fluytd.containers.copying import ContainerCopies
from fluytd.containers.files import ContainerFiles
from fluytd.containers.model import Container
from fluytd.containers.query import newest_first
from fluytd.containers.run import Created, Exited, Launched, Output, Pulling, RunEvent, Running
from fluytd.containers.service import ContainerService
from fluytd.errors import FieldInvalid, LimitExceeded
from fluytd.requests.service import RequestService

#: Containers of a page where the caller names no number, and the most that one has.
MAX_PAGE_SIZE: Final = 1_000
#: A page ends early at about so many bytes, so that no message exceeds 1 MiB.
MAX_PAGE_BYTES: Final = 768 * 1024
#: Figures of so many containers stand in one message, which stays far below 1 MiB.
MAX_ROUND_SIZE: Final = 2_000
#: Who is told as the actor until callers by TCP have names of their own in image events.
ACTOR: Final = "root"
COPY_RPC: Final = "/fluyt.v1.ContainerService/CopyTo"
RUN_RPC: Final = "/fluyt.v1.ContainerService/RunContainer"

_Run = containers_pb2.RunContainerResponse
_Attach = containers_pb2.AttachContainerResponse


class ContainerServicer(containers_pb2_grpc.ContainerServiceServicer):
    """Makes, runs, ends and shows containers for callers."""

    def __init__(
        self,
        containers: ContainerService,
        files: ContainerFiles,
        copies: ContainerCopies,
        requests: RequestService,
        host_memory_bytes: int,
    ) -> None:
        """Serves `containers`, their `files` and `copies` of single ones.

        Args:
            requests: keeps which container a request id of RunContainer stands for.
            host_memory_bytes: what bounds a container without a limit.
        """
        self._containers = containers
        self._files = files
        self._copies = copies
        self._host_memory_bytes = host_memory_bytes
        self._requests = requests
        self._briefs = Briefs()

    async def CreateContainer(
        self, request: containers_pb2.CreateContainerRequest, context: Any
    ) -> containers_pb2.CreateContainerResponse:
        container = await self._containers.create(from_spec(request.spec), request.name)
        return containers_pb2.CreateContainerResponse(container=to_container(container))

    async def StartContainer(
        self, request: containers_pb2.StartContainerRequest, context: Any
    ) -> containers_pb2.StartContainerResponse:
        reference = from_reference(request)
        container = await self._containers.start(reference, expected_version=request.expected_version)
        return containers_pb2.StartContainerResponse(container=to_container(container))

    async def RunContainer(
        self, request: containers_pb2.RunContainerRequest, context: Any
    ) -> AsyncIterator[containers_pb2.RunContainerResponse]:
        spec = from_spec(request.spec)
        auth = from_auth(request.auth) if request.HasField("auth") else None
        events: AsyncGenerator[Pulling | RunEvent, None]
        if request.request_id:
            events = self._run_once(request, spec, auth)
        else:
            events = self._containers.run(spec, request.name, detach=request.detach, auth=auth)
        async with aclosing(events) as running:
            async for event in running:
                for response in _run_responses(event):
                    yield response

    def _times(self, wanted: container_filter_pb2.ContainerFilter) -> dict[str, int]:
        """When the containers were made that a filter names."""
        return {
            name: self._containers.get(getattr(wanted, name)).create_time_unix_nanos
            for name in ("before_container", "since_container")
            if getattr(wanted, name)
        }

    async def _run_once(
        self, request: containers_pb2.RunContainerRequest, spec: Any, auth: Any
    ) -> AsyncGenerator[Pulling | RunEvent, None]:
        pullings = self._containers.prepare_run(spec, request.name, detach=request.detach, auth=auth)
        async with aclosing(pullings):
            async for pulling in pullings:
                yield pulling
        launched: list[Launched] = []

        async def work() -> bytes:
            launched.append(await self._containers.launch(spec, request.name, detach=request.detach))
            return launched[0].created.id.encode()

        digest = hashlib.sha256(without_auth(request).SerializeToString(deterministic=True)).digest()
        answer = await self._requests.answer(request.request_id, RUN_RPC, digest, work)
        events = (
            self._containers.stream(launched[0])
            if launched
            else self._containers.replay(answer.decode(), detach=request.detach)
        )
        async with aclosing(events) as running:
            async for event in running:
                yield event

    async def StopContainer(
        self, request: containers_pb2.StopContainerRequest, context: Any
    ) -> containers_pb2.StopContainerResponse:
        container = await self._containers.stop(
            from_reference(request),
            timeout_millis=from_timeout(request),
            signal=from_signal(request.signal, "signal"),
            expected_version=request.expected_version,
        )
        return containers_pb2.StopContainerResponse(container=to_container(container))

    async def KillContainer(
        self, request: containers_pb2.KillContainerRequest, context: Any
    ) -> containers_pb2.KillContainerResponse:
        reference, signal = from_reference(request), from_signal(request.signal, "signal")
        container = await self._containers.kill(reference, signal, expected_version=request.expected_version)
        return containers_pb2.KillContainerResponse(container=to_container(container))

    async def RestartContainer(
        self, request: containers_pb2.RestartContainerRequest, context: Any
    ) -> containers_pb2.RestartContainerResponse:
        container = await self._containers.restart(
            from_reference(request),
            timeout_millis=from_timeout(request),
            signal=from_signal(request.signal, "signal"),
            expected_version=request.expected_version,
        )
        return containers_pb2.RestartContainerResponse(container=to_container(container))

    async def PauseContainer(
        self, request: containers_pb2.PauseContainerRequest, context: Any
    ) -> containers_pb2.PauseContainerResponse:
        container = await self._containers.pause(from_reference(request), expected_version=request.expected_version)
        return containers_pb2.PauseContainerResponse(container=to_container(container))

    async def ResumeContainer(
        self, request: containers_pb2.ResumeContainerRequest, context: Any
    ) -> containers_pb2.ResumeContainerResponse:
        container = await self._containers.resume(from_reference(request), expected_version=request.expected_version)
        return containers_pb2.ResumeContainerResponse(container=to_container(container))

    async def UpdateContainer(
        self, request: containers_pb2.UpdateContainerRequest, context: Any
    ) -> containers_pb2.UpdateContainerResponse:
        reference, changes = from_reference(request), from_update(request)
        container = await self._containers.update(reference, *changes, expected_version=request.expected_version)
        return containers_pb2.UpdateContainerResponse(container=to_container(container))

    async def RenameContainer(
        self, request: containers_pb2.RenameContainerRequest, context: Any
    ) -> containers_pb2.RenameContainerResponse:
        reference = from_reference(request)
        container = await self._containers.rename(reference, request.name, expected_version=request.expected_version)
        return containers_pb2.RenameContainerResponse(container=to_container(container))

    async def DeleteContainer(
        self, request: containers_pb2.DeleteContainerRequest, context: Any
    ) -> containers_pb2.DeleteContainerResponse:
        container_id, size = await self._containers.delete(
            from_reference(request),
            force=request.force,
            removes_volumes=request.delete_volumes,
            expected_version=request.expected_version,
        )
        return containers_pb2.DeleteContainerResponse(id=container_id, reclaimed_bytes=size)

    async def GetContainer(
        self, request: containers_pb2.GetContainerRequest, context: Any
    ) -> containers_pb2.GetContainerResponse:
        container = self._containers.get(from_reference(request))
        message = to_container(
            container,
            volumes_dir=self._containers.volumes_dir(container),
            waits_for_restart=self._containers.waits_for_restart(container),
        )
        if request.include_size:
            _tell_size(message, await self._containers.writable_usage(container))
        return containers_pb2.GetContainerResponse(container=message)

    async def ListContainers(  # type: ignore[override] # bytes are as good, see `calls._serialized`
        self, request: containers_pb2.ListContainersRequest, context: Any
    ) -> containers_pb2.ListContainersResponse | bytes:
        limit = page_size(request.page_size, default=MAX_PAGE_SIZE, maximum=MAX_PAGE_SIZE)
        after = _position(request.page_token)
        listed: list[Container] = []
        parts: list[bytes] = []
        size_bytes, token = 0, ""
        for container in self._containers.list(from_filter(request.filter, self._times(request.filter))):
            if after is not None and newest_first(container) <= after:
                continue
            if len(parts) == limit or size_bytes > MAX_PAGE_BYTES:
                token = to_page_token(f"{listed[-1].create_time_unix_nanos}:{listed[-1].id}")
                break
            waits = self._containers.waits_for_restart(container)
            parts.append(self._briefs.of(container, waits_for_restart=waits))
            listed.append(container)
            size_bytes += len(parts[-1])
        if not request.include_size:
            # Joined messages of one type are one message (see `Briefs.of`), so that nothing is parsed here.
            parts.append(containers_pb2.ListContainersResponse(next_page_token=token).SerializeToString())
            return b"".join(parts)
        response = containers_pb2.ListContainersResponse.FromString(b"".join(parts))
        response.next_page_token = token
        for message, container in zip(response.containers, listed, strict=True):
            _tell_size(message, await self._containers.writable_usage(container))
        return response

    async def PruneContainers(
        self, request: containers_pb2.PruneContainersRequest, context: Any
    ) -> containers_pb2.PruneContainersResponse:
        wanted = from_filter(request.filter, self._times(request.filter))
        pruned = await self._containers.prune(wanted, dry_run=request.dry_run)
        return containers_pb2.PruneContainersResponse(deleted=pruned.ids, reclaimed_bytes=pruned.reclaimed_bytes)

    async def WatchStats(
        self, request: containers_pb2.WatchStatsRequest, context: Any
    ) -> AsyncIterator[containers_pb2.WatchStatsResponse]:
        if len(request.containers) > MAX_PAGE_SIZE:
            raise LimitExceeded(
                limit="MAX_PAGE_SIZE", limit_value=MAX_PAGE_SIZE, actual=len(request.containers), subject="containers"
            )
        interval = from_interval(request)
        async with aclosing(self._containers.watch_stats(request.containers, interval, once=request.once)) as rounds:
            async for samples in rounds:
                # A round of more containers than a message holds comes in several.
                for first in range(0, max(1, len(samples)), MAX_ROUND_SIZE):
                    part = samples[first : first + MAX_ROUND_SIZE]
                    round_ = stats_pb2.StatsRound(stats=[to_stats(one, self._host_memory_bytes) for one in part])
                    yield containers_pb2.WatchStatsResponse(round=round_)
        yield containers_pb2.WatchStatsResponse(complete=stats_pb2.StatsComplete())

    async def ListProcesses(
        self, request: containers_pb2.ListProcessesRequest, context: Any
    ) -> containers_pb2.ListProcessesResponse:
        reference = from_reference(request)
        limit = page_size(request.page_size, default=MAX_PAGE_SIZE, maximum=MAX_PAGE_SIZE)
        after = from_page_token(request.page_token) if request.page_token else "0"
        if not after.isdecimal():
            raise FieldInvalid(field="page_token", rule="must be a next_page_token of an earlier answer")
        response = containers_pb2.ListProcessesResponse()
        size_bytes = 0
        for process, uid in await self._containers.list_processes(reference):
            if process.host_pid <= int(after):
                continue
            if len(response.processes) == limit or size_bytes > MAX_PAGE_BYTES:
                response.next_page_token = to_page_token(str(response.processes[-1].host_pid))
                break
            message = to_process(process, uid)
            response.processes.append(message)
            size_bytes += message.ByteSize()
        return response

    async def WaitContainer(
        self, request: containers_pb2.WaitContainerRequest, context: Any
    ) -> containers_pb2.WaitContainerResponse:
        container = await self._containers.wait(from_reference(request), from_condition(request.condition))
        return containers_pb2.WaitContainerResponse(container=to_container(container))

    async def ListChanges(
        self, request: container_files_pb2.ListChangesRequest, context: Any
    ) -> container_files_pb2.ListChangesResponse:
        after = container_files.from_position(request.page_token)
        limit = page_size(
            request.page_size, default=container_files.DEFAULT_CHANGES, maximum=container_files.MAX_CHANGES
        )
        changes = await self._files.list_changes(from_reference(request))
        return container_files.to_changes(changes, after, limit, MAX_PAGE_BYTES)

    async def ExportContainer(
        self, request: container_files_pb2.ExportContainerRequest, context: Any
    ) -> AsyncIterator[container_files_pb2.ExportContainerResponse]:
        async with aclosing(self._files.export(from_reference(request))) as parts:
            async for part in parts:
                yield container_files.to_export_part(part)

    async def CopyTo(
        self, request: AsyncIterator[container_files_pb2.CopyToRequest], context: Any
    ) -> container_files_pb2.CopyToResponse:
        first = await anext(request, None)
        if first is None or first.WhichOneof("part") != "options":
            raise FieldInvalid(field="options", rule="must be the first message")
        options = first.options
        wanted = container_files.from_copy_to(options, from_reference(options, "options.container"))

        async def work() -> bytes:
            copied = await self._copies.copy_to(wanted, _chunks(request))
            answer = container_files_pb2.CopyToResponse(entry_count=copied.entry_count, size_bytes=copied.size_bytes)
            return answer.SerializeToString()

        if not options.request_id:
            return container_files_pb2.CopyToResponse.FromString(await work())
        digest = hashlib.sha256(options.SerializeToString(deterministic=True)).digest()
        answer = await self._requests.answer(options.request_id, COPY_RPC, digest, work)
        return container_files_pb2.CopyToResponse.FromString(answer)

    async def CopyFrom(
        self, request: container_files_pb2.CopyFromRequest, context: Any
    ) -> AsyncIterator[container_files_pb2.CopyFromResponse]:
        reference, path = from_reference(request), container_files.from_path(request)
        async with aclosing(self._copies.copy_from(reference, path, follow_link=request.follow_link)) as parts:
            async for part in parts:
                yield container_files.to_copy_part(part)

    async def CommitContainer(
        self, request: containers_pb2.CommitContainerRequest, context: Any
    ) -> containers_pb2.CommitContainerResponse:
        wanted = container_files.from_commit(request)
        committed = await self._files.commit(from_reference(request), wanted, ACTOR)
        return containers_pb2.CommitContainerResponse(
            image_id=committed.image.id,
            manifest_digest=committed.image.manifest.digest,
            layer_size_bytes=committed.layer_size_bytes,
        )

    async def AttachContainer(
        self, request: AsyncIterator[containers_pb2.AttachContainerRequest], context: Any
    ) -> AsyncIterator[containers_pb2.AttachContainerResponse]:
        first = await anext(request, None)
        if first is None or first.WhichOneof("action") != "open":
            raise FieldInvalid(field="open", rule="must be the first message")
        options = from_attach_options(first.open)
        session = await self._containers.attach(from_reference(first.open, "open.container"), options)
        give_input = asyncio.create_task(carry_out(session, request))
        try:
            yield _Attach(attached=to_container(session.container))
            async with aclosing(session.events()) as events:
                async for event in events:
                    if give_input.done() and not give_input.cancelled() and give_input.exception() is not None:
                        break
                    for response in _attach_responses(event):
                        yield response
            if give_input.done() and not give_input.cancelled():
                give_input.result()  # raises what was wrong with the caller's messages
        finally:
            give_input.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await give_input
            session.close()


async def _chunks(requests: AsyncIterator[container_files_pb2.CopyToRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise FieldInvalid(field="part", rule="must be a chunk, once the options were sent")
        if request.chunk:
            yield request.chunk


def _tell_size(message: container_pb2.Container, usage: tuple[int, bool] | None) -> None:
    """It stays absent where the container comes or goes just now."""
    if usage is not None:
        message.writable_size_bytes, message.writable_size_is_estimate = usage


def _run_responses(event: Pulling | RunEvent) -> list[containers_pb2.RunContainerResponse]:
    match event:
        case Pulling(operation=operation):
            return [_Run(pull=to_operation(operation))]
        case Created(container=container):
            return [_Run(created=to_container(container))]
        case Running(container=container):
            return [_Run(started=to_container(container))]
        case Output(records=records):
            return [
                _Run(stdout=chunk) if stream == "stdout" else _Run(stderr=chunk) for stream, chunk in to_chunks(records)
            ]
        case Exited(container=container):
            return [_Run(exited=to_container(container))]


def _attach_responses(event: Output | Exited | Detached) -> list[containers_pb2.AttachContainerResponse]:
    match event:
        case Output(records=records):
            return [
                _Attach(stdout=chunk) if stream == "stdout" else _Attach(stderr=chunk)
                for stream, chunk in to_chunks(records)
            ]
        case Exited(container=container):
            return [_Attach(exited=to_container(container))]
        case Detached(container=container):
            return [_Attach(detached=to_container(container))]


def _position(token: str) -> tuple[int, str] | None:
    if not token:
        return None
    time, separator, container_id = from_page_token(token).partition(":")
    if not separator or not time.isdecimal():
        raise FieldInvalid(field="page_token", rule="must be a next_page_token of an earlier answer")
    return (-int(time), container_id)
