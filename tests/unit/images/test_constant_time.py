"""What is asked often costs the same with ten images and with five hundred, counted in lines that run."""

import functools
import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType, SimpleNamespace
from typing import Any, cast

from fluytd.clock import SystemClock
from fluytd.containers.model import Container
from fluytd.containers.table import ContainerTable
from fluytd.gc.collect import Collector
from fluytd.gc.images import ImageCollection
from fluytd.gc.leases import Leases
from fluytd.gc.model import DiskFacts, Plan, Settings
from fluytd.images.catalogue import Catalogue
from fluytd.images.model import Image
from fluytd.images.ports import Holder
from fluytd.images.table import ImageTable, Name
from fluytd.images.usage import usage
from fluytd.images.uses import ImageUses
from fluytd.state.db import Database
from tests.support.fakes.images import FakeBlobs
from tests.unit.images.test_catalogue import image


def table_of(count: int) -> tuple[ImageTable, Image]:
    """So many images over one base, each with a layer of its own; and one of them."""
    table = ImageTable()
    made = [image(number, "base", f"own{number}") for number in range(count)]
    for number, one in enumerate(made):
        table.put(one)
        table.set_name(f"docker.io/library/app:{number}", Name(one.manifest.digest, (one.id,)))
        table.add_repo_digest(f"docker.io/library/app@{one.manifest.digest}", one.id)
    return table, made[3]


def lines_of(call: Callable[[], object]) -> int:
    """How many lines of Python run."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    # What another test left behind would otherwise be finalized, and counted, at any line.
    gc.disable()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


def test_disk_usage_and_sizes_take_the_same_work_whatever_number_of_images_there_is() -> None:
    asked: list[Callable[[ImageTable, Image], object]] = [
        lambda table, one: usage(table, [one.id]),
        lambda table, one: table.shared_size_bytes(one),
        lambda table, one: one.size_bytes,
        lambda table, one: table.get(one.id),
        lambda table, one: table.find(one.id),
        lambda table, one: table.references(one.id),
        lambda table, one: table.repo_digests(one.id),
        lambda table, one: table.by_manifest(one.manifest.digest),
        lambda table, one: table.find("app:3"),
    ]
    few, many = table_of(10), table_of(500)
    for call in asked:
        for one in (few[1], many[1]):
            call(few[0], one)
        work = [lines_of(lambda call=call, at=at: call(*at)) for at in (few, many)]  # type: ignore[misc]
        assert work[0] == work[1] > 0


def test_the_sizes_are_right_for_all_that() -> None:
    count = 500
    table, one = table_of(count)
    found = usage(table, [one.id])
    assert (found.layers.count, found.layers.size_bytes) == (count + 1, (count + 1) * 10)
    assert (table.shared_size_bytes(one), one.size_bytes) == (10, 20)


def collection_over(images: int, containers_per_image: int) -> ImageCollection:
    """The automatic collection of an engine with so many images, each with so many containers."""
    catalogue = Catalogue(cast(Database, None), FakeBlobs([]), _Containers(ContainerTable()), None)
    table = table_of(images)[0]
    catalogue.table = table
    containers = _Containers(ContainerTable())
    for one in table:
        for number in range(containers_per_image):
            facts = SimpleNamespace(image_id=one.id, layer_ids=tuple(one.layer_sizes))
            container = SimpleNamespace(
                ids=None,
                selinux=None,
                id=f"{one.id} {number}",
                name=f"{one.id}-{number}",
                all_images=(facts,),
                is_live=True,
            )
            containers.table.add(cast(Container, container))
    uses = ImageUses(cast(Database, _NoRecords()), SystemClock())
    settings = Settings(is_enabled=True, high_water_percent=1, low_water_percent=0, max_bytes=1)

    async def disk() -> DiskFacts:
        return DiskFacts(1000, 0)

    async def tell(_: object) -> None:
        return None

    collector = cast(Collector, None)
    return ImageCollection(
        catalogue, uses, collector, containers, Leases(), settings, ("team/*",), SystemClock(), disk, tell
    )


@dataclass
class _Containers:
    """What images ask of containers, over the real table."""

    table: ContainerTable

    def holders(self, image_id: str) -> list[Holder]:
        return [Holder(entry.container.id, entry.container.is_live) for entry in self.table.of_image(image_id)]

    def uses_layer(self, layer_id: str) -> bool:
        return self.table.uses_layer(layer_id)


class _NoRecords:
    """Records that nobody reads."""

    def submit(self, _: object) -> object:
        return SimpleNamespace(add_done_callback=lambda _: None)


def preview_of(collection: ImageCollection) -> Plan:
    """What a collection would do; it waits for nothing but the disk, which answers at once."""
    try:
        collection.preview().send(None)
    except StopIteration as ended:
        return cast(Plan, ended.value)
    raise AssertionError("it waits")


def test_a_collection_takes_work_in_proportion_to_images_and_containers_and_not_to_their_product() -> None:
    work: dict[tuple[int, int], int] = {}
    for size in ((50, 1), (100, 1), (200, 1), (100, 4)):
        made = collection_over(*size)
        work[size] = lines_of(functools.partial(preview_of, made))
    # Twice the images with their containers, twice the work; a product would make it four times as much.
    assert work[100, 1] < 2.2 * work[50, 1]
    assert work[200, 1] < 2.2 * work[100, 1]
    assert work[100, 4] < 4 * work[100, 1]
