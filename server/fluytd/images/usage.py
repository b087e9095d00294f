"""What images weigh, from the sizes that were counted when they were stored; no file is looked at.

Its cost grows with the images that containers use, not with those that are stored.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fluytd.images.table import ImageTable, Shared


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes in use by one kind of thing."""

    count: int
    #: Of those that an image has that a container is made of.
    active_count: int
    size_bytes: int
    #: What a prune of all images would free.
    reclaimable_bytes: int
    #: The figures are a lower bound.
    is_estimate: bool = False


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """What images weigh."""

    blobs: Usage
    layers: Usage


def usage(table: ImageTable, used_image_ids: Iterable[str]) -> ImageUsage:
    """Blobs and layers of all images. `used_image_ids`: of the images of all containers.

    An image that was deleted by force left its layers to its containers; their size is recorded no more, so that the
    figures are a lower bound then.
    """
    found = {image_id: table.get(image_id) for image_id in set(used_image_ids)}
    used = [image for image in found.values() if image is not None]
    return ImageUsage(
        _usage(table.blobs, [image.blob_sizes for image in used], is_estimate=False),
        _usage(table.layers, [image.layer_sizes for image in used], is_estimate=len(used) < len(found)),
    )


def _usage(everything: Shared, used: Iterable[Mapping[Any, int]], *, is_estimate: bool) -> Usage:
    active = {name: size for sizes in used for name, size in sizes.items()}
    reclaimable_bytes = everything.size_bytes - sum(active.values())
    return Usage(len(everything), len(active), everything.size_bytes, reclaimable_bytes, is_estimate)
