"""What the tests of images do again and again, and what of an engine's images stands on its disk."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from fluyt import errors
from fluyt.v1 import images_pb2, operations_pb2
from fluyt.v1.types import operation_pb2
from tests.support import images, tarball
from tests.support.engine import CHUNK_BYTES, Engine
from tests.support.images import Image, Layer
from tests.support.registry import FaultyRegistry, blob_path, manifest_path

SUCCEEDED = operation_pb2.Operation.STATE_SUCCEEDED
FAILED = operation_pb2.Operation.STATE_FAILED
CANCELLED = operation_pb2.Operation.STATE_CANCELLED
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_numbers = itertools.count()


@dataclass(frozen=True)
class Stored:
    """What is visible on disk, and the images that are listed."""

    blobs: frozenset[str]
    layers: frozenset[str]
    images: frozenset[str]


def stored(engine: Engine) -> Stored:
    """What the engine has now."""
    data = engine.root / "data"
    blobs = (path.name for path in (data / "content" / "blobs").glob("*/*"))
    layers = (path.name for path in (data / "layers").iterdir() if not path.name.startswith("."))
    return Stored(frozenset(blobs), frozenset(layers), frozenset(image.id for image in listed(engine)))


def staged(engine: Engine) -> list[str]:
    """Partial and staged blobs, and staged layers."""
    data = engine.root / "data"
    layers = [path.name for path in (data / "layers").iterdir() if path.name.startswith(".")]
    return sorted([path.name for path in (data / "ingest").iterdir()] + layers)


def listed(engine: Engine, **request: Any) -> list[images_pb2.Image]:
    """All images of a list, page after page."""
    found: list[images_pb2.Image] = []
    token = ""
    while True:
        page = engine.images.ListImages(images_pb2.ListImagesRequest(page_token=token, **request))
        found += page.images
        token = page.next_page_token
        if not token:
            return found


def small_layer(name: str = "f", data: bytes | None = None, **options: Any) -> Layer:
    """A layer of one file, other bytes at each call unless `data` is given."""
    return images.layer(tarball.file(name, f"{next(_numbers)}\n" if data is None else data), **options)


def small_image(**options: Any) -> Image:
    """An image of one layer that no other test has."""
    return images.image([small_layer()], **options)


def begin(engine: Engine, reference: str, **request: Any) -> operation_pb2.Operation:
    """A pull that has begun."""
    operation: operation_pb2.Operation = engine.images.PullImage(
        images_pb2.PullImageRequest(reference=reference, **request)
    ).operation
    return operation


def watch(engine: Engine, operation: operation_pb2.Operation) -> Iterator[operation_pb2.Operation]:
    """The operation at each change."""
    for update in engine.operations.WatchOperation(operations_pb2.WatchOperationRequest(id=operation.id)):
        yield update.operation


def ended(engine: Engine, operation: operation_pb2.Operation) -> operation_pb2.Operation:
    """The operation once it has ended."""
    *_, last = watch(engine, operation)
    return last


def pull(engine: Engine, reference: str, **request: Any) -> operation_pb2.PullResult:
    """The result of a pull that succeeds."""
    operation = ended(engine, begin(engine, reference, **request))
    assert operation.state == SUCCEEDED, operation.failure
    return operation.pull_result


def failed_pull(engine: Engine, reference: str, **request: Any) -> tuple[str, Mapping[str, str]]:
    """(reason, metadata) of a pull that fails and makes nothing visible."""
    before = stored(engine)
    operation = ended(engine, begin(engine, reference, **request))
    assert operation.state == FAILED, operation
    assert stored(engine) == before
    assert operation.failure.next_step
    assert operation.failure.next_step not in operation.failure.message
    return operation.failure.reason, dict(operation.failure.metadata)


def refused(call: Callable[[], object]) -> errors.FluytError:
    """What a call that fails is told; code, reason and metadata."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    found = errors.from_rpc_error(caught.value)
    assert found.reason
    assert found.next_step
    return found


def load(engine: Engine, archive: bytes, **options: Any) -> images_pb2.LoadImagesResponse:
    """What LoadImages answers."""

    def requests() -> Iterator[images_pb2.LoadImagesRequest]:
        yield images_pb2.LoadImagesRequest(options=images_pb2.LoadImagesOptions(**options))
        for offset in range(0, len(archive), CHUNK_BYTES):
            yield images_pb2.LoadImagesRequest(chunk=archive[offset : offset + CHUNK_BYTES])

    answer: images_pb2.LoadImagesResponse = engine.images.LoadImages(requests())
    return answer


def import_rootfs(engine: Engine, rootfs: bytes, **options: Any) -> images_pb2.ImportImageResponse:
    """What ImportImage answers."""

    def requests() -> Iterator[images_pb2.ImportImageRequest]:
        yield images_pb2.ImportImageRequest(options=images_pb2.ImportImageOptions(**options))
        for offset in range(0, len(rootfs), CHUNK_BYTES):
            yield images_pb2.ImportImageRequest(chunk=rootfs[offset : offset + CHUNK_BYTES])

    answer: images_pb2.ImportImageResponse = engine.images.ImportImage(requests())
    return answer


def failed_load(engine: Engine, archive: bytes, **options: Any) -> errors.FluytError:
    """What a load that fails is told; it leaves nothing visible and nothing staged."""
    before, staged_before = stored(engine), staged(engine)
    found = refused(lambda: load(engine, archive, **options))
    assert stored(engine) == before
    assert staged(engine) == staged_before
    return found


def get(engine: Engine, image: str, **request: Any) -> images_pb2.GetImageResponse:
    """All about one image."""
    answer: images_pb2.GetImageResponse = engine.images.GetImage(images_pb2.GetImageRequest(image=image, **request))
    return answer


def blob(engine: Engine, digest: str) -> bytes:
    """A visible blob."""
    return (engine.root / "data" / "content" / "blobs" / digest.replace(":", "/")).read_bytes()


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
