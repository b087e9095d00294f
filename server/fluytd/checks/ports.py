"""What a check and a repair need of the stores, the registries and the images."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from fluytd.checks.model import Checked, Recipe
from fluytd.content.ports import Blob
from fluytd.errors import Failure
from fluytd.ids import Digest
from fluytd.images.model import Image
from fluytd.images.ports import Layer, Source
from fluytd.operations.ports import CancelToken


class CheckedBlobs(Protocol):
    """Visible blobs and the two files beside them."""

    async def list_blobs(self) -> list[Blob]:
        """All of them, no order."""

    async def verify(self, digest: Digest) -> Checked:
        """The blob was read again and compared with its digest. Raises BLOB_NOT_FOUND, IO_FAILED."""

    async def read_file(self, name: str, max_size_bytes: int) -> bytes:
        """`index.json` or `oci-layout`, cut at so many bytes; empty if it is absent. Raises IO_FAILED."""

    async def write_layout(self) -> None:
        """`oci-layout` is what it ought to be, atomically. Raises IO_FAILED, STORAGE_FULL."""


class CheckedLayers(Protocol):
    """Visible layers."""

    async def list_layers(self) -> list[Layer]:
        """All of them, no order."""

    async def verify(self, layer_id: str, cancel: CancelToken) -> Checked:
        """What the layer keeps was read again and compared with its digests.

        Raises LAYER_NOT_FOUND, DATA_CORRUPT, IO_FAILED, CANCELLED.
        """


class CheckedImages(Protocol):
    """The images that are here. Answers from memory."""

    def __iter__(self) -> Iterator[Image]:
        """All of them."""

    def find(self, text: str) -> tuple[Image, str]:
        """The image of this reference, id or beginning of an id. Raises IMAGE_NOT_FOUND, REFERENCE_INVALID..."""

    def references(self, image_id: str) -> tuple[str, ...]:
        """Its names, sorted."""

    def repo_digests(self, image_id: str) -> tuple[str, ...]:
        """`<repository>@<digest>` of the registries that it is known to come from or to stand in, sorted."""


class CheckedIndex(Protocol):
    """The records of images, and index.json as they would have it."""

    @property
    def unreadable(self) -> Mapping[str, Failure]:
        """Ids of images whose records cannot be read, and why."""

    def render_index(self) -> bytes:
        """The bytes that it ought to have."""

    async def settled(self) -> None:
        """Returns once every change that had begun is written."""

    async def mend_index(self) -> None:
        """It has them. Raises IO_FAILED, STORAGE_FULL."""


class Workshop(Protocol):
    """A place beside the stores in which content is made again, out of sight, for one caller at a time.

    What fails or is cut short changes nothing that is visible; `clear` takes away what it leaves. All that takes a
    cancel token raises CANCELLED.
    """

    async def fetch_blob(self, source: Source, cancel: CancelToken) -> None:
        """The blob is made, from its registry. Raises as `images.ports.Ingester.fetch_blob`."""

    async def fetch_manifest(self, source: Source, cancel: CancelToken) -> None:
        """The manifest is made, from its registry. Raises as `images.ports.Registry.fetch_manifest`."""

    async def write_blob(self, data: bytes, digest: Digest) -> None:
        """The blob is made, of these bytes. Raises DIGEST_MISMATCH, STORAGE_FULL, IO_FAILED."""

    async def copy_archive(self, layer_id: str, digest: Digest, cancel: CancelToken) -> bool:
        """The blob is made, of the archive that the layer keeps; False if it keeps none. Raises DIGEST_MISMATCH."""

    async def compress_layer(self, recipe: Recipe, cancel: CancelToken) -> None:
        """The layer's blob is made, of the layer as it is kept, compressed as the engine compresses what it builds.

        Raises DIGEST_MISMATCH where another program made the blob, LAYER_NOT_FOUND.
        """

    async def put_blob(self, digest: Digest) -> None:
        """The blob that was made is the visible one, by one rename, durably. Raises STORAGE_FULL, IO_FAILED."""

    async def make_layer(self, recipe: Recipe, *, as_directory: bool, cancel: CancelToken) -> None:
        """The layer is made of its visible blob, over the visible layers below it.

        Raises as `images.ports.Ingester.fetch_layer` and `finish_layer`, BLOB_NOT_FOUND.
        """

    async def make_layer_of_archive(self, recipe: Recipe, cancel: CancelToken) -> bool:
        """The layer is made of the archive that it keeps itself; False if it keeps none. Raises DIFF_ID_MISMATCH."""

    async def compare_layer(self, layer_id: str, cancel: CancelToken) -> Checked:
        """The visible layer, kept as a directory, was compared with the one that was made as such.

        Raises LAYER_NOT_FOUND, DATA_CORRUPT, IO_FAILED.
        """

    async def put_layer(self, layer_id: str) -> None:
        """The layer that was made is the visible one, by one rename, durably; what was is kept as long as a container
        runs on it. Raises STORAGE_FULL, IO_FAILED."""

    async def clear(self) -> None:
        """Nothing is left there but layers that a container still runs on. Raises IO_FAILED."""
