"""All images in memory, by id and by name, and what is counted over all of them. It does no I/O.

A reference names what a registry gave for it, and of that the images that are here: one for each platform that was
pulled or loaded. Who asks for one image gets the one that serves the platform best, the host's unless he says another.
"""

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fluytd.errors import DigestInvalid, ImageAmbiguous, ImageNotFound, PlatformUnavailable, ReferenceInvalid
from fluytd.ids import Digest, ImageReference
from fluytd.images.model import Image
from fluytd.images.platforms import Platform, best

#: Shortest prefix of an id that stands for it.
MIN_ID_PREFIX_CHARS = 4
#: Matches that an error about an ambiguous id lists.
_LISTED_MATCHES = 5
_HEX_DIGITS = frozenset("0123456789abcdef")
_ID_DIGITS = 64


@dataclass(frozen=True, slots=True)
class Name:
    """What a reference in full names."""

    #: The index or manifest that it was resolved to.
    target: Digest
    #: Those images of it that are here, in the order in which they came; at least one.
    image_ids: tuple[str, ...]

    @staticmethod
    def of(image: Image) -> "Name":
        """A name of this image alone."""
        return Name(image.target.digest, (image.id,))


@dataclass(frozen=True, slots=True)
class Match:
    """What a text stands for."""

    #: At least one; several where a reference or the digest of an index was given.
    images: tuple[Image, ...]
    #: The reference in full by which they were found; empty if by id or digest.
    name: str
    #: What they were found as: an index, or a manifest.
    target: Digest


class Shared:
    """Things that several images may have, each counted once; what all of them weigh is known at any time."""

    def __init__(self) -> None:
        self._users: Counter[str] = Counter()
        self._sizes: dict[str, int] = {}
        #: Bytes of all things.
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._users)

    def users(self, name: str) -> int:
        """How many images have it."""
        return self._users[name]

    def add(self, sizes: Mapping[Any, int]) -> None:
        """One more image has these things, of so many bytes each."""
        for name, size_bytes in sizes.items():
            self._users[name] += 1
            if name not in self._sizes:
                self._sizes[name] = size_bytes
                self.size_bytes += size_bytes

    def drop(self, names: Iterable[str]) -> None:
        """One image less has these things."""
        for name in names:
            self._users[name] -= 1
            if self._users[name] <= 0:
                del self._users[name]
                self.size_bytes -= self._sizes.pop(name)


class ImageTable:
    """Images, their references and their repository digests."""

    def __init__(self, host: Platform | None = None) -> None:
        """`host`: the platform that is chosen where none is asked for; None for the image that came first."""
        self._host = host
        self._images: dict[str, Image] = {}
        self._names: dict[str, Name] = {}
        #: `<repository>@<digest>` -> ids of images, in the order in which they came.
        self._repo_digests: dict[str, tuple[str, ...]] = {}
        # The same the other way round, so that what is told of one image costs the same however many there are.
        self._references_of: dict[str, set[str]] = {}
        self._repo_digests_of: dict[str, set[str]] = {}
        self._by_manifest: dict[str, str] = {}
        #: Layers and blobs of all images.
        self.layers = Shared()
        self.blobs = Shared()

    def __iter__(self) -> Iterator[Image]:
        return iter(list(self._images.values()))

    def get(self, image_id: str) -> Image | None:
        """The image of that id."""
        return self._images.get(image_id)

    def put(self, image: Image) -> None:
        """The image is there; one of the same id is replaced, its references stay."""
        self._uncount(image.id)
        self._images[image.id] = image
        self._by_manifest[image.manifest.digest] = image.id
        self.layers.add(image.layer_sizes)
        self.blobs.add(image.blob_sizes)

    def _uncount(self, image_id: str) -> None:
        before = self._images.get(image_id)
        if before is not None:
            self._by_manifest.pop(before.manifest.digest, None)
            self.layers.drop(before.layer_sizes)
            self.blobs.drop(before.blob_digests)

    def remove(self, image_id: str) -> None:
        """The image is gone; names that name no other image are gone too."""
        self._uncount(image_id)
        self._images.pop(image_id, None)
        for reference in self.references(image_id):
            name = self._names[reference]
            self.set_name(reference, Name(name.target, without(name.image_ids, image_id)))
        for reference in self.repo_digests(image_id):
            left = without(self._repo_digests[reference], image_id)
            self._repo_digests[reference] = left
            if not left:
                del self._repo_digests[reference]
        self._repo_digests_of.pop(image_id, None)

    def set_name(self, reference: str, name: Name) -> None:
        """The reference names these images and no others; nothing if there is none."""
        self.unname(reference)
        if name.image_ids:
            self._names[reference] = name
        for image_id in name.image_ids:
            self._references_of.setdefault(image_id, set()).add(reference)

    def unname(self, reference: str) -> None:
        """The reference names nothing."""
        before = self._names.pop(reference, None)
        for image_id in before.image_ids if before is not None else ():
            references = self._references_of[image_id]
            references.remove(reference)
            if not references:
                del self._references_of[image_id]

    def add_repo_digest(self, reference: str, image_id: str) -> None:
        """The image came by this `<repository>@<digest>`."""
        self._repo_digests[reference] = tuple(dict.fromkeys((*self._repo_digests.get(reference, ()), image_id)))
        self._repo_digests_of.setdefault(image_id, set()).add(reference)

    def drop_repo_digest(self, reference: str) -> None:
        """No image is known by this `<repository>@<digest>`."""
        for image_id in self._repo_digests.pop(reference, ()):
            self._repo_digests_of[image_id].discard(reference)

    def named(self, reference: str) -> Name | None:
        """What the reference in full names."""
        return self._names.get(reference)

    @property
    def names(self) -> Mapping[str, Name]:
        """All names; not to be changed."""
        return self._names

    def references(self, image_id: str) -> tuple[str, ...]:
        """References of an image, sorted."""
        return tuple(sorted(self._references_of.get(image_id, ())))

    def repo_digests(self, image_id: str) -> tuple[str, ...]:
        """Repository digests of an image, sorted."""
        return tuple(sorted(self._repo_digests_of.get(image_id, ())))

    def shared_size_bytes(self, image: Image) -> int:
        """Bytes of those of its layers that another image has too."""
        return sum(size for layer_id, size in image.layer_sizes.items() if self.is_shared(layer_id))

    def is_shared(self, layer_id: str) -> bool:
        """True if the layer stands in more than one image."""
        return self.layers.users(layer_id) > 1

    def has_layer(self, layer_id: str) -> bool:
        """True if the layer stands in an image."""
        return self.layers.users(layer_id) > 0

    def has_blob(self, digest: str) -> bool:
        """True if the blob belongs to an image."""
        return self.blobs.users(digest) > 0

    def find(self, text: str, wanted: Platform | None = None) -> tuple[Image, str]:
        """The one image that `lookup` finds, or of several the one that serves best; with the name it was found by.

        `wanted`: None for the host's platform, where one of them serves it, else for the first that came. Raises what
        `lookup` raises; PLATFORM_UNAVAILABLE for a platform that was asked for.
        """
        match = self.lookup(text)
        return self.choose(match.images, wanted, text), match.name

    def choose(self, images: Sequence[Image], wanted: Platform | None, text: str) -> Image:
        """Of these images the one that serves the platform best; as `find`. `text`: how they were asked for."""
        offered = [image.platform for image in images]
        if wanted is None:
            return images[(best(self._host, offered) if self._host is not None else None) or 0]
        position = best(wanted, offered)
        if position is None:
            raise PlatformUnavailable(reference=text, platform=wanted, available=list(dict.fromkeys(map(str, offered))))
        return images[position]

    def lookup(self, text: str) -> Match:
        """The images that a reference, repository digest, digest, id or unique prefix of an id stands for.

        An id stands for one image, a reference and the digest of an index for those of all platforms that are here. A
        name wins over a prefix of an id, as in Docker. Raises IMAGE_NOT_FOUND, IMAGE_AMBIGUOUS, REFERENCE_INVALID.
        """
        found = self._by_digest(text) or self._by_name(text)
        return found if found is not None else _alone(self._by_prefix(text))

    def _by_digest(self, text: str) -> Match | None:
        if not text.startswith(("sha256:", "sha512:")):
            found = self._images.get("sha256:" + text) if len(text) == _ID_DIGITS else None
            return _alone(found) if found is not None else None
        try:
            digest = Digest.parse(text)
        except DigestInvalid:
            return None
        found = self._images.get(digest) or self.by_manifest(digest)
        if found is not None:
            return _alone(found)
        below = tuple(one for one in self if digest == one.target.digest or one.way(digest) is not None)
        return Match(below, "", digest) if below else None

    def by_manifest(self, digest: Digest) -> Image | None:
        """The image that has this manifest."""
        return self._images.get(self._by_manifest.get(digest, ""))

    def _by_name(self, text: str) -> Match | None:
        try:
            reference, full = _parsed(text)
        except ReferenceInvalid:
            if _is_id_prefix(text):
                return None
            raise
        if reference.digest is not None:
            holders = self._repo_digests.get(f"{reference.name}@{reference.digest}", ())
            return Match(self._of(holders), "", reference.digest) if holders else None
        name = self._names.get(full)
        return Match(self._of(name.image_ids), full, name.target) if name is not None else None

    def _of(self, image_ids: Iterable[str]) -> tuple[Image, ...]:
        return tuple(self._images[image_id] for image_id in image_ids)

    def _by_prefix(self, text: str) -> Image:
        digits = text.removeprefix("sha256:")
        if not _is_id_prefix(text):
            raise ImageNotFound(reference=text)
        matches = [image for image in self if image.id.hex.startswith(digits)]
        if len(matches) > 1:
            listed = [image.id.hex[: len(digits) + 8] for image in matches[:_LISTED_MATCHES]]
            raise ImageAmbiguous(reference=text, matches=listed)
        if not matches:
            raise ImageNotFound(reference=text)
        return matches[0]


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> tuple[ImageReference, str]:
    """A reference as its parts, and in full. Raises REFERENCE_INVALID, of which nothing is kept."""
    reference = ImageReference.parse(text)
    return reference, str(reference.with_default_tag())


def without(image_ids: Iterable[str], image_id: str) -> tuple[str, ...]:
    """The ids but for one, in order."""
    return tuple(one for one in image_ids if one != image_id)


def _alone(image: Image) -> Match:
    return Match((image,), "", image.manifest.digest)


def _is_id_prefix(text: str) -> bool:
    digits = text.removeprefix("sha256:")
    return MIN_ID_PREFIX_CHARS <= len(digits) <= _ID_DIGITS and _HEX_DIGITS.issuperset(digits)
