"""Reads what is stored again and tells what is not as it was. What to do about it, `repair.py` knows."""

import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fluytd.checks.model import (
    INDEX_FILE,
    LAYOUT_FILE,
    Checked,
    Finding,
    Progress,
    Subjects,
    Summary,
    subjects_of,
)
from fluytd.checks.ports import CheckedBlobs, CheckedImages, CheckedIndex, CheckedLayers
from fluytd.checks.records import RecordRepairer
from fluytd.checks.repair import Repairer
from fluytd.errors import (
    BlobNotFound,
    ContentOrphaned,
    DataCorruptOnDisk,
    DigestMismatch,
    EngineError,
    IoFailed,
    LayerNotFound,
    LimitExceeded,
)
from fluytd.events.model import StorageDamaged
from fluytd.gc.collect import Collector
from fluytd.gc.leases import Leases
from fluytd.gc.ports import Needs
from fluytd.ids import Digest
from fluytd.operations.ports import CancelToken

#: Subjects that one request may name.
MAX_CHECK_SUBJECTS: Final = 1_000
#: Images that a finding names.
MAX_FINDING_REFERENCES: Final = 100
#: Largest index.json and oci-layout that are read. Source: rust_core/content, INDEX_MAX_BYTES.
MAX_LAYOUT_FILE_BYTES: Final = 64 * 1024 * 1024
#: Source: OCI image-spec, image-layout.md, `oci-layout` file.
_LAYOUT: Final = {"imageLayoutVersion": "1.0.0"}
_LAYER_ID: Final = re.compile(r"(chain-)?[0-9a-f]{64}")
#: A failure of these means that the thing itself is bad, not that the check could not go on.
_DAMAGE: Final = (BlobNotFound, LayerNotFound, DataCorruptOnDisk, DigestMismatch, IoFailed)


@dataclass(frozen=True, slots=True)
class Stored:
    """All that is looked at."""

    blobs: CheckedBlobs
    layers: CheckedLayers
    images: CheckedImages
    index: CheckedIndex
    needs: Needs


class StorageChecker:
    """Checks for callers, any number at once."""

    def __init__(
        self,
        stored: Stored,
        leases: Leases,
        collector: Collector,
        repairer: Repairer,
        record_repairer: RecordRepairer,
        new_cancel_token: Callable[[], CancelToken],
        tell: Callable[[StorageDamaged], Awaitable[None]],
    ) -> None:
        """`tell` records the event of each finding."""
        self._blobs, self._layers, self._images = stored.blobs, stored.layers, stored.images
        self._index, self._needs = stored.index, stored.needs
        self._leases = leases
        self._collector = collector
        self._repairer = repairer
        self._record_repairer = record_repairer
        self._new_cancel_token = new_cancel_token
        self._tell = tell

    async def check(
        self, named: Sequence[str], *, repair: bool = False
    ) -> AsyncGenerator[Progress | Finding | Summary, None]:
        """Everything, or what is named by digest, layer id or reference, was read again; with `repair` what was found
        is whole again or the finding tells why it is not.

        A layer that is kept as a directory is compared with what its blob gives once more; without a sound blob it
        cannot be compared, is passed over and not counted. What nothing needs is found too where everything is looked
        at, and deleted with `repair`. Yields a progress before the first thing and after each, a finding for each that
        is damaged, missing or needless, and the summary at the end. What is checked is not deleted meanwhile; content
        that nothing needs and that is gone when its turn comes is passed over. Closing the iterator ends the reading
        soon; repairs made stay. Raises LIMIT_EXCEEDED for too many names; DIGEST_INVALID, IMAGE_NOT_FOUND and the like
        for a name that is none; STORAGE_FULL.
        """
        if len(named) > MAX_CHECK_SUBJECTS:
            values = {"limit": "check_subjects", "limit_value": MAX_CHECK_SUBJECTS, "actual": len(named)}
            raise LimitExceeded(**values, subject="subjects")
        subjects = self._named(named) if named else await self._everything()
        summary = Summary()
        cancel = self._new_cancel_token()
        try:
            yield Progress(0, subjects.count, 0)
            for image_id in subjects.records:
                summary.checked_count += 1
                finding = await self._record(image_id, is_repair=repair)
                if finding is not None:
                    summary.damaged_count += 1
                    summary.repaired_count += finding.is_repaired
                    await self._tell(StorageDamaged(finding.subject, finding.is_repaired))
                    yield finding
                yield Progress(summary.checked_count, subjects.count, summary.checked_bytes)
            for subject in (*subjects.files, *subjects.blobs, *subjects.layers):
                finding = await self._visit(subject, summary, cancel, is_named=bool(named), is_repair=repair)
                if finding is not None:
                    summary.damaged_count += 1
                    summary.repaired_count += finding.is_repaired
                    await self._tell(StorageDamaged(finding.subject, finding.is_repaired))
                    yield finding
                yield Progress(summary.checked_count, subjects.count, summary.checked_bytes)
            yield summary
        finally:
            cancel.cancel()

    async def _record(self, image_id: str, *, is_repair: bool) -> Finding | None:
        """None if the image has come anew meanwhile."""
        failure = self._index.unreadable.get(image_id)
        if failure is None:
            return None
        finding = Finding(image_id, failure, (image_id,))
        if not is_repair:
            return finding
        repaired = await self._record_repairer.repair(image_id)
        return replace(finding, is_repaired=repaired.is_repaired, action=repaired.action)

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
        found = subjects_of(self._images, blobs, layers)
        return replace(found, files=(LAYOUT_FILE, INDEX_FILE), records=tuple(self._index.unreadable))

    async def _visit(
        self, subject: str, summary: Summary, cancel: CancelToken, *, is_named: bool, is_repair: bool
    ) -> Finding | None:
        if not is_named and self._is_orphan(subject):
            return await self._orphan(subject, summary, is_repair=is_repair)
        async with self._leases.lease() as lease:
            await lease.add([subject])
            finding = await self._look(subject, summary, cancel, is_named=is_named)
            if finding is None or not is_repair:
                return finding
            repaired = await self._repairer.repair(subject, cancel)
            return replace(finding, is_repaired=repaired.is_repaired, action=repaired.action)

    def _is_orphan(self, subject: str) -> bool:
        if subject.startswith("content/") or self._leases.is_held(subject):
            return False
        needs = self._needs.needs_blob if isinstance(subject, Digest) else self._needs.needs_layer
        return not needs(subject)

    async def _orphan(self, subject: str, summary: Summary, *, is_repair: bool) -> Finding | None:
        summary.checked_count += 1
        finding = Finding(subject, ContentOrphaned(subject=subject).failure, ())
        if not is_repair:
            return finding
        blobs = {subject: 0} if isinstance(subject, Digest) else {}
        swept = await self._collector.sweep(blobs, {} if blobs else {subject: 0})
        if swept.deleted:
            return replace(finding, is_repaired=True, action="it was deleted")
        # Something has come to need it meanwhile, or it could not be deleted, which was logged.
        return replace(finding, action="it could not be deleted") if self._is_orphan(subject) else None

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
        # What could not be compared with anything was not read, and does not count as if it had been.
        summary.checked_count += checked.is_checkable
        summary.checked_bytes += checked.checked_bytes
        if not checked.damage:
            return None
        return Finding(subject, _damaged(subject, checked.damage).failure, references)

    async def _verify(self, subject: str, cancel: CancelToken) -> Checked:
        if isinstance(subject, Digest):
            return await self._blobs.verify(subject)
        if subject.startswith("content/"):
            return await self._verify_file(subject)
        checked = await self._layers.verify(subject, cancel)
        if checked.is_checkable:
            return checked
        return await self._repairer.compare(subject, cancel) or checked

    async def _verify_file(self, subject: str) -> Checked:
        data = await self._blobs.read_file(subject.partition("/")[2], MAX_LAYOUT_FILE_BYTES)
        if subject == INDEX_FILE:
            # Rendered after it was read: a change between the two is written by its maker at once.
            is_sound = data == self._index.render_index() or await self._is_index_behind()
        else:
            is_sound = _is_layout(data)
        return Checked("" if is_sound else "it is not what the records say", len(data))

    async def _is_index_behind(self) -> bool:
        """True if index.json was only being rewritten when it was read."""
        await self._index.settled()
        data = await self._blobs.read_file(INDEX_FILE.partition("/")[2], MAX_LAYOUT_FILE_BYTES)
        return data == self._index.render_index()

    def _needed_by(self, subject: str) -> list[str]:
        found: list[str] = []
        for image in self._images:
            if subject in image.blob_sizes or subject in image.layer_sizes:
                found += self._images.references(image.id) or (image.id,)
        return found[:MAX_FINDING_REFERENCES]


def _is_layout(data: bytes) -> bool:
    try:
        return bool(json.loads(data) == _LAYOUT)
    except ValueError:
        return False


def _damaged(subject: str, damage: str) -> EngineError:
    if subject.startswith("content/"):
        return DataCorruptOnDisk(path=subject, detail=damage)
    folder = "content/blobs" if isinstance(subject, Digest) else "layers"
    return DataCorruptOnDisk(path=f"{folder}/{subject.replace(':', '/')}", detail=damage)
