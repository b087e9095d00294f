"""RPC bodies of EngineService."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from fluyt.v1 import engine_pb2, engine_pb2_grpc
from fluyt.v1.types import container_pb2, security_pb2
from fluytd.api.convert.engine import to_capability, to_check_event, to_disk_usage, to_host
from fluytd.api.convert.values import timestamp_of
from fluytd.checks.service import StorageChecker
from fluytd.containers.meter import ContainerUsage
from fluytd.host.service import HostService
from fluytd.images.usage import ImageUsage, Usage

#: Newest package of the API that this engine serves.
API_VERSION: Final = "fluyt.v1"
_USERS: Final = security_pb2.UserNamespaceSpec


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What stays the same while the daemon runs, and where to look up what does not."""

    engine_id: str
    version: str
    core_version: str
    build_profile: str
    architecture: str
    kernel_release: str
    start_time_unix_nanos: int
    data_root: str
    run_root: str
    layer_store: str
    #: (name, value, unit, what it bounds) of the engine's limits.
    limits: Sequence[tuple[str, int, str, str]]
    #: Containers whose caller says nothing have users of their own.
    has_own_users: bool
    #: What every container on this host gets less of, as `field: reason`.
    clamps: Sequence[str]
    #: Number of containers by the name of their state, `running` for example.
    container_counts: Callable[[], Mapping[str, int]]
    image_count: Callable[[], int]
    image_usage: Callable[[], ImageUsage]
    container_usage: Callable[[], ContainerUsage]
    volume_usage: Callable[[], Usage]


class EngineServicer(engine_pb2_grpc.EngineServiceServicer):
    """Tells what the engine is and what its host allows."""

    def __init__(self, facts: EngineFacts, host: HostService, checker: StorageChecker) -> None:
        """Serves `facts`, what `host` knows and what `checker` finds."""
        self._facts = facts
        self._host = host
        self._checker = checker
        self._version = engine_pb2.GetVersionResponse(
            version=facts.version,
            api_version=API_VERSION,
            core_version=facts.core_version,
            build_profile=facts.build_profile,
            os="linux",
            architecture=facts.architecture,
            kernel_release=facts.kernel_release,
            start_time=timestamp_of(facts.start_time_unix_nanos),
        )

    async def GetVersion(self, request: engine_pb2.GetVersionRequest, context: Any) -> engine_pb2.GetVersionResponse:
        return self._version

    async def GetInfo(self, request: engine_pb2.GetInfoRequest, context: Any) -> engine_pb2.GetInfoResponse:
        facts = self._facts
        host = await self._host.facts()
        storage = await self._host.storage()
        states = container_pb2.Container.State
        return engine_pb2.GetInfoResponse(
            engine_id=facts.engine_id,
            host=to_host(host),
            capabilities=[to_capability(capability) for capability in host.capabilities],
            limits=[
                engine_pb2.Limit(name=name, value=value, unit=unit, description=description)
                for name, value, unit, description in facts.limits
            ],
            clamps=[
                container_pb2.Clamp(field=clamp.partition(": ")[0], detail=clamp.partition(": ")[2])
                for clamp in facts.clamps
            ],
            storage=engine_pb2.StorageInfo(
                data_root=facts.data_root,
                run_root=facts.run_root,
                layer_store=facts.layer_store,
                filesystem=storage.filesystem,
                total_bytes=storage.total_bytes,
                available_bytes=storage.available_bytes,
            ),
            container_counts=[
                engine_pb2.ContainerCount(state=states.Value(f"STATE_{state.upper()}"), count=count)
                for state, count in sorted(facts.container_counts().items())
            ],
            image_count=facts.image_count(),
            warnings=await self._host.warnings(),
            default_users=_USERS.MODE_AUTO if facts.has_own_users else _USERS.MODE_HOST,
        )

    async def GetDiskUsage(
        self, request: engine_pb2.GetDiskUsageRequest, context: Any
    ) -> engine_pb2.GetDiskUsageResponse:
        images, containers = self._facts.image_usage(), self._facts.container_usage()
        return engine_pb2.GetDiskUsageResponse(
            content=to_disk_usage(images.blobs),
            layers=to_disk_usage(images.layers),
            containers=to_disk_usage(containers.writable),
            logs=to_disk_usage(containers.logs),
            volumes=to_disk_usage(self._facts.volume_usage()),
        )

    async def CheckStorage(
        self, request: engine_pb2.CheckStorageRequest, context: Any
    ) -> AsyncIterator[engine_pb2.CheckStorageResponse]:
        async with aclosing(self._checker.check(request.subjects, repair=request.repair)) as events:
            async for event in events:
                yield to_check_event(event)
