"""What a check needs of the stores and the images."""

from collections.abc import Iterator
from typing import Protocol

from fluytd.checks.model import Checked
from fluytd.content.ports import Blob
from fluytd.ids import Digest
from fluytd.images.model import Image
from fluytd.images.ports import Layer
from fluytd.operations.ports import CancelToken


class CheckedBlobs(Protocol):
    """Visible blobs."""

    async def list_blobs(self) -> list[Blob]:
        """All of them, no order."""

    async def verify(self, digest: Digest) -> Checked:
        """The blob was read again and compared with its digest. Raises BLOB_NOT_FOUND, IO_FAILED."""


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
