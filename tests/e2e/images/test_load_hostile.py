"""Loading archives that are cut, bent or hostile: a typed error, nothing visible or staged, and the next load works."""

import bz2
import json
import lzma
from collections.abc import Callable, Iterator

import grpc
import pytest

from fluyt.v1 import images_pb2
from tests.e2e.images.steps import failed_load, load, refused, small_image, small_layer, staged, stored
from tests.support import image_files, images, tarball
from tests.support.engine import Engine
from tests.support.images import Image, Json
from tests.support.tarball import Member

Form = Callable[..., bytes]
INVALID, CORRUPT = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.DATA_LOSS


def works_still(engine: Engine, image: Image) -> None:
    """The same image from a good archive is loaded."""
    (loaded,) = load(engine, image_files.oci_archive({"good:1": image})).images
    assert loaded.image_id == image.config_digest


@pytest.mark.parametrize("form", [image_files.oci_archive, image_files.docker_archive, image_files.docker_archive_old])
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.95])
def test_an_archive_that_is_cut_is_refused(
    engine: Engine,
    form: Form,
    compression: tarball.Compression,
    part: float,
) -> None:
    image = images.image([small_layer(data=bytes(range(256)) * 400, compression="none"), small_layer()])
    whole = form({"app:1": image}, compression=compression)
    if compression == "none" and part > 0.9:
        part = 0.7  # behind it nothing but the end of the tar would be lost
    found = failed_load(engine, whole[: int(len(whole) * part)])
    assert found.reason in {"ARCHIVE_INVALID", "LAYER_CORRUPT"}
    works_still(engine, image)


@pytest.mark.parametrize("compress", [lzma.compress, bz2.compress], ids=["xz", "bzip2"])
def test_what_the_engine_itself_decompresses_is_refused_where_it_is_cut_or_damaged(
    engine: Engine, compress: Callable[[bytes], bytes]
) -> None:
    image = small_image()
    whole = compress(image_files.docker_archive({"app:1": image}))
    for data in (whole[: len(whole) // 2], whole[:-1], whole[:40] + b"\xff\0\xff" + whole[43:]):
        found = failed_load(engine, data)
        assert (found.code, found.reason) == (INVALID, "ARCHIVE_INVALID")
        assert "compressed data" in found.metadata["rule"]
    works_still(engine, image)


def test_an_archive_that_is_a_bomb_meets_a_named_limit(engine: Engine) -> None:
    member = lzma.compress(bytes(64 * 1024 * 1024), preset=0)
    found = failed_load(engine, lzma.compress(tarball.write_tar([tarball.file("f", "x")])) + member * 20)
    assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert (found.metadata["limit"], found.metadata["limit_value"]) == ("expansion_ratio", "200")
    works_still(engine, small_image())


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"not an archive" * 1000, bytes(10240), b"\x1f\x8b\x08\0garbage" * 10, b"\x28\xb5\x2f\xfdgarbage"],
)
def test_what_is_no_archive_is_refused(engine: Engine, data: bytes) -> None:
    found = failed_load(engine, data)
    assert (found.code, found.reason) == (INVALID, "ARCHIVE_INVALID")
    assert found.metadata["rule"]


def bent(image: Image, **replaced: bytes) -> bytes:
    """An OCI archive in which files of `replaced` (by what they are) have other bytes."""
    files = image_files.layout_files({"app:1": image})
    names = {
        "index": "index.json",
        "layout": "oci-layout",
        "manifest": "blobs/" + image.digest.replace(":", "/"),
        "config": "blobs/" + image.config_digest.replace(":", "/"),
        "layer": "blobs/" + image.layers[0].digest.replace(":", "/"),
    }
    for what, data in replaced.items():
        files[names[what]] = data
    return tarball.write_tar([tarball.file(name, data) for name, data in files.items() if data != b"absent"])


@pytest.mark.parametrize(
    ("replaced", "reason"),
    [
        ({"manifest": b"absent"}, "ARCHIVE_INVALID"),
        ({"config": b"absent"}, "ARCHIVE_INVALID"),
        ({"layer": b"absent"}, "ARCHIVE_INVALID"),
        ({"index": b"absent"}, "ARCHIVE_INVALID"),
        ({"layout": b"absent"}, "ARCHIVE_INVALID"),
        ({"layout": b"{}"}, "ARCHIVE_INVALID"),
        ({"layout": b'{"imageLayoutVersion":"2.0.0"}'}, "ARCHIVE_INVALID"),
        ({"index": b"{}"}, ""),
        ({"index": b"[]"}, ""),
        ({"index": b'{"schemaVersion":2,"manifests":[]}'}, "ARCHIVE_INVALID"),
        ({"index": b'{"schemaVersion":2,"manifests":[{}]}'}, ""),
        ({"manifest": b"{}"}, "SIZE_MISMATCH"),
        ({"config": b"{}"}, "SIZE_MISMATCH"),
        ({"layer": b"short"}, "SIZE_MISMATCH"),
    ],
)
def test_a_layout_that_lacks_or_bends_a_part_is_refused(
    engine: Engine, replaced: dict[str, bytes], reason: str
) -> None:
    image = small_image()
    found = failed_load(engine, bent(image, **replaced))
    assert found.reason in ({reason} if reason else {"ARCHIVE_INVALID", "MANIFEST_INVALID", "DIGEST_INVALID"})
    assert found.metadata
    works_still(engine, image)


@pytest.mark.parametrize("part", ["manifest", "config", "layer"])
def test_bytes_that_are_not_those_of_the_digest_are_refused(engine: Engine, part: str) -> None:
    image = small_image()
    data = {"manifest": image.manifest, "config": image.config, "layer": image.layers[0].blob}[part]
    digest = {"manifest": image.digest, "config": image.config_digest, "layer": image.layers[0].digest}[part]
    middle = len(data) // 2
    found = failed_load(engine, bent(image, **{part: data[:middle] + b"#" + data[middle + 1 :]}))
    assert (found.code, found.reason, found.metadata["expected"]) == (CORRUPT, "DIGEST_MISMATCH", digest)
    works_still(engine, image)


@pytest.mark.parametrize("form", [image_files.oci_archive, image_files.docker_archive, image_files.docker_archive_old])
def test_r14_diff_ids_must_be_those_of_the_layers(engine: Engine, form: Form) -> None:
    image = images.image([small_layer(), small_layer("g")])
    for diff_ids, expected in (
        (image.diff_ids[:1], "MANIFEST_INVALID"),
        (image.diff_ids[::-1], "DIFF_ID_MISMATCH"),
        (["sha256:" + "0" * 64, image.diff_ids[1]], "DIFF_ID_MISMATCH"),
        (["sha256:../../x", image.diff_ids[1]], "DIGEST_INVALID"),
    ):
        lying = images.image(image.layers, config=images.config_json(diff_ids))
        assert failed_load(engine, form({"app:1": lying})).reason == expected
    works_still(engine, image)


def listing(**changes: object) -> list[Member]:
    """An old docker-archive of one image whose manifest.json differs."""
    image = small_image()
    entry: Json = {"Config": "config.json", "RepoTags": ["app:1"], "Layers": ["a/layer.tar"]}
    return [
        tarball.file("config.json", image.config),
        tarball.file("a/layer.tar", image.layers[0].tar),
        tarball.file("manifest.json", images.dump([entry | changes])),
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Config": "../config.json"}, "ARCHIVE_INVALID"),
        ({"Config": "/etc/passwd"}, "ARCHIVE_INVALID"),
        ({"Config": "no.json"}, "ARCHIVE_INVALID"),
        ({"Config": ""}, "ARCHIVE_INVALID"),
        ({"Config": 7}, "ARCHIVE_INVALID"),
        ({"Layers": ["/etc/shadow"]}, "ARCHIVE_INVALID"),
        ({"Layers": ["../../etc/shadow"]}, "ARCHIVE_INVALID"),
        ({"Layers": ["a"]}, "ARCHIVE_INVALID"),
        ({"Layers": "a/layer.tar"}, "ARCHIVE_INVALID"),
        ({"Layers": [None]}, "ARCHIVE_INVALID"),
        ({"Layers": []}, "MANIFEST_INVALID"),
        ({"RepoTags": ["UPPER:1"]}, "REFERENCE_INVALID"),
        ({"RepoTags": ["app:" + "x" * 200]}, "REFERENCE_INVALID"),
        ({"RepoTags": ["../app:1"]}, "REFERENCE_INVALID"),
        ({"RepoTags": ["app"]}, "ARCHIVE_INVALID"),
        ({"RepoTags": [""]}, "REFERENCE_INVALID"),
        ({"RepoTags": {"app": 1}}, "ARCHIVE_INVALID"),
        ({"config": "config.json"}, ""),
    ],
)
def test_a_listing_that_is_hostile_is_refused(engine: Engine, changes: Json, reason: str) -> None:
    archive = tarball.write_tar(listing(**changes))
    if not reason:
        assert load(engine, archive).images
        return
    found = failed_load(engine, archive)
    assert (found.code, found.reason) == (INVALID, reason)
    assert found.metadata


@pytest.mark.parametrize(
    "member",
    [
        tarball.symlink("a/layer.tar", "/etc/passwd"),
        tarball.symlink("a/layer.tar", "../../../etc/passwd"),
        tarball.symlink("a/layer.tar", "layer.tar"),
        tarball.symlink("a/layer.tar", ".."),
        tarball.hardlink("a/layer.tar", "no/such"),
        tarball.fifo("a/layer.tar"),
        tarball.device("a/layer.tar", "char", 1, 5),
        tarball.directory("a/layer.tar"),
    ],
    ids=lambda member: f"{member.typeflag!r} {member.link}",
)
def test_a_layer_that_is_no_file_of_the_archive_is_refused(engine: Engine, member: tarball.Entry) -> None:
    config, _, names = listing()
    found = failed_load(engine, tarball.write_tar([config, member, names]))
    assert (found.code, found.reason) == (INVALID, "ARCHIVE_INVALID")


@pytest.mark.parametrize("name", ["../escape", "a/../../escape"])
def test_z01_an_entry_that_leaves_the_archive_is_refused(engine: Engine, name: str) -> None:
    found = failed_load(engine, tarball.write_tar([*listing(), tarball.file(name, "x")]))
    assert (found.code, found.reason) == (INVALID, "ARCHIVE_INVALID")


def test_of_two_entries_of_one_name_the_last_counts_and_is_verified(engine: Engine) -> None:
    image = small_image()
    files = image_files.layout_files({"app:1": image})
    layer = "blobs/" + image.layers[0].digest.replace(":", "/")
    members = [tarball.file(name, data) for name, data in files.items()]
    same_size = b"\0" * len(image.layers[0].blob)
    found = failed_load(engine, tarball.write_tar([*members, tarball.file(layer, same_size)]))
    assert found.reason == "DIGEST_MISMATCH"
    assert load(engine, tarball.write_tar([tarball.file(layer, same_size), *members])).images


def test_a_document_above_its_limit_is_refused(engine: Engine) -> None:
    great = b'{"a":"' + b"x" * (4 * 1024 * 1024) + b'"}'
    found = failed_load(engine, tarball.write_tar([tarball.file("manifest.json", great)]))
    assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert found.metadata["limit"] == "MAX_MANIFEST_BYTES"
    found = failed_load(engine, bent(small_image(), index=great))
    assert found.metadata["limit"] == "MAX_MANIFEST_BYTES"


@pytest.mark.parametrize(
    "members",
    [
        [tarball.file("../../escape1", "x")],
        [tarball.file(".wh..")],
        [tarball.file("a/.wh...")],
        [tarball.file(".wh.")],
        [tarball.hardlink("l", "no/such")],
    ],
    ids=["z01 above the root", "z02 dot", "z02 dot dot", "z02 nothing", "link to nothing"],
)
def test_a_layer_that_breaks_a_rule_is_refused(engine: Engine, members: list[Member]) -> None:
    bad = images.layer(*members)
    for form in (image_files.oci_archive, image_files.docker_archive_old):
        found = failed_load(engine, form({"app:1": images.image([small_layer(), bad])}))
        assert (found.code, found.reason) == (INVALID, "LAYER_REJECTED")
    works_still(engine, small_image())


def test_one_bad_image_of_several_keeps_all_out(engine: Engine) -> None:
    good, bad = small_image(), images.image([images.layer(tarball.file("../up", "x"))])
    archive = image_files.oci_archive({"good:1": good, "bad:1": bad})
    assert failed_load(engine, archive).reason == "LAYER_REJECTED"
    works_still(engine, good)


def test_messages_in_the_wrong_order_are_refused(engine: Engine) -> None:
    options = images_pb2.LoadImagesRequest(options=images_pb2.LoadImagesOptions())
    chunk = images_pb2.LoadImagesRequest(chunk=b"x")
    for messages in ([], [chunk], [options, options], [images_pb2.LoadImagesRequest()]):
        found = refused(lambda messages=messages: engine.images.LoadImages(iter(messages)))  # type: ignore[misc]
        assert (found.code, found.reason) == (INVALID, "FIELD_INVALID")
        assert found.field_violations


def test_a_caller_that_breaks_off_leaves_nothing(engine: Engine) -> None:
    before, staged_before = stored(engine), staged(engine)
    archive = image_files.oci_archive({"app:1": small_image()})

    def requests() -> Iterator[images_pb2.LoadImagesRequest]:
        yield images_pb2.LoadImagesRequest(options=images_pb2.LoadImagesOptions())
        yield images_pb2.LoadImagesRequest(chunk=archive[:1000])
        raise RuntimeError("the caller is gone")

    with pytest.raises(grpc.RpcError):
        engine.images.LoadImages(requests())
    assert (stored(engine), staged(engine)) == (before, staged_before)
    assert json.loads((engine.root / "data/content/index.json").read_bytes())["manifests"] == []
