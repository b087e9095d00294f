"""Images: pull, load, import, list, look at, tag, pin, prune, delete."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, Final

import grpc

from fluyt import operations
from fluyt.errors import DataCorrupt, iterate, translated
from fluyt.v1 import images_pb2, images_pb2_grpc
from fluyt.v1.types import operation_pb2, platform_pb2, registry_auth_pb2

#: Bytes of an archive sent in one message.
CHUNK_BYTES: Final = 512 * 1024

Progress = Callable[[operation_pb2.Operation], None]


def pull(
    connection: grpc.Channel,
    reference: str,
    *,
    platform: platform_pb2.Platform | None = None,
    all_tags: bool = False,
    auth: registry_auth_pb2.RegistryAuth | None = None,
    request_id: str = "",
    on_progress: Progress | None = None,
) -> operation_pb2.PullResult:
    """The image is present; with `all_tags` every tag of the repository that `reference` names.

    An exception of `on_progress`, KeyboardInterrupt among them, does nothing to the pull: `begin_pull` and
    `operations.cancel` do.

    Args:
        platform: which one of an index; None: the engine's host's.
        auth: credentials; None: those that the daemon has for the registry.
        on_progress: gets the operation at each change.

    Raises:
        FluytError: what the pull failed of; Cancelled if somebody cancelled it.
    """
    operation = begin_pull(
        connection, reference, platform=platform, all_tags=all_tags, auth=auth, request_id=request_id
    )
    return _followed(connection, operation, on_progress).pull_result


def begin_pull(
    connection: grpc.Channel,
    reference: str,
    *,
    platform: platform_pb2.Platform | None = None,
    all_tags: bool = False,
    auth: registry_auth_pb2.RegistryAuth | None = None,
    request_id: str = "",
) -> operation_pb2.Operation:
    """The operation of a pull that has begun: `operations.watch`, `wait` and `cancel` take its id."""
    request = images_pb2.PullImageRequest(
        reference=reference, platform=platform, all_tags=all_tags, auth=auth, request_id=request_id
    )
    with translated():
        return images_pb2_grpc.ImageServiceStub(connection).PullImage(request).operation


def push(
    connection: grpc.Channel,
    reference: str,
    *,
    target: str = "",
    all_tags: bool = False,
    platforms: Iterable[platform_pb2.Platform] = (),
    auth: registry_auth_pb2.RegistryAuth | None = None,
    request_id: str = "",
    on_progress: Progress | None = None,
) -> operation_pb2.PushResult:
    """The registry has the image; with `all_tags` every tag of the repository that `reference` names.

    Args:
        target: reference to write; empty: `reference`.
        platforms: which ones of those present; none given: all.
        auth: credentials; None: those that the daemon has for the registry.
        on_progress: gets the operation at each change.

    Raises:
        FluytError: what the push failed of; Cancelled if somebody cancelled it.
    """
    request = images_pb2.PushImageRequest(
        reference=reference,
        target_reference=target,
        auth=auth,
        all_tags=all_tags,
        platforms=list(platforms),
        request_id=request_id,
    )
    with translated():
        operation = images_pb2_grpc.ImageServiceStub(connection).PushImage(request).operation
    return _followed(connection, operation, on_progress).push_result


def load(
    connection: grpc.Channel,
    archive: Path | BinaryIO,
    *,
    reference: str = "",
    platforms: Iterable[platform_pb2.Platform] = (),
) -> images_pb2.LoadImagesResponse:
    """The images of an archive (OCI layout or docker-archive) are present.

    Args:
        archive: a path, or a file open for reading that the caller keeps.
        reference: for an image without one.
        platforms: which ones of an index; none given: the engine's host's where it has it, else all.
    """
    options = images_pb2.LoadImagesOptions(reference=reference, platforms=list(platforms))
    requests = (
        images_pb2.LoadImagesRequest(options=options) if chunk is None else images_pb2.LoadImagesRequest(chunk=chunk)
        for chunk in _parts(archive)
    )
    with translated():
        response: images_pb2.LoadImagesResponse = images_pb2_grpc.ImageServiceStub(connection).LoadImages(requests)
    return response


def import_rootfs(
    connection: grpc.Channel, tar: Path | BinaryIO, *, reference: str = "", changes: Iterable[str] = ()
) -> images_pb2.Image:
    """An image of one layer, made from a root file system as tar. `changes`: Dockerfile instructions for its config."""
    options = images_pb2.ImportImageOptions(reference=reference, changes=list(changes))
    requests = (
        images_pb2.ImportImageRequest(options=options) if chunk is None else images_pb2.ImportImageRequest(chunk=chunk)
        for chunk in _parts(tar)
    )
    with translated():
        return images_pb2_grpc.ImageServiceStub(connection).ImportImage(requests).image


def list_all(
    connection: grpc.Channel, image_filter: images_pb2.ImageFilter | None = None
) -> Iterator[images_pb2.Image]:
    """The images that fit, newest first, fetched page by page."""
    stub = images_pb2_grpc.ImageServiceStub(connection)
    token = ""
    while True:
        with translated():
            page = stub.ListImages(images_pb2.ListImagesRequest(page_token=token, filter=image_filter))
        yield from page.images
        token = page.next_page_token
        if not token:
            return


def get(
    connection: grpc.Channel, image: str, *, platform: platform_pb2.Platform | None = None
) -> images_pb2.GetImageResponse:
    """All about one image: config, layers (lowest first), `history` (oldest first), sizes. Raises NotFound.

    `platform`: which one of a reference; None: the engine's host's.
    """
    with translated():
        response: images_pb2.GetImageResponse = images_pb2_grpc.ImageServiceStub(connection).GetImage(
            images_pb2.GetImageRequest(image=image, platform=platform)
        )
    return response


def resolve(
    connection: grpc.Channel,
    reference: str,
    *,
    platform: platform_pb2.Platform | None = None,
    auth: registry_auth_pb2.RegistryAuth | None = None,
) -> images_pb2.ResolveImageResponse:
    """What a reference names in its registry. `platform` and `auth` as in `pull`."""
    with translated():
        response: images_pb2.ResolveImageResponse = images_pb2_grpc.ImageServiceStub(connection).ResolveImage(
            images_pb2.ResolveImageRequest(reference=reference, platform=platform, auth=auth)
        )
    return response


def tag(
    connection: grpc.Channel,
    image: str,
    reference: str,
    *,
    platform: platform_pb2.Platform | None = None,
    request_id: str = "",
) -> images_pb2.Image:
    """The image has one more reference. `platform`: only the image of this one has it; None: all that are present."""
    request = images_pb2.TagImageRequest(image=image, reference=reference, platform=platform, request_id=request_id)
    with translated():
        return images_pb2_grpc.ImageServiceStub(connection).TagImage(request).image


def delete(
    connection: grpc.Channel,
    image: str,
    *,
    force: bool = False,
    platform: platform_pb2.Platform | None = None,
    request_id: str = "",
) -> images_pb2.DeleteImageResponse:
    """The reference is gone, and with the last one the image.

    Args:
        force: also if several references or an ended container have it.
        platform: only the image of this one goes, as if it were named by its id; None: all platforms of the reference.
    """
    request = images_pb2.DeleteImageRequest(image=image, force=force, platform=platform, request_id=request_id)
    with translated():
        response: images_pb2.DeleteImageResponse = images_pb2_grpc.ImageServiceStub(connection).DeleteImage(request)
    return response


def pin(connection: grpc.Channel, image: str, *, is_pinned: bool = True, request_id: str = "") -> images_pb2.Image:
    """No prune and no automatic collection takes the image, or with False that ends. Returns it as it is now."""
    request = images_pb2.SetImagePinRequest(image=image, is_pinned=is_pinned, request_id=request_id)
    with translated():
        response: images_pb2.SetImagePinResponse = images_pb2_grpc.ImageServiceStub(connection).SetImagePin(request)
    return response.image


def prune(
    connection: grpc.Channel,
    *,
    filter: images_pb2.ImageFilter | None = None,
    all: bool = False,
    by_policy: bool = False,
    dry_run: bool = False,
    request_id: str = "",
) -> operation_pb2.PruneResult:
    """Images that no container uses and nobody pinned are gone: dangling ones, those of `filter`, with `all` also those
    with references, or with `by_policy` those that an automatic collection would take. `dry_run`: only tells which."""
    request = images_pb2.PruneImagesRequest(
        filter=filter, all=all, by_policy=by_policy, dry_run=dry_run, request_id=request_id
    )
    with translated():
        operation = images_pb2_grpc.ImageServiceStub(connection).PruneImages(request).operation
    return operations.wait(connection, operation.id).prune_result


def save(
    connection: grpc.Channel,
    images: Iterable[str],
    target: Path | BinaryIO,
    *,
    platforms: Iterable[platform_pb2.Platform] = (),
) -> images_pb2.SaveComplete:
    """The images are in `target` as one archive, of which size and digest are answered.

    Args:
        target: a path, where the file appears once it is whole and replaces an older one; or a file open for writing
            that the caller keeps, whole only if no exception was raised.
        platforms: which ones of those present; none given: all.

    Raises:
        NotFound: an image is not there; nothing was written.
        OSError: `target` cannot be written.
        DataCorrupt: the engine closed the stream before its end, or what came has another digest than what was sent.
    """
    request = images_pb2.SaveImagesRequest(images=list(images), platforms=list(platforms))
    parts = iterate(images_pb2_grpc.ImageServiceStub(connection).SaveImages(request))
    if not isinstance(target, Path):
        return _received(parts, target)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        try:
            complete = _received(parts, file)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(target)
        except BaseException:
            Path(file.name).unlink()
            raise
    return complete


def _received(parts: Iterator[images_pb2.SaveImagesResponse], file: IO[bytes]) -> images_pb2.SaveComplete:
    """Writes the archive and answers its end, which fits what came."""
    size = 0
    came = hashlib.sha256()
    for part in parts:
        if part.HasField("complete"):
            if part.complete.size_bytes != size:
                raise DataCorrupt(grpc.StatusCode.DATA_LOSS, f"{size} of {part.complete.size_bytes} bytes came")
            if part.complete.digest != f"sha256:{came.hexdigest()}":
                raise DataCorrupt(grpc.StatusCode.DATA_LOSS, f"what came is not {part.complete.digest}")
            return part.complete
        file.write(part.chunk)
        came.update(part.chunk)
        size += len(part.chunk)
    raise DataCorrupt(grpc.StatusCode.DATA_LOSS, f"the engine closed the stream after {size} bytes")


def _followed(
    connection: grpc.Channel, operation: operation_pb2.Operation, on_progress: Progress | None
) -> operation_pb2.Operation:
    """The operation once it has succeeded; raises its failure."""
    if on_progress is not None:
        for change in operations.watch(connection, operation.id):
            on_progress(change.operation)
    return operations.wait(connection, operation.id)


def _parts(source: Path | BinaryIO) -> Iterator[bytes | None]:
    """None for the options, then the bytes in chunks."""
    yield None
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield from _chunks(file)
    else:
        yield from _chunks(source)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
