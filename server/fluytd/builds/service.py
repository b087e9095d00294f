"""Builds: from a request to an operation that carries it out, and the cache as callers see it. No transport."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from fluytd.builds import graph
from fluytd.builds.cache import BuildCache
from fluytd.builds.dockerfile import config as configs
from fluytd.builds.dockerfile.limits import MAX_DOCKERFILE_BYTES
from fluytd.builds.dockerfile.origins import Base, BuildContext, NamedContext, Origin, Scratch, StageOutput
from fluytd.builds.dockerfile.origins import Image as ImageOrigin
from fluytd.builds.dockerfile.parse import parse
from fluytd.builds.dockerfile.plan import make_plan
from fluytd.builds.dockerfile.resolve import missing_bases, resolve
from fluytd.builds.dockerfile.source import Finding
from fluytd.builds.dockerfile.steps import Plan, Request, ResolvedBuild
from fluytd.builds.image import ImageMaker, layer_ids_of
from fluytd.builds.log import BuildLog, BuildLogs, LogPiece
from fluytd.builds.model import BuildRequest, CacheRecord, ContextSource, ImageSource, UploadedSource
from fluytd.builds.ports import ContextStore, FileTree
from fluytd.builds.progress import Steps
from fluytd.builds.solver import Job, Shop, Solver
from fluytd.containers.ports import Images
from fluytd.containers.spec import PlatformChoice
from fluytd.errors import BuildSourceNotFound, FieldNotBuilt, ImageNotFound, OperationNotFound, PlatformUnavailable
from fluytd.gc.collect import Collector
from fluytd.gc.leases import Lease
from fluytd.ids import ImageReference
from fluytd.images.catalogue import Catalogue
from fluytd.images.config import ImageConfig
from fluytd.images.model import Image
from fluytd.images.platforms import Platform
from fluytd.operations.model import BuildResult, Operation, OperationKind, PruneResult
from fluytd.operations.service import OperationHandle, OperationService
from fluytd.registries.model import Credentials
from fluytd.workers import Workers

_log = logging.getLogger(__name__)

DEFAULT_DOCKERFILE: Final = "Dockerfile"
#: Names of deleted records that a result lists.
MAX_LISTED: Final = 1_000


@dataclass(slots=True)
class _Found:
    """What FROM and --from mean, as it is found."""

    images: dict[Origin, Image] = field(default_factory=dict)
    folders: dict[Origin, FileTree] = field(default_factory=dict)
    configs: dict[Base, ImageConfig] = field(default_factory=dict)


class BuildService:
    """Made once. Belongs to the event loop."""

    def __init__(
        self,
        operations: OperationService,
        contexts: ContextStore,
        shop: Shop,
        maker: ImageMaker,
        catalogue: Catalogue,
        collector: Collector,
        images: Images,
        workers: Workers,
        platform: Platform,
    ) -> None:
        """`images`: finds and pulls base images; `platform`: the host's."""
        self.contexts = contexts
        self.logs = BuildLogs()
        self._operations = operations
        self._shop = shop
        self._maker = maker
        self._catalogue = catalogue
        self._collector = collector
        self._images = images
        self._workers = workers
        self._platform = platform

    @property
    def cache(self) -> BuildCache:
        """The records of the cache."""
        return self._shop.cache

    async def build(self, request: BuildRequest, *, request_id: str = "", actor: str) -> Operation:
        """The build has begun. Raises REQUEST_ID_REUSED, ENGINE_STOPPING; all else is the operation's failure."""

        async def work(handle: OperationHandle) -> BuildResult:
            log = self.logs.begin(handle.operation_id)
            try:
                return await self._build(request, log, handle)
            finally:
                log.end()
                await self.cache.trim(self._collector)

        subject = request.references[0].familiar if request.references else "image"
        return await self._operations.begin(
            OperationKind.BUILD_IMAGE, subject, work, request_id=request_id, actor=actor
        )

    async def _build(self, request: BuildRequest, log: BuildLog, handle: OperationHandle) -> BuildResult:
        whole = await self._folder(request.context)
        file, text = await self._dockerfile(request, whole)
        context = await self._filtered(request, whole)
        wanted = Request(
            # An image is for every processor of an architecture, whatever this one has beyond it.
            build_platform=Platform.normalised(self._platform.os, self._platform.architecture),
            target_platform=request.platform,
            build_args=request.build_args,
            target=request.target,
            named_contexts=frozenset(request.named_contexts),
            labels=request.labels,
            resolves_every_stage=request.check_only and not request.target,
        )
        plan = await self._workers.run(_planned, text, file, wanted)
        with self.cache.using() as hold:
            async with self._collector.staging(lambda _: False) as lease:
                found = _Found(folders={BuildContext(): context} if context is not None else {})
                build = await self._resolved(plan, request, found, lease)
                warnings = tuple(_warning(one, file) for one in build.warnings)
                if request.check_only:
                    return BuildResult("", "", (), warnings)
                await self._find_origins(build, request, found, lease)
                steps = Steps(graph.places(build), self._shop.clock)
                handle.track(steps.snapshot)
                job = Job(request, build, file, found.images, found.folders, steps, log, lease, hold, handle)
                outcome = await Solver(self._shop, job).solve()
                handle.update(steps.snapshot())
                if not request.keeps_image:
                    return BuildResult("", "", (), warnings)
                target = next(stage for stage in build.stages if stage.index == build.target)
                image = await self._maker.make(outcome, target.config, request.references, lease, handle)
        names = tuple(str(reference.with_default_tag()) for reference in request.references)
        return BuildResult(image.id, image.manifest.digest, names, warnings)

    async def _folder(self, source: ContextSource) -> FileTree | None:
        match source:
            case UploadedSource():
                return await self.contexts.open(source.context_id)
            case ImageSource():
                return None
            case _:
                raise FieldNotBuilt(field="context.git_url")

    async def _filtered(self, request: BuildRequest, folder: FileTree | None, dockerfile: str = "") -> FileTree | None:
        """The folder without what its ignore file leaves out, unless the caller has seen to that."""
        if folder is None or request.is_filtered:
            return folder
        path = dockerfile or request.dockerfile_path or DEFAULT_DOCKERFILE
        return await self._shop.trees.ignoring(folder, path)

    async def _dockerfile(self, request: BuildRequest, context: FileTree | None) -> tuple[str, bytes]:
        path = request.dockerfile_path or DEFAULT_DOCKERFILE
        if request.dockerfile is not None:
            return path, request.dockerfile
        text = None
        if context is not None:
            text = await self._shop.trees.read_file(context, path, MAX_DOCKERFILE_BYTES, "MAX_DOCKERFILE_BYTES")
        if text is None:
            raise BuildSourceNotFound(path=path, tree="the build context")
        return path, text

    async def _resolved(self, plan: Plan, request: BuildRequest, found: _Found, lease: Lease) -> ResolvedBuild:
        while missing := missing_bases(plan, found.configs):
            for base in missing:
                found.configs[base] = await self._config(base, request, found, lease)
        return await self._workers.run(resolve, plan, found.configs)

    async def _config(
        self, base: ImageOrigin | NamedContext, request: BuildRequest, found: _Found, lease: Lease
    ) -> ImageConfig:
        await self._find(base, request, found, lease)
        image = found.images.get(base)
        return image.config if image is not None else configs.empty(base.platform)

    async def _find(self, origin: Origin, request: BuildRequest, found: _Found, lease: Lease) -> None:
        """What stands behind the origin is known, and stays for the length of the lease."""
        if origin in found.images or origin in found.folders or isinstance(origin, Scratch | StageOutput):
            return
        if isinstance(origin, NamedContext):
            source = request.named_contexts[origin.name]
            if not isinstance(source, ImageSource):
                folder = await self._filtered(request, await self._folder(source), DEFAULT_DOCKERFILE)
                if folder is not None:
                    found.folders[origin] = folder
                return
            found.images[origin] = await self._image(source.reference, origin.platform, request, lease)
        elif isinstance(origin, ImageOrigin):
            found.images[origin] = await self._image(origin.reference, origin.platform, request, lease)
        elif isinstance(origin, BuildContext) and isinstance(request.context, ImageSource):
            found.images[origin] = await self._image(request.context.reference, self._platform, request, lease)

    async def _find_origins(self, build: ResolvedBuild, request: BuildRequest, found: _Found, lease: Lease) -> None:
        for stage in build.stages:
            for origin in stage.origins:
                await self._find(origin, request, found, lease)

    async def _image(self, reference: str, platform: Platform, request: BuildRequest, lease: Lease) -> Image:
        choice = PlatformChoice(platform.os, platform.architecture, platform.variant)
        parsed = ImageReference.parse(reference)
        image = None if request.pull else self._present(reference, platform)
        if image is None:
            auth: Credentials | None = request.auths.get(parsed.domain)
            async with aclosing(self._images.pull(reference, choice, auth)) as operations:
                async for _ in operations:
                    pass
            image = self._present(reference, platform)
        if image is None:
            raise ImageNotFound(reference=reference)
        await lease.add([image.id, image.manifest.digest, *layer_ids_of(image.layers)])
        if self._catalogue.table.get(image.id) is None:
            raise ImageNotFound(reference=reference)
        return image

    def _present(self, reference: str, platform: Platform) -> Image | None:
        # What was made for this very processor serves too where its architecture is asked for.
        here = self._platform
        is_own = (platform.os, platform.architecture, platform.variant) == (here.os, here.architecture, "")
        for wanted in (platform, *((here,) if is_own else ())):
            try:
                return self._catalogue.table.find(reference, wanted)[0]
            except (ImageNotFound, PlatformUnavailable):
                continue
        return None

    async def follow_log(self, operation_id: str, position: int) -> AsyncIterator[LogPiece]:
        """Yields what the steps of a build write, from a position on, until it ended. Raises OPERATION_NOT_FOUND."""
        log = self.logs.get(operation_id)
        if log is None:
            operation = self._operations.get(operation_id)
            if operation.kind is not OperationKind.BUILD_IMAGE:
                raise OperationNotFound(id=operation_id)
            return
        async for piece in log.follow(position):
            yield piece

    def doomed(self, unused_nanos: int, keep_bytes: int) -> list[CacheRecord]:
        """Records unused for so long, those unused longest first, as many as must go for `keep_bytes` to be kept."""
        latest = self._shop.clock.now_unix_nanos() - unused_nanos
        size_bytes = self.cache.size_bytes
        found: list[CacheRecord] = []
        for record in reversed(self.cache.records()):
            if record.use_time_unix_nanos > latest or (keep_bytes and size_bytes <= keep_bytes):
                break
            found.append(record)
            size_bytes -= record.size_bytes
        return found

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
            gone = [record for record in doomed if not self.cache.is_in_use(record.key)]
            size_bytes = sum(record.size_bytes for record in gone)
            if not dry_run:
                size_bytes = await self.cache.delete(gone, self._collector)
                await self.contexts.expire(unused_seconds)
            names = tuple(record.key for record in gone[:MAX_LISTED])
            return PruneResult(names, size_bytes, len(gone))

        return await self._operations.begin(
            OperationKind.PRUNE_BUILD_CACHE, "build cache", work, request_id=request_id, actor=actor
        )


def _planned(text: bytes, file: str, wanted: Request) -> Plan:
    return make_plan(parse(text, file), wanted)


def _warning(finding: Finding, file: str) -> str:
    return f"{file}:{finding.position.line}: {finding.rule}: {finding.message}"
