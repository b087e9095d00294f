"""What a reference names in its registry: down from an index to the manifest of one platform. It stores nothing."""

from dataclasses import dataclass

from fluytd.errors import DigestMismatch, ImageNotFound, PlatformUnavailable, SizeMismatch
from fluytd.ids import Digest, ImageReference
from fluytd.images import manifests
from fluytd.images.documents import MAX_MANIFEST_BYTES, check_size
from fluytd.images.manifests import MAX_INDEX_DEPTH, Descriptor, Index, Manifest
from fluytd.images.model import Way
from fluytd.images.platforms import Platform, best
from fluytd.images.ports import Registry
from fluytd.operations.ports import CancelToken
from fluytd.registries.model import Credentials

#: Most manifests and indexes that are fetched to find one platform.
MAX_MANIFESTS_FETCHED = 32


@dataclass(frozen=True, slots=True)
class FetchedIndex:
    """An index with its exact bytes."""

    descriptor: Descriptor
    data: bytes
    parsed: Index


@dataclass(frozen=True, slots=True)
class Chosen:
    """The manifest of one platform, and how it was found."""

    manifest: Descriptor
    document: Manifest
    data: bytes
    #: The indexes down to it, the outermost first; empty where the reference names the manifest itself.
    indexes: tuple[FetchedIndex, ...]

    @property
    def way(self) -> Way:
        """The indexes by their descriptors."""
        return tuple(index.descriptor for index in self.indexes)

    @property
    def listed(self) -> dict[Digest, Way]:
        """All manifests that these indexes list, each with the way to it."""
        way = self.way
        return {
            entry.digest: way[: depth + 1]
            for depth, index in reversed(list(enumerate(self.indexes)))
            for entry in index.parsed.entries
            if not entry.is_index
        }


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference names."""

    #: An index or a manifest.
    target: Descriptor
    #: None if the index has none for the platform.
    chosen: Chosen | None
    #: Platforms of all entries that are images; empty where the target is a manifest.
    platforms: tuple[Platform, ...]


class Resolver:
    """Asks registries."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def tags(
        self, repository: ImageReference, cancel: CancelToken, credentials: Credentials
    ) -> list[ImageReference]:
        """One for each tag of the repository. Raises IMAGE_NOT_FOUND if there is none, as `Registry.list_tags`."""
        found = await self._registry.list_tags(repository.domain, repository.path, cancel, credentials)
        if not found:
            raise ImageNotFound(reference=repository.familiar)
        return [ImageReference(repository.domain, repository.path, tag) for tag in found]

    async def resolve(
        self, reference: ImageReference, wanted: Platform, cancel: CancelToken, credentials: Credentials
    ) -> Resolved:
        """What the reference names, and its manifest for the wanted platform.

        Raises as `Registry.fetch_manifest`; MANIFEST_INVALID, DIGEST_INVALID, LIMIT_EXCEEDED for what came.
        """
        walk = _Walk(self._registry, reference, wanted, cancel, credentials)
        found = await self._registry.fetch_manifest(
            reference.domain, reference.path, reference.registry_reference, cancel, credentials
        )
        if reference.digest is not None and found.digest != reference.digest:
            raise DigestMismatch(expected=reference.digest, actual=found.digest, size_bytes=len(found.data))
        document = manifests.parse(found.data, found.media_type, str(reference))
        target = Descriptor(document.media_type, found.digest, len(found.data))
        if isinstance(document, Manifest):
            return Resolved(target, Chosen(target, document, found.data, ()), ())
        chosen = await walk.choose((FetchedIndex(target, found.data, document),))
        return Resolved(target, chosen, tuple(walk.platforms))

    async def manifest(
        self, reference: ImageReference, wanted: Platform, cancel: CancelToken, credentials: Credentials
    ) -> tuple[Descriptor, Chosen]:
        """What the reference names, and its manifest for the wanted platform; as `resolve`, PLATFORM_UNAVAILABLE."""
        found = await self.resolve(reference, wanted, cancel, credentials)
        if found.chosen is None:
            available = list(dict.fromkeys(map(str, found.platforms)))
            raise PlatformUnavailable(reference=reference.familiar, platform=wanted, available=available)
        return found.target, found.chosen


class _Walk:
    """One way down from an index."""

    def __init__(
        self,
        registry: Registry,
        reference: ImageReference,
        wanted: Platform,
        cancel: CancelToken,
        credentials: Credentials,
    ) -> None:
        self._registry = registry
        self._credentials = credentials
        self._reference = reference
        self._wanted = wanted
        self._cancel = cancel
        self._fetched = 0
        self.platforms: list[Platform] = []

    async def choose(self, way: tuple[FetchedIndex, ...]) -> Chosen | None:
        """The manifest below the last index of the way that serves best.

        Where no entry serves, indexes that say no platform are looked into; so is an only entry, whose config tells.
        """
        check_size(len(way), "MAX_INDEX_DEPTH", MAX_INDEX_DEPTH, str(self._reference))
        entries = [entry for entry in way[-1].parsed.entries if not entry.is_attestation]
        self.platforms += [entry.platform for entry in entries if entry.platform is not None]
        position = best(self._wanted, [entry.platform for entry in entries])
        if position is not None:
            return await self._open(entries[position], way)
        for entry in entries:
            if entry.platform is None and (entry.is_index or len(entries) == 1):
                found = await self._open(entry, way)
                if found is not None:
                    return found
        return None

    async def _open(self, entry: Descriptor, way: tuple[FetchedIndex, ...]) -> Chosen | None:
        self._fetched += 1
        check_size(self._fetched, "MAX_MANIFESTS_FETCHED", MAX_MANIFESTS_FETCHED, str(self._reference))
        reference = self._reference
        check_size(entry.size_bytes, "MAX_MANIFEST_BYTES", MAX_MANIFEST_BYTES, entry.digest)
        found = await self._registry.fetch_manifest(
            reference.domain, reference.path, entry.digest, self._cancel, self._credentials
        )
        if found.digest != entry.digest:
            raise DigestMismatch(expected=entry.digest, actual=found.digest, size_bytes=len(found.data))
        if len(found.data) != entry.size_bytes:
            raise SizeMismatch(digest=entry.digest, expected_bytes=entry.size_bytes, actual_bytes=len(found.data))
        document = manifests.parse(found.data, entry.media_type or found.media_type, entry.digest)
        descriptor = Descriptor(document.media_type, entry.digest, len(found.data))
        if isinstance(document, Index):
            return await self.choose((*way, FetchedIndex(descriptor, found.data, document)))
        return Chosen(descriptor, document, found.data, way)
