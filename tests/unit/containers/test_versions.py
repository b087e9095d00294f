"""Two callers who expect the same version: the second finds what the first has made of the container."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fluytd.containers.spec import AttachmentSpec, ContainerSpec, RestartPolicy
from fluytd.containers.transitions import renamed
from fluytd.errors import VersionConflict
from tests.support.fakes.containers import Bench
from tests.support.wait import until

SPEC = ContainerSpec(image="busybox")

Verb = Callable[[Bench, int], Awaitable[object]]

VERBS: dict[str, Verb] = {
    "start": lambda bench, version: bench.service.start("one", expected_version=version),
    "stop": lambda bench, version: bench.service.stop("one", timeout_millis=0, signal=None, expected_version=version),
    "kill": lambda bench, version: bench.service.kill("one", None, expected_version=version),
    "restart": lambda bench, version: bench.service.restart(
        "one", timeout_millis=0, signal=None, expected_version=version
    ),
    "pause": lambda bench, version: bench.service.pause("one", expected_version=version),
    "resume": lambda bench, version: bench.service.resume("one", expected_version=version),
    "update": lambda bench, version: bench.service.update("one", None, RestartPolicy(), expected_version=version),
    "connect": lambda bench, version: bench.service.connect("one", AttachmentSpec("net"), expected_version=version),
    "disconnect": lambda bench, version: bench.service.disconnect("one", "net", expected_version=version),
    "rename": lambda bench, version: bench.service.rename("one", "three", expected_version=version),
    "delete": lambda bench, version: bench.service.delete("one", force=True, expected_version=version),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_a_version_that_passes_while_a_caller_waits_its_turn_is_refused(bench: Bench, verb: str) -> None:
    made = await bench.service.create(SPEC, "one")
    entry = bench.service.ctx.table.find("one")
    async with entry.lock:
        second = asyncio.ensure_future(VERBS[verb](bench, made.version))
        await asyncio.sleep(0)
        # What the first caller does, whose turn it is.
        await bench.service.ctx.record(entry, renamed(entry.container, "one"))
        assert entry.container.version > made.version
    await until(second.done)
    assert isinstance(second.exception(), VersionConflict), verb
    assert bench.service.get("one").state is made.state
