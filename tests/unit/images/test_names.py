"""Names of several platforms: what an addition keeps and moves, what is chosen, what goes with a name."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from fluytd.clock import SystemClock
from fluytd.errors import ImageInUse, ImageNotFound, PlatformUnavailable
from fluytd.events.model import ImageLoaded
from fluytd.ids import Digest, ImageReference
from fluytd.images.catalogue import Addition, Catalogue
from fluytd.images.manifests import Descriptor
from fluytd.images.model import Image
from fluytd.images.platforms import Platform
from fluytd.images.ports import Holder
from fluytd.state import schema
from fluytd.state.db import Database
from tests.support import images
from tests.unit.images.conftest import World
from tests.unit.images.test_catalogue import image

FULL = "docker.io/library/app:1"
HOST = Platform.normalised("linux", images.HOST_ARCHITECTURE)
OTHER = Platform.normalised("linux", "s390x")


def index(name: str) -> Descriptor:
    """An index that is kept."""
    return Descriptor(images.OCI_INDEX, Digest.of(name.encode()), 100)


def of(number: int, architecture: str, target: Descriptor) -> Image:
    """An image of one platform that came by this index."""
    one = image(number, f"layer {number}", architecture=architecture)
    return replace(one, target=target, ways=((target,),))


def addition(one: Image, *listed: Image, name: str = FULL) -> Addition:
    """The image, and the others that its index lists."""
    way = (one.target,)
    return Addition(one, (name,), (), ImageLoaded(one.id, (name,)), {each.manifest.digest: way for each in listed})


def ids(world: World, text: str = "app:1") -> list[str]:
    """Ids of the images that the text stands for."""
    return [one.id for one in world.catalogue.table.lookup(text).images]


async def two(world: World) -> tuple[Image, Image]:
    """Two platforms of one name."""
    here, there = of(1, images.HOST_ARCHITECTURE, index("a")), of(2, "s390x", index("a"))
    await world.catalogue.add([addition(there)], "root")
    await world.catalogue.add([addition(here)], "root")
    return here, there


async def test_a_second_platform_stands_beside_the_first_and_the_hosts_is_chosen(world: World) -> None:
    here, there = await two(world)
    table = world.catalogue.table
    assert ids(world) == [there.id, here.id]
    assert table.find("app:1")[0].id == here.id
    assert table.find("app:1", OTHER)[0].id == there.id
    assert ids(world, index("a").digest) == [there.id, here.id]
    with pytest.raises(PlatformUnavailable) as refused:
        table.find("app:1", Platform.normalised("linux", "ppc64le"))
    assert refused.value.metadata["available"] == f"linux/s390x, {HOST}"
    assert world.catalogue.needs_blob(index("a").digest)


async def test_a_name_that_moves_to_another_index_keeps_what_that_one_lists(world: World) -> None:
    here, there = await two(world)
    third = of(3, "ppc64le", index("b"))
    added = await world.catalogue.add([addition(third, here)], "root")
    assert ids(world) == [here.id, third.id]
    assert world.catalogue.table.references(there.id) == ()
    assert there.target.digest == index("a").digest
    # The image that left the old index for the new one needs the old no more; the one that stayed does.
    kept = world.catalogue.table.get(here.id)
    assert kept is not None
    assert [way[0].digest for way in kept.ways] == [index("a").digest, index("b").digest]
    assert world.catalogue.needs_blob(index("a").digest)
    assert added.replaced == ()
    again = replace(here, target=index("b"), ways=((index("b"),),))
    added = await world.catalogue.add([addition(again, third)], "root")
    assert [one.id for one in added.replaced] == [here.id]


async def test_a_name_that_moves_to_another_manifest_leaves_all_others(world: World) -> None:
    here, there = await two(world)
    alone = image(4, "x")
    await world.catalogue.add([addition(alone)], "root")
    assert ids(world) == [alone.id]
    assert [world.catalogue.table.references(one.id) for one in (here, there)] == [(), ()]
    listed = await world.database.read(lambda txn: txn.all("SELECT fact FROM events WHERE fact LIKE '%ntagged%'"))
    assert len(listed) == 2


async def test_names_of_several_platforms_survive_a_restart(world: World) -> None:
    here, there = await two(world)
    again = Catalogue(world.database, world.blobs, world.holders, HOST)
    await again.open()
    match = again.table.lookup("app:1")
    assert ([one.id for one in match.images], match.target) == ([there.id, here.id], index("a").digest)
    assert match.images[0].ways == there.ways
    assert b'"name"' not in world.blobs.index


async def test_a_tag_names_all_platforms_or_the_one_that_is_asked_for(world: World) -> None:
    here, there = await two(world)
    tag = world.catalogue.tag
    assert (await tag("app:1", ImageReference.parse("all:1"), 0, "root")).id == here.id
    assert ids(world, "all:1") == [there.id, here.id]
    assert (await tag("app:1", ImageReference.parse("one:1"), 0, "root", OTHER)).id == there.id
    assert ids(world, "one:1") == [there.id]
    assert (await tag(here.id, ImageReference.parse("one:1"), 0, "root")).id == here.id
    assert ids(world, "one:1") == [here.id]
    version = world.catalogue.table.find("app:1")[0].version
    assert (await tag(there.id, ImageReference.parse("mine:1"), 0, "root")).version > there.version
    assert world.catalogue.table.find("app:1")[0].version == version


async def test_a_name_goes_from_all_platforms_and_with_their_last_name_they_go(world: World) -> None:
    here, there = await two(world)
    await world.catalogue.tag(there.id, ImageReference.parse("other:1"), 0, "root")
    removal = await world.catalogue.remove("app:1", False, 0, "root")
    assert (removal.untagged, [one.id for one in removal.images]) == ((FULL,), [here.id])
    assert world.catalogue.table.references(there.id) == ("docker.io/library/other:1",)
    again = Catalogue(world.database, world.blobs, world.holders, HOST)
    await again.open()
    assert [one.id for one in again.table] == [there.id]


async def test_one_platform_is_deleted_and_the_name_stays_with_the_other(world: World) -> None:
    here, there = await two(world)
    removal = await world.catalogue.remove("app:1", False, 0, "root", OTHER)
    assert (removal.untagged, [one.id for one in removal.images]) == ((), [there.id])
    assert ids(world) == [here.id]
    removal = await world.catalogue.remove(here.id, False, 0, "root")
    assert removal.untagged == (FULL,)
    with pytest.raises(ImageNotFound):
        world.catalogue.table.lookup("app:1")


async def test_l07_a_container_of_one_platform_keeps_the_name_whole(world: World) -> None:
    here, there = await two(world)
    world.holders.by_image[there.id] = [Holder("c", is_running=True)]
    with pytest.raises(ImageInUse):
        await world.catalogue.remove("app:1", True, 0, "root")
    assert ids(world) == [there.id, here.id]


async def test_records_of_the_first_version_are_read(tmp_path: Path, world: World) -> None:
    path = tmp_path / "old.db"
    one = of(1, "amd64", index("a"))
    await world.catalogue.add([addition(one)], "root")
    record = await world.database.read(lambda txn: txn.one("SELECT record FROM images"))
    assert record is not None
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(schema.MIGRATIONS[0] + "PRAGMA user_version=1;")
    connection.execute("INSERT INTO images VALUES (?, 1, 1, ?)", (one.id, record[0]))
    connection.execute("INSERT INTO image_names VALUES (?, ?)", (FULL, one.id))
    connection.execute(
        "INSERT INTO image_repo_digests VALUES (?, ?)", (f"docker.io/library/app@{index('a').digest}", one.id)
    )
    connection.close()
    database = Database(path, SystemClock(), max_events=10)
    await database.open()
    try:
        catalogue = Catalogue(database, world.blobs, world.holders)
        await catalogue.open()
        match = catalogue.table.lookup("app:1")
        assert ([each.id for each in match.images], match.target) == ([one.id], index("a").digest)
        assert catalogue.table.lookup(f"app@{index('a').digest}").images == match.images
    finally:
        await database.close()
