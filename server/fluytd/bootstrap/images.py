"""Images: the stores, the registries, and all that makes an image or hands one out."""

import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

from fluytd import __version__, roots
from fluytd.bootstrap.base import Base
from fluytd.builds.cache import AlsoNeeded
from fluytd.config import Config
from fluytd.containers.images import PresentImages, Pull
from fluytd.containers.service import ContainerService
from fluytd.containers.spec import PlatformChoice
from fluytd.content.store import CoreBlobs
from fluytd.errors import from_core
from fluytd.gc.collect import Collector
from fluytd.gc.images import ImageCollection
from fluytd.gc.leases import Leases
from fluytd.ids import ImageReference
from fluytd.images.assemble import Assembler
from fluytd.images.catalogue import Catalogue
from fluytd.images.commit import Committer
from fluytd.images.imports import Importer
from fluytd.images.load import Loader
from fluytd.images.lookup import Lookup
from fluytd.images.platforms import Platform, host_platform
from fluytd.images.ports import Holder
from fluytd.images.prune import Collect, Pruner
from fluytd.images.pull import Puller
from fluytd.images.push import Pusher
from fluytd.images.registry import CoreRegistry, RegistrySettings
from fluytd.images.resolve import Resolver
from fluytd.images.save import Saver
from fluytd.images.service import ImageService
from fluytd.images.spool import Spool
from fluytd.images.store import CoreIngester, CoreLayers
from fluytd.images.unwrap import Unwrapper
from fluytd.images.uses import ImageUses
from fluytd.operations.model import Operation, OperationKind
from fluytd.operations.service import OperationHandle, OperationService
from fluytd.registries.model import Credentials, Proxies
from fluytd.workers import Workers

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageParts:
    """What other parts of the engine need of images, beside their service."""

    blobs: CoreBlobs
    layers: CoreLayers
    catalogue: Catalogue
    leases: Leases
    #: Who is asked before content is swept.
    needs: AlsoNeeded
    collector: Collector
    registry: CoreRegistry
    ingester: CoreIngester
    assembler: Assembler
    resolver: Resolver
    puller: Puller
    pusher: Pusher
    committer: Committer

    def present(self, base: Base) -> PresentImages:
        """Images as containers see them: found, else pulled."""
        return PresentImages(
            self.catalogue.table,
            self.layers.lower_path,
            pull_with(base.operations, self.puller),
            lambda layer_ids: self.collector.sweep({}, dict.fromkeys(layer_ids, 0)),
            roots.empty_directory(base.config.data_root),
        )


async def image_parts_of(base: Base, containers: Callable[[], ContainerService]) -> ImageParts:
    """The stores are open. `containers` is not called before all parts stand. Raises IO_FAILED, FIELD_INVALID."""
    config, workers = base.config, base.workers
    blobs = await workers.run(CoreBlobs, config.data_root, workers)
    layers = await workers.run(open_layers, config, workers)
    # The two ask each other: images whether a container stands on them, containers what they are made of.
    catalogue = Catalogue(base.database, blobs, _Late(containers), host_platform())
    leases = Leases()
    needs = AlsoNeeded(catalogue)
    collector = Collector(blobs, layers, leases, needs, ingest_max_age_seconds=config.ingest_max_age_seconds)
    registry = CoreRegistry(registry_settings(config), blobs.core, workers)
    ingester = CoreIngester(blobs.core, layers.core, registry.core, workers)
    assembler = Assembler(blobs, layers, ingester, base.clock)
    resolver = Resolver(registry)
    return ImageParts(
        blobs=blobs,
        layers=layers,
        catalogue=catalogue,
        leases=leases,
        needs=needs,
        collector=collector,
        registry=registry,
        ingester=ingester,
        assembler=assembler,
        resolver=resolver,
        pusher=Pusher(blobs, registry, catalogue, leases, blobs_per_image=config.layers_per_image),
        puller=Puller(
            blobs,
            ingester,
            resolver,
            assembler,
            catalogue,
            collector,
            layers_per_image=config.layers_per_image,
        ),
        committer=Committer(blobs, ingester, assembler, catalogue, collector, base.clock),
    )


def image_service_of(
    base: Base,
    parts: ImageParts,
    containers: ContainerService,
    uses: ImageUses,
    collection: ImageCollection,
) -> ImageService:
    """The images of this engine."""
    blobs, catalogue, collector, ingester = parts.blobs, parts.catalogue, parts.collector, parts.ingester
    config, max_size_bytes = base.config, base.config.load_max_bytes
    spool = Spool(config.data_root, base.workers, max_size_bytes=max_size_bytes)
    unwrapper = Unwrapper(spool, base.workers, max_size_bytes=max_size_bytes)
    return ImageService(
        catalogue,
        base.operations,
        Lookup(parts.resolver, ingester, blobs, collector),
        parts.puller,
        parts.pusher,
        Loader(
            blobs,
            ingester,
            unwrapper,
            parts.assembler,
            catalogue,
            collector,
            base.workers,
            host_platform(),
            max_size_bytes=max_size_bytes,
            layers_per_image=config.layers_per_image,
        ),
        Importer(blobs, ingester, unwrapper, parts.assembler, catalogue, collector, base.clock),
        Saver(blobs, blobs, catalogue, parts.leases, collector, base.workers),
        Pruner(catalogue, collector, containers, collection.is_pinned, collect_with(collection)),
        collector,
        containers,
        uses,
        collection.is_pinned,
    )


class _Late:
    """What images ask of containers, for a service that is made later."""

    def __init__(self, get: Callable[[], ContainerService]) -> None:
        self._get = get

    def holders(self, image_id: str) -> list[Holder]:
        """See `ContainersUsingImage.holders`."""
        return self._get().holders(image_id)

    def uses_layer(self, layer_id: str) -> bool:
        """See `ContainersUsingImage.uses_layer`."""
        return self._get().uses_layer(layer_id)


def pull_with(operations: OperationService, puller: Puller) -> Pull:
    """What containers call for an image that is absent: an operation of its own, watched to its end."""

    async def pull(
        reference: str, platform: PlatformChoice | None, auth: Credentials | None
    ) -> AsyncGenerator[Operation, None]:
        named = ImageReference.parse(reference).with_default_tag()
        here = host_platform()
        wanted = here
        if platform is not None:
            wanted = Platform.normalised(
                platform.os or here.os, platform.architecture or here.architecture, platform.variant
            )
        begun = await operations.begin(
            OperationKind.PULL_IMAGE,
            str(named),
            lambda handle: puller.pull(named, wanted, auth or Credentials(), handle),
        )
        async for operation in operations.watch(begun.id):
            yield operation
            if operation.failure is not None:
                raise from_core(operation.failure.reason, dict(operation.failure.metadata))

    return pull


def collect_with(collection: ImageCollection) -> Collect:
    """What a prune by the settings calls."""

    async def collect(handle: OperationHandle, is_dry_run: bool) -> tuple[tuple[str, ...], int]:
        if not is_dry_run:
            return await collection.collect(handle)
        found = await collection.preview()
        return tuple(image_id for image_id, _ in found.doomed), found.reclaimed_bytes

    return collect


def registry_settings(config: Config) -> RegistrySettings:
    """How registries are reached."""
    has_auth_file = config.registry_auth_file != Path()
    return RegistrySettings(
        user_agent=f"fluytd/{__version__}",
        hosts_dir=config.registry_hosts_dir,
        auth_file=config.registry_auth_file if has_auth_file else None,
        proxies=Proxies(config.http_proxy, config.https_proxy, config.no_proxy),
        upload_chunk_bytes=config.registry_upload_chunk_bytes,
        connect_timeout_seconds=config.registry_connect_timeout_seconds,
        header_timeout_seconds=config.registry_header_timeout_seconds,
        idle_timeout_seconds=config.registry_idle_timeout_seconds,
    )


def open_layers(config: Config, workers: Workers) -> CoreLayers:
    """The layer store of the configured kind; why `auto` did not choose erofs is logged. Blocking."""
    layers = CoreLayers(config.data_root, config.layer_store, workers)
    if layers.core.choice_detail:
        _log.info("layers are kept as directories: %s", layers.core.choice_detail)
    return layers
