"""What a set of additions makes of the images and names that are here. Pure: it reads the table and changes nothing.

A reference names one target. An image that comes by the same target stands beside those that came before it; where the
target is another one, the images that the new index lists too stay, and the others lose the name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fluytd.errors import ImageNotFound
from fluytd.events.model import Fact
from fluytd.ids import Digest
from fluytd.images.model import Image, Way
from fluytd.images.table import ImageTable, Name


@dataclass(frozen=True, slots=True)
class Addition:
    """An image that is whole, and what it is to be called."""

    image: Image
    #: References in full; each then names the image's target.
    names: tuple[str, ...]
    repo_digests: tuple[str, ...]
    fact: Fact
    #: Manifests that its index lists, with the indexes down to each: images of them keep the names.
    listed: Mapping[Digest, Way] = field(default_factory=dict)


@dataclass(slots=True)
class Changes:
    """What is to be recorded."""

    #: Every image that is new or changed, as it is to be, by id.
    images: dict[str, Image] = field(default_factory=dict)
    names: dict[str, Name] = field(default_factory=dict)
    #: (reference, image id) of names that images lose.
    lost: list[tuple[str, str]] = field(default_factory=list)


def plan_additions(table: ImageTable, additions: Sequence[Addition]) -> Changes:
    """All additions, one after the other, over the table.

    An image that was here keeps the time it came, and the indexes that its names are still resolved to.
    """
    work = _Work(table)
    for addition in additions:
        work.add(addition)
    return work.finish()


class _Work:
    def __init__(self, table: ImageTable) -> None:
        self._table = table
        self._changes = Changes()

    def add(self, addition: Addition) -> None:
        image = self._merged(addition.image)
        self._changes.images[image.id] = image
        for reference in addition.names:
            before = self._changes.names.get(reference) or self._table.named(reference)
            kept = [one for one in (before.image_ids if before else ()) if self._stays(one, reference, addition)]
            name = Name(image.target.digest, tuple(dict.fromkeys((*kept, image.id))))
            self._changes.names[reference] = name

    def finish(self) -> Changes:
        changes = self._changes
        for _, image_id in changes.lost:
            if image_id not in changes.images:
                changes.images[image_id] = self._bumped(image_id)
        for image_id, image in changes.images.items():
            wanted = self._targets(image)
            ways = tuple(way for way in image.ways if way[0].digest in wanted)
            attested = tuple(one for one in image.attested if one.index in wanted)
            if (ways, attested) != (image.ways, image.attested):
                changes.images[image_id] = replace(image, ways=ways, attested=attested)
        return changes

    def _stays(self, image_id: str, reference: str, addition: Addition) -> bool:
        """True if the image keeps the reference; it is given the way by which it does so."""
        image = self._current(image_id)
        way = addition.listed.get(image.manifest.digest)
        if image_id == addition.image.id:
            return True
        if way is not None:
            if way not in image.ways:
                known = self._changes.images.get(image_id) or self._bumped(image_id)
                self._changes.images[image_id] = replace(known, ways=(*known.ways, way))
            return True
        before = self._changes.names.get(reference) or self._table.named(reference)
        if before is not None and before.target == addition.image.target.digest:
            return True
        self._changes.lost.append((reference, image_id))
        return False

    def _current(self, image_id: str) -> Image:
        image = self._changes.images.get(image_id) or self._table.get(image_id)
        if image is None:
            raise ImageNotFound(reference=image_id)
        return image

    def _bumped(self, image_id: str) -> Image:
        image = self._current(image_id)
        return replace(image, version=image.version + 1)

    def _merged(self, image: Image) -> Image:
        before = self._changes.images.get(image.id) or self._table.get(image.id)
        if before is None:
            return image
        # Indexes lead to one manifest: an image that came anew by another one has left them.
        is_same = before.manifest.digest == image.manifest.digest
        kept = before.ways if is_same else ()
        attested = before.attested if is_same else ()
        return replace(
            image,
            create_time_unix_nanos=before.create_time_unix_nanos,
            version=before.version + (image.id not in self._changes.images),
            ways=tuple({way[0].digest: way for way in (*kept, *image.ways)}.values()),
            attested=tuple({(a.index, a.manifest.digest): a for a in (*attested, *image.attested)}.values()),
        )

    def _targets(self, image: Image) -> set[Digest]:
        names = {**self._table.names, **self._changes.names}
        return {image.target.digest, *(name.target for name in names.values() if image.id in name.image_ids)}
