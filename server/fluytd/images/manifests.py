"""Manifests and indexes: typed values from the exact bytes, refused where they lie or leave something open.

Bytes are never written back: a digest is that of the bytes as they came.
Source: OCI image-spec manifest.md, image-index.md, descriptor.md; Docker's manifest v2 schema 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fluytd.errors import ManifestInvalid
from fluytd.ids import Digest
from fluytd.images.documents import MAX_MANIFEST_BYTES, Fields, check_size, read_json, refuse_manifest
from fluytd.images.platforms import Platform

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})
_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
_OCI_FOREIGN_LAYER = "application/vnd.oci.image.layer.nondistributable.v1.tar"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar"
FOREIGN_LAYER_TYPES = frozenset(
    {
        *(_OCI_FOREIGN_LAYER + suffix for suffix in ("", "+gzip", "+zstd")),
        *(_DOCKER_FOREIGN_LAYER + suffix for suffix in ("", ".gzip", ".zstd")),
    }
)
LAYER_TYPES = frozenset(
    {
        *FOREIGN_LAYER_TYPES,
        *(_OCI_LAYER + suffix for suffix in ("", "+gzip", "+zstd")),
        *(_DOCKER_LAYER + suffix for suffix in ("", ".gzip", ".zstd")),
    }
)
#: Annotation by which BuildKit marks an entry as something about another entry, not an image.
_ATTESTATION = "vnd.docker.reference.type"

#: Most URLs of one layer, and the longest one.
MAX_LAYER_URLS = 16
MAX_LAYER_URL_CHARS = 4096
#: Most layers of one image. Source: OVL_MAX_STACK of the kernel's overlayfs.
MAX_LAYERS = 500
#: Most entries of one index.
MAX_INDEX_ENTRIES = 1_000
#: Most indexes within each other.
MAX_INDEX_DEPTH = 4


def compression_of(media_type: str) -> str:
    """How a layer of this media type is compressed: `gzip`, `zstd`, `uncompressed`."""
    return next((name for name in ("gzip", "zstd") if media_type.endswith(name)), "uncompressed")


def oci_layer_type(media_type: str) -> str:
    """The OCI media type of a layer of Docker's, which is the same bytes; any other as it is."""
    for docker, oci in ((_DOCKER_LAYER, _OCI_LAYER), (_DOCKER_FOREIGN_LAYER, _OCI_FOREIGN_LAYER)):
        if media_type == docker or media_type.startswith(f"{docker}."):
            return oci + media_type.removeprefix(docker).replace(".", "+")
    return media_type


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What one document says of another: type, digest and size."""

    media_type: str
    digest: Digest
    size_bytes: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    #: Where it may be had beside its registry. Read of layers only that are not to be distributed (case R13): by any
    #: other descriptor a manifest could make the engine ask whomever it likes.
    urls: tuple[str, ...] = ()

    @property
    def is_foreign(self) -> bool:
        """True if it is a layer whose maker forbids that registries hand it out.

        Source: OCI image-spec layer.md, "Non-Distributable Layers"; Docker's foreign layers.
        """
        return self.media_type in FOREIGN_LAYER_TYPES

    @property
    def is_index(self) -> bool:
        """True if it names an index."""
        return self.media_type in INDEX_TYPES

    @property
    def is_attestation(self) -> bool:
        """True if what it names is about an image and not one (case R12)."""
        return _ATTESTATION in self.annotations or (self.platform is not None and self.platform.is_unknown)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one platform."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """A list of manifests and further indexes."""

    media_type: str
    entries: tuple[Descriptor, ...]


def parse(data: bytes, media_type: str, subject: str) -> Manifest | Index:
    """The manifest or index in `data`.

    Args:
        data: the exact bytes.
        media_type: what the header or the descriptor says of them; empty if nothing was said.
        subject: what they are, for messages.

    Raises MANIFEST_INVALID, DIGEST_INVALID, LIMIT_EXCEEDED.
    """
    check_size(len(data), "MAX_MANIFEST_BYTES", MAX_MANIFEST_BYTES, subject)
    refuse = refuse_manifest(subject)
    document = Fields(read_json(data, refuse), "", refuse)
    document.check_known_spelling("schemaVersion", "mediaType", "config", "layers", "manifests", "fsLayers")
    if document.has("manifests") and (document.has("config") or document.has("layers")):
        raise refuse("it is both a manifest and an index")
    kind = _kind(document, media_type, subject)
    if document.number("schemaVersion") != 2:
        raise refuse("its schemaVersion must be 2")
    if kind in INDEX_TYPES:
        return _index(document, kind, subject)
    return _manifest(document, kind, subject)


def _kind(document: Fields, said: str, subject: str) -> str:
    own = document.text("mediaType")
    said = said.partition(";")[0].strip()
    if own and said in MANIFEST_TYPES | INDEX_TYPES and own != said:
        raise ManifestInvalid(subject=subject, rule=f"it came as {said} and calls itself {own}")
    kind = own or (said if said in MANIFEST_TYPES | INDEX_TYPES else "")
    if not kind:
        kind = OCI_INDEX if document.has("manifests") else OCI_MANIFEST
    if kind not in MANIFEST_TYPES | INDEX_TYPES:
        raise ManifestInvalid(subject=subject, rule=f"its media type {kind[:128]} is not one of an image")
    if document.has("manifests") != (kind in INDEX_TYPES) and (document.has("manifests") or document.has("layers")):
        raise ManifestInvalid(subject=subject, rule=f"its content is not that of its media type {kind}")
    return kind


def _index(document: Fields, kind: str, subject: str) -> Index:
    check_size(len(document.items("manifests")), "MAX_INDEX_ENTRIES", MAX_INDEX_ENTRIES, subject)
    return Index(kind, tuple(_descriptor(entry) for entry in document.objects("manifests")))


def _manifest(document: Fields, kind: str, subject: str) -> Manifest:
    refuse = refuse_manifest(subject)
    if not document.has("config"):
        raise refuse("it has no config")
    config = _descriptor(document.object("config"))
    if config.media_type not in CONFIG_TYPES:
        raise refuse(f"its config is {config.media_type[:128] or 'of no type'}, so that it is not a container image")
    check_size(len(document.items("layers")), "MAX_LAYERS", MAX_LAYERS, subject)
    if "layers" not in document.names:
        raise refuse("it has no layers")
    # An empty list is an image `FROM scratch` with nothing in it, which Docker and podman make and take.
    layers = tuple(_layer(entry) for entry in document.objects("layers"))
    for layer in layers:
        if layer.media_type not in LAYER_TYPES:
            raise refuse(f"layer {layer.digest} is {layer.media_type[:128] or 'of no type'}, which cannot be unpacked")
    return Manifest(kind, config, layers)


def _layer(entry: Fields) -> Descriptor:
    layer = _descriptor(entry)
    if not layer.is_foreign:
        return layer
    urls = entry.texts("urls")
    check_size(len(urls), "MAX_LAYER_URLS", MAX_LAYER_URLS, layer.digest)
    for url in urls:
        check_size(len(url), "MAX_LAYER_URL_CHARS", MAX_LAYER_URL_CHARS, layer.digest)
    return replace(layer, urls=urls)


def _descriptor(entry: Fields) -> Descriptor:
    return Descriptor(
        media_type=entry.text("mediaType"),
        digest=entry.digest("digest"),
        size_bytes=entry.number("size"),
        platform=_platform(entry.object("platform")) if entry.has("platform") else None,
        annotations=entry.text_map("annotations"),
    )


def _platform(entry: Fields) -> Platform:
    return Platform.normalised(
        entry.text("os"), entry.text("architecture"), entry.text("variant"), entry.text("os.version")
    )
