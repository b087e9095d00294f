"""What is asked often costs the same with ten images and with five hundred, counted in lines that run."""

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from fluytd.images.model import Image
from fluytd.images.table import ImageTable, Name
from fluytd.images.usage import usage
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
