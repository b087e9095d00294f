"""Builds: from a request to an operation that carries it out, and the cache as callers see it. No transport."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from fluytd import failpoints
from fluytd.builds import graph
from fluytd.builds.admission import Admission, privileges
from fluytd.builds.agents import AgentSession, BuildAgents
from fluytd.builds.attestations import Attestation, IndexAnnotations, Making, Material
from fluytd.builds.attesting import Attestor
from fluytd.builds.cache import BuildCache
from fluytd.builds.cache_exchange import Foreign
from fluytd.builds.cache_packing import SentCache
from fluytd.builds.dockerfile.origins import CacheMount
from fluytd.builds.dockerfile.parse import parse
from fluytd.builds.dockerfile.plan import make_plan
from fluytd.builds.dockerfile.resolve import missing_bases, resolve
from fluytd.builds.dockerfile.source import Finding
from fluytd.builds.dockerfile.steps import Plan, Request, ResolvedBuild
from fluytd.builds.finding import DEFAULT_DOCKERFILE, Finder, Places
from fluytd.builds.graph import StepPlace
from fluytd.builds.history import MAX_BUILDS, BuildHistory
from fluytd.builds.image import ImageMaker
from fluytd.builds.log import BuildLog, LogPiece
from fluytd.builds.model import BuildEntry, BuildRequest, CacheRecord, CacheSpec, UploadedSource
from fluytd.builds.mounts import MountUse
from fluytd.builds.progress import Steps
from fluytd.builds.repacking import repacked
from fluytd.builds.solver import MAX_STEPS_AT_ONCE, Job, Shop, Solver, restore_mount
from fluytd.builds.sources import BuildSources, SourceTools
from fluytd.errors import BuildCacheGone, Cancelled, EngineError, OperationNotFound
from fluytd.gc.collect import Collector
from fluytd.gc.leases import Lease
from fluytd.ids import Digest
from fluytd.images.assemble import run_all
from fluytd.images.config import ImageConfig
from fluytd.images.model import Image
from fluytd.images.platforms import Platform
from fluytd.images.push import Pusher
from fluytd.operations.model import BuildResult, Operation, OperationKind, OperationState, PruneResult
from fluytd.operations.service import OperationHandle, OperationService
from fluytd.registries.model import Credentials
from fluytd.workers import Workers

_log = logging.getLogger(__name__)

#: Names of deleted records that a result lists.
MAX_LISTED: Final = 1_000
_NANOS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Target:
    """What is built for one platform."""

    build: ResolvedBuild
    places: tuple[tuple[StepPlace, ...], ...]

    @property
    def config(self) -> ImageConfig:
        """That of the image."""
        return next(stage.config for stage in self.build.stages if stage.index == self.build.target)


@dataclass(frozen=True, slots=True)
class Made:
    """What a build stood on."""

    #: Keys of results; True for those that a stage of the image stands on.
    held: Mapping[str, bool]
    mounts: tuple[MountUse, ...]

    def keys(self, spec: CacheSpec) -> list[str]:
        """Those that are to be written."""
        return [key for key, is_of_image in self.held.items() if is_of_image or not spec.is_min]

    def mounts_of(self, spec: CacheSpec) -> list[MountUse]:
        """Those that are to be written, each id once."""
        return list({use.id: use for use in self.mounts}.values()) if spec.has_mounts else []


class BuildService:
    """Made once. Belongs to the event loop."""

    def __init__(
        self,
        operations: OperationService,
        places: Places,
        shop: Shop,
        source_tools: SourceTools,
        maker: ImageMaker,
        pusher: Pusher,
        collector: Collector,
        workers: Workers,
        history: BuildHistory,
        attestor: Attestor,
        admission: Admission,
    ) -> None:
        """`places`: where contexts and base images are found; `source_tools`: how they are fetched; `admission`:
        whether a build may have what it asks for."""
        self._admission = admission
        self._attestor = attestor
        #: By the build's id, the last ones that succeeded.
        self._made: OrderedDict[str, Made] = OrderedDict()
        self.contexts = places.contexts
        self.agents = BuildAgents()
        self.history = history
        self._operations = operations
        self._places = places
        self._shop = shop
        self._source_tools = source_tools
        self._maker = maker
        self._pusher = pusher
        self._collector = collector
        self._workers = workers

    @property
    def cache(self) -> BuildCache:
        """The records of the cache."""
        return self._shop.cache

    async def build(
        self, request: BuildRequest, *, agents: AgentSession | None = None, request_id: str = "", actor: str
    ) -> Operation:
        """The build has begun. `agents`: those that its caller serves.

        Raises FIELD_INVALID (cgroup_parent), REQUEST_ID_REUSED, ENGINE_STOPPING; all else is the operation's failure.
        """
        self._shop.executor.check_parent(request.cgroup_parent)

        async def work(handle: OperationHandle) -> BuildResult:
            try:
                return await self._told(request, agents, handle)
            finally:
                await self.cache.trim(self._collector)
                await self._shop.mounts.trim(self.cache.max_bytes)

        subject = request.references[0].familiar if request.references else "image"
        return await self._operations.begin(
            OperationKind.BUILD_IMAGE, subject, work, request_id=request_id, actor=actor
        )

    async def _told(self, request: BuildRequest, agents: AgentSession | None, handle: OperationHandle) -> BuildResult:
        """The build, and how it went, on record."""
        build_id = handle.operation_id
        log = await self.history.begin(entry_of(request, build_id, self._shop.clock.now_unix_nanos()))
        try:
            result = await self._build(request, agents, log, handle)
        except Cancelled as error:
            if self._operations.get(build_id).is_cancel_requested:
                await self.history.end(build_id, OperationState.CANCELLED, error=error)
            else:
                await self.history.leave(build_id)
            raise
        except EngineError as error:
            await self.history.end(build_id, OperationState.FAILED, error=error)
            raise
        except Exception:
            # A bug, which the operation tells with its incident id.
            await self.history.end(build_id, OperationState.FAILED)
            raise
        except BaseException:
            await self.history.leave(build_id)
            raise
        await self.history.end(build_id, OperationState.SUCCEEDED, result=result)
        return result

    async def _build(
        self, request: BuildRequest, agents: AgentSession | None, log: BuildLog, handle: OperationHandle
    ) -> BuildResult:
        start = self._shop.clock.now_unix_nanos()
        async with AsyncExitStack() as undo:
            hold_key = undo.enter_context(self.cache.using())
            # Whether a stage of the image stands on it.
            held: dict[str, bool] = {}

            def hold(key: str, is_of_image: bool) -> None:
                held[key] = held.get(key, False) or is_of_image
                hold_key(key)

            lease = await undo.enter_async_context(self._collector.staging(lambda _: False))
            sources = BuildSources(self._source_tools, undo, request, agents, handle)
            finder = Finder(self._places, self._shop, request, sources, lease, handle)
            file, text = await finder.dockerfile()
            targets = await self._targets(request, text, file, finder)
            warnings = tuple(dict.fromkeys(_warning(one, file) for target in targets for one in target.build.warnings))
            if request.check_only:
                return BuildResult("", "", (), warnings)
            targets = [await self._admitted(target, request, file) for target in targets]
            warnings += _unused_arguments(targets)
            for target in targets:
                await finder.find_sources(target.build, target.places, file)
            foreign = await self._shop.exchange.load(request.cache_from, request.auths, handle)
            steps = Steps([place for target in targets for place in target.places], self._shop.clock)
            handle.track(steps.snapshot)
            self.history.track(handle.operation_id, steps)
            # Of all platforms together.
            slots = asyncio.Semaphore(MAX_STEPS_AT_ONCE)
            solvers = [
                Solver(
                    self._shop,
                    Job(
                        request,
                        target.build,
                        target.places,
                        file,
                        finder.images,
                        finder.folders,
                        steps,
                        log,
                        sources,
                        agents,
                        lease,
                        foreign,
                        hold,
                        handle,
                    ),
                    slots,
                )
                for target in targets
            ]
            outcomes = await run_all([solver.solve() for solver in solvers])
            handle.update(steps.snapshot())
            mounts = [mount for target in targets for mount in graph.cache_mounts(target.build)]
            await self._fill(mounts, foreign, handle)
            warnings += tuple(foreign.reasons)
            result = BuildResult("", "", (), warnings)
            if request.keeps_image:
                staged = [
                    await self._maker.stage(
                        await repacked(self._shop, outcome, request, lease, handle),
                        target.config,
                        request.annotations,
                        lease,
                    )
                    for target, outcome in zip(targets, outcomes, strict=True)
                ]
                if request.makes_index:
                    making = replace(
                        self._making(request, file, text, finder, steps, handle.operation_id, start),
                        privileges=_privileges(targets, request),
                    )
                    staged = await self._listed(request, making, staged, solvers, lease, handle)
                images = await self._maker.publish(staged, request.references, handle)
                result = BuildResult(images[0].id, staged[0].target.digest, (), warnings)
            made = Made(held, tuple(dict.fromkeys(MountUse(mount.id, mount.sharing) for mount in mounts)))
            if request.cache_to is not None:
                spec = request.cache_to_spec
                auth = request.auths.get(request.cache_to.domain, Credentials())
                left_out = await self._shop.exchange.export(
                    made.keys(spec), made.mounts_of(spec), request.cache_to, auth, handle
                )
                result = replace(result, warnings=(*result.warnings, *left_out))
        self._made[handle.operation_id] = made
        while len(self._made) > MAX_BUILDS:
            self._made.popitem(last=False)
        if not request.keeps_image:
            return result
        written = [reference.with_default_tag() for reference in request.references]
        if request.pushes:
            failpoints.hit("build.push")
            await self._pusher.push_built(written, request.auths, handle)
        return replace(result, references=tuple(str(reference) for reference in written))

    async def _fill(self, mounts: Sequence[CacheMount], foreign: Foreign, handle: OperationHandle) -> None:
        """Cache mounts of steps that were not carried out, too: what came from one cache is to go into the next."""
        restore = partial(restore_mount, self._shop, foreign)
        for mount in mounts:
            if MountUse(mount.id, mount.sharing).name in foreign.mounts:
                await self._shop.mounts.fill(mount, lambda name, to: restore(name, to, handle), handle.cancel_token)

    async def save_cache(
        self, build_id: str, spec: CacheSpec, tag: str, present: frozenset[Digest]
    ) -> AsyncGenerator[bytes | SentCache, None]:
        """Yields what a build stands on as an OCI layout in a tar, without the blobs that are `present`, then the end.

        Raises BUILD_CACHE_GONE, and as `CachePacker.saved`.
        """
        made = self._made.get(build_id)
        if made is None:
            raise BuildCacheGone(id=build_id)
        packer, token = self._shop.exchange.packer, self._shop.layering.new_cancel_token()
        try:
            async with aclosing(packer.saved(made.keys(spec), made.mounts_of(spec), tag, present, token)) as parts:
                async for part in parts:
                    yield part
        finally:
            token.cancel()

    async def _listed(
        self,
        request: BuildRequest,
        making: Making,
        images: list[Image],
        solvers: Sequence[Solver],
        lease: Lease,
        handle: OperationHandle,
    ) -> list[Image]:
        """The images as an index lists them, with what is attested of them."""
        attested: dict[Digest, Attestation] = {}
        for image, solver in zip(images, solvers, strict=True):
            scanned = await solver.scanned() if request.sbom else ()
            found = await self._attestor.attest(request, making, image, scanned, handle.cancel_token)
            if found is not None:
                attested[image.manifest.digest] = found
        annotations = IndexAnnotations(request.index_annotations, request.manifest_descriptor_annotations)
        return await self._maker.listed(images, attested, annotations, lease)

    async def _targets(self, request: BuildRequest, text: bytes, file: str, finder: Finder) -> list[Target]:
        """What is built, for each platform."""
        found: list[Target] = []
        for platform in request.platforms or (None,):
            plan = await self._workers.run(_planned, text, file, self._wanted(request, platform, finder))
            build = await self._resolved(plan, finder)
            after = found[-1].places[-1][-1].number if found else 0
            shown = str(platform) if len(request.platforms) > 1 else ""
            found.append(Target(build, graph.places(build, after, shown)))
        return found

    async def _admitted(self, target: Target, request: BuildRequest, file: str) -> Target:
        """See `Admission.admitted`."""
        return replace(target, build=await self._admission.admitted(target.build, target.places, request, file))

    def _making(
        self, request: BuildRequest, file: str, text: bytes, finder: Finder, steps: Steps, build_id: str, start: int
    ) -> Making:
        """How the images of this build were made; the end is now."""
        end = self._shop.clock.now_unix_nanos()
        if request.source_date_seconds is not None:
            end = start = min(start, request.source_date_seconds * _NANOS)
        here = self._places.platform
        materials = {
            (material.uri, material.digest): material
            for material in (
                *finder.image_materials(),
                *(Material(one.uri, one.digest) for one in finder.sources.fetched if one.uri),
            )
        }
        arguments = {f"build-arg:{name}": value for name, value in request.build_args.items()}
        arguments |= {f"label:{name}": value for name, value in request.labels.items()}
        arguments |= {"target": request.target} if request.target else {}
        is_local = isinstance(request.context, UploadedSource)
        return Making(
            build_id=build_id,
            start_unix_nanos=start,
            end_unix_nanos=end,
            build_platform=Platform.normalised(here.os, here.architecture),
            dockerfile_path=file,
            dockerfile=text,
            arguments=arguments,
            entitlements=request.entitlements.texts,
            local_contexts=("context", "dockerfile") if is_local else (),
            source=finder.source_material(),
            materials=tuple(materials[key] for key in sorted(materials)),
            steps=steps.snapshot().steps,
        )

    def _wanted(self, request: BuildRequest, platform: Platform | None, finder: Finder) -> Request:
        here = self._places.platform
        return Request(
            # An image is for every processor of an architecture, whatever this one has beyond it.
            build_platform=Platform.normalised(here.os, here.architecture),
            target_platform=platform,
            build_args=request.build_args,
            target=request.target,
            named_contexts=frozenset(request.named_contexts),
            labels=request.labels,
            resolves_every_stage=request.check_only and not request.target,
            hides_source=finder.hides_source,
        )

    async def _resolved(self, plan: Plan, finder: Finder) -> ResolvedBuild:
        while missing := missing_bases(plan, finder.configs):
            for base in missing:
                finder.configs[base] = await finder.base_config(plan, base)
        return await self._workers.run(resolve, plan, finder.configs)

    async def follow_log(self, operation_id: str, position: int) -> AsyncIterator[LogPiece]:
        """Yields what the steps of a build write, from a position on, until it ended. Raises OPERATION_NOT_FOUND."""
        log = await self.history.log(operation_id)
        if log is None:
            operation = self._operations.get(operation_id)
            if operation.kind is not OperationKind.BUILD_IMAGE:
                raise OperationNotFound(id=operation_id)
            return
        async for piece in log.follow(position):
            yield piece

    async def records(self) -> list[CacheRecord]:
        """Everything that is kept for later builds, last used first: results of steps, and cache mounts."""
        found = [*self.cache.records(), *await self._shop.mounts.list_caches()]
        return sorted(found, key=lambda one: (-one.use_time_unix_nanos, one.key))

    def is_in_use(self, record: CacheRecord) -> bool:
        """A build that runs now stands on it."""
        used = self._shop.mounts.is_in_use if record.is_mount else self.cache.is_in_use
        return used(record.key)

    async def doomed(self, unused_nanos: int, keep_bytes: int, *, takes_shared: bool) -> list[CacheRecord]:
        """Records unused for so long, those unused longest first, as many as must go for `keep_bytes` to be kept.

        `takes_shared`: also those whose layer an image has, which frees nothing.
        """
        latest = self._shop.clock.now_unix_nanos() - unused_nanos
        records = await self.records()
        size_bytes = sum(record.size_bytes for record in records)
        found: list[CacheRecord] = []
        for record in reversed(records):
            if record.use_time_unix_nanos > latest or (keep_bytes and size_bytes <= keep_bytes):
                break
            if takes_shared or not self._is_shared(record):
                found.append(record)
                size_bytes -= record.size_bytes
        return found

    def _is_shared(self, record: CacheRecord) -> bool:
        return record.layer is not None and self._places.catalogue.table.has_layer(record.layer.layer_id)

    async def prune(
        self,
        doomed: Sequence[CacheRecord],
        *,
        unused_seconds: float,
        dry_run: bool,
        request_id: str = "",
        actor: str,
    ) -> Operation:
        """The deletion of these records, and of contexts unused for so long, has begun; what a build uses stays."""

        async def work(handle: OperationHandle) -> PruneResult:
            gone = [record for record in doomed if not self.is_in_use(record)]
            size_bytes = sum(record.size_bytes for record in gone)
            if not dry_run:
                size_bytes = await self.cache.delete(gone, self._collector)
                for record in gone:
                    if record.is_mount and await self._shop.mounts.delete_cache(record.key):
                        size_bytes += record.size_bytes
                await self.contexts.expire(unused_seconds)
            names = tuple(record.key for record in gone[:MAX_LISTED])
            return PruneResult(names, size_bytes, len(gone))

        return await self._operations.begin(
            OperationKind.PRUNE_BUILD_CACHE, "build cache", work, request_id=request_id, actor=actor
        )


def entry_of(request: BuildRequest, build_id: str, now_unix_nanos: int) -> BuildEntry:
    """A build that has just begun; nothing of its arguments and secrets."""
    return BuildEntry(
        id=str(build_id),
        create_time_unix_nanos=now_unix_nanos,
        references=tuple(reference.familiar for reference in request.references),
        dockerfile_path=request.dockerfile_path or DEFAULT_DOCKERFILE,
        target=request.target,
        platforms=tuple(str(platform) for platform in request.platforms),
    )


def _unused_arguments(targets: Sequence[Target]) -> tuple[str, ...]:
    """A warning, in Docker's words, about build arguments that no ARG takes."""
    unused = sorted({name for target in targets for name in target.build.unused_build_args})
    return (f"One or more build-args [{' '.join(unused)}] were not consumed",) if unused else ()


def _privileges(targets: Sequence[Target], request: BuildRequest) -> dict[int, dict[str, object]]:
    """See `admission.privileges`."""
    told = (privileges(target.build, target.places, request) for target in targets)
    return {number: one for each in told for number, one in each.items()}


def _planned(text: bytes, file: str, wanted: Request) -> Plan:
    return make_plan(parse(text, file), wanted)


def _warning(finding: Finding, file: str) -> str:
    return f"{file}:{finding.position.line}: {finding.rule}: {finding.message}"
