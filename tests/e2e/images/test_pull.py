"""Pulling from a registry that behaves: references, platforms, variants, what is fetched and what is not."""

import hashlib
import subprocess
import threading

import grpc
import pytest

from fluyt.v1 import images_pb2, operations_pb2
from fluyt.v1.types import platform_pb2
from tests.e2e.images.steps import (
    begin,
    blob,
    ended,
    failed_pull,
    get,
    listed,
    pull,
    refused,
    small_image,
    small_layer,
    staged,
    stored,
)
from tests.support import images
from tests.support.engine import Engine
from tests.support.images import Image, Tagged
from tests.support.registry import FaultyRegistry, blob_path, redirect, slow, stall, status


def platform(text: str) -> platform_pb2.Platform:
    system, architecture, *variant = text.split("/")
    return platform_pb2.Platform(os=system, architecture=architecture, variant="".join(variant))


def image_for(text: str) -> Image:
    system, architecture, *variant = text.split("/")
    return small_image(os=system, architecture=architecture, variant="".join(variant) or None)


def resolve(engine: Engine, reference: str, **request: object) -> images_pb2.ResolveImageResponse:
    answer: images_pb2.ResolveImageResponse = engine.images.ResolveImage(
        images_pb2.ResolveImageRequest(reference=reference, **request)  # type: ignore[arg-type]
    )
    return answer


def test_a_tag_names_the_image_and_a_digest_only_finds_it(engine: Engine, registry: FaultyRegistry) -> None:
    image = small_image()
    digest = registry.put("team/app", "1", image)
    name = f"{registry.address}/team/app"
    for reference, names in (
        (f"{name}@{digest}", []),
        (f"{name}:9@{digest}", []),  # the digest counts, whatever the tag is
        (f"{name}:1", [f"{name}:1"]),
    ):
        result = pull(engine, reference)
        assert (result.image_id, result.manifest_digest) == (image.config_digest, digest)
        (found,) = listed(engine)
        assert list(found.references) == names
        assert list(found.repo_digests) == [f"{name}@{digest}"]
    for text in (f"{name}@{digest}", digest, image.config_digest, image.config_digest[7:19]):
        assert get(engine, text).image.id == image.config_digest


def test_a_reference_without_tag_is_latest(engine: Engine, registry: FaultyRegistry) -> None:
    registry.put("app", "latest", small_image())
    assert pull(engine, f"{registry.address}/app").reference == f"{registry.address}/app:latest"


def test_what_is_present_is_not_fetched_again(engine: Engine, registry: FaultyRegistry) -> None:
    image = small_image()
    registry.put("app", "1", image)
    first = pull(engine, f"{registry.address}/app:1")
    assert (first.was_present, first.fetched_bytes) == (False, len(image.layers[0].blob))
    count = len([request for request in registry.requests if "/blobs/" in request.path])
    second = pull(engine, f"{registry.address}/app:1")
    assert (second.was_present, second.fetched_bytes) == (True, 0)
    assert len([request for request in registry.requests if "/blobs/" in request.path]) == count


def test_a_tag_that_moved_leaves_the_old_image_dangling(engine: Engine, registry: FaultyRegistry) -> None:
    old, new = small_image(), small_image()
    reference = f"{registry.address}/app:1"
    registry.put("app", "1", old)
    pull(engine, reference)
    registry.put("app", "1", new)
    pull(engine, reference)
    references = {image.id: list(image.references) for image in listed(engine)}
    assert references == {old.config_digest: [], new.config_digest: [reference]}


def test_an_image_of_docker_media_types_and_one_of_zstd_layers(engine: Engine, registry: FaultyRegistry) -> None:
    registry.put("docker", "1", small_image(docker=True))
    registry.put("zstd", "1", images.image([small_layer(compression="zstd")]))
    registry.put("plain", "1", images.image([small_layer(compression="none")]))
    for name in ("docker", "zstd", "plain"):
        assert not pull(engine, f"{registry.address}/{name}:1").was_present


def test_an_image_without_layers_is_an_image(engine: Engine, registry: FaultyRegistry) -> None:
    image = images.image([], labels={"com.example": "x"})
    registry.put("scratch", "1", image)
    pull(engine, f"{registry.address}/scratch:1")
    found = get(engine, f"{registry.address}/scratch:1")
    assert (found.image.layer_count, found.image.size_bytes, len(found.layers)) == (0, 0, 0)


def test_digests_by_sha512_are_checked_and_kept(engine: Engine, registry: FaultyRegistry) -> None:
    layer = small_layer()
    blob_digest = "sha512:" + hashlib.sha512(layer.blob).hexdigest()
    diff_id = "sha512:" + hashlib.sha512(layer.tar).hexdigest()
    image = images.image(
        [layer],
        config=images.config_json([diff_id]),
        manifest={"layers": [{**layer.descriptor(), "digest": blob_digest}]},
    )
    registry.put("strong", "1", image)
    registry.put_blob(layer.blob, blob_digest)
    pull(engine, f"{registry.address}/strong:1")
    (found,) = get(engine, f"{registry.address}/strong:1").layers
    assert (found.descriptor.digest, found.diff_id) == (blob_digest, diff_id)
    assert blob(engine, blob_digest) == layer.blob
    other = small_layer()
    registry.put_blob(other.blob[: len(layer.blob)].ljust(len(layer.blob), b"\0"), blob_digest)
    engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=image.config_digest, force=True))
    reason, metadata = failed_pull(engine, f"{registry.address}/strong:1")
    assert (reason, metadata["expected"]) == ("DIGEST_MISMATCH", blob_digest)


@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        (["linux/arm64"], "linux/arm64/v8", 0),
        (["linux/amd64", "linux/arm64/v8"], "linux/arm64", 1),
        (["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", 1),
        (["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], "linux/arm/v7", 1),
        (["linux/arm/v5"], "linux/arm/v7", 0),
        (["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], "linux/arm/v6", 1),
        (["linux/amd64/v3", "linux/amd64/v2", "linux/amd64"], "linux/amd64/v2", 1),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64/v2", 1),
        (["linux/amd64"], "linux/amd64/v4", 0),
    ],
)
def test_r11_the_nearest_variant_is_pulled(
    engine: Engine, registry: FaultyRegistry, offered: list[str], wanted: str, chosen: int
) -> None:
    children = [image_for(text) for text in offered]
    index_digest = registry.put("multi", "1", images.index(children))
    result = pull(engine, f"{registry.address}/multi:1", platform=platform(wanted))
    assert (result.manifest_digest, result.target_digest) == (children[chosen].digest, index_digest)
    asked = {request.path.rpartition("/")[2] for request in registry.requests if "/manifests/" in request.path}
    assert asked == {"1", children[chosen].digest}


def test_r11_a_platform_that_is_not_there_is_told_with_those_that_are(engine: Engine, registry: FaultyRegistry) -> None:
    registry.put("multi", "1", images.index([image_for("linux/arm/v7"), image_for("linux/s390x")]))
    reason, metadata = failed_pull(engine, f"{registry.address}/multi:1", platform=platform("linux/arm/v6"))
    assert reason == "PLATFORM_UNAVAILABLE"
    assert metadata["platform"] == "linux/arm/v6"
    assert "linux/arm/v7" in metadata["available"]
    assert "linux/s390x" in metadata["available"]


def test_a_manifest_without_index_of_another_platform_is_refused(engine: Engine, registry: FaultyRegistry) -> None:
    registry.put("single", "1", image_for("linux/s390x"))
    reason, metadata = failed_pull(engine, f"{registry.address}/single:1")
    assert (reason, metadata["available"]) == ("PLATFORM_UNAVAILABLE", "linux/s390x")
    assert pull(engine, f"{registry.address}/single:1", platform=platform("linux/s390x")).image_id
    # Nor is it taken for one where it is here already: a pull says the same whatever was pulled before.
    reason, metadata = failed_pull(engine, f"{registry.address}/single:1")
    assert (reason, metadata["available"]) == ("PLATFORM_UNAVAILABLE", "linux/s390x")


def test_r12_an_attestation_is_no_image(engine: Engine, registry: FaultyRegistry) -> None:
    image, attestation = small_image(), small_image(os="unknown", architecture="unknown")
    marked = {
        **attestation.descriptor(),
        "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": image.digest,
        },
    }
    index = images.index([attestation, image], descriptors=[marked, image.descriptor()])
    registry.put("built", "1", index)
    found = resolve(engine, f"{registry.address}/built:1")
    assert [(one.os, one.architecture) for one in found.platforms] == [("linux", images.HOST_ARCHITECTURE)]
    assert pull(engine, f"{registry.address}/built:1").manifest_digest == image.digest


def test_an_index_within_an_index_is_followed(engine: Engine, registry: FaultyRegistry) -> None:
    image = small_image()
    registry.put("nested", "1", images.index([images.index([image])]))
    assert pull(engine, f"{registry.address}/nested:1").manifest_digest == image.digest


def test_r15_two_pulls_share_one_download_of_a_layer(engine: Engine, registry: FaultyRegistry) -> None:
    shared = small_layer(data=b"shared" * 5000, compression="none")
    registry.put("a", "1", images.image([shared, small_layer()]))
    registry.put("b", "1", images.image([shared, small_layer()]))
    for name in ("a", "b"):
        registry.always(blob_path(name, shared.digest), slow(0.8))
    begun = [begin(engine, f"{registry.address}/{name}:1") for name in ("a", "b")]
    assert [ended(engine, operation).HasField("pull_result") for operation in begun] == [True, True]
    gets = [request for request in registry.requests if request.path.endswith(shared.digest)]
    assert len(gets) == 1
    first, second = listed(engine)
    assert first.shared_size_bytes == second.shared_size_bytes == len(b"shared" * 5000)


def test_r15_the_pull_that_is_left_goes_on_when_the_other_is_cancelled(
    engine: Engine, registry: FaultyRegistry
) -> None:
    shared = small_layer(data=b"x" * 20000, compression="none")
    registry.put("a", "1", images.image([shared]))
    registry.put("b", "1", images.image([shared, small_layer()]))
    for name in ("a", "b"):
        registry.always(blob_path(name, shared.digest), slow(1.0))
    first, second = (begin(engine, f"{registry.address}/{name}:1") for name in ("a", "b"))
    while not [request for request in registry.requests if request.path.endswith(shared.digest)]:
        threading.Event().wait(0.01)
    engine.operations.CancelOperation(operations_pb2.CancelOperationRequest(id=first.id))
    assert ended(engine, first).failure.reason == "CANCELLED"
    assert ended(engine, second).HasField("pull_result")


def test_r16_a_layer_that_stands_twice_is_applied_twice_in_order(engine: Engine, registry: FaultyRegistry) -> None:
    lower, upper = small_layer("f", b"1\n"), small_layer("f", b"2\n")
    image = images.busybox_image(lower, upper, lower)
    registry.put("twice", "1", image)
    reference = f"{registry.address}/twice:1"
    pull(engine, reference)
    assert [layer.diff_id for layer in get(engine, reference).layers] == image.diff_ids
    assert engine.run(reference, "cat", "/f")[0] == b"1\n"


def test_resolve_tells_all_and_stores_nothing(engine: Engine, registry: FaultyRegistry) -> None:
    here, other = small_image(), image_for("linux/s390x")
    index_digest = registry.put("multi", "1", images.index([other, here]))
    before = staged(engine)
    found = resolve(engine, f"{registry.address}/multi:1")
    assert found.reference == f"{registry.address}/multi:1"
    assert (found.target.digest, found.target.media_type) == (index_digest, images.OCI_INDEX)
    assert found.manifest.digest == here.digest
    assert [one.architecture for one in found.platforms] == ["s390x", images.HOST_ARCHITECTURE]
    assert found.layers_size_bytes == len(here.layers[0].blob)
    for_other = resolve(engine, f"{registry.address}/multi:1", platform=platform("linux/s390x"))
    assert for_other.manifest.digest == other.digest
    for_none = resolve(engine, f"{registry.address}/multi:1", platform=platform("linux/riscv64"))
    assert not for_none.HasField("manifest")
    assert len(for_none.platforms) == 2
    assert not [request for request in registry.requests if "/blobs/" in request.path]
    assert (stored(engine).blobs, staged(engine)) == (frozenset(), before)


@pytest.mark.parametrize("wanted", ["linux/s390x", "linux/ppc64le"])
def test_resolve_reads_the_platform_of_a_plain_manifest_from_its_config(
    engine: Engine, registry: FaultyRegistry, wanted: str
) -> None:
    image: Tagged = image_for("linux/s390x")
    registry.put("single", "1", image)
    before = staged(engine)
    found = resolve(engine, f"{registry.address}/single@{image.digest}", platform=platform(wanted))
    assert [one.architecture for one in found.platforms] == ["s390x"]
    assert found.HasField("manifest") == (wanted == "linux/s390x")
    assert (stored(engine).blobs, staged(engine)) == (frozenset(), before)


def test_resolve_of_what_is_not_there_is_not_found(engine: Engine, registry: FaultyRegistry) -> None:
    for reference in (f"{registry.address}/no/such:1", f"{registry.address}/no@sha256:{'0' * 64}"):
        found = refused(lambda reference=reference: resolve(engine, reference))  # type: ignore[misc]
        assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "IMAGE_NOT_FOUND")
        assert found.metadata["reference"]
        assert failed_pull(engine, reference)[0] == "IMAGE_NOT_FOUND"


def test_resolve_that_its_caller_gives_up_ends_and_leaves_nothing(engine: Engine, registry: FaultyRegistry) -> None:
    image = image_for("linux/s390x")
    registry.put("single", "1", image)
    registry.on(blob_path("single", image.config_digest), [stall(10)])
    before = staged(engine)
    with pytest.raises(grpc.RpcError) as caught:
        engine.images.ResolveImage(
            images_pb2.ResolveImageRequest(reference=f"{registry.address}/single:1"), timeout=0.5
        )
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert resolve(engine, f"{registry.address}/single:1").target.digest == image.digest
    assert staged(engine) == before


@pytest.mark.parametrize("reference", ["", "upper/CASE", "a:b:c", "a@sha256:123", "-x", "a" * 2000])
def test_a_reference_that_is_none_is_refused(engine: Engine, reference: str) -> None:
    for call in (lambda: begin(engine, reference), lambda: resolve(engine, reference)):
        found = refused(call)
        assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REFERENCE_INVALID")
        assert found.metadata["rule"]


def test_r05_a_token_stays_with_the_registry_it_was_made_for(engine: Engine) -> None:
    image = small_image()
    with FaultyRegistry(requires_token=True) as registry, FaultyRegistry() as storage:
        registry.put("app", "1", image)
        storage.put_blob(image.layers[0].blob)
        path = blob_path("app", image.layers[0].digest)
        registry.always(path, redirect(f"http://{storage.address}{path}"))
        # The redirect must not answer a request without token either: the first one is refused as a registry does.
        pull(engine, f"{registry.address}/app:1")
        (asked,) = storage.requests
        assert "authorization" not in asked.headers
        assert any("authorization" in request.headers for request in registry.requests)


def test_a_registry_that_denies_and_one_that_fails_are_told(engine: Engine, registry: FaultyRegistry) -> None:
    registry.put("app", "1", small_image())
    path = "/v2/app/manifests/1"
    registry.on(path, [status(403)])
    reason, metadata = failed_pull(engine, f"{registry.address}/app:1")
    assert (reason, metadata["repository"], metadata["status"]) == ("REGISTRY_ACCESS_DENIED", "app", "403")
    registry.on(path, [status(418)])
    assert failed_pull(engine, f"{registry.address}/app:1")[0] == "REGISTRY_PROTOCOL"
    assert pull(engine, f"{registry.address}/app:1").image_id


@pytest.mark.needs("skopeo")
def test_skopeo_reads_what_was_pulled_from_the_store(engine: Engine, registry: FaultyRegistry) -> None:
    image = images.image([small_layer(), small_layer("g", b"g")])
    registry.put("app", "1", image)
    pull(engine, f"{registry.address}/app:1")
    layout = f"oci:{engine.root}/data/content:{registry.address}/app:1"
    command = ["skopeo", "inspect", "--raw", "--config", layout]
    assert subprocess.run(command, check=True, capture_output=True).stdout == image.config
