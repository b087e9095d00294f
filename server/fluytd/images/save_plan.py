"""What an archive of images holds: which images of those asked for, and the files, in order. It does no I/O.

The archive is an OCI layout with docker's manifest.json over the same blobs, as `docker save` writes since Engine 25.
The listings come first, so that who reads it as a stream knows what comes.

Source: OCI image-spec image-layout.md; moby image/tarexport.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fluytd.errors import FieldInvalid
from fluytd.ids import Digest
from fluytd.images import index_file
from fluytd.images.archive import DOCKER_LISTING, MAX_ARCHIVE_IMAGES, OCI_INDEX_FILE, OCI_LAYOUT_FILE
from fluytd.images.documents import MAX_MANIFEST_BYTES, check_size
from fluytd.images.indexes import Document, made, of_platforms
from fluytd.images.manifests import OCI_INDEX, OCI_MANIFEST, Manifest
from fluytd.images.model import Image
from fluytd.images.platforms import Platform
from fluytd.images.table import ImageTable

#: Of the file `oci-layout`.
OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_SUBJECT = "image archive"


@dataclass(frozen=True, slots=True)
class Saved:
    """What one thing asked for stands for."""

    #: Reference in full that it keeps; empty if it was named by id or digest.
    name: str
    #: At least one; the first is what the name stands for where only one can have it.
    images: tuple[Image, ...]
    #: What the name was resolved to: an index, or a manifest.
    target: Digest


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One file of the archive."""

    name: str
    size_bytes: int
    #: Its bytes, where they are made here; else those of the blob `digest`.
    data: bytes | None = None
    digest: Digest | None = None


def select(table: ImageTable, texts: Sequence[str], platforms: Sequence[Platform]) -> list[Saved]:
    """The images that are asked for, in that order, each name and each unnamed image once.

    Args:
        texts: references, digests, ids or prefixes of ids. A reference, or the digest of an index, stands for its
            images of all platforms that are here; an id for that one.
        platforms: of each the best of those images; empty for all.

    Raises FIELD_INVALID where nothing is asked for, IMAGE_NOT_FOUND and its kin, PLATFORM_UNAVAILABLE, LIMIT_EXCEEDED.
    """
    if not texts:
        raise FieldInvalid(field="images", rule="must name at least one image")
    check_size(len(texts), "MAX_ARCHIVE_IMAGES", MAX_ARCHIVE_IMAGES, _SUBJECT)
    found: dict[tuple[str, ...], Saved] = {}
    for text in texts:
        match = table.lookup(text)
        chosen = of_platforms(table, match.images, platforms, text)
        first = table.choose(chosen, None, text)
        others = sorted((one for one in chosen if one is not first), key=lambda one: (str(one.platform), one.id))
        images = (first, *others)
        found.setdefault((match.name, *(one.id for one in images)), Saved(match.name, images, match.target))
    check_size(sum(len(one.images) for one in found.values()), "MAX_ARCHIVE_IMAGES", MAX_ARCHIVE_IMAGES, _SUBJECT)
    # An image that is there under a name needs no entry without one.
    named = {image.id for one in found.values() if one.name for image in one.images}
    return [one for one in found.values() if one.name or not named.issuperset(image.id for image in one.images)]


def layout(saved: Sequence[Saved], wholes: Mapping[Digest, Sequence[Document]] | None = None) -> list[ArchiveFile]:
    """The files of the archive, listings first, every blob once; the same images give the same files.

    Args:
        wholes: of targets all of whose images are saved: the index with those below it, itself last. It stands in the
            archive as it came; other images of one name get an index that is made for them.

    Raises LIMIT_EXCEEDED if a listing would be larger than loaders take.
    """
    entries: list[index_file.Entry] = []
    blobs: dict[str, ArchiveFile] = {}
    names: dict[Digest, list[str]] = {}
    by_id: dict[Digest, Image] = {}
    for one in saved:
        for image in one.images:
            by_id[image.id] = image
            names.setdefault(image.id, [])
            for digest, size_bytes in image.content_sizes.items():
                blobs.setdefault(blob_name(digest), ArchiveFile(blob_name(digest), size_bytes, digest=digest))
        if one.name:
            names[one.images[0].id].append(one.name)
        came = (wholes or {}).get(one.target, ())
        if not came and len(one.images) == 1 and one.images[0].manifest.media_type == OCI_MANIFEST:
            entries.append(index_file.entry(one.images[0].manifest, one.images[0].platform, one.name))
            continue
        # By name containers/image (skopeo, podman) finds only entries of OCI's types, and Docker's ones within such an
        # index; what came is not rewritten, since its digest would be another.
        is_shown = bool(came) and came[-1].descriptor.media_type == OCI_INDEX
        shown = came[-1] if is_shown else made(one.images)
        for document in (*came, shown):
            name = blob_name(document.descriptor.digest)
            blobs[name] = ArchiveFile(name, len(document.data), document.data)
            if isinstance(document.parsed, Manifest):
                for blob in (document.parsed.config, *document.parsed.layers):
                    own = ArchiveFile(blob_name(blob.digest), blob.size_bytes, digest=blob.digest)
                    blobs.setdefault(own.name, own)
        as_it_came = came[-1].descriptor.digest if came and not is_shown else None
        entries.append(index_file.entry(shown.descriptor, None, one.name, as_it_came=as_it_came))
    listing = [_docker_entry(image, names[image_id]) for image_id, image in by_id.items()]
    return [
        _listing(OCI_LAYOUT_FILE, OCI_LAYOUT),
        _listing(OCI_INDEX_FILE, index_file.dump(entries)),
        _listing(DOCKER_LISTING, json.dumps(listing, separators=(",", ":")).encode()),
        *(blobs[name] for name in sorted(blobs)),
    ]


def blob_name(digest: Digest) -> str:
    """Where a blob stands in an OCI layout."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _listing(name: str, data: bytes) -> ArchiveFile:
    check_size(len(data), "MAX_MANIFEST_BYTES", MAX_MANIFEST_BYTES, f"{name} of the {_SUBJECT}")
    return ArchiveFile(name, len(data), data)


def _docker_entry(image: Image, names: Sequence[str]) -> dict[str, object]:
    return {
        "Config": blob_name(image.id),
        "RepoTags": list(names),
        "Layers": [blob_name(layer.descriptor.digest) for layer in image.layers],
    }
