"""All images in memory, by id and by name, and what is counted over all of them. It does no I/O."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
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

    def __init__(self) -> None:
        self._images: dict[str, Image] = {}
        #: Reference in full -> image id.
        self._names: dict[str, str] = {}
        self._repo_digests: dict[str, str] = {}
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
        self.layers.add(image.layer_sizes)
        self.blobs.add(image.blob_sizes)

    def _uncount(self, image_id: str) -> None:
        before = self._images.get(image_id)
        if before is not None:
            self.layers.drop(before.layer_sizes)
            self.blobs.drop(before.blob_digests)

    def remove(self, image_id: str) -> None:
        """The image and all its references are gone."""
        self._uncount(image_id)
        self._images.pop(image_id, None)
        for names in (self._names, self._repo_digests):
            for name in [name for name, holder in names.items() if holder == image_id]:
                del names[name]

    def name(self, reference: str, image_id: str) -> None:
        """The reference names this image and no other."""
        self._names[reference] = image_id

    def unname(self, reference: str) -> None:
        """The reference names nothing."""
        self._names.pop(reference, None)

    def add_repo_digest(self, reference: str, image_id: str) -> None:
        """The image came by this `<repository>@<digest>`."""
        self._repo_digests[reference] = image_id

    def named(self, reference: str) -> str | None:
        """The id of the image that the reference in full names."""
        return self._names.get(reference)

    def references(self, image_id: str) -> tuple[str, ...]:
        """References of an image, sorted."""
        return tuple(sorted(name for name, holder in self._names.items() if holder == image_id))

    def repo_digests(self, image_id: str) -> tuple[str, ...]:
        """Repository digests of an image, sorted."""
        return tuple(sorted(name for name, holder in self._repo_digests.items() if holder == image_id))

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

    def find(self, text: str) -> tuple[Image, str]:
        """The image that a reference, repository digest, id or unique prefix of an id stands for.

        Returns it with the reference in full by which it was found, empty if it was found by id or digest. A name wins
        over a prefix of an id, as in Docker. Raises IMAGE_NOT_FOUND, IMAGE_AMBIGUOUS, REFERENCE_INVALID.
        """
        image = self._by_id(text)
        if image is not None:
            return image, ""
        found = self._by_name(text)
        if found is not None:
            return found
        return self._by_prefix(text), ""

    def _by_id(self, text: str) -> Image | None:
        if text.startswith(("sha256:", "sha512:")):
            try:
                digest = Digest.parse(text)
            except DigestInvalid:
                return None
            return self._images.get(digest) or self.by_manifest(digest)
        return self._images.get("sha256:" + text) if len(text) == _ID_DIGITS else None

    def by_manifest(self, digest: Digest) -> Image | None:
        """The image whose manifest or target has the digest."""
        return next((image for image in self if digest in {image.manifest.digest, image.target.digest}), None)

    def for_platform(self, image: Image, wanted: Platform, text: str) -> Image:
        """Of the images that came by the same index as `image`, and itself, the one that serves the platform best.

        `text`: how it was asked for. Raises PLATFORM_UNAVAILABLE.
        """
        kin = [image, *(one for one in self if one.target.digest == image.target.digest and one.id != image.id)]
        position = best(wanted, [one.platform for one in kin])
        if position is None:
            available = list(dict.fromkeys(str(one.platform) for one in kin))
            raise PlatformUnavailable(reference=text, platform=wanted, available=available)
        return kin[position]

    def _by_name(self, text: str) -> tuple[Image, str] | None:
        try:
            reference = ImageReference.parse(text)
        except ReferenceInvalid:
            if _is_id_prefix(text):
                return None
            raise
        if reference.digest is not None:
            return self._by_repo_digest(reference)
        full = str(reference.with_default_tag())
        image_id = self._names.get(full)
        return (self._images[image_id], full) if image_id is not None else None

    def _by_repo_digest(self, reference: ImageReference) -> tuple[Image, str] | None:
        holder = self._repo_digests.get(f"{reference.name}@{reference.digest}")
        if holder is None:
            return None
        return self._images[holder], ""

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


def _is_id_prefix(text: str) -> bool:
    digits = text.removeprefix("sha256:")
    return MIN_ID_PREFIX_CHARS <= len(digits) <= _ID_DIGITS and _HEX_DIGITS.issuperset(digits)
