"""`urls` of descriptors: those of layers that are not to be distributed are asked, for nobody, and no others (R13)."""

from collections.abc import Iterator
from typing import Any

import pytest

from fluyt.v1 import images_pb2
from fluyt.v1.types import registry_auth_pb2
from tests.e2e.images.steps import (
    FAILED,
    SUCCEEDED,
    begin,
    ended,
    failed_pull,
    get,
    load,
    pull,
    small_image,
    small_layer,
)
from tests.support import images
from tests.support.engine import Engine
from tests.support.images import Image
from tests.support.registry import Fault, FaultyRegistry, Reply, blob_path, manifest_path, redirect, status

FOREIGN = (
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
)


def gives(data: bytes) -> Fault:
    """The answer of a server of plain files."""
    return lambda _: Reply(200, {"Content-Type": "application/octet-stream"}, data, data)


@pytest.fixture
def elsewhere() -> Iterator[FaultyRegistry]:
    """Another server, which serves what is put under a path."""
    with FaultyRegistry() as running:
        yield running


def foreign(urls: list[str], media_type: str = FOREIGN[0]) -> Image:
    """An image whose upper layer is named with this type and these URLs."""
    kind = {"gzip": "gzip", "zstd": "zstd"}.get(media_type.rpartition("+")[2].rpartition(".")[2], "none")
    base, layer = small_layer(), small_layer("upper", compression=kind)
    descriptor: dict[str, Any] = {**layer.descriptor(), "mediaType": media_type, "urls": urls}
    docker = ".docker." in media_type
    lower = images.image([base], docker=docker).layers[0].descriptor(docker=docker)
    return images.image([base, layer], docker=docker, manifest={"layers": [lower, descriptor]})


@pytest.mark.parametrize("media_type", FOREIGN)
def test_r13_a_layer_that_no_registry_has_comes_from_its_url(
    engine: Engine, registry: FaultyRegistry, elsewhere: FaultyRegistry, media_type: str
) -> None:
    image = foreign([f"http://{elsewhere.address}/layer?sig=a%2Fb"], media_type)
    registry.put("app", "1", image)
    registry.always(blob_path("app", image.layers[1].digest), status(404))
    elsewhere.always("/layer", gives(image.layers[1].blob))
    auth = registry_auth_pb2.RegistryAuth(username="ann", password="secret")  # noqa: S106
    assert pull(engine, f"{registry.address}/app:1", auth=auth).image_id == image.config_digest
    assert [request.path for request in elsewhere.requests] == ["/layer?sig=a%2Fb"]
    assert all("authorization" not in request.headers for request in elsewhere.requests)
    assert get(engine, f"{registry.address}/app:1").image.layer_count == 2


@pytest.mark.parametrize("place", ["layer", "config", "manifest in an index", "subject"])
def test_r13_urls_of_whatever_else_are_not_asked(
    engine: Engine, registry: FaultyRegistry, elsewhere: FaultyRegistry, place: str
) -> None:
    image = small_image()
    probe = {"urls": [f"http://{elsewhere.address}/probe"]}
    config = {"mediaType": images.OCI_CONFIG, "digest": image.config_digest, "size": len(image.config)}
    changes: dict[str, dict[str, Any]] = {
        "layer": {"layers": [image.layers[0].descriptor() | probe]},
        "config": {"config": config | probe},
        "subject": {"subject": {**image.descriptor(), **probe}},
    }
    changed = changes.get(place, {})
    served: images.Image | images.Index = images.image(image.layers, manifest=changed)
    if place == "manifest in an index":
        served = images.index([image], descriptors=[image.descriptor() | probe])
    registry.put("probing", "1", served)
    pull(engine, f"{registry.address}/probing:1")
    assert elsewhere.requests == []


def test_r13_urls_are_tried_in_order_and_the_registry_last(
    engine: Engine, registry: FaultyRegistry, elsewhere: FaultyRegistry
) -> None:
    urls = [f"http://{elsewhere.address}/{name}" for name in ("absent", "denied", "lying", "moved", "never")]
    image = foreign(urls)
    registry.put("app", "1", image)
    right = image.layers[1].blob
    elsewhere.always("/absent", status(404))
    elsewhere.always("/denied", status(401))
    elsewhere.always("/lying", gives(bytes(len(right))))
    elsewhere.always("/moved", redirect(f"http://{elsewhere.address}/right"))
    elsewhere.always("/right", gives(right))
    assert pull(engine, f"{registry.address}/app:1").image_id == image.config_digest
    asked = [request.path for request in elsewhere.requests]
    assert list(dict.fromkeys(asked)) == ["/absent", "/denied", "/lying", "/moved", "/right"]
    assert not registry.requests_for(blob_path("app", image.layers[1].digest))


def test_r13_where_no_url_serves_the_registry_is_asked_as_it_asks_for_it(engine: Engine) -> None:
    with FaultyRegistry(requires_token=True) as guarded, FaultyRegistry() as refusing:
        image = foreign([f"http://{refusing.address}/layer", f"http://{guarded.address}/layer"])
        guarded.put("app", "1", image)
        refusing.always("/layer", status(401))
        pull(engine, f"{guarded.address}/app:1")
        assert all("authorization" not in request.headers for request in refusing.requests)
        by_url = [request for request in guarded.requests if request.path == "/layer"]
        # Not even the registry's own host gets its token by a URL of a manifest.
        assert by_url
        assert all("authorization" not in request.headers for request in by_url)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://192.0.2.1/layer", "sends to plain http beyond loopback"),
        ("http://169.254.169.254/latest/meta-data", "sends to plain http beyond loopback"),
        ("file:///etc/passwd", "sends to a scheme other than http and https"),
        ("http://ann:secret@127.0.0.1/layer", "sends to a URL with credentials"),
        ("/layer", "names what is no URL"),
    ],
)
def test_r13_a_url_that_may_not_be_asked_is_told_by_its_rule(
    engine: Engine, registry: FaultyRegistry, url: str, rule: str
) -> None:
    image = foreign([url])
    registry.put("app", "1", image)
    registry.always(blob_path("app", image.layers[1].digest), status(404))
    reason, metadata = failed_pull(engine, f"{registry.address}/app:1")
    assert (reason, metadata["rule"]) == ("REGISTRY_PROTOCOL", rule)


@pytest.mark.parametrize(
    ("urls", "limit"),
    [(["http://127.0.0.1/x"] * 17, "MAX_LAYER_URLS"), (["http://127.0.0.1/" + "x" * 4096], "MAX_LAYER_URL_CHARS")],
)
def test_r13_urls_are_bounded(engine: Engine, registry: FaultyRegistry, urls: list[str], limit: str) -> None:
    registry.put("app", "1", foreign(urls))
    reason, metadata = failed_pull(engine, f"{registry.address}/app:1")
    assert (reason, metadata["limit"]) == ("LIMIT_EXCEEDED", limit)


@pytest.mark.parametrize("urls", ["x", [1], [None], {"a": "b"}])
def test_r13_urls_that_are_none_make_the_manifest_invalid(engine: Engine, registry: FaultyRegistry, urls: Any) -> None:
    registry.put("app", "1", foreign(urls))
    assert failed_pull(engine, f"{registry.address}/app:1")[0] == "MANIFEST_INVALID"


def test_r13_a_url_that_gives_another_size_or_nothing_fails_the_pull(
    engine: Engine, registry: FaultyRegistry, elsewhere: FaultyRegistry
) -> None:
    image = foreign([f"http://{elsewhere.address}/layer"])
    registry.put("app", "1", image)
    registry.always(blob_path("app", image.layers[1].digest), status(404))
    elsewhere.always("/layer", gives(image.layers[1].blob + b"x"))
    reason, metadata = failed_pull(engine, f"{registry.address}/app:1")
    assert (reason, metadata["expected_bytes"]) == ("SIZE_MISMATCH", str(len(image.layers[1].blob)))
    elsewhere.always("/layer", gives(bytes(len(image.layers[1].blob))))
    assert ended(engine, begin(engine, f"{registry.address}/app:1")).state == FAILED
    elsewhere.always("/layer", gives(image.layers[1].blob))
    assert pull(engine, f"{registry.address}/app:1").image_id == image.config_digest


def test_r13_a_push_refers_to_the_url_and_an_archive_holds_the_layer(
    engine: Engine, registry: FaultyRegistry, elsewhere: FaultyRegistry
) -> None:
    image = foreign([f"http://{elsewhere.address}/layer"])
    registry.put("app", "1", image)
    elsewhere.always("/layer", gives(image.layers[1].blob))
    pull(engine, f"{registry.address}/app:1")
    registry.always(manifest_path("copy", "1"), status(201))
    pushed = engine.push(f"{registry.address}/app:1", f"{registry.address}/copy:1")
    assert pushed.state == SUCCEEDED, pushed.failure
    assert pushed.push_result.digest == image.digest
    asked = [request.path for request in registry.requests if request.path.startswith("/v2/copy/")]
    assert [path for path in asked if image.layers[0].digest in path]
    assert not [path for path in asked if image.layers[1].digest in path]
    # Without the registry and the URL the archive still has all.
    archive = b"".join(
        part.chunk
        for part in engine.images.SaveImages(images_pb2.SaveImagesRequest(images=[f"{registry.address}/app:1"]))
    )
    engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=image.config_digest, force=True))
    assert load(engine, archive).images[0].manifest_digest == image.digest
