"""Manifests, indexes and configs that lie, are none or ask for too much: a typed error before any blob is asked for."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.e2e.images.steps import (
    failed_pull,
    pull,
    pull_mended,
    served,
    small_image,
    small_layer,
    staged,
)
from tests.support import images
from tests.support.engine import Engine
from tests.support.images import Image, Json
from tests.support.registry import (
    Fault,
    FaultyRegistry,
    body,
    declared_length,
    headers,
    manifest_path,
)

MIB = 1024 * 1024


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


def with_manifest(**fields: Any) -> Image:
    return small_image(manifest=fields)


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


def padded_manifest(image: Image, size_bytes: int) -> bytes:
    """The image's manifest, of exactly so many bytes; no string of it is longer than 512 KiB."""
    manifest = json.loads(image.manifest)
    manifest["annotations"] = {f"{number:02}": "x" * (MIB // 2) for number in range(size_bytes // (MIB // 2) - 1)}
    manifest["annotations"]["last"] = ""
    manifest["annotations"]["last"] = "x" * (size_bytes - len(images.dump(manifest)))
    return images.dump(manifest)


def test_a_manifest_of_4_mib_is_taken_and_one_byte_more_meets_the_limit(
    engine: Engine, registry: FaultyRegistry
) -> None:
    image = small_image()
    reference = served(registry, image)
    over = padded_manifest(image, 4 * MIB + 1)
    assert len(over) == 4 * MIB + 1
    registry.put_manifest("app", "1", images.OCI_MANIFEST, over)
    reason, metadata = failed_pull(engine, reference)
    assert (reason, metadata["limit"]) == ("LIMIT_EXCEEDED", "manifest_max_bytes")
    assert metadata["actual"] == str(4 * MIB + 1)
    exact = padded_manifest(image, 4 * MIB)
    assert len(exact) == 4 * MIB
    registry.put_manifest("app", "1", images.OCI_MANIFEST, exact)
    assert pull(engine, reference).image_id == image.config_digest


DEEP = b"[" * 50_000 + b"]" * 50_000
DEEP_OBJECT = b'{"a":' * 50_000 + b"1" + b"}" * 50_000


@pytest.mark.parametrize("deep", [DEEP, DEEP_OBJECT])
@pytest.mark.parametrize("field", [b"annotations", b"config", b"unknown"])
def test_a_manifest_that_nests_deep_is_refused(
    engine: Engine, registry: FaultyRegistry, field: bytes, deep: bytes
) -> None:
    manifest = json.loads(small_image().manifest)
    manifest.pop(field.decode(), None)
    data = images.dump(manifest)[:-1] + b',"' + field + b'":' + deep + b"}"
    registry.put_manifest("app", "1", images.OCI_MANIFEST, data)
    reason, metadata = failed_pull(engine, f"{registry.address}/app:1")
    assert reason in {"MANIFEST_INVALID", "LIMIT_EXCEEDED", "REGISTRY_PROTOCOL"}
    assert metadata.get("rule") or metadata["limit"]


@pytest.mark.parametrize("place", ["top", "layer", "annotation"])
def test_a_key_that_stands_twice_is_refused(engine: Engine, registry: FaultyRegistry, place: str) -> None:
    data = images.dump(json.loads(small_image().manifest) | {"annotations": {"key": "a"}})
    once, twice = {
        "top": (b'"schemaVersion":', b'"schemaVersion":2,"schemaVersion":'),
        "layer": (b'"layers":[{', b'"layers":[{"size":1,'),
        "annotation": (b'"key":"a"', b'"key":"a","key":"b"'),
    }[place]
    assert once in data.replace(b" ", b"")
    registry.put_manifest("app", "1", images.OCI_MANIFEST, data.replace(b" ", b"").replace(once, twice))
    reason, metadata = failed_pull(engine, f"{registry.address}/app:1")
    assert (reason, "twice" in metadata["rule"]) == ("MANIFEST_INVALID", True)


@pytest.mark.parametrize("size", [-1, -(2**63), 2**63, 2**64, 10**400, 1e400, "1", True])
@pytest.mark.parametrize("place", ["config", "index"])
def test_a_size_that_is_none_is_refused_before_any_blob_is_asked_for(
    engine: Engine, registry: FaultyRegistry, place: str, size: object
) -> None:
    image = small_image()
    if place == "index":
        registry.put("app", "1", images.index([image], descriptors=[image.descriptor() | {"size": size}]))
    else:
        manifest = json.loads(image.manifest)
        manifest["config"]["size"] = size
        registry.put_manifest("app", "1", images.OCI_MANIFEST, images.dump(manifest))
    reason, metadata = failed_pull(engine, f"{registry.address}/app:1")
    assert (reason, bool(metadata["rule"])) == ("MANIFEST_INVALID", True)
    assert not [request for request in registry.requests if "/blobs/" in request.path]


def test_a_string_above_its_limit_names_it(engine: Engine, registry: FaultyRegistry) -> None:
    layer = small_layer().descriptor() | {"mediaType": "x" * (MIB + 1)}
    image = with_manifest(layers=[layer])
    reason, metadata = failed_pull(engine, served(registry, image))
    assert (reason, metadata["limit"], metadata["limit_value"]) == ("LIMIT_EXCEEDED", "MAX_TEXT_CHARS", str(MIB))


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
        (images.dump(manifest_with(**{"manife\u017fts": []})), "case"),
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
        ({"layers": [small_layer().descriptor()] * 10_000}, "MAX_LAYERS"),
        ({"layers": [small_layer().descriptor()] * 10_001}, "descriptor_max_count"),
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
