"""What an archive of images is read as, from its entries alone."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from fluytd.errors import ArchiveInvalid, DigestMismatch, LimitExceeded, ManifestInvalid
from fluytd.images import archive
from fluytd.images.manifests import MAX_INDEX_DEPTH
from fluytd.images.platforms import Platform
from tests.support import image_files, images, tarball

HOST = Platform("linux", "amd64")


@dataclass(frozen=True)
class Entry:
    name: str
    kind: str
    size_bytes: int
    offset_bytes: int
    link_name: str = ""


def opened(data: bytes) -> tuple[list[Entry], Callable[[int, int], bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        entries = [
            Entry(
                member.name,
                "symlink"
                if member.issym()
                else "hardlink"
                if member.islnk()
                else "file"
                if member.isfile()
                else "directory",
                member.size,
                member.offset_data,
                member.linkname,
            )
            for member in tar
        ]
    return entries, lambda offset, size: data[offset : offset + size]


def plan(data: bytes) -> list[archive.ArchiveImage]:
    entries, read = opened(data)
    return archive.plan(entries, read, (), HOST)


def small() -> images.Image:
    return images.image([images.layer()])


@pytest.mark.parametrize("form", [image_files.docker_archive, image_files.docker_archive_old, image_files.oci_archive])
def test_r17_every_form_gives_the_image_its_names(form: Callable[..., bytes]) -> None:
    (found,) = plan(form({"team/app:1": small()}))
    assert [str(reference) for reference in found.references] == ["docker.io/team/app:1"]
    assert len(found.layers) == 1


def test_an_archive_of_something_else_is_refused() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("readme"), io.BytesIO())
    with pytest.raises(ArchiveInvalid):
        plan(buffer.getvalue())


def test_a_manifest_that_is_not_what_its_digest_says_is_refused() -> None:
    image = small()
    data = image_files.oci_archive({"a:1": image})
    manifest = image.manifests[image.digest][1]
    with pytest.raises((DigestMismatch, ManifestInvalid)):
        plan(data.replace(manifest, manifest.replace(b"schemaVersion", b"schemaVersioN")))


def repeated(tagged: images.Tagged, count: int) -> images.Index:
    """An index that names one thing many times, which is held once."""
    return images.index([tagged], descriptors=[tagged.descriptor()] * count)


def test_an_index_that_names_another_many_times_meets_a_limit_early() -> None:
    read_bytes = 0
    entries, read = opened(image_files.oci_archive({"a:1": repeated(repeated(repeated(small(), 900), 900), 1)}))

    def counted(offset: int, size: int) -> bytes:
        nonlocal read_bytes
        read_bytes += size
        return read(offset, size)

    with pytest.raises(LimitExceeded) as refused:
        archive.plan(entries, counted, (), HOST)
    assert refused.value.metadata["limit"] == "MAX_ARCHIVE_IMAGES"
    assert read_bytes < 4 * 1024 * 1024


@pytest.mark.parametrize("is_index", [True, False])
def test_a_great_document_that_is_named_many_times_meets_a_limit_of_bytes(is_index: bool) -> None:
    annotations = {"annotations": {"a": "x" * (3 * 1024 * 1024)}}
    great: images.Tagged = images.image([], manifest=annotations)
    if is_index:
        great = images.Index(images.dump(json.loads(images.index([]).manifest) | annotations), (), images.OCI_INDEX)
    with pytest.raises(LimitExceeded) as refused:
        plan(image_files.oci_archive({"a:1": repeated(great, 900)}))
    assert refused.value.metadata["limit"] == "MAX_ARCHIVE_DOCUMENT_BYTES"
    assert refused.value.metadata["limit_value"] == str(64 * 1024 * 1024)


def test_indexes_without_images_meet_a_limit_of_their_own() -> None:
    empty = images.index([])
    wide = images.index([images.index([empty] * 900)] * 9)
    with pytest.raises(LimitExceeded) as refused:
        plan(image_files.oci_archive({"a:1": wide}))
    assert refused.value.metadata["limit"] == "MAX_ARCHIVE_MANIFESTS"


def with_listing(image: images.Image, top: images.Tagged, *, absent: str = "") -> bytes:
    """An archive of manifest.json over `image` and a layout whose only entry is `top`; one blob may be left out."""
    blob = {digest: "blobs/" + digest.replace(":", "/") for digest in [*image.blobs, absent]}
    files = image_files.layout_files({"a:1": top})
    layers = [blob[layer.digest] for layer in image.layers]
    listing = [{"Config": blob[image.config_digest], "RepoTags": ["a:1"], "Layers": layers}]
    files["manifest.json"] = images.dump(listing)
    files.pop(blob[absent], None)
    return tarball.write_tar([tarball.file(name, data) for name, data in files.items()])


def test_r17_a_manifest_below_indexes_is_the_listed_images_own() -> None:
    image = small()
    (found,) = plan(with_listing(image, images.index([images.index([image])])))
    assert found.manifest == (image.manifest, image.media_type)


def test_r17_what_is_no_image_or_absent_below_an_index_does_not_hinder_the_listing() -> None:
    image, other = small(), images.image([], cmd=["other"])
    artifact = images.image([], manifest={"config": {"mediaType": "a/b", "digest": image.config_digest, "size": 1}})
    top = images.index([other, artifact, image])
    (found,) = plan(with_listing(image, top, absent=other.digest))
    assert found.manifest == (image.manifest, image.media_type)
    # Without its index the image is known by the listing alone.
    (found,) = plan(with_listing(image, top, absent=top.digest))
    assert found.manifest is None


def test_indexes_beside_a_listing_meet_the_same_limits() -> None:
    image, empty = small(), images.index([])
    wide = images.index([images.index([empty] * 900)] * 9)
    deep: images.Tagged = image
    for _ in range(MAX_INDEX_DEPTH):
        deep = images.index([deep])
    for top, limit in ((wide, "MAX_ARCHIVE_MANIFESTS"), (deep, "MAX_INDEX_DEPTH")):
        data = tarball.write_tar(
            [tarball.file(name, content) for name, content in (image_files.layout_files({"a:1": top})).items()]
            + [tarball.file("manifest.json", b"[]")]
        )
        with pytest.raises(LimitExceeded) as refused:
            plan(data)
        assert refused.value.metadata["limit"] == limit
