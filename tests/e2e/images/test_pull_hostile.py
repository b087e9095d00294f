"""Pulling from a registry that lies, breaks off or sends too much: a typed error, and nothing of it becomes visible."""

import gzip
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.e2e.images.steps import (
    EMPTY_SHA256,
    FAILED,
    SUCCEEDED,
    begin,
    blob,
    ended,
    failed_pull,
    get,
    pull,
    small_image,
    small_layer,
    staged,
    stored,
)
from tests.support import images, tarball
from tests.support.engine import Engine
from tests.support.images import Image, Json
from tests.support.registry import (
    Fault,
    FaultyRegistry,
    blob_path,
    body,
    cut,
    declared_length,
    headers,
    ignore_range,
    manifest_path,
    wrong_bytes,
)

MIB = 1024 * 1024


def served(registry: FaultyRegistry, image: Image) -> str:
    """The reference of the image, served."""
    registry.put("app", "1", image)
    return f"{registry.address}/app:1"


def pull_mended(engine: Engine, registry: FaultyRegistry, image: Image, reference: str) -> None:
    """A pull that comes after the failed one, from a registry that behaves, has the image whole."""
    registry.put("app", "1", image)
    for path in [manifest_path("app", "1"), *(blob_path("app", digest) for digest in image.blobs)]:
        registry.always(path)
    assert pull(engine, reference).image_id == image.config_digest
    assert get(engine, reference).image.layer_count == len(image.layers)


@pytest.mark.parametrize("media_type", [images.OCI_MANIFEST, images.OCI_INDEX])
def test_r01_a_document_that_is_manifest_and_index_is_refused(
    engine: Engine, registry: FaultyRegistry, media_type: str
) -> None:
    image = small_image()
    both = json.loads(image.manifest) | {"manifests": [image.descriptor()]}
    del both["mediaType"]
    served(registry, image)
    registry.put_manifest("app", "both", media_type, images.dump(both))
    reason, metadata = failed_pull(engine, f"{registry.address}/app:both")
    assert reason == "MANIFEST_INVALID"
    assert metadata["rule"]
    assert not [request for request in registry.requests if "/blobs/" in request.path]


@pytest.mark.parametrize("is_index", [True, False])
def test_r02_header_and_body_must_agree_on_the_media_type(
    engine: Engine, registry: FaultyRegistry, is_index: bool
) -> None:
    image = small_image()
    tagged = images.index([image]) if is_index else image
    registry.put("app", "1", tagged)
    swapped = images.OCI_MANIFEST if is_index else images.OCI_INDEX
    registry.put_manifest("app", "1", swapped, tagged.manifest)
    reason, metadata = failed_pull(engine, f"{registry.address}/app:1")
    assert (reason, bool(metadata["rule"])) == ("MANIFEST_INVALID", True)


def test_r02_a_body_without_media_type_is_what_its_header_says(engine: Engine, registry: FaultyRegistry) -> None:
    image = small_image(manifest={"mediaType": None})
    assert pull(engine, served(registry, image)).image_id == image.config_digest


@pytest.mark.parametrize("has_header", [True, False])
def test_r03_a_manifest_by_digest_must_have_that_digest(
    engine: Engine, registry: FaultyRegistry, has_header: bool
) -> None:
    asked, other = small_image(), small_image()
    served(registry, asked)
    path = manifest_path("app", asked.digest)
    registry.always(
        path, body(other.manifest), headers({"Docker-Content-Digest": asked.digest if has_header else None})
    )
    reason, metadata = failed_pull(engine, f"{registry.address}/app@{asked.digest}")
    assert reason == "DIGEST_MISMATCH"
    assert metadata["expected"] == asked.digest
    assert metadata["actual"] == other.digest


def test_r03_a_manifest_within_an_index_must_have_its_digest_too(engine: Engine, registry: FaultyRegistry) -> None:
    asked, other = small_image(), small_image()
    registry.put("app", "1", images.index([asked]))
    registry.always(manifest_path("app", asked.digest), body(other.manifest))
    assert failed_pull(engine, f"{registry.address}/app:1")[0] == "DIGEST_MISMATCH"


BAD_DIGESTS = [
    "sha256:../../x",
    "sha256:",
    "sha256:" + "a" * 63,
    "sha256:" + "A" * 64,
    "md5:" + "a" * 32,
    "sha256:" + "a" * 64 + "\n",
    "/etc/passwd",
    "",
    7,
    None,
]


@pytest.mark.parametrize("digest", BAD_DIGESTS)
@pytest.mark.parametrize("place", ["layer", "config"])
def test_r04_a_malformed_digest_is_refused_before_any_request(
    engine: Engine, registry: FaultyRegistry, digest: object, place: str
) -> None:
    image = small_image()
    manifest = json.loads(image.manifest)
    target = manifest["layers"][0] if place == "layer" else manifest["config"]
    target["digest"] = digest
    served(registry, image)
    registry.put_manifest("app", "1", images.OCI_MANIFEST, images.dump(manifest))
    before = staged(engine)
    reason, metadata = failed_pull(engine, f"{registry.address}/app:1")
    # The core looks at a document before anyone else does and refuses it as a whole.
    assert (reason, bool(metadata["rule"])) == ("MANIFEST_INVALID", True)
    assert not [request for request in registry.requests if "/blobs/" in request.path]
    assert staged(engine) == before


@pytest.mark.parametrize("digest", BAD_DIGESTS[:4])
def test_r04_so_is_one_of_an_index_and_one_of_a_config(engine: Engine, registry: FaultyRegistry, digest: str) -> None:
    image = small_image()
    entry = image.descriptor() | {"digest": digest}
    registry.put("app", "1", images.index([image], descriptors=[entry]))
    assert failed_pull(engine, f"{registry.address}/app:1")[0] == "MANIFEST_INVALID"
    bad_config = images.image(image.layers, config=images.config_json([digest]))
    registry.put("app", "2", bad_config)
    assert failed_pull(engine, f"{registry.address}/app:2")[0] == "DIGEST_INVALID"
    assert not [request for request in registry.requests if request.path.endswith(image.layers[0].digest)]


@pytest.mark.parametrize("place", ["layer", "config"])
@pytest.mark.parametrize("after", [0, 1, 30])
def test_r06_a_blob_that_breaks_off_is_resumed(
    engine: Engine, registry: FaultyRegistry, place: str, after: int
) -> None:
    image = small_image()
    reference = served(registry, image)
    digest = image.layers[0].digest if place == "layer" else image.config_digest
    registry.on(blob_path("app", digest), [cut(after)])
    pull(engine, reference)
    assert len(registry.requests_for(blob_path("app", digest))) == 2
    assert EMPTY_SHA256 not in stored(engine).blobs
    for name in stored(engine).blobs:
        assert images.digest_of(blob(engine, f"sha256:{name}")) == f"sha256:{name}"


def test_r06_a_blob_that_always_breaks_off_is_an_error(engine: Engine, registry: FaultyRegistry) -> None:
    image = small_image()
    reference = served(registry, image)
    registry.always(blob_path("app", image.layers[0].digest), cut(0))
    reason, metadata = failed_pull(engine, reference)
    assert (reason, metadata["registry"]) == ("REGISTRY_UNREACHABLE", registry.address)
    assert int(metadata["attempt_count"]) > 1
    pull_mended(engine, registry, image, reference)


def test_r07_a_range_that_is_ignored_starts_the_blob_over(engine: Engine, registry: FaultyRegistry) -> None:
    image = images.image([small_layer(data=b"r07" * 4000, compression="none")])
    reference = served(registry, image)
    path = blob_path("app", image.layers[0].digest)
    registry.on(path, [cut(6000)], [ignore_range])
    pull(engine, reference)
    first, second = registry.requests_for(path)
    assert "range" not in first.headers
    assert second.headers["range"] == "bytes=6000-"
    assert blob(engine, image.layers[0].digest) == image.layers[0].blob


def test_r07_an_answer_of_another_range_is_not_appended(engine: Engine, registry: FaultyRegistry) -> None:
    image = images.image([small_layer(data=b"r07b" * 4000, compression="none")])
    reference = served(registry, image)
    path = blob_path("app", image.layers[0].digest)
    size = len(image.layers[0].blob)
    lie = headers({"Content-Range": f"bytes 0-{size - 6001}/{size}"})
    registry.on(path, [cut(6000)], [lie])
    pull(engine, reference)
    assert blob(engine, image.layers[0].digest) == image.layers[0].blob
    assert len(registry.requests_for(path)) == 3


def changed_config(image: Image, diff_ids: list[str]) -> Image:
    return images.image(image.layers, config=images.config_json(diff_ids))


@pytest.mark.parametrize("kind", ["one too few", "one too many", "none", "swapped", "compressed digests", "unknown"])
def test_r14_diff_ids_must_be_those_of_the_layers(engine: Engine, registry: FaultyRegistry, kind: str) -> None:
    image = images.image([small_layer(), small_layer("g")])
    right = image.diff_ids
    wrong = {
        "one too few": right[:1],
        "one too many": [*right, right[0]],
        "none": [],
        "swapped": right[::-1],
        "compressed digests": [layer.digest for layer in image.layers],
        "unknown": [right[0], "sha256:" + "0" * 64],
    }[kind]
    lying = changed_config(image, wrong)
    reason, metadata = failed_pull(engine, served(registry, lying))
    if len(wrong) != 2:
        assert (reason, f"{len(wrong)} diff_ids for 2 layers" in metadata["rule"]) == ("MANIFEST_INVALID", True)
    else:
        assert (reason, metadata["expected"] in wrong) == ("DIFF_ID_MISMATCH", True)
        assert metadata["actual"] in right
    pull_mended(engine, registry, image, f"{registry.address}/app:1")


def with_manifest(**fields: Any) -> Image:
    return small_image(manifest=fields)


LYING_SIZES: Mapping[str, tuple[int, str]] = {
    "longer than said": (-1, "SIZE_MISMATCH"),
    "much longer than said": (-20, "SIZE_MISMATCH"),
    "shorter than said": (1, "SIZE_MISMATCH"),
}


@pytest.mark.parametrize("kind", LYING_SIZES)
@pytest.mark.parametrize("place", ["layer", "config"])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_blob_that_is_not_of_its_size_is_refused(
    engine: Engine, registry: FaultyRegistry, kind: str, place: str, is_chunked: bool
) -> None:
    image = small_image()
    off_by, expected = LYING_SIZES[kind]
    manifest = json.loads(image.manifest)
    target = manifest["layers"][0] if place == "layer" else manifest["config"]
    target["size"] += off_by
    reference = served(registry, image)
    registry.put_manifest("app", "1", images.OCI_MANIFEST, images.dump(manifest))
    if is_chunked:
        registry.always(blob_path("app", target["digest"]), declared_length(-1))
    reason, metadata = failed_pull(engine, reference)
    assert (reason, metadata["digest"]) == (expected, target["digest"])
    assert metadata["expected_bytes"] == str(target["size"])
    pull_mended(engine, registry, image, reference)


@pytest.mark.parametrize("place", ["layer", "config"])
def test_a_blob_of_other_bytes_is_refused(engine: Engine, registry: FaultyRegistry, place: str) -> None:
    image = small_image()
    reference = served(registry, image)
    digest = image.layers[0].digest if place == "layer" else image.config_digest
    registry.always(blob_path("app", digest), wrong_bytes(5))
    reason, metadata = failed_pull(engine, reference)
    assert (reason, metadata["expected"]) == ("DIGEST_MISMATCH", digest)
    assert digest[7:] not in staged(engine)
    pull_mended(engine, registry, image, reference)


@pytest.mark.parametrize("place", ["layer", "config"])
def test_a_blob_that_the_registry_has_not_is_told(engine: Engine, registry: FaultyRegistry, place: str) -> None:
    image = small_image()
    media_type, data = image.manifests[image.digest]
    registry.put_manifest("app", "1", media_type, data)
    if place == "layer":
        registry.put_blob(image.config)
    missing = image.layers[0].digest if place == "layer" else image.config_digest
    reason, metadata = failed_pull(engine, f"{registry.address}/app:1")
    assert (reason, metadata["digest"]) == ("BLOB_NOT_FOUND", missing)


def over_4_mib() -> bytes:
    manifest = json.loads(small_image().manifest)
    manifest["annotations"] = {"a": "x" * (4 * MIB)}
    return images.dump(manifest)


@pytest.mark.parametrize("faults", [[], [declared_length(-1)]])
def test_a_manifest_above_4_mib_meets_a_named_limit(
    engine: Engine, registry: FaultyRegistry, faults: list[Fault]
) -> None:
    registry.put_manifest("app", "1", images.OCI_MANIFEST, over_4_mib())
    registry.always(manifest_path("app", "1"), *faults)
    reason, metadata = failed_pull(engine, f"{registry.address}/app:1")
    assert (reason, metadata["limit"]) == ("LIMIT_EXCEEDED", "manifest_max_bytes")
    assert metadata["limit_value"] == str(4 * MIB)


def test_a_manifest_that_is_longer_than_its_length_says_is_not_its_beginning(
    engine: Engine, registry: FaultyRegistry
) -> None:
    image = small_image()
    reference = served(registry, image)
    registry.always(manifest_path("app", "1"), declared_length(100))
    assert failed_pull(engine, reference)[0] in {"DIGEST_MISMATCH", "MANIFEST_INVALID"}
    pull_mended(engine, registry, image, reference)


def manifest_with(**fields: object) -> Json:
    return json.loads(small_image().manifest) | fields  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff\xfe{}", ""),
        (b"[]", "object"),
        (b"null", "object"),
        (b'{"schemaVersion": 2}', ""),
        (b'{"schemaVersion": 2, "schemaVersion": 2, "layers": []}', "twice"),
        (b"[" * 100_000, ""),
        (b'{"schemaVersion": NaN}', ""),
        (images.dump({"schemaVersion": 1, "fsLayers": []}), ""),
        (images.dump(manifest_with(schemaVersion=1)), ""),
        (images.dump(manifest_with(schemaVersion="2")), ""),
        (images.dump(manifest_with(layers="none")), ""),
        (images.dump(manifest_with(layers=[7])), ""),
        (images.dump(manifest_with(config=None)), "config"),
        (images.dump(manifest_with(mediaType="text/plain")), ""),
        (images.dump(manifest_with(Layers=[])), "case"),
    ],
)
def test_a_manifest_that_is_none_is_refused(engine: Engine, registry: FaultyRegistry, data: bytes, rule: str) -> None:
    registry.put_manifest("app", "1", images.OCI_MANIFEST, data)
    reason, metadata = failed_pull(engine, f"{registry.address}/app:1")
    assert reason in {"MANIFEST_INVALID", "REGISTRY_PROTOCOL"}
    assert rule in metadata["rule"]


@pytest.mark.parametrize(
    "changes",
    [
        {"mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip"},
        {"mediaType": "application/vnd.oci.image.layer.v1.tar+encrypted"},
        {"mediaType": ""},
        {"size": -1},
        {"size": 2**64},
        {"size": "12"},
        {"size": 1.5},
        {"size": None},
    ],
)
def test_a_layer_descriptor_that_lies_about_itself_is_refused(
    engine: Engine, registry: FaultyRegistry, changes: Json
) -> None:
    image = small_image()
    layer = image.layers[0].descriptor() | changes
    served(registry, images.image(image.layers, manifest={"layers": [layer]}))
    assert failed_pull(engine, f"{registry.address}/app:1")[0] == "MANIFEST_INVALID"
    assert not [request for request in registry.requests if "/blobs/" in request.path]


@pytest.mark.parametrize("said", ["none", "zstd"])
def test_a_layer_is_read_by_what_it_is_not_by_its_media_type(
    engine: Engine, registry: FaultyRegistry, said: str
) -> None:
    image = small_image()
    media_type = images.OCI_LAYER + {"none": "", "zstd": "+zstd"}[said]
    layer = image.layers[0].descriptor() | {"mediaType": media_type}
    reference = served(registry, images.image(image.layers, manifest={"layers": [layer]}))
    assert pull(engine, reference).image_id == image.config_digest


CONFIGS: Mapping[str, Any] = {
    "no JSON": b"{",
    "a list": b"[]",
    "no rootfs": {"os": "linux", "architecture": images.HOST_ARCHITECTURE},
    "no platform": {"rootfs": {"type": "layers", "diff_ids": []}},
    "Cmd of numbers": {"config": {"Cmd": [1]}},
    "Env that is no list": {"config": {"Env": "A=b"}},
    "Labels of numbers": {"config": {"Labels": {"a": 1}}},
    "NUL in a word": {"config": {"Cmd": ["a\0b"]}},
    "another spelling": {"Rootfs": {}},
    "history that is no list": {"history": {}},
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_config_that_is_none_is_refused(engine: Engine, registry: FaultyRegistry, kind: str) -> None:
    layer = small_layer()
    changes = CONFIGS[kind]
    if isinstance(changes, bytes):
        config = changes
    else:
        config = images.dump({**images.config_json([layer.diff_id]), **changes})
        if kind in {"no rootfs", "no platform"}:
            config = images.dump(changes)
    manifest = images.dump(images.manifest_json([layer], config))
    registry.put_manifest("app", "1", images.OCI_MANIFEST, manifest)
    for data in (config, layer.blob):
        registry.put_blob(data)
    reason, metadata = failed_pull(engine, f"{registry.address}/app:1")
    assert (reason, metadata["subject"]) == ("MANIFEST_INVALID", images.digest_of(config))
    assert metadata["rule"]


def test_an_artifact_that_is_no_image_is_refused(engine: Engine, registry: FaultyRegistry) -> None:
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": images.digest_of(b"{}"), "size": 2}
    registry.put_blob(b"{}")
    reason, metadata = failed_pull(engine, served(registry, with_manifest(config=config)))
    assert (reason, "not a container image" in metadata["rule"]) == ("MANIFEST_INVALID", True)


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"layers": [small_layer().descriptor()] * 501}, "MAX_LAYERS"),
        ({"config": {"mediaType": images.OCI_CONFIG, "digest": "sha256:" + "1" * 64, "size": 9 * MIB}}, "MAX_CONFIG"),
        ({"annotations": {"a": "x" * (MIB + 1)}, "layers": [{"annotations": {"a": "x" * (MIB + 1)}}]}, ""),
    ],
)
def test_what_a_manifest_asks_for_meets_a_named_limit(
    engine: Engine, registry: FaultyRegistry, fields: Json, limit: str
) -> None:
    reason, metadata = failed_pull(engine, served(registry, with_manifest(**fields)))
    assert reason in ({"LIMIT_EXCEEDED"} if limit else {"LIMIT_EXCEEDED", "DIGEST_INVALID", "MANIFEST_INVALID"})
    assert limit in metadata.get("limit", "")
    assert not [request for request in registry.requests if "/blobs/" in request.path]


def test_an_index_of_too_many_or_too_deep_meets_a_named_limit(engine: Engine, registry: FaultyRegistry) -> None:
    image = small_image()
    registry.put("app", "wide", images.index([image], descriptors=[image.descriptor()] * 1001))
    reason, metadata = failed_pull(engine, f"{registry.address}/app:wide")
    assert (reason, metadata["limit"], metadata["limit_value"]) == ("LIMIT_EXCEEDED", "MAX_INDEX_ENTRIES", "1000")
    tagged: images.Tagged = image
    for _ in range(6):
        tagged = images.index([tagged])
    registry.put("app", "deep", tagged)
    reason, metadata = failed_pull(engine, f"{registry.address}/app:deep")
    assert (reason, metadata["limit"]) == ("LIMIT_EXCEEDED", "MAX_INDEX_DEPTH")


def layer_cases() -> dict[str, tuple[images.Layer, str]]:
    """Layers whose blobs have their digest and that still cannot be."""
    good = small_layer(data=b"z" * 5000)
    tar = good.tar
    cut_gzip = good.blob[: len(good.blob) // 2]
    return {
        "gzip cut": (images.layer_of_blob(cut_gzip, tar, "gzip"), "LAYER_CORRUPT"),
        "gzip with a wrong checksum": (
            images.layer_of_blob(good.blob[:-8] + b"\0\0\0\0" + good.blob[-4:], tar, "gzip"),
            "LAYER_CORRUPT",
        ),
        "tar cut in a file": (images.layer_of_tar(tar[:1024], "none"), "LAYER_CORRUPT"),
        "no tar": (images.layer_of_tar(b"this is no archive" * 100, "none"), "LAYER_CORRUPT"),
        "header with a wrong checksum": (
            images.layer(tarball.Entry("f", header={"checksum": b"000001\0 "})),
            "LAYER_CORRUPT",
        ),
        "z01 a file above the root": (images.layer(tarball.file("../../escape1", "x")), "LAYER_REJECTED"),
        "z02 whiteout of dot": (images.layer(tarball.file(".wh..")), "LAYER_REJECTED"),
        "z02 whiteout of dot dot": (images.layer(tarball.file("a/.wh...")), "LAYER_REJECTED"),
        "z02 whiteout of nothing": (images.layer(tarball.file(".wh.")), "LAYER_REJECTED"),
        "link to nothing": (images.layer(tarball.hardlink("l", "no/such")), "LAYER_REJECTED"),
    }


@pytest.mark.parametrize("kind", layer_cases())
def test_a_layer_that_cannot_be_unpacked_is_refused(engine: Engine, registry: FaultyRegistry, kind: str) -> None:
    layer, expected = layer_cases()[kind]
    image = images.image([small_layer("lower"), layer])
    reason, metadata = failed_pull(engine, served(registry, image))
    assert (reason, metadata["digest"]) == (expected, layer.digest)
    assert f".staged-{layer.diff_id[7:]}" not in staged(engine)
    assert layer.digest[7:] not in staged(engine)
    other = small_image()
    registry.put("other", "1", other)
    assert pull(engine, f"{registry.address}/other:1").image_id == other.config_digest


def test_z01_links_that_leave_the_root_write_nothing_outside(engine: Engine, registry: FaultyRegistry) -> None:
    canary = engine.root / "canary"
    canary.mkdir(exist_ok=True)
    hostile = [
        [tarball.symlink("e", str(canary)), tarball.file("e/pwn", "x")],
        [tarball.symlink("a", "b"), tarball.symlink("b", str(canary)), tarball.file("a/pwn", "x")],
        [tarball.file("/abs", "x")],
        [tarball.symlink("e", "/etc"), tarball.hardlink("b", "e/hostname")],
        [tarball.symlink("up", "../../../../../.."), tarball.file(f"up{canary}/pwn", "x")],
    ]
    for number, members in enumerate(hostile):
        registry.put("app", str(number), images.image([images.layer(*members)]))
        operation = ended(engine, begin(engine, f"{registry.address}/app:{number}"))
        assert operation.state in {SUCCEEDED, FAILED}
        if operation.state == FAILED:
            assert operation.failure.reason == "LAYER_REJECTED"
    assert list(canary.iterdir()) == []


def zstd_zeros(size_bytes: int) -> bytes:
    """A zstd frame of zeros in blocks of one repeated byte, with a window of 128 KiB.

    Source: RFC 8878, sections 3.1.1.1.2 (window descriptor) and 3.1.1.2.2 (RLE blocks).
    """
    block_bytes = 128 * 1024
    count = size_bytes // block_bytes
    blocks = b"".join(
        (block_bytes << 3 | 1 << 1 | int(n == count - 1)).to_bytes(3, "little") + b"\0" for n in range(count)
    )
    header = (
        (0xFD2FB528).to_bytes(4, "little") + bytes([0b1100_0000, 7 << 3]) + (count * block_bytes).to_bytes(8, "little")
    )
    return header + blocks


def gzip_zeros(size_bytes: int) -> bytes:
    """As many gzip members of zeros one after the other."""
    member = gzip.compress(bytes(64 * MIB), 9, mtime=0)
    return member * (size_bytes // (64 * MIB))


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_bomb_meets_a_named_limit(engine: Engine, registry: FaultyRegistry, compression: tarball.Compression) -> None:
    # Zeros behind the end of the tar are read and hashed but not written, so that the test needs no disk.
    tar = tarball.write_tar([tarball.file("f", "x")])
    zeros = {"gzip": gzip_zeros, "zstd": zstd_zeros}[compression](1280 * MIB)
    bomb = images.layer_of_blob(tarball.compress(tar, compression) + zeros, tar, compression)
    reason, metadata = failed_pull(engine, served(registry, images.image([bomb])))
    assert (reason, metadata["subject"]) == ("LIMIT_EXCEEDED", bomb.digest)
    assert (metadata["limit"], metadata["limit_value"]) == ("expansion_ratio", "200")
    assert bomb.digest[7:] not in staged(engine)


def test_a_faulty_layer_does_not_cost_the_good_ones(engine: Engine, registry: FaultyRegistry) -> None:
    good, bad = small_layer("good"), small_layer("bad")
    image = images.image([good, bad])
    reference = served(registry, image)
    registry.on(blob_path("app", bad.digest), [wrong_bytes(3)])
    assert failed_pull(engine, reference)[0] == "DIGEST_MISMATCH"
    pull(engine, reference)
    assert len(registry.requests_for(blob_path("app", good.digest))) <= 2
