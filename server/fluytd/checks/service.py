"""Reads blobs and layers again and tells which are not what they were. It changes nothing."""

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

from fluytd.checks.model import Checked, Finding, Progress, Subjects, Summary, subjects_of
from fluytd.checks.ports import CheckedBlobs, CheckedImages, CheckedLayers
from fluytd.errors import (
    BlobNotFound,
    DataCorruptOnDisk,
    DigestMismatch,
    EngineError,
    IoFailed,
    LayerNotFound,
    LimitExceeded,
)
from fluytd.gc.leases import Leases
from fluytd.ids import Digest
from fluytd.operations.ports import CancelToken

#: Subjects that one request may name.
MAX_CHECK_SUBJECTS: Final = 1_000
#: Images that a finding names.
MAX_FINDING_REFERENCES: Final = 100
_LAYER_ID: Final = re.compile(r"(chain-)?[0-9a-f]{64}")
#: A failure of these means that the thing itself is bad, not that the check could not go on.
_DAMAGE: Final = (BlobNotFound, LayerNotFound, DataCorruptOnDisk, DigestMismatch, IoFailed)


class StorageChecker:
    """Checks for callers, any number at once."""

    def __init__(
        self,
        blobs: CheckedBlobs,
        layers: CheckedLayers,
        images: CheckedImages,
        leases: Leases,
        new_cancel_token: Callable[[], CancelToken],
    ) -> None:
        self._blobs = blobs
        self._layers = layers
        self._images = images
        self._leases = leases
        self._new_cancel_token = new_cancel_token

    async def check(self, named: Sequence[str]) -> AsyncGenerator[Progress | Finding | Summary, None]:
        """Everything, or what is named by digest, layer id or reference, was read again.

        A layer that is kept as a directory cannot be compared with anything: it is passed over and not counted.
        Yields a progress before the first thing and after each, a finding for each that is damaged or missing, and the
        summary at the end. What is checked is not deleted meanwhile; content that nothing needs and that is gone when
        its turn comes is passed over. Closing the iterator ends the reading soon. Raises LIMIT_EXCEEDED for too many
        names; DIGEST_INVALID, IMAGE_NOT_FOUND and the like for a
        name that is none.
        """
        if len(named) > MAX_CHECK_SUBJECTS:
            values = {"limit": "check_subjects", "limit_value": MAX_CHECK_SUBJECTS, "actual": len(named)}
            raise LimitExceeded(**values, subject="subjects")
        subjects = self._named(named) if named else await self._everything()
        summary = Summary()
        cancel = self._new_cancel_token()
        try:
            yield Progress(0, subjects.count, 0)
            for subject in (*subjects.blobs, *subjects.layers):
                async with self._leases.lease() as lease:
                    await lease.add([subject])
                    finding = await self._look(subject, summary, cancel, is_named=bool(named))
                if finding is not None:
                    summary.damaged_count += 1
                    yield finding
                yield Progress(summary.checked_count, subjects.count, summary.checked_bytes)
            yield summary
        finally:
            cancel.cancel()

    def _named(self, named: Sequence[str]) -> Subjects:
        images, blobs, layers = [], [], []
        for text in named:
            if _LAYER_ID.fullmatch(text):
                layers.append(text)
            elif text.startswith(("sha256:", "sha512:")):
                blobs.append(Digest.parse(text))
            else:
                images.append(self._images.find(text)[0])
        return subjects_of(images, blobs, layers)

    async def _everything(self) -> Subjects:
        blobs = sorted(blob.digest for blob in await self._blobs.list_blobs())
        layers = sorted(layer.layer_id for layer in await self._layers.list_layers())
        return subjects_of(self._images, blobs, layers)

    async def _look(self, subject: str, summary: Summary, cancel: CancelToken, *, is_named: bool) -> Finding | None:
        references = self._needed_by(subject)
        try:
            checked = await self._verify(subject, cancel)
        except _DAMAGE as error:
            is_absent = isinstance(error, BlobNotFound | LayerNotFound)
            summary.checked_count += 1
            if is_absent and not references and not is_named:
                return None
            return Finding(subject, error.failure, references)
        # What holds nothing to be compared with was not read, and does not count as if it had been.
        summary.checked_count += checked.is_checkable
        summary.checked_bytes += checked.checked_bytes
        if not checked.damage:
            return None
        return Finding(subject, _damaged(subject, checked.damage).failure, references)

    async def _verify(self, subject: str, cancel: CancelToken) -> Checked:
        if isinstance(subject, Digest):
            return await self._blobs.verify(subject)
        return await self._layers.verify(subject, cancel)

    def _needed_by(self, subject: str) -> list[str]:
        found: list[str] = []
        for image in self._images:
            if subject in image.blob_sizes or subject in image.layer_sizes:
                found += self._images.references(image.id) or (image.id,)
        return found[:MAX_FINDING_REFERENCES]


def _damaged(subject: str, damage: str) -> EngineError:
    folder = "content/blobs" if isinstance(subject, Digest) else "layers"
    return DataCorruptOnDisk(path=f"{folder}/{subject.replace(':', '/')}", detail=damage)
