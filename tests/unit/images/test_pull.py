"""Pulling on fakes: the order in which things become visible, what is kept of a failure, who shares a download."""

import asyncio

import pytest

from fluytd.errors import (
    Cancelled,
    EngineError,
    LayerRejected,
    PlatformUnavailable,
    RegistryUnreachable,
    SizeMismatch,
    StorageFull,
)
from fluytd.ids import Digest, ImageReference, OperationId
from fluytd.images.config import chain_ids
from fluytd.images.platforms import Platform
from fluytd.operations.model import PullProgress, PullResult
from fluytd.operations.service import OperationHandle
from fluytd.registries.model import Credentials
from tests.support import images, tarball
from tests.support.fakes.images import Flag, until
from tests.support.images import Image
from tests.unit.images.conftest import LAYERS_AT_ONCE, World


def handle() -> OperationHandle:
    return OperationHandle(OperationId.new(), "root", Flag())


def image_of(*texts: str, **options: object) -> Image:
    layers = [images.layer(tarball.file("f", text), compression="none") for text in texts]
    return images.image(layers, **options)  # type: ignore[arg-type]


async def pull(world: World, text: str, held: OperationHandle | None = None) -> PullResult:
    reference = ImageReference.parse(text).with_default_tag()
    return await world.puller.pull(reference, world.host, Credentials(), held or handle())


UNREACHABLE = RegistryUnreachable(registry="r", attempt_count=5, detail="none")
FULL = StorageFull(operation="write", path="/data", errno=28)
REJECTED = LayerRejected(digest="d", entry="..", rule="leaves the root")


async def test_blobs_come_before_layers_before_the_record(world: World) -> None:
    image = image_of("a", "b")
    world.registry.put("1", image)
    result = await pull(world, "r.example/app:1")
    assert world.log == ["blobs", "layers", "index"]
    assert (result.image_id, result.was_present) == (image.config_digest, False)
    assert set(world.blobs.visible) == {image.digest, *image.blobs}
    assert world.layers.visible == {diff_id[7:] for diff_id in image.diff_ids}
    assert not world.blobs.staged
    assert image.digest.encode() in world.blobs.index


async def test_a_record_that_cannot_be_written_takes_back_what_was_made_visible(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> None:
        raise FULL

    world.registry.put("1", image_of("a"))
    monkeypatch.setattr(world.database, "write", full)
    with pytest.raises(StorageFull):
        await pull(world, "r.example/app:1")
    assert world.log == ["blobs", "layers"]
    assert world.is_empty
    assert list(world.catalogue.table) == []


@pytest.mark.parametrize(
    ("failure", "is_kept"), [(UNREACHABLE, True), (FULL, False), (REJECTED, False)], ids=lambda one: str(one)[:12]
)
async def test_of_a_failed_pull_only_what_can_be_resumed_is_kept(
    world: World, failure: EngineError, is_kept: bool
) -> None:
    image = image_of("good", "bad")
    world.registry.put("1", image)
    world.ingester.failures[image.layers[1].digest] = [failure]
    with pytest.raises(type(failure)):
        await pull(world, "r.example/app:1")
    assert not world.blobs.visible
    assert (not world.is_empty) == is_kept
    await pull(world, "r.example/app:1")
    assert world.catalogue.with_manifest(Digest(image.digest)) is not None


async def test_what_another_pull_needs_is_not_given_up_with_a_failed_one(world: World) -> None:
    shared, bad = images.layer(tarball.file("s", "s")), images.layer(tarball.file("b", "b"))
    first, second = images.image([shared, bad]), images.image([shared], cmd=["x"])
    world.registry.put("1", first)
    world.registry.put("2", second)
    gate = world.ingester.gates[shared.digest] = asyncio.Event()
    world.ingester.failures[bad.digest] = [REJECTED]
    failing, going = (asyncio.ensure_future(pull(world, f"r.example/app:{tag}")) for tag in (1, 2))
    with pytest.raises(LayerRejected):
        await failing
    gate.set()
    assert (await going).image_id == second.config_digest
    assert world.ingester.fetched.count(shared.digest) == 1


async def test_r15_a_shared_download_that_failed_is_begun_anew_by_the_other(world: World) -> None:
    shared = images.layer(tarball.file("s", "s"))
    for tag in ("1", "2"):
        world.registry.put(tag, images.image([shared], cmd=[tag]))
    world.ingester.gates[shared.digest] = asyncio.Event()
    world.ingester.failures[shared.digest] = [UNREACHABLE]
    both = [asyncio.ensure_future(pull(world, f"r.example/app:{tag}")) for tag in (1, 2)]
    await until(lambda: world.ingester.running and len(world.registry.asked) == 2)
    world.ingester.gates[shared.digest].set()
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["PullResult", "RegistryUnreachable"]


async def test_no_more_layers_are_fetched_at_once_than_allowed(world: World) -> None:
    image = image_of(*"abcdefgh")
    world.registry.put("1", image)
    await pull(world, "r.example/app:1")
    assert world.ingester.most_running == LAYERS_AT_ONCE


async def test_r16_a_layer_that_stands_twice_is_fetched_once(world: World) -> None:
    image = image_of("x", "y", "x")
    world.registry.put("1", image)
    await pull(world, "r.example/app:1")
    assert world.ingester.fetched.count(image.layers[0].digest) in {1, 2}  # beside or after the first
    (found,) = world.catalogue.table
    assert [layer.diff_id for layer in found.layers] == image.diff_ids
    assert found.lower_layer_ids == (image.diff_ids[0][7:], image.diff_ids[1][7:])
    assert found.size_bytes == 14


async def test_a_layer_that_depends_on_lower_ones_is_finished_over_them(world: World) -> None:
    image = image_of("a", "b", "c")
    world.registry.put("1", image)
    world.ingester.dependent = {image.diff_ids[1], image.diff_ids[2]}
    await pull(world, "r.example/app:1")
    chains = chain_ids(map(Digest, image.diff_ids))
    second, third = world.ingester.finished
    assert second.lower_layer_ids == (image.diff_ids[0][7:],)
    assert third.lower_layer_ids == (image.diff_ids[0][7:], f"chain-{chains[1].hex}")
    assert world.layers.visible == {image.diff_ids[0][7:], f"chain-{chains[1].hex}", f"chain-{chains[2].hex}"}
    assert not world.layers.staged  # what the finished ones took the place of is gone


async def test_a_cancelled_pull_ends_at_once_and_tells_its_download(world: World) -> None:
    image = image_of("a")
    world.registry.put("1", image)
    world.ingester.gates[image.layers[0].digest] = asyncio.Event()
    held = handle()
    pulling = asyncio.ensure_future(pull(world, "r.example/app:1", held))
    await until(lambda: image.layers[0].digest in world.ingester.fetched)
    held.cancel()
    with pytest.raises(Cancelled):
        await pulling
    assert world.ingester.running == 0
    assert not world.blobs.visible


async def test_what_is_present_is_named_and_not_fetched(world: World) -> None:
    image = image_of("a")
    world.registry.put("1", image)
    world.registry.put("2", images.index([image]))
    await pull(world, "r.example/app:1")
    world.ingester.fetched.clear()
    result = await pull(world, "r.example/app:2")
    assert (result.was_present, world.ingester.fetched) == (True, [])
    (found,) = world.catalogue.table
    assert world.catalogue.table.references(found.id) == ("r.example/app:1", "r.example/app:2")
    assert found.target.media_type == images.OCI_INDEX


async def test_progress_names_each_layer(world: World) -> None:
    image = image_of("a", "b")
    world.registry.put("1", image)
    held = handle()
    await pull(world, "r.example/app:1", held)
    progress = held.progress
    assert isinstance(progress, PullProgress)
    assert [layer.digest for layer in progress.layers] == [layer.digest for layer in image.layers]
    assert progress.manifest_digest == image.digest


async def test_a_config_of_another_size_or_platform_is_refused(world: World) -> None:
    image = image_of("a")
    config = {"mediaType": images.OCI_CONFIG, "digest": image.config_digest, "size": len(image.config) + 1}
    world.registry.put("1", images.image(image.layers, manifest={"config": config}))
    with pytest.raises(SizeMismatch):
        await pull(world, "r.example/app:1")
    world.registry.put("2", image_of("a", architecture="s390x"))
    with pytest.raises(PlatformUnavailable):
        await pull(world, "r.example/app:2")


async def test_a_lookup_leaves_nothing_and_tells_the_platform_of_a_config(world: World) -> None:
    image = image_of("a", "a", architecture="arm", variant="v6")
    world.registry.put("1", image)
    reference = ImageReference.parse("r.example/app:1")
    wanted = Platform.normalised("linux", "arm", "v7")
    found = await world.lookup.resolve(reference, wanted, Credentials())
    assert found.manifest is not None
    assert [str(one) for one in found.platforms] == ["linux/arm/v6"]
    assert found.layers_size_bytes == len(image.layers[0].blob)
    other = await world.lookup.resolve(reference, world.host, Credentials())
    assert (other.manifest, other.layers_size_bytes) == (None, 0)
    assert world.is_empty
