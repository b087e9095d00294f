"""The image services wired over fakes, with real records in a temporary file."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fluytd.clock import SystemClock
from fluytd.gc.collect import Collector
from fluytd.gc.leases import Leases
from fluytd.images.assemble import Assembler
from fluytd.images.catalogue import Catalogue
from fluytd.images.imports import Importer
from fluytd.images.load import Loader
from fluytd.images.lookup import Lookup
from fluytd.images.platforms import Platform
from fluytd.images.pull import Puller
from fluytd.images.resolve import Resolver
from fluytd.images.spool import Spool
from fluytd.images.unwrap import Unwrapper
from fluytd.operations.service import OperationService
from fluytd.state.db import Database
from fluytd.workers import Workers
from tests.support.fakes.images import FakeBlobs, FakeHolders, FakeIngester, FakeLayers, FakeRegistry, Flag
from tests.support.images import HOST_ARCHITECTURE

LAYERS_AT_ONCE = 2


@dataclass
class World:
    """All parts, fakes and services."""

    log: list[str]
    database: Database
    blobs: FakeBlobs
    layers: FakeLayers
    registry: FakeRegistry
    ingester: FakeIngester
    holders: FakeHolders
    catalogue: Catalogue
    collector: Collector
    operations: OperationService
    puller: Puller
    loader: Loader
    importer: Importer
    lookup: Lookup
    spool: Spool
    host: Platform

    @property
    def is_empty(self) -> bool:
        """True if nothing is visible or staged."""
        return not (self.blobs.visible or self.blobs.staged or self.layers.visible or self.layers.staged)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A fresh engine's worth of image services."""
    log: list[str] = []
    clock, workers = SystemClock(), Workers(2, 2)
    database = Database(tmp_path / "state.db", clock, max_events=100)
    await database.open()
    blobs, layers, registry, holders = FakeBlobs(log), FakeLayers(log), FakeRegistry(), FakeHolders()
    ingester = FakeIngester(registry, blobs, layers)
    host = Platform.normalised("linux", HOST_ARCHITECTURE)
    catalogue = Catalogue(database, blobs, holders, host)
    collector = Collector(blobs, layers, Leases(), catalogue, ingest_max_age_seconds=60)
    assembler, resolver = Assembler(blobs, layers, ingester, clock), Resolver(registry)
    operations = OperationService(database, clock, Flag, history=10)
    (tmp_path / "ingest").mkdir()
    spool = Spool(tmp_path, workers, max_size_bytes=1 << 20)
    unwrapper = Unwrapper(spool, workers, max_size_bytes=1 << 24)
    yield World(
        log=log,
        database=database,
        blobs=blobs,
        layers=layers,
        registry=registry,
        ingester=ingester,
        holders=holders,
        catalogue=catalogue,
        collector=collector,
        operations=operations,
        puller=Puller(blobs, ingester, resolver, assembler, catalogue, collector, layers_per_image=LAYERS_AT_ONCE),
        loader=Loader(
            blobs,
            ingester,
            unwrapper,
            assembler,
            catalogue,
            collector,
            workers,
            host,
            max_size_bytes=1 << 24,
            layers_per_image=LAYERS_AT_ONCE,
        ),
        importer=Importer(blobs, ingester, unwrapper, assembler, catalogue, collector, clock),
        lookup=Lookup(resolver, ingester, blobs, collector),
        spool=spool,
        host=host,
    )
    await operations.close()
    await database.close()
    workers.close()
