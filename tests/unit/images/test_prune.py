"""Which images a prune may take, what it would free, and images whose state changes while it is at work."""

from dataclasses import replace

import pytest

from fluytd.errors import Cancelled
from fluytd.ids import Digest, OperationId
from fluytd.images import prune as pruning
from fluytd.images.filters import ImageFilter
from fluytd.images.ports import Holder
from fluytd.images.prune import PruneOptions, Pruner, would_reclaim
from fluytd.images.table import Name
from fluytd.operations.model import OperationKind, OperationState, PruneProgress, PruneResult
from fluytd.operations.service import OperationHandle, OperationService
from tests.support.fakes.images import Flag
from tests.unit.images.conftest import World
from tests.unit.images.test_catalogue import add, image

EVERY = PruneOptions(ImageFilter(), has_all=True, is_dry_run=False)


def handle_of(flag: Flag | None = None) -> OperationHandle:
    return OperationHandle(OperationId.new(), "root", flag or Flag())


def pruner(world: World, *pinned: str) -> Pruner:
    async def collect(handle: OperationHandle, is_dry_run: bool) -> tuple[tuple[str, ...], int]:
        return ("by policy",), int(is_dry_run)

    return Pruner(world.catalogue, world.collector, world.holders, lambda image: image.id in pinned, collect)


@pytest.mark.parametrize(
    ("is_dangling", "has_all", "takes_named", "takes_dangling"),
    [
        (None, False, False, True),
        (None, True, True, True),
        (True, True, False, True),
        (True, False, False, True),
        (False, False, True, False),
        (False, True, True, False),
    ],
)
def test_images_with_references_go_only_if_they_are_asked_for(
    is_dangling: bool | None, has_all: bool, takes_named: bool, takes_dangling: bool
) -> None:
    options = PruneOptions(ImageFilter(is_dangling=is_dangling), has_all=has_all, is_dry_run=False)
    assert options.accepts(image(1), ["docker.io/library/app:1"]) == takes_named
    assert options.accepts(image(1), []) == takes_dangling


def test_what_would_be_freed_counts_each_thing_once_and_nothing_that_is_needed() -> None:
    first, second, third = image(1, "a", "b", "b"), image(2, "b", "c"), image(3, "c")
    own = sum(5 + len(one.config_text) for one in (first, second))
    everything = [first, second, third]
    # Blobs of 3 bytes and trees of 10: a and b go, c stays with the third image.
    assert would_reclaim([first, second], everything, lambda _: False) == own + 2 * 13
    used = Digest.of(b"a").hex
    assert would_reclaim([first, second], everything, lambda layer_id: layer_id == used) == own + 2 * 13 - 10
    assert would_reclaim([], everything, lambda _: False) == 0


async def test_an_image_that_came_into_use_or_got_a_name_meanwhile_stays(world: World) -> None:
    first, second, third = image(1, "a"), image(2, "b"), image(3, "c")
    for one in (first, second, third):
        await add(world.catalogue, one)
    remove = world.catalogue.remove_unused

    async def changing(image_id: str, *rest: object, **options: object) -> object:
        removed = await remove(image_id, *rest, **options)  # type: ignore[arg-type]
        world.holders.by_image[second.id] = [Holder("c1", is_running=False)]
        world.catalogue.table.set_name("docker.io/library/new:1", Name.of(third))
        return removed

    world.catalogue.remove_unused = changing  # type: ignore[method-assign, assignment]
    options = replace(EVERY, has_all=False)
    result = await pruner(world).prune(options, handle_of())
    assert result.deleted == (first.id,)
    assert {one.id for one in world.catalogue.table} == {second.id, third.id}


async def test_a_cancelled_prune_ends_between_two_images(world: World) -> None:
    first, second = image(1, "a"), image(2, "b")
    for one in (first, second):
        await add(world.catalogue, one)
    flag = Flag()
    handle = handle_of(flag)
    remove = world.catalogue.remove_unused

    async def cancelling(*arguments: object) -> object:
        flag.cancel()
        return await remove(*arguments)  # type: ignore[arg-type]

    world.catalogue.remove_unused = cancelling  # type: ignore[method-assign, assignment]
    with pytest.raises(Cancelled):
        await pruner(world).prune(EVERY, handle)
    assert [one.id for one in world.catalogue.table] == [second.id]
    assert handle.progress == PruneProgress(0, 0)


async def test_a_long_result_is_cut_short_and_still_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "MAX_LISTED", 2)
    for number in range(1, 4):
        await add(world.catalogue, image(number))
    result = await pruner(world).prune(EVERY, handle_of())
    assert (result.deleted, result.deleted_count) == ((image(1).id, image(2).id), 3)


async def test_its_result_survives_a_restart(world: World) -> None:
    await add(world.catalogue, image(1))
    begun = await world.operations.begin(
        OperationKind.PRUNE_IMAGES, "images", lambda handle: pruner(world).prune(EVERY, handle)
    )
    done = await world.operations.wait(begun.id)
    assert done.state is OperationState.SUCCEEDED
    assert isinstance(done.result, PruneResult)
    again = OperationService(world.database, world.operations._clock, Flag, history=10)
    await again.open()
    assert again.get(begun.id).result == done.result


async def test_a_pinned_image_stays_and_is_not_told_of(world: World) -> None:
    first, second = image(1, "a"), image(2, "b")
    for one in (first, second):
        await add(world.catalogue, one)
    for is_dry_run in (True, False):
        result = await pruner(world, first.id).prune(replace(EVERY, is_dry_run=is_dry_run), handle_of())
        assert result.deleted == (second.id,)
    assert [one.id for one in world.catalogue.table] == [first.id]


async def test_a_prune_by_policy_is_a_collection(world: World) -> None:
    await add(world.catalogue, image(1, "a"))
    for is_dry_run in (True, False):
        options = replace(EVERY, is_by_policy=True, is_dry_run=is_dry_run)
        result = await pruner(world).prune(options, handle_of())
        assert result == PruneResult(("by policy",), int(is_dry_run), 1)
    assert len(list(world.catalogue.table)) == 1
