"""What a build's contexts, FROM and --from stand for: folders, archives, repositories and images, found or fetched."""

import re
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from fluytd.builds import graph
from fluytd.builds.attestations import Material, image_material
from fluytd.builds.dockerfile import config as configs
from fluytd.builds.dockerfile.git import parse_git_context
from fluytd.builds.dockerfile.limits import MAX_DOCKERFILE_BYTES
from fluytd.builds.dockerfile.mistakes import Mistake
from fluytd.builds.dockerfile.origins import (
    Base,
    BuildContext,
    GitSource,
    HttpSource,
    NamedContext,
    Origin,
    Scratch,
    StageOutput,
)
from fluytd.builds.dockerfile.origins import Image as ImageOrigin
from fluytd.builds.dockerfile.steps import Plan, ResolvedBuild
from fluytd.builds.image import layer_ids_of
from fluytd.builds.model import BuildRequest, ContextSource, GitContext, HttpContext, ImageSource, UploadedSource
from fluytd.builds.ports import ContextStore, CopyTarget, FileTree, Wanted
from fluytd.builds.solver import Shop
from fluytd.builds.sources import BuildSources
from fluytd.containers.ports import Images
from fluytd.containers.spec import PlatformChoice
from fluytd.errors import BuildSourceNotFound, Cancelled, EngineError, FieldInvalid, ImageNotFound, PlatformUnavailable
from fluytd.gc.leases import Lease
from fluytd.ids import ImageReference
from fluytd.images.catalogue import Catalogue
from fluytd.images.config import ImageConfig
from fluytd.images.model import Image
from fluytd.images.platforms import Platform
from fluytd.operations.service import OperationHandle

DEFAULT_DOCKERFILE: Final = "Dockerfile"
#: What a download is called that turns out to be no archive.
_LONE_FILE: Final = "downloaded-dockerfile"
_DIGEST: Final = re.compile("sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Places:
    """Where builds look."""

    contexts: ContextStore
    catalogue: Catalogue
    images: Images
    #: The host's.
    platform: Platform


@dataclass(slots=True)
class Finder:
    """Finds for one build; each thing once. Belongs to the event loop."""

    places: Places
    shop: Shop
    request: BuildRequest
    sources: BuildSources
    lease: Lease
    handle: OperationHandle
    images: dict[Origin, Image] = field(default_factory=dict)
    folders: dict[Origin, FileTree] = field(default_factory=dict)
    configs: dict[Base, ImageConfig] = field(default_factory=dict)
    #: Whether the ignore file surely leaves out what a COPY of the main context names; None: there is no such file.
    hides_source: Callable[[str], bool] | None = None
    _source: Material | None = None

    async def dockerfile(self) -> tuple[str, bytes]:
        """The Dockerfile's name and text; the main context is found, without what its ignore file leaves out.

        Raises BUILD_SOURCE_NOT_FOUND, CONTEXT_NOT_FOUND, CONTEXT_INCOMPLETE, LIMIT_EXCEEDED, IGNORE_FILE_INVALID, and
        what fetching raises.
        """
        request = self.request
        path = request.dockerfile_path or DEFAULT_DOCKERFILE
        whole = await self._folder(request.context, "context")
        if isinstance(request.context, GitContext | HttpContext):
            (first,) = self.sources.fetched
            self._source = Material(first.uri, first.digest)
        text = request.dockerfile
        if text is None and whole is not None and isinstance(request.context, HttpContext):
            text = await self._read(whole, _LONE_FILE)
        if text is None and whole is not None:
            text = await self._read(whole, path)
        if text is None:
            raise BuildSourceNotFound(path=path, tree="the build context")
        if whole is not None:
            self.hides_source = await self.shop.trees.hides_source(whole, path, request.ignore_file)
            self.folders[BuildContext()] = await self._filtered(whole, path)
        return path, text

    async def _read(self, tree: FileTree, path: str) -> bytes | None:
        return await self.shop.trees.read_file(tree, path, MAX_DOCKERFILE_BYTES, "MAX_DOCKERFILE_BYTES")

    async def _filtered(self, folder: FileTree, dockerfile: str) -> FileTree:
        """The folder without what its ignore file leaves out, unless the caller has seen to that."""
        return folder if self.request.is_filtered else await self.shop.trees.ignoring(folder, dockerfile)

    async def _folder(self, source: ContextSource, name: str) -> FileTree | None:
        """The tree of a context; None for an image."""
        match source:
            case UploadedSource():
                return await self.places.contexts.open(source.context_id)
            case GitContext():
                return (await self.sources.get(_git_source(source.url, f"{name}.git_url"))).tree
            case HttpContext():
                return await self._archive(source.url)
            case ImageSource():
                return None

    async def _archive(self, url: str) -> FileTree:
        """The files of an archive; of what is none the file itself, under a name that stands for it."""
        trees, cancel = self.shop.trees, self.handle.cancel_token
        fetched = await self.sources.get(HttpSource(url, _LONE_FILE))
        selection = await trees.select(fetched.tree, Wanted(graph.literal(_LONE_FILE)), cancel)
        key = trees.key_of(["http-context-1", await trees.digest(selection, cancel)])
        async with self.shop.flight(key):
            record = self.shop.cache.get(key)
            if record is not None and record.layer is not None:
                await self.lease.add([record.layer.descriptor.digest, record.layer.layer_id])
                record = self.shop.cache.get(key)
            if record is None:
                draft = trees.draft(trees.of_files([], "nothing"), 0)
                # Owners of a context mean nothing.
                await trees.copy(draft, selection, CopyTarget("/", (0, 0), unpacks=True), cancel)
                if await trees.is_empty(draft):
                    return trees.of_files([], url)
                stored = await trees.store(draft, self.shop.layering.new_counters(), cancel, "gzip")
                record = await self.shop.keeper.keep(stored, (), key, f"context {url}", self.lease, cancel)
        layers = [record.layer.layer_id] if record.layer is not None else []
        return await trees.of_layers(layers, "the build context")

    def image_materials(self) -> list[Material]:
        """The images that were found, as provenance tells them."""
        found: list[Material] = []
        for origin, image in self.images.items():
            reference = getattr(origin, "reference", "")
            source = self.request.named_contexts.get(getattr(origin, "name", ""))
            if isinstance(source, ImageSource):
                reference = source.reference
            elif isinstance(origin, BuildContext) and isinstance(self.request.context, ImageSource):
                reference = self.request.context.reference
            if reference:
                found.append(image_material(reference, image.target.digest, image.config.platform))
        return found

    def source_material(self) -> Material | None:
        """The main context where it was fetched; None for one that was uploaded."""
        return self._source

    async def base_config(self, plan: Plan, base: ImageOrigin | NamedContext) -> ImageConfig:
        """As `config`. Raises BUILD_BASE_UNAVAILABLE with the line of FROM; what is wrong with the request itself, and
        CANCELLED, as they are."""
        try:
            return await self.config(base)
        except Cancelled:
            raise
        except EngineError as error:
            if error.field:
                raise
            raise graph.base_failed(plan, base, error) from error

    async def find_sources(self, build: ResolvedBuild, places: Sequence[Sequence[graph.StepPlace]], file: str) -> None:
        """What the steps of the build read from is known, as by `find`. Raises BUILD_STEP_FAILED with the line of the
        step that needs it; what is wrong with the request itself, and CANCELLED, as they are."""
        for stage, own in zip(build.stages, places, strict=True):
            for step, place in zip(stage.steps, own[1:], strict=True):
                try:
                    for origin in step.origins:
                        await self.find(origin)
                except Cancelled:
                    raise
                except EngineError as error:
                    if error.field:
                        raise
                    raise graph.failed(place, error, file) from error

    async def config(self, base: ImageOrigin | NamedContext) -> ImageConfig:
        """What a stage begins with that stands on it."""
        await self.find(base)
        image = self.images.get(base)
        return image.config if image is not None else configs.empty(base.platform)

    async def find(self, origin: Origin) -> None:
        """What stands behind the origin is known, and stays for the length of the lease."""
        request = self.request
        if origin in self.images or origin in self.folders or isinstance(origin, Scratch | StageOutput):
            return
        if isinstance(origin, NamedContext):
            source = request.named_contexts[origin.name]
            if isinstance(source, ImageSource):
                self.images[origin] = await self._image(source.reference, origin.platform)
            else:
                folder = await self._folder(source, f"named_contexts[{origin.name!r}]")
                if folder is not None:
                    self.folders[origin] = await self._filtered(folder, DEFAULT_DOCKERFILE)
        elif isinstance(origin, ImageOrigin):
            self.images[origin] = await self._image(origin.reference, origin.platform)
        elif isinstance(origin, BuildContext) and isinstance(request.context, ImageSource):
            self.images[origin] = await self._image(request.context.reference, self.places.platform)

    async def _image(self, reference: str, platform: Platform) -> Image:
        choice = PlatformChoice(platform.os, platform.architecture, platform.variant)
        parsed = ImageReference.parse(reference)
        # What is named by a digest alone is in no registry under it: an image of a layout that the caller sent.
        is_digest = _DIGEST.fullmatch(reference) is not None
        is_pulled = self.request.pull and not is_digest
        image = None if is_pulled else self._present(reference, platform)
        if image is None and is_digest:
            raise ImageNotFound(reference=reference)
        if image is None:
            auth = self.request.auths.get(parsed.domain)
            async with aclosing(self.places.images.pull(reference, choice, auth)) as operations:
                async for _ in operations:
                    pass
            image = self._present(reference, platform)
        if image is None:
            raise ImageNotFound(reference=reference)
        await self.lease.add([image.id, image.manifest.digest, *layer_ids_of(image.layers)])
        if self.places.catalogue.table.get(image.id) is None:
            raise ImageNotFound(reference=reference)
        return image

    def _present(self, reference: str, platform: Platform) -> Image | None:
        # What was made for this very processor serves too where its architecture is asked for.
        here = self.places.platform
        is_own = (platform.os, platform.architecture, platform.variant) == (here.os, here.architecture, "")
        for wanted in (platform, *((here,) if is_own else ())):
            try:
                return self.places.catalogue.table.find(reference, wanted)[0]
            except (ImageNotFound, PlatformUnavailable):
                continue
        return None


def _git_source(url: str, field_name: str) -> GitSource:
    try:
        address = parse_git_context(url)
    except Mistake as mistake:
        raise FieldInvalid(field=field_name, rule=mistake.rule) from None
    return GitSource(
        remote=address.remote,
        ref=address.ref,
        subdir=address.subdir,
        checksum=address.checksum,
        keeps_git_dir=bool(address.keeps_git_dir),
        with_submodules=address.with_submodules is not False,
    )
