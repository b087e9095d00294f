"""The collector deletes what nobody needs, and nothing else."""

from dataclasses import dataclass, field

import pytest

from fluytd.content.ports import Ingest
from fluytd.errors import BlobNotFound
from fluytd.gc.collect import MIN_RESUMED_BYTES, Collector, Swept
from fluytd.gc.leases import Leases
from fluytd.ids import Digest
from fluytd.images.ports import StagedLayer
from tests.support.fakes.images import FakeBlobs, FakeLayers

MAX_AGE_SECONDS = 60
NEEDED, UNNEEDED = Digest.of(b"needed"), Digest.of(b"unneeded")


@dataclass
class Needed:
    """Implements `gc.ports.Needs`."""

    names: set[str] = field(default_factory=set)

    def needs_blob(self, digest: str) -> bool:
        return digest in self.names

    def needs_layer(self, layer_id: str) -> bool:
        return layer_id in self.names


@dataclass
class AgedBlobs(FakeBlobs):
    """Blobs whose ingests have an age, of which some cannot be deleted."""

    age_seconds: float = 0.0
    stuck: set[Digest] = field(default_factory=set)

    async def list_ingests(self) -> list[Ingest]:
        return [Ingest(digest, len(data), self.age_seconds) for digest, data in self.staged.items()]

    async def delete(self, digest: Digest) -> int:
        if digest in self.stuck:
            raise BlobNotFound(digest=digest)
        return await super().delete(digest)


@dataclass
class AgedLayers(FakeLayers):
    """Layers whose staged ones have an age."""

    age_seconds: float = 0.0

    async def list_staged(self) -> list[StagedLayer]:
        return [StagedLayer(name, self.age_seconds) for name in self.staged]


class Stores:
    """A collector over stores with one needed and one unneeded blob and layer."""

    def __init__(self) -> None:
        self.blobs = AgedBlobs(visible={NEEDED: b"needed", UNNEEDED: b"unneeded"})
        self.layers = AgedLayers(visible={"needed", "unneeded"})
        self.leases = Leases()
        needed = Needed({NEEDED, "needed"})
        self.collector = Collector(self.blobs, self.layers, self.leases, needed, ingest_max_age_seconds=MAX_AGE_SECONDS)


async def test_only_what_nothing_needs_is_deleted_and_counted() -> None:
    stores = Stores()
    swept = await stores.collector.collect()
    assert swept == Swept((UNNEEDED, "unneeded"), len(b"unneeded") + 1)
    assert (set(stores.blobs.visible), stores.layers.visible) == ({NEEDED}, {"needed"})
    assert await stores.collector.collect() == Swept((), 0)


async def test_what_a_lease_holds_stays_until_it_ends() -> None:
    stores = Stores()
    async with stores.leases.lease() as lease:
        await lease.add([UNNEEDED, "unneeded"])
        assert await stores.collector.collect() == Swept((), 0)
    assert (await stores.collector.collect()).deleted == (UNNEEDED, "unneeded")


async def test_one_that_cannot_be_deleted_does_not_keep_the_others() -> None:
    stores = Stores()
    stores.blobs.stuck.add(UNNEEDED)
    assert (await stores.collector.collect()).deleted == ("unneeded",)
    stores.blobs.stuck.clear()
    assert (await stores.collector.collect()).deleted == (UNNEEDED,)


@pytest.mark.parametrize(("age_seconds", "is_kept"), [(MAX_AGE_SECONDS, True), (MAX_AGE_SECONDS + 1, False)])
async def test_partial_content_is_swept_only_once_it_is_too_old(age_seconds: float, is_kept: bool) -> None:
    stores = Stores()
    stores.blobs.staged[UNNEEDED] = b"part"
    stores.layers.staged.add("part")
    stores.blobs.age_seconds = stores.layers.age_seconds = age_seconds
    await stores.collector.collect()
    assert (UNNEEDED in stores.blobs.staged, "part" in stores.layers.staged) == (is_kept, is_kept)


@pytest.mark.parametrize(("size_bytes", "is_kept"), [(MIN_RESUMED_BYTES - 1, False), (MIN_RESUMED_BYTES, True)])
async def test_only_what_is_worth_resuming_is_kept_over_a_restart(size_bytes: int, is_kept: bool) -> None:
    stores = Stores()
    stores.blobs.staged[UNNEEDED] = bytes(size_bytes)
    await stores.collector.recover()
    assert (UNNEEDED in stores.blobs.staged) == is_kept


@pytest.mark.parametrize("is_kept", [True, False])
async def test_what_a_failed_block_staged_stays_only_for_a_next_attempt(is_kept: bool) -> None:
    stores = Stores()

    async def work() -> None:
        async with stores.collector.staging(lambda _: is_kept) as lease:
            await lease.add([UNNEEDED, "part"])
            stores.blobs.staged[UNNEEDED] = b"part"
            stores.layers.staged.add("part")
            raise OSError("network")

    with pytest.raises(OSError, match="network"):
        await work()
    assert (UNNEEDED in stores.blobs.staged, "part" in stores.layers.staged) == (is_kept, is_kept)
    assert not stores.leases.is_held(UNNEEDED)


async def test_a_failed_block_leaves_what_another_lease_holds() -> None:
    stores = Stores()
    stores.blobs.staged[UNNEEDED] = b"part"

    async def work() -> None:
        async with stores.collector.staging(lambda _: False) as lease:
            await lease.add([UNNEEDED])
            raise OSError("network")

    async with stores.leases.lease() as other:
        await other.add([UNNEEDED])
        with pytest.raises(OSError, match="network"):
            await work()
        assert UNNEEDED in stores.blobs.staged


async def test_what_was_staged_to_be_read_is_gone_after_the_block() -> None:
    stores = Stores()
    async with stores.collector.passing([UNNEEDED]):
        stores.blobs.staged[UNNEEDED] = b"read"
        await stores.collector.collect()
        assert UNNEEDED in stores.blobs.staged
    assert UNNEEDED not in stores.blobs.staged
