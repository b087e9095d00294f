"""Builds: contexts, the cache, and what carries steps out."""

from dataclasses import dataclass

from fluytd import __version__, roots
from fluytd._core import host
from fluytd.bootstrap.base import Base
from fluytd.bootstrap.containers import ContainerParts
from fluytd.bootstrap.images import ImageParts
from fluytd.builds import probe
from fluytd.builds.admission import Admission
from fluytd.builds.attesting import Attestor
from fluytd.builds.cache import BuildCache
from fluytd.builds.cache_exchange import CacheExchange
from fluytd.builds.cache_packing import CachePacker
from fluytd.builds.devices import CdiDevices
from fluytd.builds.executor import Executor
from fluytd.builds.finding import Places
from fluytd.builds.history import BuildHistory
from fluytd.builds.history_files import BuildHistoryFiles
from fluytd.builds.image import ImageMaker
from fluytd.builds.layers import LayerKeeper
from fluytd.builds.log import MAX_LOG_BYTES
from fluytd.builds.mounts import StepMounts
from fluytd.builds.service import BuildService
from fluytd.builds.solver import Shop
from fluytd.builds.sources import SourceTools
from fluytd.builds.store import CoreContexts, CoreTrees
from fluytd.images.platforms import Platform, host_platform
from fluytd.logs.ports import ReadRange
from fluytd.registries.model import Proxies
from fluytd.state.builds import BuildCacheRows


@dataclass(frozen=True)
class BuildParts:
    """Builds and their cache."""

    service: BuildService

    async def found_again(self) -> None:
        """Builds of earlier daemons and the results of their steps are known."""
        await self.service.history.open()
        await self.service.cache.open()
        await self.service.contexts.expire()


async def build_parts_of(base: Base, images: ImageParts, containers: ContainerParts) -> BuildParts:
    """Nothing of earlier builds is known yet (see `found_again`), but nothing of it is swept before it is."""
    config, workers = base.config, base.workers
    cache = BuildCache(BuildCacheRows(base.database), base.clock, max_bytes=config.build_cache_max_bytes)
    images.needs.add(cache)
    empty_dir = await workers.run(roots.empty_directory, config.data_root)
    trees = CoreTrees(images.blobs.core, images.layers.core, workers, empty_dir, str(config.data_root / "ingest"))
    mounts = await workers.run(lambda: StepMounts(config.data_root, config.run_root, trees, workers, host.remove_tree))
    contexts = await workers.run(CoreContexts, config.data_root, config.build_context_max_bytes, workers)
    keeper = LayerKeeper(images.blobs, images.layers, images.ingester, images.collector, cache, base.clock)
    ctx = containers.service.ctx
    executor = Executor(ctx, lambda log_dir: containers.readers.follow(log_dir, ReadRange()))
    here = await workers.run(host_platform)

    async def can_run(wanted: Platform) -> bool:
        return await workers.run(probe.can_run, here, wanted)

    packer = CachePacker(cache, mounts, images.ingester, images.blobs, images.blobs, images.collector, workers)
    exchange = CacheExchange(
        images.registry,
        images.registry,
        images.ingester,
        contexts,
        trees,
        packer,
        mounts.scratch,
        host.remove_tree,
    )
    devices = CdiDevices(containers.cdi, workers)
    shop = Shop(trees, images.ingester, keeper, executor, mounts, cache, base.clock, can_run, exchange, devices)
    proxies = Proxies(config.http_proxy, config.https_proxy, config.no_proxy)
    history_files = await workers.run(BuildHistoryFiles, config.data_root, workers)
    tools = SourceTools(
        executor, images.registry, trees, workers, mounts.scratch, mounts.private, host.remove_tree, proxies
    )
    service = BuildService(
        base.operations,
        Places(contexts, images.catalogue, ctx.images, here),
        shop,
        tools,
        ImageMaker(images.blobs, images.assembler, images.catalogue, images.collector, base.clock),
        images.pusher,
        images.collector,
        workers,
        BuildHistory(history_files, base.clock.now_unix_nanos, max_log_bytes=MAX_LOG_BYTES),
        Attestor(trees, workers, mounts.scratch, host.remove_tree, f"fluyt-{__version__}"),
        Admission(frozenset(filter(None, config.build_entitlements.split(","))), devices),
    )
    return BuildParts(service)
