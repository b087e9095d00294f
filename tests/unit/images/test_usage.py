"""What images weigh, told from counted sizes alone."""

from collections.abc import Iterator

from fluytd.ids import Digest
from fluytd.images.model import Image
from fluytd.images.table import ImageTable
from fluytd.images.usage import Usage, usage
from tests.unit.images.test_catalogue import image


class NeverWalked(ImageTable):
    """A table that nobody may go through."""

    def __iter__(self) -> Iterator[Image]:
        raise AssertionError("all images were looked at")


def own_bytes(*images: Image) -> int:
    """Manifests and configs."""
    return sum(5 + len(one.config_text) for one in images)


def test_what_images_share_counts_once_and_no_image_is_looked_at_that_is_not_used() -> None:
    table = NeverWalked()
    first, second, third = image(1, "a", "b", "b"), image(2, "b", "c"), image(3)
    for one in (first, second, third):
        table.put(one)
    table.put(first)  # the same once more
    found = usage(table, [second.id, second.id])
    assert found.layers == Usage(3, 2, 30, 10)
    # Three layer blobs of 3 bytes; manifests and configs are each image's own.
    everything, used = own_bytes(first, second, third) + 9, own_bytes(second) + 6
    assert found.blobs == Usage(9, 4, everything, everything - used)
    table.remove(first.id)
    assert usage(table, []).layers == Usage(2, 0, 20, 20)
    table.remove(second.id)
    table.remove(third.id)
    assert usage(table, []).blobs == Usage(0, 0, 0, 0)
    assert not table.has_layer(Digest.of(b"b").hex)


def test_layers_that_only_containers_have_make_the_figure_a_lower_bound() -> None:
    table = ImageTable()
    table.put(image(1, "a"))
    found = usage(table, [image(1, "a").id, image(2, "b").id])
    assert found.layers == Usage(1, 1, 10, 0, is_estimate=True)
    assert not found.blobs.is_estimate
