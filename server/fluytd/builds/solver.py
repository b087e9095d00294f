"""Carrying out a resolved build: stages at the same time where they can be, each step from the cache if it can be."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakValueDictionary

from fluytd.builds import copying, graph, running
from fluytd.builds.agents import AgentSession
from fluytd.builds.cache import BuildCache
from fluytd.builds.cache_exchange import CacheExchange, Foreign
from fluytd.builds.dockerfile.origins import BuildContext, NamedContext, Origin, Scratch, StageOutput
from fluytd.builds.dockerfile.steps import CopyStep, ResolvedBuild, ResolvedStage, RunStep, Step, WorkdirStep
from fluytd.builds.executor import Executor
from fluytd.builds.graph import StepPlace
from fluytd.builds.layers import LayerKeeper
from fluytd.builds.log import BuildLog
from fluytd.builds.model import BuildRequest, CacheRecord
from fluytd.builds.mounts import StepMounts
from fluytd.builds.ports import FileTree, HostDevices, Layering, Trees
from fluytd.builds.progress import Steps
from fluytd.builds.sources import BuildSources
from fluytd.clock import Clock
from fluytd.errors import BuildStepFailed, Cancelled, EngineError
from fluytd.gc.leases import Lease
from fluytd.images.assemble import run_all
from fluytd.images.model import Image, ImageLayer
from fluytd.images.platforms import Platform
from fluytd.images.ports import StoredLayer
from fluytd.operations.model import BuildStepState
from fluytd.operations.service import OperationHandle

_log = logging.getLogger(__name__)

#: Steps of one build that are carried out at once.
MAX_STEPS_AT_ONCE: Final = 4
_NANOS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Shop:
    """What all builds are carried out with."""

    trees: Trees
    layering: Layering
    keeper: LayerKeeper
    executor: Executor
    mounts: StepMounts
    cache: BuildCache
    clock: Clock
    #: Whether this host runs programs of a platform.
    can_run: Callable[[Platform], Awaitable[bool]]
    exchange: CacheExchange
    devices: HostDevices
    #: One at a time makes the result of a key, over all builds.
    flights: "WeakValueDictionary[str, asyncio.Lock]" = field(default_factory=WeakValueDictionary)

    def flight(self, key: str) -> asyncio.Lock:
        """The lock of this key."""
        lock = self.flights.get(key)
        if lock is None:
            lock = self.flights[key] = asyncio.Lock()
        return lock


@dataclass(frozen=True, slots=True)
class Job:
    """One build: what is asked, and what is told of it."""

    request: BuildRequest
    build: ResolvedBuild
    #: Where its steps stand among those of all platforms.
    places: tuple[tuple[StepPlace, ...], ...]
    #: What errors call the Dockerfile.
    file: str
    #: The images behind FROM and --from, by their place in the file.
    images: Mapping[Origin, Image]
    #: The folders behind the context and the named ones.
    folders: Mapping[Origin, FileTree]
    steps: Steps
    log: BuildLog
    #: What is fetched from elsewhere.
    sources: BuildSources
    #: Agents of the caller; None: it serves none.
    agents: AgentSession | None
    lease: Lease
    #: What caches elsewhere have.
    foreign: Foreign
    #: Says of a cache key that the build stands on it, and whether a stage of the image does.
    hold: Callable[[str, bool], None]
    handle: OperationHandle


@dataclass(slots=True)
class Outcome:
    """A stage that has ended."""

    layers: tuple[ImageLayer, ...]
    #: Lines of history that its own steps added, over those of its base.
    history: list[Mapping[str, object]]
    #: The image at the very bottom; None for scratch.
    base: Image | None
    #: When the newest of its layers was made.
    create_time_unix_nanos: int | None

    @property
    def chain_id(self) -> str:
        """Of its layers; empty for none."""
        return self.layers[-1].chain_id if self.layers else ""


class Solver:
    """Carries out one build."""

    def __init__(self, shop: Shop, job: Job, slots: asyncio.Semaphore) -> None:
        """`slots`: of all that builds for the same caller at once."""
        self.shop = shop
        self.job = job
        self._slots = slots
        self._stages: dict[int, asyncio.Task[Outcome]] = {}
        self._trees: dict[tuple[str, ...], FileTree] = {}
        self._of_image = graph.stages_of_target(job.build)

    async def solve(self) -> Outcome:
        """All needed stages have ended; the outcome of the target. Raises BUILD_STEP_FAILED, CANCELLED."""
        for stage, own in zip(self.job.build.stages, self.job.places, strict=True):
            self._stages[stage.index] = asyncio.ensure_future(self._stage(stage, own))
        await run_all(list(self._stages.values()))
        return self._stages[self.job.build.target].result()

    async def _stage(self, stage: ResolvedStage, places: tuple[StepPlace, ...]) -> Outcome:
        outcome = await self._base(stage, places[0])
        for step, place in zip(stage.steps, places[1:], strict=True):
            self.job.handle.check()
            try:
                await self._step(stage, step, place, outcome)
            except (Cancelled, BuildStepFailed):
                self.job.steps.set(place, BuildStepState.FAILED)
                raise
            except EngineError as error:
                self.job.steps.set(place, BuildStepState.FAILED)
                raise graph.failed(place, error, self.job.file, running.exit_code_of(error)) from error
        return outcome

    async def _base(self, stage: ResolvedStage, place: StepPlace) -> Outcome:
        base = stage.base
        if isinstance(base, StageOutput):
            below = await self.outcome(base.index)
            self.job.steps.set(place, BuildStepState.DONE)
            return Outcome(below.layers, list(below.history), below.base, below.create_time_unix_nanos)
        self.job.steps.set(place, BuildStepState.DONE)
        image = None if isinstance(base, Scratch) else self.job.images.get(base)
        return Outcome(image.layers if image else (), [], image, image.config.build_time_unix_nanos if image else None)

    async def outcome(self, index: int) -> Outcome:
        """The stage of this number, once it has ended."""
        return await asyncio.shield(self._stages[index])

    async def _step(self, stage: ResolvedStage, step: Step, place: StepPlace, outcome: Outcome) -> None:
        steps = self.job.steps
        steps.set(place, BuildStepState.RUNNING)
        if isinstance(step, RunStep):
            key, make = await running.prepared(self, step, place, outcome)
        elif isinstance(step, CopyStep):
            key, make = await copying.prepared(self, step, outcome)
        elif isinstance(step, WorkdirStep):
            key, make = await copying.workdir(self, step, outcome)
        else:
            steps.set(place, BuildStepState.DONE)
            self._tell(step, outcome, None)
            return
        record, is_cached = await self._result(stage, place, key, outcome, make)
        steps.set(place, BuildStepState.CACHED if is_cached else BuildStepState.DONE)
        self._tell(step, outcome, record)

    def _tell(self, step: Step, outcome: Outcome, record: CacheRecord | None) -> None:
        """The outcome has the step's layer and its line of history."""
        layer = record.layer if record is not None else None
        if layer is not None and record is not None:
            outcome.layers = (*outcome.layers, layer.as_image_layer())
            made = self.now(record.create_time_unix_nanos)
            outcome.create_time_unix_nanos = max(outcome.create_time_unix_nanos or 0, made)
        if step.has_history:
            outcome.history.append(graph.history_of(step, outcome.create_time_unix_nanos, has_layer=layer is not None))

    def now(self, unix_nanos: int) -> int:
        """A time as the image tells it."""
        seconds = self.job.request.source_date_seconds
        return unix_nanos if seconds is None else min(unix_nanos, seconds * _NANOS)

    def directory_time_seconds(self) -> int:
        """The time of directories that steps make."""
        return self.now(self.shop.clock.now_unix_nanos()) // _NANOS

    async def _result(
        self,
        stage: ResolvedStage,
        place: StepPlace,
        key: str,
        outcome: Outcome,
        make: Callable[[], Awaitable[StoredLayer | None]],
    ) -> tuple[CacheRecord, bool]:
        cache, request = self.shop.cache, self.job.request
        async with self.shop.flight(key):
            if not _skips_cache(request, stage):
                record = cache.get(key)
                if record is not None:
                    if record.layer is not None:
                        await self.job.lease.add([record.layer.descriptor.digest, record.layer.layer_id])
                    # It may have been given up while the lease was waited for.
                    if cache.get(key) is record:
                        self._hold(stage, key)
                        return await cache.used(record), True
            async with self._slots:
                if not _skips_cache(request, stage):
                    found = await self._foreign(stage, place, key, outcome)
                    if found is not None:
                        return found, True
                stored = await make()
                made = await self.shop.keeper.keep(
                    stored, outcome.layers, key, place.title, self.job.lease, self.job.handle.cancel_token
                )
                self._hold(stage, key)
                return made, False

    def _hold(self, stage: ResolvedStage, key: str) -> None:
        self.job.hold(key, stage.index in self._of_image)

    async def restore(self, name: str, directory: str) -> bool:
        """See `mounts.Restore`."""
        return await restore_mount(self.shop, self.job.foreign, name, directory, self.job.handle)

    async def _foreign(self, stage: ResolvedStage, place: StepPlace, key: str, outcome: Outcome) -> CacheRecord | None:
        """The result of a step from a cache elsewhere; None if none has it, or it cannot be had any more."""
        foreign = self.job.foreign.records.get(key)
        if foreign is None:
            return None
        job = self.job
        try:
            stored = await self.shop.exchange.fetch(foreign, job.lease, job.handle)
        except Cancelled:
            raise
        except EngineError as error:
            _log.warning("step %s is carried out, since its cached layer cannot be had: %s", place.number, error)
            job.foreign.lost(f"step {place.number} is carried out, since its cached layer cannot be had", error)
            return None
        time = foreign.record.create_time_unix_nanos
        made = await self.shop.keeper.keep(
            stored, outcome.layers, key, place.title, job.lease, job.handle.cancel_token, time
        )
        self._hold(stage, key)
        return made

    async def tree_of_layers(self, layers: tuple[ImageLayer, ...], name: str) -> FileTree:
        """These layers as one tree."""
        ids = tuple(layer.layer_id for layer in layers)
        tree = self._trees.get(ids)
        if tree is None:
            tree = self._trees[ids] = await self.shop.trees.of_layers(ids, name)
        return tree

    async def tree_of(self, origin: Origin) -> FileTree:
        """What a step reads from."""
        if isinstance(origin, StageOutput):
            return await self.tree_of_layers((await self.outcome(origin.index)).layers, f"stage {origin.index}")
        if isinstance(origin, Scratch):
            return self.shop.trees.of_files([], "scratch")
        folder = self.job.folders.get(origin)
        if folder is not None:
            return folder
        image = self.job.images[origin]
        return await self.tree_of_layers(image.layers, str(getattr(origin, "reference", "") or "an image"))

    async def scanned(self) -> list[tuple[str, FileTree]]:
        """What is looked at for packages besides the image, with its name: stages whose BUILDKIT_SBOM_SCAN_STAGE asks
        for it, and the context, as BUILDKIT_SBOM_SCAN_CONTEXT of the target does. Source: BuildKit dockerfile2llb."""
        found: list[tuple[str, FileTree]] = []
        for stage in self.job.build.stages:
            if stage.index != self.job.build.target:
                if stage.scans_stage:
                    found.append((stage.name, await self.tree_of(StageOutput(stage.index))))
            elif stage.scans_context and (context := self.job.folders.get(BuildContext())) is not None:
                found.append(("context", context))
        return found

    async def stack_of(self, origin: Origin) -> str | None:
        """What stands for the whole tree of a stage or image; None for a folder."""
        if isinstance(origin, StageOutput):
            return (await self.outcome(origin.index)).chain_id
        if isinstance(origin, BuildContext | Scratch) or (
            isinstance(origin, NamedContext) and origin in self.job.folders
        ):
            return None
        layers = self.job.images[origin].layers
        return layers[-1].chain_id if layers else ""


async def restore_mount(shop: Shop, foreign: Foreign, name: str, directory: str, handle: OperationHandle) -> bool:
    """The empty directory has what a cache elsewhere has for the cache mount of this name; False if none has it, or it
    cannot be had any more. Raises CANCELLED."""
    mount = foreign.mounts.get(name)
    if mount is None:
        return False
    try:
        await shop.exchange.restore(mount, directory, handle)
    except Cancelled:
        raise
    except EngineError as error:
        _log.warning("cache mount %s is not filled: %s", mount.mount.description, error)
        foreign.lost(f"cache mount {mount.mount.description} is not filled", error)
        return False
    return True


def _skips_cache(request: BuildRequest, stage: ResolvedStage) -> bool:
    stages = request.no_cache_stages
    return request.no_cache and (not stages or stage.name in stages or str(stage.index) in stages)
