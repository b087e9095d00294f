"""RPC bodies of ImageService: convert in, call the service, convert out."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from fluyt.v1 import images_pb2, images_pb2_grpc
from fluytd.api.convert import images as convert
from fluytd.api.convert import remote as convert_remote
from fluytd.api.convert.auth import from_auth
from fluytd.api.convert.operations import to_loaded_images, to_operation
from fluytd.api.convert.values import from_page_token, from_timestamp, page_size, timestamp_of, to_page_token
from fluytd.errors import FieldInvalid
from fluytd.ids import DEFAULT_DOMAIN, ImageReference
from fluytd.images.filters import ImageFilter
from fluytd.images.imports import ImportOptions, run_config
from fluytd.images.load import LoadOptions
from fluytd.images.model import Image
from fluytd.images.platforms import Platform, host_platform
from fluytd.images.prune import PruneOptions
from fluytd.images.remote import Remote
from fluytd.images.service import ImageService
from fluytd.images.spool import Spool
from fluytd.operations.model import LoadResult, Operation

#: Images of a page where the caller names no number, and the most that one has.
DEFAULT_PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1_000
#: A page ends early at about so many bytes, so that no message exceeds 1 MiB.
MAX_PAGE_BYTES: Final = 768 * 1024
#: The same for a search, which has one page.
DEFAULT_SEARCH_LIMIT: Final = 25
MAX_SEARCH_LIMIT: Final = 100
#: Who is told as the actor until callers by TCP have names of their own in image events.
ACTOR: Final = "root"


class ImageServicer(images_pb2_grpc.ImageServiceServicer):
    """Brings, names, shows and removes images for callers."""

    def __init__(self, images: ImageService, remote: Remote, spool: Spool) -> None:
        """Serves `images`, and what `remote` registries tell. `spool`: where archives are kept while they are read."""
        self._images = images
        self._remote = remote
        self._spool = spool

    async def ResolveImage(
        self, request: images_pb2.ResolveImageRequest, context: Any
    ) -> images_pb2.ResolveImageResponse:
        reference = ImageReference.parse(request.reference)
        platform = convert.from_platform(request.platform, "platform")
        return convert.to_found(await self._images.resolve(reference, platform, from_auth(request.auth)))

    async def ListReferrers(
        self, request: images_pb2.ListReferrersRequest, context: Any
    ) -> images_pb2.ListReferrersResponse:
        limit = page_size(request.page_size, default=DEFAULT_PAGE_SIZE, maximum=MAX_PAGE_SIZE)
        reference = ImageReference.parse(request.reference)
        found = await self._remote.referrers(reference, request.artifact_type, from_auth(request.auth))
        return convert_remote.to_referrers(found, from_page_token(request.page_token), limit, MAX_PAGE_BYTES)

    async def SearchRegistry(
        self, request: images_pb2.SearchRegistryRequest, context: Any
    ) -> images_pb2.SearchRegistryResponse:
        limit = page_size(request.limit, default=DEFAULT_SEARCH_LIMIT, maximum=MAX_SEARCH_LIMIT, field="limit")
        registry = request.registry or DEFAULT_DOMAIN
        found = await self._remote.search(registry, request.term, limit, from_auth(request.auth))
        return convert_remote.to_search(registry, found, MAX_PAGE_BYTES)

    async def CheckRegistryAuth(
        self, request: images_pb2.CheckRegistryAuthRequest, context: Any
    ) -> images_pb2.CheckRegistryAuthResponse:
        await self._remote.check_credentials(request.registry or DEFAULT_DOMAIN, from_auth(request.auth))
        return images_pb2.CheckRegistryAuthResponse()

    async def PullImage(self, request: images_pb2.PullImageRequest, context: Any) -> images_pb2.PullImageResponse:
        reference = ImageReference.parse(request.reference)
        platform = convert.from_platform(request.platform, "platform")
        pull = self._images.pull_all if request.all_tags else self._images.pull
        operation = await pull(reference, platform, from_auth(request.auth))
        return images_pb2.PullImageResponse(operation=to_operation(operation))

    async def PushImage(self, request: images_pb2.PushImageRequest, context: Any) -> images_pb2.PushImageResponse:
        operation = await self._images.push(
            request.reference,
            request.target_reference,
            convert.from_platforms(request.platforms, "platforms"),
            from_auth(request.auth),
            all_tags=request.all_tags,
        )
        return images_pb2.PushImageResponse(operation=to_operation(operation))

    async def ListImages(self, request: images_pb2.ListImagesRequest, context: Any) -> images_pb2.ListImagesResponse:
        limit = page_size(request.page_size, default=DEFAULT_PAGE_SIZE, maximum=MAX_PAGE_SIZE)
        after = from_page_token(request.page_token)
        response = images_pb2.ListImagesResponse()
        is_before_page, size_bytes = bool(after), 0
        for image in self._images.list(self._filter(request.filter)):
            if is_before_page:
                is_before_page = image.id != after
                continue
            if len(response.images) == limit or size_bytes > MAX_PAGE_BYTES:
                response.next_page_token = to_page_token(response.images[-1].id)
                break
            message = self._message(image)
            size_bytes += message.ByteSize()
            response.images.append(message)
        if is_before_page:
            raise FieldInvalid(field="page_token", rule="its image is gone; begin with the first page")
        return response

    async def GetImage(self, request: images_pb2.GetImageRequest, context: Any) -> images_pb2.GetImageResponse:
        image = self._find(request.image, convert.given_platform(request))
        table = self._images.catalogue.table
        shared = {layer.layer_id for layer in image.layers if table.is_shared(layer.layer_id)}
        return images_pb2.GetImageResponse(
            image=self._message(image),
            config=convert.to_config(image),
            layers=convert.to_layers(image, shared),
            history=convert.to_history(image),
        )

    async def TagImage(self, request: images_pb2.TagImageRequest, context: Any) -> images_pb2.TagImageResponse:
        reference = ImageReference.parse(request.reference)
        if reference.digest is not None:
            raise FieldInvalid(field="reference", rule="must not have a digest")
        image = await self._images.catalogue.tag(
            _given(request.image), reference, request.expected_version, ACTOR, convert.given_platform(request)
        )
        return images_pb2.TagImageResponse(image=self._message(image))

    async def UntagImage(self, request: images_pb2.UntagImageRequest, context: Any) -> images_pb2.UntagImageResponse:
        image = await self._images.catalogue.untag(request.reference, request.expected_version, ACTOR)
        return images_pb2.UntagImageResponse(image=self._message(image))

    async def DeleteImage(self, request: images_pb2.DeleteImageRequest, context: Any) -> images_pb2.DeleteImageResponse:
        deletion = await self._images.delete(
            _given(request.image),
            force=request.force,
            expected_version=request.expected_version,
            actor=ACTOR,
            platform=convert.given_platform(request),
        )
        return convert.to_deletion(deletion)

    async def LoadImages(
        self, request_iterator: AsyncIterator[images_pb2.LoadImagesRequest], context: Any
    ) -> images_pb2.LoadImagesResponse:
        options = (await _first(request_iterator)).options
        load = LoadOptions(
            tuple(convert.from_platforms(options.platforms, "options.platforms")),
            _new_name(options.reference),
        )
        archive = await self._spool.receive(_chunks(request_iterator), "load")
        operation = await self._images.load(archive, load)
        return images_pb2.LoadImagesResponse(
            images=to_loaded_images(_loaded(operation)), operation=to_operation(operation)
        )

    async def SaveImages(
        self, request: images_pb2.SaveImagesRequest, context: Any
    ) -> AsyncIterator[images_pb2.SaveImagesResponse]:
        platforms = convert.from_platforms(request.platforms, "platforms")
        async with aclosing(self._images.save(request.images, platforms)) as parts:
            async for part in parts:
                yield convert.to_saved(part)

    async def ImportImage(
        self, request_iterator: AsyncIterator[images_pb2.ImportImageRequest], context: Any
    ) -> images_pb2.ImportImageResponse:
        options = (await _first(request_iterator)).options
        reference = _new_name(options.reference)
        run = run_config(list(options.changes))
        platform = (
            convert.from_platform(options.platform, "options.platform")
            if options.HasField("platform")
            else host_platform()
        )
        archive = await self._spool.receive(_chunks(request_iterator), "import")
        wanted = ImportOptions(reference, platform, run, options.message)
        operation = await self._images.import_rootfs(archive, wanted)
        (loaded,) = _loaded(operation).images
        return images_pb2.ImportImageResponse(
            image=self._message(self._find(loaded.image_id)), operation=to_operation(operation)
        )

    async def PruneImages(self, request: images_pb2.PruneImagesRequest, context: Any) -> images_pb2.PruneImagesResponse:
        if request.by_policy and (request.all or request.HasField("filter")):
            raise FieldInvalid(field="by_policy", rule="excludes filter and all")
        options = PruneOptions(
            self._filter(request.filter),
            has_all=request.all,
            is_dry_run=request.dry_run,
            is_by_policy=request.by_policy,
        )
        return images_pb2.PruneImagesResponse(operation=to_operation(await self._images.prune(options)))

    async def SetImagePin(self, request: images_pb2.SetImagePinRequest, context: Any) -> images_pb2.SetImagePinResponse:
        image = await self._images.pin(_given(request.image), is_pinned=request.is_pinned, actor=ACTOR)
        return images_pb2.SetImagePinResponse(image=self._message(image))

    def _find(self, text: str, platform: Platform | None = None) -> Image:
        image, _ = self._images.catalogue.table.find(_given(text), platform)
        return image

    def _message(self, image: Image) -> images_pb2.Image:
        table = self._images.catalogue.table
        message = convert.to_image(
            image,
            table.references(image.id),
            table.repo_digests(image.id),
            table.shared_size_bytes(image),
            self._images.container_count(image),
        )
        message.is_pinned = self._images.is_pinned(image)
        message.last_use_time.CopyFrom(timestamp_of(self._images.uses.last_use_unix_nanos(image)))
        return message

    def _filter(self, message: images_pb2.ImageFilter) -> ImageFilter:
        return ImageFilter(
            references=tuple(message.references),
            labels=tuple(message.labels),
            excluded_labels=tuple(message.excluded_labels),
            is_dangling=message.is_dangling if message.HasField("is_dangling") else None,
            before=self._find(message.before_image) if message.before_image else None,
            since=self._find(message.since_image) if message.since_image else None,
            before_time_unix_nanos=(
                from_timestamp(message.before_time, "filter.before_time") if message.HasField("before_time") else None
            ),
        )


def _new_name(text: str) -> ImageReference | None:
    """What a new image is to be called; None for nothing. Raises REFERENCE_INVALID, FIELD_INVALID for a digest."""
    if not text:
        return None
    reference = ImageReference.parse(text)
    if reference.digest is not None:
        raise FieldInvalid(field="options.reference", rule="must not have a digest")
    return reference


def _given(text: str) -> str:
    if not text:
        raise FieldInvalid(field="image", rule="must be given")
    return text


async def _first(requests: AsyncIterator[Any]) -> Any:
    async for request in requests:
        if request.WhichOneof("part") == "options":
            return request
        break
    raise FieldInvalid(field="options", rule="must be the first message")


async def _chunks(requests: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise FieldInvalid(field="chunk", rule="must be all messages after the first")
        yield request.chunk


def _loaded(operation: Operation) -> LoadResult:
    if not isinstance(operation.result, LoadResult):
        raise TypeError(f"operation {operation.id} succeeded without the result of a load")
    return operation.result
