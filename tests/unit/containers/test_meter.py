"""What is counted when: an end costs a look at what ended, never at what runs."""

import asyncio

import pytest

from fluytd.containers.meter import Meter
from fluytd.containers.spec import ContainerSpec
from fluytd.events.model import ContainerExited, Event
from tests.support.fakes.containers import Bench
from tests.support.wait import until


def ended(container_id: str) -> Event:
    return Event(1, 0, ContainerExited(container_id, "name", 0, None, False, ""), container_id, {}, "engine")


async def test_the_end_of_one_container_has_no_other_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []

    def writable_usage(container_id: str) -> tuple[int, bool]:
        counted.append(container_id)
        return 10, False

    monkeypatch.setattr(bench.directories, "writable_usage", writable_usage)
    running = await bench.service.create(ContainerSpec(image="busybox", args=("true",)), "running")
    await bench.service.start("running")
    short = await bench.service.create(ContainerSpec(image="busybox", args=("true",)), "short")
    meter = Meter(bench.service.ctx)
    meter.open()
    work = asyncio.ensure_future(meter.run())
    try:
        await until(lambda: sorted(counted) == sorted([running.id, short.id]))
        for _ in range(3):
            meter.hear([ended(short.id)])
        await until(lambda: len(counted) > 2)
        await asyncio.sleep(0)
        assert counted[2:] == [short.id]
        assert meter.usage().writable.size_bytes == 20
    finally:
        work.cancel()
