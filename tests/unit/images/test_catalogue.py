"""The table of images and its changes: names, prefixes, versions, refusals that change nothing, what filters show."""

from dataclasses import replace

import pytest

from fluytd.errors import (
    EngineError,
    ImageAmbiguous,
    ImageInUse,
    ImageNotFound,
    ReferenceInvalid,
    StorageFull,
    VersionConflict,
)
from fluytd.events.model import ImageLoaded
from fluytd.ids import Digest, ImageReference
from fluytd.images import config as configs
from fluytd.images.catalogue import Added, Addition, Catalogue
from fluytd.images.filters import ImageFilter, glob
from fluytd.images.manifests import Descriptor
from fluytd.images.model import Image, ImageLayer
from fluytd.images.ports import Holder
from tests.support import images
from tests.unit.images.conftest import World


def image(number: int, *layers: str, **options: object) -> Image:
    """An image whose id begins with the number's digits; of these layers, ten bytes each."""
    diff_ids = [Digest.of(name.encode()) for name in layers]
    text = images.dump(images.config_json(diff_ids, **options))  # type: ignore[arg-type]
    manifest = Descriptor(images.OCI_MANIFEST, Digest.of(str(number).encode()), 5)
    return Image(
        id=Digest(f"sha256:{number:064d}"[:7] + f"{number:08d}".ljust(64, "0")),
        manifest=manifest,
        target=manifest,
        config_text=text.decode(),
        config=configs.parse(text, len(layers), "it"),
        layers=tuple(ImageLayer(Descriptor(images.OCI_LAYER, diff, 3), diff, diff, diff.hex, 10) for diff in diff_ids),
        create_time_unix_nanos=number,
    )


async def add(catalogue: Catalogue, one: Image, *names: str) -> Added:
    full = tuple(str(ImageReference.parse(name).with_default_tag()) for name in names)
    return await catalogue.add([Addition(one, full, (), ImageLoaded(one.id, full))], "root")


async def test_an_image_is_found_by_name_id_prefix_and_manifest(world: World) -> None:
    one, other = image(12345678, "a"), image(12340000, "a")
    await add(world.catalogue, one, "app:1")
    await add(world.catalogue, other)
    table = world.catalogue.table
    for text in ("app:1", "docker.io/library/app:1", one.id, one.id[7:], "12345", one.manifest.digest):
        assert table.find(text)[0].id == one.id
    with pytest.raises(ImageAmbiguous) as ambiguous:
        table.find("1234")
    assert len(ambiguous.value.metadata["matches"].split(",")) == 2
    for text in ("123", "app", "app:2", "f" * 64, "sha256:" + "f" * 64, "sha512:" + "f" * 128, "sha256:xyz"):
        with pytest.raises(ImageNotFound):
            table.find(text)
    with pytest.raises(ReferenceInvalid):
        table.find("NO SUCH")


async def test_records_give_the_same_table_again(world: World) -> None:
    await add(world.catalogue, image(1, "a", "b"), "app:1", "app:2")
    await add(world.catalogue, image(2, "b"))
    again = Catalogue(world.database, world.blobs, world.holders)
    await again.open()
    assert sorted(again.table, key=lambda one: one.id) == sorted(world.catalogue.table, key=lambda one: one.id)
    assert again.table.references(image(1).id) == world.catalogue.table.references(image(1).id)
    assert again.table.shared_size_bytes(image(1, "a", "b")) == 10


async def test_an_image_that_comes_anew_keeps_names_and_time_and_tells_what_it_was(world: World) -> None:
    old = image(1, "a")
    await add(world.catalogue, old, "app:1")
    new = replace(old, manifest=replace(old.manifest, digest=Digest.of(b"other")), create_time_unix_nanos=99)
    added = await add(world.catalogue, new, "app:2")
    assert [one.manifest for one in added.replaced] == [old.manifest]
    (found,) = world.catalogue.table
    assert (found.create_time_unix_nanos, found.version, len(world.catalogue.table.references(found.id))) == (1, 2, 2)
    assert (await add(world.catalogue, new)).replaced == ()


async def test_a_name_moves_and_both_images_get_new_versions(world: World) -> None:
    first, second = image(1, "a"), image(2, "b")
    await add(world.catalogue, first, "app:1")
    await add(world.catalogue, second)
    moved = await world.catalogue.tag(second.id, ImageReference.parse("app:1"), 0, "root")
    table = world.catalogue.table
    assert (moved.id, moved.version) == (second.id, 2)
    assert (table.references(first.id), table.find(first.id)[0].version) == ((), 2)


async def test_a_change_that_is_not_recorded_is_not_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one = image(1, "a")
    await add(world.catalogue, one, "app:1", "app:2")

    async def full(*_: object, **__: object) -> None:
        raise StorageFull(operation="write", path="state.db", errno=28)

    monkeypatch.setattr(world.database, "write", full)
    catalogue = world.catalogue
    for change in (
        catalogue.tag(one.id, ImageReference.parse("app:3"), 0, "root"),
        catalogue.untag("app:1", 0, "root"),
        catalogue.remove("app:1", False, 0, "root"),
        catalogue.remove(one.id, True, 0, "root"),
        add(catalogue, image(2, "b"), "app:1"),
    ):
        with pytest.raises(StorageFull):
            await change
    assert [found.id for found in catalogue.table] == [one.id]
    assert catalogue.table.references(one.id) == ("docker.io/library/app:1", "docker.io/library/app:2")
    assert catalogue.table.find(one.id)[0].version == 1


async def test_l07_a_refusal_changes_nothing(world: World) -> None:
    one = image(1, "a")
    await add(world.catalogue, one, "app:1", "app:2")
    refusals: list[tuple[str, bool, int, type[EngineError]]] = [
        (one.id, False, 0, ImageInUse),  # two names
        (one.id, True, 7, VersionConflict),
        ("app:1", False, 7, VersionConflict),
        ("app:3", True, 0, ImageNotFound),
    ]
    for text, force, version, expected in refusals:
        with pytest.raises(expected):
            await world.catalogue.remove(text, force, version, "root")
    world.holders.by_image[one.id] = [Holder("c1", is_running=True)]
    for force in (False, True):
        with pytest.raises(ImageInUse):
            await world.catalogue.remove(one.id, force, 0, "root")
    assert len(world.catalogue.table.references(one.id)) == 2
    # One of two names goes even so: its containers keep the image.
    assert (await world.catalogue.remove("app:1", False, 0, "root")).images == ()
    with pytest.raises(ImageInUse) as held:
        await world.catalogue.remove("app:2", True, 0, "root")
    assert held.value.metadata["holder_ids"] == "c1"
    world.holders.by_image[one.id] = [Holder("c1", is_running=False)]
    with pytest.raises(ImageInUse):
        await world.catalogue.remove("app:2", False, 0, "root")
    assert (await world.catalogue.remove("app:2", True, 0, "root")).images != ()


async def test_what_a_deleted_image_alone_needed_is_counted(world: World) -> None:
    first, second = image(1, "a", "b", "b"), image(2, "b", "c")
    await add(world.catalogue, first)
    await add(world.catalogue, second)
    assert first.size_bytes == 20
    await world.catalogue.remove(first.id, False, 0, "root")
    # Its manifest, its config, and of layer a blob and tree; b belongs to the other image too.
    assert world.catalogue.reclaimable_bytes(first) == 5 + len(first.config_text) + 3 + 10
    assert world.catalogue.needs_layer(Digest.of(b"b").hex)
    assert not world.catalogue.needs_layer(Digest.of(b"a").hex)
    world.holders.used_layers.add(Digest.of(b"a").hex)
    assert world.catalogue.needs_layer(Digest.of(b"a").hex)


def test_conditions_of_different_kinds_must_all_hold() -> None:
    one = image(5, labels={"tier": "front", "empty": ""}, extra={"created": "2010-01-01T00:00:00Z"})
    older = image(4, extra={"created": "2001-01-01T00:00:00Z"})
    names = ["docker.io/library/app:1", "r.example:5000/team/app:2"]
    for condition, is_shown in (
        (ImageFilter(), True),
        (ImageFilter(references=("app",)), True),
        (ImageFilter(references=("app:2",)), False),
        (ImageFilter(references=("r.example:5000/*/app",)), True),
        (ImageFilter(references=("r.example:5000/*",)), False),
        (ImageFilter(references=("x", "a*:?", "a*:1")), True),
        (ImageFilter(labels=("tier",)), True),
        (ImageFilter(labels=("tier=",)), False),
        (ImageFilter(labels=("empty=",)), True),
        (ImageFilter(labels=("tier=front", "none")), False),
        (ImageFilter(is_dangling=True), False),
        (ImageFilter(is_dangling=False), True),
        (ImageFilter(since=older), True),
        (ImageFilter(before=older), False),
        (ImageFilter(before=one), False),
        (ImageFilter(before_time_unix_nanos=5), False),
        (ImageFilter(before_time_unix_nanos=6), True),
        (ImageFilter(references=("app",), labels=("none",)), False),
    ):
        assert condition.accepts(one, names) is is_shown, condition
    assert not ImageFilter(references=("app",)).accepts(one, [])


@pytest.mark.parametrize(
    ("text", "pattern", "fits"),
    [
        ("", "", True),
        ("", "*", True),
        ("a", "", False),
        ("abc", "a*c", True),
        ("a/c", "a*c", False),
        ("a/b/c", "*/*/c", True),
        ("aXbXc", "a*b*c", True),
        ("aab", "a*ab", True),
        ("a", "a**", True),
        ("ab", "a", False),
        ("a" * 5000, "*a" * 50 + "b", False),
        ("a?[b]", r"a\?\[b]", True),
        ("axb", "a?b", True),
        ("a/b", "a?b", False),
        ("ab", "a[a-c]", True),
        ("ad", "a[a-c]", False),
        ("ad", "a[^a-cx]", True),
        ("ax", "a[^a-cx]", False),
        ("a-", r"a[\-]", True),
        ("ab1", "a*[0-9]", True),
        ("a", "a[", False),
        ("a", "a[]", False),
        ("ab", "a[b", False),
        ("a", "a\\", False),
        ("a-", "a[a-]", False),
    ],
)
def test_a_pattern_fits_as_gos_path_match_says(text: str, pattern: str, fits: bool) -> None:
    assert glob(text, pattern) is fits
