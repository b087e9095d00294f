"""An image as the engine keeps it, and what follows from it. It stores nothing.

An image's id is the digest of its config. Its layers are kept by layer id, so that two images with a layer in common
have it once; sizes were counted when the layers were written and are only added up here.
"""

from dataclasses import dataclass
from functools import cached_property

from fluytd.ids import Digest
from fluytd.images.config import ImageConfig
from fluytd.images.manifests import Descriptor
from fluytd.images.platforms import Platform

#: Indexes from the one that a reference names down to the one that lists a manifest, the outermost first.
Way = tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """One layer of one image."""

    #: The blob, compressed as it came.
    descriptor: Descriptor
    diff_id: Digest
    #: The stack up to this layer.
    chain_id: Digest
    #: Where it stands unpacked; the same id stands for the same tree.
    layer_id: str
    #: Bytes of its regular files, unpacked.
    size_bytes: int
    #: The highest user or group that something in it belongs to; 0 if that was not recorded.
    max_id: int = 0


@dataclass(frozen=True, slots=True)
class Attested:
    """What an index says about an image beside the image: a manifest of attestations that the engine made and keeps."""

    #: The index that lists it.
    index: Digest
    manifest: Descriptor
    #: Its config, then its statements.
    blobs: tuple[Descriptor, ...]


@dataclass(frozen=True)
class Image:
    """One image of one platform that is whole: each blob and layer of it is visible."""

    id: Digest
    manifest: Descriptor
    #: What its reference resolved to: an index, or the manifest.
    target: Descriptor
    #: The config's exact bytes as text; `config` is made from it.
    config_text: str
    config: ImageConfig
    #: Lowest first.
    layers: tuple[ImageLayer, ...]
    create_time_unix_nanos: int
    #: Grows with every change of its references.
    version: int = 1
    #: By which indexes it came, of those that are kept for it; none where its manifest alone was asked for.
    ways: tuple[Way, ...] = ()
    #: Attestations that its indexes list, of those that were made here.
    attested: tuple[Attested, ...] = ()

    def way(self, target: Digest) -> Way | None:
        """The indexes from `target` down to its manifest; None where they are not kept for it."""
        return next((way for way in self.ways if way[0].digest == target), None)

    @property
    def platform(self) -> Platform:
        """What it is made for."""
        return self.config.platform

    @cached_property
    def layer_sizes(self) -> dict[str, int]:
        """Unpacked bytes by layer id, lowest first; a layer that stands in it twice counts once."""
        return {layer.layer_id: layer.size_bytes for layer in self.layers}

    @property
    def size_bytes(self) -> int:
        """Bytes of its unpacked layers."""
        return sum(self.layer_sizes.values())

    @property
    def max_id(self) -> int:
        """The highest user or group that something in it belongs to, as far as that was recorded."""
        return max((layer.max_id for layer in self.layers), default=0)

    @cached_property
    def content_sizes(self) -> dict[Digest, int]:
        """Bytes of its manifest, its config and its compressed layers, each once."""
        sizes = {self.manifest.digest: self.manifest.size_bytes, self.id: len(self.config_text.encode())}
        return sizes | {layer.descriptor.digest: layer.descriptor.size_bytes for layer in self.layers}

    @cached_property
    def blob_sizes(self) -> dict[Digest, int]:
        """Bytes of every blob that is kept for it, each once: its content, the indexes by which it came, and what was
        attested of it."""
        beside = [index for way in self.ways for index in way]
        beside += [blob for one in self.attested for blob in (one.manifest, *one.blobs)]
        return self.content_sizes | {blob.digest: blob.size_bytes for blob in beside}

    @property
    def blob_digests(self) -> tuple[Digest, ...]:
        """Every blob that is kept for it, each once."""
        return tuple(self.blob_sizes)

    @property
    def content_size_bytes(self) -> int:
        """Bytes of its manifest, its config and its compressed layers."""
        return sum(self.content_sizes.values())

    @property
    def history_layers(self) -> list[ImageLayer | None]:
        """For each step of its config's history the layer that the step made; None for a step that made none."""
        layers = iter(self.layers)
        return [None if step.is_empty_layer else next(layers, None) for step in self.config.history]

    @cached_property
    def lower_layer_ids(self) -> tuple[str, ...]:
        """Layers for overlay, top-most first.

        A layer that stands in the image twice is named at its upper place only: all that its lower place could show is
        shown by the upper one, and overlayfs refuses a directory that is named twice (case R16).
        """
        return tuple(dict.fromkeys(layer.layer_id for layer in reversed(self.layers)))


@dataclass(frozen=True, slots=True)
class Remains:
    """What of an image's record can still be read, where its text cannot."""

    version: int
    #: 0 where that is damaged too.
    create_time_unix_nanos: int
    #: What its names and repository digests were resolved to, the names first.
    targets: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a deletion took away."""

    untagged: tuple[str, ...]
    #: Ids of images, digests of blobs and ids of layers that are gone.
    deleted: tuple[str, ...]
    reclaimed_bytes: int
