"""What callers do with images: the verbs that begin operations, and those that answer at once."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from fluytd.errors import FieldInvalid, from_core
from fluytd.gc.collect import Collector
from fluytd.ids import ImageReference
from fluytd.images.catalogue import Catalogue
from fluytd.images.filters import ImageFilter
from fluytd.images.imports import Importer, ImportOptions
from fluytd.images.load import Loader, LoadOptions
from fluytd.images.lookup import Found, Lookup
from fluytd.images.model import Deletion, Image
from fluytd.images.platforms import Platform
from fluytd.images.ports import ContainersUsingImage
from fluytd.images.prune import PruneOptions, Pruner
from fluytd.images.pull import Puller
from fluytd.images.push import Pusher, plan
from fluytd.images.save import Saver, Sent
from fluytd.images.spool import Received
from fluytd.images.uses import ImageUses
from fluytd.operations.model import LoadResult, Operation, OperationKind
from fluytd.operations.service import OperationHandle, OperationService
from fluytd.registries.model import Credentials


class ImageService:
    """Images of this engine."""

    def __init__(
        self,
        catalogue: Catalogue,
        operations: OperationService,
        lookup: Lookup,
        puller: Puller,
        pusher: Pusher,
        loader: Loader,
        importer: Importer,
        saver: Saver,
        pruner: Pruner,
        collector: Collector,
        containers: ContainersUsingImage,
        uses: ImageUses,
        is_pinned: Callable[[Image], bool],
    ) -> None:
        """`is_pinned`: True of images that no prune and no collection takes."""
        self.catalogue = catalogue
        self.uses = uses
        self.is_pinned = is_pinned
        self._operations = operations
        self._lookup = lookup
        self._puller = puller
        self._pusher = pusher
        self._loader = loader
        self._importer = importer
        self._saver = saver
        self._pruner = pruner
        self._collector = collector
        self._containers = containers

    async def resolve(self, reference: ImageReference, platform: Platform, credentials: Credentials) -> Found:
        """See `Lookup.resolve`."""
        return await self._lookup.resolve(reference, platform, credentials)

    async def pull(self, reference: ImageReference, platform: Platform, credentials: Credentials) -> Operation:
        """A pull has begun."""
        named = reference.with_default_tag()
        return await self._operations.begin(
            OperationKind.PULL_IMAGE,
            str(named),
            lambda handle: self._puller.pull(named, platform, credentials, handle),
        )

    async def pull_all(self, repository: ImageReference, platform: Platform, credentials: Credentials) -> Operation:
        """A pull of all tags of the repository has begun. Raises FIELD_INVALID for a reference with a tag or digest."""
        if not repository.is_name_only:
            raise FieldInvalid(field="reference", rule="must have no tag where all tags are pulled")
        return await self._operations.begin(
            OperationKind.PULL_IMAGE,
            repository.name,
            lambda handle: self._puller.pull_all(repository, platform, credentials, handle),
        )

    async def push(
        self,
        reference: str,
        target: str,
        platforms: Sequence[Platform],
        credentials: Credentials,
        *,
        all_tags: bool,
    ) -> Operation:
        """A push has begun. Raises as `push.plan`."""
        pushes = plan(self.catalogue.table, reference, target, all_tags=all_tags)
        subject = pushes[0].target.name if all_tags else str(pushes[0].target)
        return await self._operations.begin(
            OperationKind.PUSH_IMAGE,
            subject,
            lambda handle: self._pusher.push(pushes, platforms, credentials, handle),
        )

    async def load(self, archive: Received, options: LoadOptions) -> Operation:
        """The archive, which is taken over, is loaded; the operation has ended. Raises what failed it.

        Cancelling the await does nothing to the operation.
        """
        return await self._done(
            OperationKind.LOAD_IMAGES,
            "archive",
            archive,
            lambda handle: self._loader.load(archive.fd, options, handle),
        )

    async def import_rootfs(self, archive: Received, options: ImportOptions) -> Operation:
        """The root file system, which is taken over, is an image; as `load`."""
        subject = str(options.reference.with_default_tag()) if options.reference is not None else "root file system"
        return await self._done(
            OperationKind.IMPORT_IMAGE,
            subject,
            archive,
            lambda handle: self._importer.import_rootfs(archive, options, handle),
        )

    def save(self, texts: Sequence[str], platforms: Sequence[Platform]) -> AsyncGenerator[bytes | Sent, None]:
        """See `Saver.save`."""
        return self._saver.save(texts, platforms)

    async def prune(self, options: PruneOptions) -> Operation:
        """A prune has begun."""
        return await self._operations.begin(
            OperationKind.PRUNE_IMAGES, "images", lambda handle: self._pruner.prune(options, handle)
        )

    async def pin(self, text: str, *, is_pinned: bool, actor: str) -> Image:
        """The image is pinned or not. Raises IMAGE_NOT_FOUND and its kin, STORAGE_FULL."""
        image, _ = self.catalogue.table.find(text)
        await self.uses.pin(image, is_pinned=is_pinned, actor=actor)
        return image

    async def _done(
        self,
        kind: OperationKind,
        subject: str,
        archive: Received,
        work: Callable[[OperationHandle], Awaitable[LoadResult]],
    ) -> Operation:
        async def work_and_close(handle: OperationHandle) -> LoadResult:
            try:
                return await work(handle)
            finally:
                archive.close()

        try:
            begun = await self._operations.begin(kind, subject, work_and_close)
        except BaseException:
            archive.close()
            raise
        ended = await self._operations.wait(begun.id)
        if ended.failure is not None:
            raise from_core(ended.failure.reason, dict(ended.failure.metadata))
        return ended

    def list(self, condition: ImageFilter) -> Sequence[Image]:
        """The images that fit, newest first."""
        table = self.catalogue.table
        found = [image for image in table if condition.accepts(image, table.references(image.id))]
        return sorted(found, key=lambda image: (-image.create_time_unix_nanos, image.id))

    def container_count(self, image: Image) -> int:
        """Containers that are made of it."""
        return len(self._containers.holders(image.id))

    async def delete(
        self, text: str, *, force: bool, expected_version: int, actor: str, platform: Platform | None = None
    ) -> Deletion:
        """See `Catalogue.remove`; what nothing needs any more is swept. Raises what it raises."""
        removal = await self.catalogue.remove(text, force, expected_version, actor, platform)
        blobs = {digest: size for image in removal.images for digest, size in image.blob_sizes.items()}
        layers = {layer_id: size for image in removal.images for layer_id, size in image.layer_sizes.items()}
        swept = await self._collector.sweep(blobs, layers)
        ids = tuple(image.id for image in removal.images)
        return Deletion(removal.untagged, (*ids, *swept.deleted), swept.reclaimed_bytes)
