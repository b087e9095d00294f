"""What an image archive holds: from the list of its entries to the images to load. It stores nothing.

Three forms are known: an OCI layout as tar, `docker save` since Engine 25 (an OCI layout and a manifest.json over the
same blobs) and `docker save` before that (`<id>/layer.tar`, of which some are links to others). Where a manifest.json
stands it is followed, since it alone has the tags (case R17).

Source: OCI image-spec image-layout.md; moby image/tarexport.
"""

import posixpath
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from fluytd.errors import (
    ArchiveInvalid,
    DigestMismatch,
    ManifestInvalid,
    PlatformUnavailable,
    ReferenceInvalid,
    SizeMismatch,
)
from fluytd.ids import Digest, ImageReference
from fluytd.images import config as configs
from fluytd.images import index_file, manifests
from fluytd.images.config import ImageConfig
from fluytd.images.documents import MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, Fields, Refuse, check_size, read_json
from fluytd.images.manifests import DOCKER_INDEX, MAX_INDEX_DEPTH, Descriptor, Index, Manifest
from fluytd.images.platforms import Platform, best

#: Most entries of an archive.
MAX_ARCHIVE_ENTRIES = 200_000
#: Most images of an archive.
MAX_ARCHIVE_IMAGES = 1_000
#: Manifests and indexes that are read of one archive, each time counted: an index may name another many times.
MAX_ARCHIVE_MANIFESTS = 4_000
#: Bytes of manifests, indexes and configs that are read of one archive, each time counted, as above.
MAX_ARCHIVE_DOCUMENT_BYTES = 64 * 1024 * 1024
#: Most links that are followed from one name.
MAX_LINKS = 16

DOCKER_LISTING = "manifest.json"
OCI_INDEX_FILE = "index.json"
OCI_LAYOUT_FILE = "oci-layout"
_REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"


class Entry(Protocol):
    """One entry of the (decompressed) tar; see `_core.ingest.ArchiveEntry`."""

    @property
    def name(self) -> str:
        """Normalised path."""

    @property
    def kind(self) -> str:
        """`file`, `directory`, `symlink`, `hardlink`, `other`."""

    @property
    def size_bytes(self) -> int:
        """Bytes of its data."""

    @property
    def offset_bytes(self) -> int:
        """Where its data begins."""

    @property
    def link_name(self) -> str:
        """Target of a link, as written."""


@dataclass(frozen=True, slots=True)
class ArchiveLayer:
    """Where a layer's bytes stand in the archive and what they must be."""

    offset_bytes: int
    size_bytes: int
    #: Digest of these bytes; None where the archive does not say.
    digest: Digest | None
    diff_id: Digest
    media_type: str


@dataclass(frozen=True, slots=True)
class ArchiveIndex:
    """An index with its exact bytes."""

    descriptor: Descriptor
    data: bytes


#: The outermost first.
ArchiveWay = tuple[ArchiveIndex, ...]


@dataclass(frozen=True, slots=True)
class ArchiveImage:
    """One image to load."""

    config_data: bytes
    config: ImageConfig
    layers: tuple[ArchiveLayer, ...]
    #: The manifest's exact bytes and type; None where the archive has none, so that one must be written.
    manifest: tuple[bytes, str] | None
    references: tuple[ImageReference, ...]
    #: The indexes by which it stands in the archive.
    way: ArchiveWay = ()


def plan(
    entries: Iterable[Entry],
    read: Callable[[int, int], bytes],
    platforms: Sequence[Platform],
    host: Platform,
    base_name: ImageReference | None = None,
) -> list[ArchiveImage]:
    """The images of an archive, in its order, each with verified manifest and config; layers are not read.

    Args:
        entries: all of them, in tar order; of two with one name the last counts.
        read: gives the bytes at (offset, size).
        platforms: which to take from indexes; empty for the host's where there is one, else all.
        host: what this host runs.
        base_name: the reference of an image that the archive gives none; a bare tag of the archive is put after it.

    Raises ARCHIVE_INVALID, MANIFEST_INVALID, DIGEST_INVALID, DIGEST_MISMATCH, SIZE_MISMATCH, LIMIT_EXCEEDED,
    REFERENCE_INVALID, PLATFORM_UNAVAILABLE.
    """
    files = _Files(entries, read)
    if files.has(DOCKER_LISTING):
        images = _of_platforms(_docker_images(files), platforms)
    elif files.has(OCI_INDEX_FILE):
        images = _Layout(files, platforms, host, base_name).images()
    else:
        raise ArchiveInvalid(entry=DOCKER_LISTING, rule=f"neither it nor {OCI_INDEX_FILE} is there")
    if not images:
        raise ArchiveInvalid(entry=DOCKER_LISTING, rule="the archive holds no image")
    images = [_without_wrapper(image) for image in images]
    if base_name is not None and len(images) == 1 and not images[0].references:
        return [replace(images[0], references=(base_name.with_default_tag(),))]
    return images


def _without_wrapper(image: ArchiveImage) -> ArchiveImage:
    """The index that `save_plan` makes around one manifest says nothing that the manifest does not: an archive has it
    for the sake of its name. Any other index stays what the name stands for."""
    if len(image.way) != 1 or image.manifest is None:
        return image
    data, media_type = image.manifest
    manifest = Descriptor(media_type, Digest.of(data), len(data))
    wrapper = index_file.dump([index_file.entry(manifest, image.config.platform, "")])
    return replace(image, way=()) if image.way[0].data == wrapper else image


def _of_platforms(images: list[ArchiveImage], platforms: Sequence[Platform]) -> list[ArchiveImage]:
    """Of images that stand in a list one beside the other those of the wanted platforms; all where none is wanted.

    Images of one index, or of one name, are each other's alternatives. Raises PLATFORM_UNAVAILABLE for a platform that
    no image of the list serves.
    """
    if not platforms:
        return images
    groups: dict[object, list[ArchiveImage]] = {}
    for position, image in enumerate(images):
        key = image.way[0].descriptor.digest if image.way else image.references or position
        groups.setdefault(key, []).append(image)
    chosen: list[ArchiveImage] = []
    served: set[Platform] = set()
    for group in groups.values():
        offered = [image.config.platform for image in group]
        positions = {wanted: at for wanted in platforms if (at := best(wanted, offered)) is not None}
        served |= positions.keys()
        chosen += [group[position] for position in dict.fromkeys(positions.values())]
    for wanted in platforms:
        if wanted not in served:
            available = list(dict.fromkeys(str(image.config.platform) for image in images))
            raise PlatformUnavailable(reference=DOCKER_LISTING, platform=wanted, available=available)
    return chosen


def _refuse(entry: str) -> Refuse:
    return lambda rule: ArchiveInvalid(entry=entry, rule=rule)


class _Files:
    """The archive's files by name, links followed within it."""

    def __init__(self, entries: Iterable[Entry], read: Callable[[int, int], bytes]) -> None:
        self._entries = {entry.name: entry for entry in entries}
        self._read = read
        self._document_bytes = 0

    def has(self, name: str) -> bool:
        return name in self._entries

    def find(self, name: str) -> Entry:
        """The file of that name. Raises ARCHIVE_INVALID."""
        at = posixpath.normpath(name)
        for _ in range(MAX_LINKS):
            entry = self._entries.get(at)
            if entry is None:
                raise ArchiveInvalid(entry=name, rule="it is not in the archive")
            if entry.kind == "symlink":
                at = posixpath.normpath(posixpath.join(posixpath.dirname(at), entry.link_name))
            elif entry.kind == "hardlink":
                at = posixpath.normpath(entry.link_name)
            elif entry.kind == "file":
                return entry
            else:
                raise ArchiveInvalid(entry=name, rule="it is not a regular file")
        raise ArchiveInvalid(entry=name, rule=f"it needs more than {MAX_LINKS} links to be found")

    def content(self, name: str, limit: str, limit_value: int) -> bytes:
        """A small file's bytes. Raises ARCHIVE_INVALID, LIMIT_EXCEEDED."""
        entry = self.find(name)
        check_size(entry.size_bytes, limit, limit_value, name)
        self._document_bytes += entry.size_bytes
        check_size(self._document_bytes, "MAX_ARCHIVE_DOCUMENT_BYTES", MAX_ARCHIVE_DOCUMENT_BYTES, name)
        return self._read(entry.offset_bytes, entry.size_bytes)

    def document(self, name: str) -> object:
        return read_json(self.content(name, "MAX_MANIFEST_BYTES", MAX_MANIFEST_BYTES), _refuse(name))

    def blob(self, descriptor: Descriptor) -> Entry:
        """The file of a descriptor, of the size that it says. Raises ARCHIVE_INVALID, SIZE_MISMATCH."""
        entry = self.find(_blob_name(descriptor.digest))
        if entry.size_bytes != descriptor.size_bytes:
            raise SizeMismatch(
                digest=descriptor.digest, expected_bytes=descriptor.size_bytes, actual_bytes=entry.size_bytes
            )
        return entry

    def verified(self, descriptor: Descriptor, limit: str, limit_value: int) -> bytes:
        """A small blob's bytes. Raises besides DIGEST_MISMATCH."""
        self.blob(descriptor)
        data = self.content(_blob_name(descriptor.digest), limit, limit_value)
        actual = Digest.of(data, descriptor.digest.algorithm)
        if actual != descriptor.digest:
            raise DigestMismatch(expected=descriptor.digest, actual=actual, size_bytes=len(data))
        return data


def _blob_name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _image(files: _Files, data: bytes, manifest: Manifest, config: ImageConfig, config_data: bytes) -> ArchiveImage:
    layers = tuple(
        ArchiveLayer(files.blob(layer).offset_bytes, layer.size_bytes, layer.digest, diff_id, layer.media_type)
        for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
    )
    return ArchiveImage(config_data, config, layers, (data, manifest.media_type), ())


def _docker_images(files: _Files) -> list[ArchiveImage]:
    refuse = _refuse(DOCKER_LISTING)
    listing = files.document(DOCKER_LISTING)
    if not isinstance(listing, list):
        raise refuse("it must be a list")
    check_size(len(listing), "MAX_ARCHIVE_IMAGES", MAX_ARCHIVE_IMAGES, DOCKER_LISTING)
    by_config = _manifests_by_config(files)
    images = [_docker_image(files, Fields(item, f"[{i}]", refuse), by_config) for i, item in enumerate(listing)]
    return _with_names_of_indexes(images)


def _with_names_of_indexes(images: list[ArchiveImage]) -> list[ArchiveImage]:
    """A name that the listing gives to one image of an index is a name of the index: its other images have it too.

    A name stands in the listing only once, since older loaders take each image of it for the whole.
    """
    names: dict[Digest, dict[ImageReference, None]] = {}
    for image in images:
        if image.way:
            names.setdefault(image.way[0].descriptor.digest, {}).update(dict.fromkeys(image.references))
    return [replace(one, references=tuple(names[one.way[0].descriptor.digest])) if one.way else one for one in images]


def _docker_image(files: _Files, item: Fields, by_config: "dict[Digest, _Listed]") -> ArchiveImage:
    name = item.text("Config")
    config_data = files.content(name, "MAX_CONFIG_BYTES", MAX_CONFIG_BYTES)
    paths = item.texts("Layers")
    check_size(len(paths), "MAX_LAYERS", manifests.MAX_LAYERS, name)
    config = configs.parse(config_data, len(paths), name)
    names = [ImageReference.parse(text) for text in item.texts("RepoTags")]
    if any(reference.tag is None for reference in names):
        raise item.refuse("RepoTags", "must have a tag each")
    found = by_config.get(Digest.of(config_data)) or by_config.get(Digest.of(config_data, "sha512"))
    if found and [_blob_name(layer.digest) for layer in found.manifest.layers] == list(paths):
        image = _image(files, found.data, found.manifest, config, config_data)
        return replace(image, references=tuple(names), way=found.way)
    entries = [files.find(path) for path in paths]
    layers = tuple(
        ArchiveLayer(entry.offset_bytes, entry.size_bytes, None, diff_id, "")
        for entry, diff_id in zip(entries, config.diff_ids, strict=True)
    )
    return ArchiveImage(config_data, config, layers, None, tuple(names))


@dataclass(frozen=True, slots=True)
class _Listed:
    """A manifest of a layout."""

    data: bytes
    manifest: Manifest
    way: ArchiveWay


def _manifests_by_config(files: _Files) -> dict[Digest, _Listed]:
    """Manifests of the OCI layout that stands beside a manifest.json; those that are not whole are left out."""
    if not files.has(OCI_INDEX_FILE):
        return {}
    found: dict[Digest, _Listed] = {}
    pending: list[tuple[Descriptor, ArchiveWay]] = [(entry, ()) for entry in _top_index(files).entries]
    count = 0
    while pending:
        entry, way = pending.pop()
        depth = len(way) + 1
        is_read = entry.is_index or entry.media_type in manifests.MANIFEST_TYPES
        # Archives of one platform keep the whole index and leave the other platforms' blobs out.
        may_be_absent = entry.is_index or depth > 1
        if not is_read or entry.is_attestation or (may_be_absent and not files.has(_blob_name(entry.digest))):
            continue
        count += 1
        check_size(count, "MAX_ARCHIVE_MANIFESTS", MAX_ARCHIVE_MANIFESTS, OCI_INDEX_FILE)
        check_size(depth, "MAX_INDEX_DEPTH", MAX_INDEX_DEPTH, OCI_INDEX_FILE)
        data = files.verified(entry, "MAX_MANIFEST_BYTES", MAX_MANIFEST_BYTES)
        try:
            parsed = manifests.parse(data, entry.media_type, entry.digest)
        except ManifestInvalid:
            if depth == 1:
                raise
            continue  # an index may name what is no image; an image that is missed here is loaded by the listing alone
        if isinstance(parsed, Manifest):
            found[parsed.config.digest] = _Listed(data, parsed, way)
        else:
            below = (*way, _archive_index(entry, parsed, data))
            pending += [(child, below) for child in parsed.entries]
    return found


def _archive_index(entry: Descriptor, parsed: Index, data: bytes) -> ArchiveIndex:
    return ArchiveIndex(Descriptor(parsed.media_type, entry.digest, len(data)), data)


def _top_index(files: _Files) -> Index:
    data = files.content(OCI_INDEX_FILE, "MAX_MANIFEST_BYTES", MAX_MANIFEST_BYTES)
    parsed = manifests.parse(data, manifests.OCI_INDEX, OCI_INDEX_FILE)
    if not isinstance(parsed, Index):
        raise ArchiveInvalid(entry=OCI_INDEX_FILE, rule="it is not an index")
    return replace(parsed, entries=tuple(_as_it_came(files, entry) for entry in parsed.entries))


def _as_it_came(files: _Files, entry: Descriptor) -> Descriptor:
    """The index that the entry was made for, where the archive has it; see `index_file.AS_IT_CAME`."""
    text = entry.annotations.get(index_file.AS_IT_CAME)
    if text is None:
        return entry
    name = _blob_name(digest := Digest.parse(text))
    if not files.has(name):
        return entry
    return replace(entry, media_type=DOCKER_INDEX, digest=digest, size_bytes=files.find(name).size_bytes)


class _Layout:
    """An OCI layout: walks its index down to the images of the wanted platforms."""

    def __init__(
        self, files: _Files, platforms: Sequence[Platform], host: Platform, base_name: ImageReference | None
    ) -> None:
        self._files = files
        self._platforms = platforms
        self._host = host
        self._base_name = base_name
        self._manifest_count = 0

    def images(self) -> list[ArchiveImage]:
        self._check_version()
        found: list[ArchiveImage] = []
        for entry in _top_index(self._files).entries:
            if entry.is_attestation:
                continue
            names = self._names(entry)
            below = self._below(entry, ())
            chosen = self._chosen(below, entry) if entry.is_index else below
            found += [replace(image, references=tuple(names)) for image in chosen]
            check_size(len(found), "MAX_ARCHIVE_IMAGES", MAX_ARCHIVE_IMAGES, OCI_INDEX_FILE)
        return found

    def _check_version(self) -> None:
        refuse = _refuse(OCI_LAYOUT_FILE)
        layout = Fields(self._files.document(OCI_LAYOUT_FILE), "", refuse)
        if not layout.text("imageLayoutVersion").startswith("1."):
            raise layout.refuse("imageLayoutVersion", "must be 1.x")

    def _names(self, entry: Descriptor) -> list[ImageReference]:
        name = entry.annotations.get(_CONTAINERD_NAME) or entry.annotations.get(_REF_NAME, "")
        if not name:
            return []
        if ":" in name or "/" in name:
            return [ImageReference.parse(name).with_default_tag()]
        # A bare word is a tag without a repository, as the specification's own example has it.
        if self._base_name is None or not self._base_name.is_name_only:
            return []
        try:
            return [ImageReference.parse(f"{self._base_name.familiar_name}:{name}")]
        except ReferenceInvalid:
            raise ReferenceInvalid(reference=name, rule="the archive's annotation is not a tag") from None

    def _below(self, entry: Descriptor, way: ArchiveWay) -> list[ArchiveImage]:
        check_size(len(way) + 1, "MAX_INDEX_DEPTH", MAX_INDEX_DEPTH, OCI_INDEX_FILE)
        self._manifest_count += 1
        check_size(self._manifest_count, "MAX_ARCHIVE_MANIFESTS", MAX_ARCHIVE_MANIFESTS, OCI_INDEX_FILE)
        data = self._files.verified(entry, "MAX_MANIFEST_BYTES", MAX_MANIFEST_BYTES)
        parsed = manifests.parse(data, entry.media_type, entry.digest)
        if isinstance(parsed, Manifest):
            config_data = self._files.verified(parsed.config, "MAX_CONFIG_BYTES", MAX_CONFIG_BYTES)
            config = configs.parse(config_data, len(parsed.layers), entry.digest)
            return [replace(_image(self._files, data, parsed, config, config_data), way=way)]
        way = (*way, _archive_index(entry, parsed, data))
        found: list[ArchiveImage] = []
        for child in parsed.entries:
            # Archives of one platform keep the whole index and leave the other platforms' blobs out.
            if not child.is_attestation and self._files.has(_blob_name(child.digest)):
                found += self._below(child, way)
                check_size(len(found), "MAX_ARCHIVE_IMAGES", MAX_ARCHIVE_IMAGES, OCI_INDEX_FILE)
        return found

    def _chosen(self, images: list[ArchiveImage], entry: Descriptor) -> list[ArchiveImage]:
        offered = [image.config.platform for image in images]
        if not self._platforms:
            position = best(self._host, offered)
            return images if position is None else [images[position]]
        positions = [best(wanted, offered) for wanted in self._platforms]
        for wanted, position in zip(self._platforms, positions, strict=True):
            if position is None:
                raise PlatformUnavailable(reference=entry.digest, platform=wanted, available=offered)
        return [images[position] for position in dict.fromkeys(positions) if position is not None]
