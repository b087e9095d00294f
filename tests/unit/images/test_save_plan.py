"""Which images an archive gets, and its files: pure, over a table."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from fluytd.errors import FieldInvalid, ImageNotFound, LimitExceeded, PlatformUnavailable
from fluytd.ids import Digest, ImageReference
from fluytd.images import save_plan
from fluytd.images.archive import MAX_ARCHIVE_IMAGES
from fluytd.images.indexes import Document
from fluytd.images.manifests import Descriptor, Index
from fluytd.images.model import Image
from fluytd.images.platforms import Platform
from fluytd.images.save_plan import layout, select
from fluytd.images.table import ImageTable, Name
from tests.support import images
from tests.unit.images.test_catalogue import image

INDEX = Descriptor(images.OCI_INDEX, Digest.of(b"index"), 9)


def table_of(*named: tuple[Image, Sequence[str]]) -> ImageTable:
    table = ImageTable(Platform.normalised("linux", "arm64"))
    for one, names in named:
        table.put(one)
        for name in names:
            full = str(ImageReference.parse(name).with_default_tag())
            before = table.named(full)
            table.set_name(full, Name(one.target.digest, (*(before.image_ids if before else ()), one.id)))
    return table


def three_platforms() -> tuple[Image, Image, Image]:
    platforms = (("amd64", None), ("arm", "v6"), ("arm64", None))
    amd64, arm, arm64 = (
        replace(image(number + 1, f"layer {number}", architecture=name, variant=variant), target=INDEX)
        for number, (name, variant) in enumerate(platforms)
    )
    return amd64, arm, arm64


def test_a_name_stands_for_all_platforms_of_its_index_and_an_id_for_one() -> None:
    amd64, arm, arm64 = three_platforms()
    table = table_of((amd64, ["app:1"]), (arm, ["app:1"]), (arm64, ["app:1"]), (image(9), ["other:1"]))
    (named,) = select(table, ["app:1"], [])
    assert (named.name, named.images) == ("docker.io/library/app:1", (arm64, amd64, arm))
    for text in (amd64.id, amd64.id[7:19], amd64.manifest.digest):
        assert [(one.name, one.images) for one in select(table, [text], [])] == [("", (amd64,))]
    (by_index,) = select(table, [INDEX.digest], [])
    assert {one.id for one in by_index.images} == {amd64.id, arm.id, arm64.id}


def test_platforms_that_are_asked_for_are_served_best_and_each_once() -> None:
    amd64, arm, arm64 = three_platforms()
    table = table_of((amd64, ["app:1"]), (arm, ["app:1"]), (arm64, ["app:1"]))
    wanted = [Platform.normalised("linux", "arm", "v7"), Platform.normalised("linux", "arm", "v6")]
    assert [one.images for one in select(table, ["app:1"], wanted)] == [(arm,)]
    with pytest.raises(PlatformUnavailable) as refused:
        select(table, ["app:1"], [Platform.normalised("linux", "s390x")])
    assert refused.value.metadata["available"] == "linux/amd64, linux/arm/v6, linux/arm64"


def test_what_is_asked_for_twice_stands_in_it_once() -> None:
    one = image(1, "a")
    table = table_of((one, ["app:1", "app:2"]))
    found = select(table, ["app:1", "docker.io/library/app:1", one.id, "app:2", one.id[7:19]], [])
    assert [entry.name for entry in found] == ["docker.io/library/app:1", "docker.io/library/app:2"]


def test_bad_requests_are_refused() -> None:
    table = table_of((image(1), ["app:1"]))
    with pytest.raises(FieldInvalid):
        select(table, [], [])
    with pytest.raises(ImageNotFound):
        select(table, ["app:1", "absent:1"], [])
    with pytest.raises(LimitExceeded) as too_many:
        select(table, ["app:1"] * (MAX_ARCHIVE_IMAGES + 1), [])
    assert too_many.value.metadata["limit"] == "MAX_ARCHIVE_IMAGES"


def test_a_listing_that_no_loader_would_take_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of((image(1, *(f"layer {number}" for number in range(40))), ["app:1"]))
    monkeypatch.setattr(save_plan, "MAX_MANIFEST_BYTES", 2_000)
    with pytest.raises(LimitExceeded) as too_long:
        layout(select(table, ["app:1"], []))
    assert too_long.value.metadata["limit"] == "MAX_MANIFEST_BYTES"
    assert too_long.value.metadata["subject"].startswith("manifest.json")


def test_listings_come_first_then_blobs_in_order_each_once() -> None:
    first, second = image(1, "a", "b", "b"), image(2, "b")
    table = table_of((first, ["first:1"]), (second, ["second:1"]))
    files = layout(select(table, ["second:1", "first:1"], []))
    names = [file.name for file in files]
    assert names[:3] == ["oci-layout", "index.json", "manifest.json"]
    assert names[3:] == sorted({save_plan.blob_name(digest) for one in (first, second) for digest in one.blob_sizes})
    assert all((file.data is None) == (file.digest is not None) for file in files)


def test_platforms_stand_in_an_index_of_their_own_and_one_of_them_has_dockers_name() -> None:
    amd64, arm, arm64 = three_platforms()
    saved = select(table_of((arm, ["app:1"]), (amd64, ["app:1"]), (arm64, ["app:1"])), ["app:1"], [])
    files = {file.name: file for file in layout(saved)}
    (entry,) = json.loads(files["index.json"].data or b"")["manifests"]
    index = files[save_plan.blob_name(Digest.parse(entry["digest"]))]
    assert (entry["mediaType"], entry["size"]) == (images.OCI_INDEX, index.size_bytes)
    listed = json.loads(index.data or b"")["manifests"]
    assert [one["digest"] for one in listed] == [amd64.manifest.digest, arm.manifest.digest, arm64.manifest.digest]
    assert listed[1]["platform"] == {"os": "linux", "architecture": "arm", "variant": "v6"}
    listing = json.loads(files["manifest.json"].data or b"")
    assert [one["RepoTags"] for one in listing] == [["docker.io/library/app:1"], [], []]
    assert listing[0]["Config"].endswith(arm64.id.hex)


def test_an_index_all_of_whose_images_are_saved_stands_in_it_as_it_came() -> None:
    amd64, arm, arm64 = three_platforms()
    saved = select(table_of((arm, ["app:1"]), (amd64, ["app:1"]), (arm64, ["app:1"])), ["app:1"], [])
    document = Document(replace(INDEX, size_bytes=5), b"index", Index(images.OCI_INDEX, ()))
    files = {file.name: file for file in layout(saved, {INDEX.digest: [document]})}
    (entry,) = json.loads(files["index.json"].data or b"")["manifests"]
    assert entry["digest"] == INDEX.digest
    assert files[save_plan.blob_name(INDEX.digest)].data == b"index"
