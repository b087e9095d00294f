"""Containers that were killed and do not end, on fakes; real ones are in tests/e2e/volumes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from fluytd.containers import stop, transitions
from fluytd.containers.model import Container, ExitStatus, MountedVolume, State
from fluytd.containers.signals import SIGKILL
from fluytd.containers.spec import ContainerSpec, RestartMode, RestartPolicy
from fluytd.errors import ContainerNotEnding
from tests.support.fakes.containers import Bench
from tests.support.wait import until

KILLED = ExitStatus(signal=SIGKILL)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed container has a moment to end."""
    monkeypatch.setattr(stop, "KILLED_SECONDS", 0.05)


async def stuck(bench: Bench, name: str, *, device: str = "", **fields: object) -> Container:
    """A container whose process no signal reaches. `device`: the export that it has mounted."""
    made = await bench.service.create(ContainerSpec(image="busybox", args=("true",), **fields), name)  # type: ignore[arg-type]
    if device:
        entry = bench.service.ctx.table.find(name)
        options = {"type": "nfs", "device": device, "o": "addr=10.0.0.1,vers=4"}
        volume = MountedVolume("/v", f"volume of {name}", name, driver_options=options)
        entry.set(replace(entry.container, resolved=replace(entry.container.resolved, volumes=(volume,))))
    await bench.service.start(name)
    bench.process(made).ignores = set(range(1, 65))
    return made


@pytest.mark.parametrize(
    "call",
    [
        lambda bench: bench.service.stop("one", timeout_millis=0, signal=None),
        lambda bench: bench.service.stop("one", timeout_millis=10, signal=None),
        lambda bench: bench.service.delete("one", force=True),
    ],
)
async def test_it_is_told_in_time_with_what_its_processes_wait_for(
    bench: Bench, call: Callable[[Bench], Awaitable[object]]
) -> None:
    made = await stuck(bench, "one")
    with pytest.raises(ContainerNotEnding) as told:
        await asyncio.wait_for(call(bench), 5)
    assert told.value.metadata == {"id": made.id, "detail": "process 4242 waits"}
    assert bench.process(made).signals[-1] == SIGKILL
    assert bench.process(made).forced == 0
    assert bench.service.get("one").is_live
    bench.process(made).end(KILLED)


async def test_once_it_ends_it_is_recorded_so_and_removed_only_if_that_was_forced(bench: Bench) -> None:
    for name in ("stopped", "removed"):
        made = await stuck(bench, name, restart_policy=RestartPolicy(RestartMode.ALWAYS))
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "stopped": lambda: bench.service.stop("stopped", timeout_millis=0, signal=None),
            "removed": lambda: bench.service.delete("removed", force=True),
        }
        with pytest.raises(ContainerNotEnding):
            await calls[name]()
        bench.process(made).end(KILLED)
    await until(lambda: [entry.container.name for entry in bench.service.ctx.table] == ["stopped"])
    await until(lambda: bench.service.get("stopped").state is State.EXITED)
    assert bench.runtime.starts == 2


async def test_that_it_is_to_be_removed_is_stored_before_it_is_told_and_ends_with_a_start(bench: Bench) -> None:
    made = await stuck(bench, "one", restart_policy=RestartPolicy(RestartMode.ALWAYS))
    for removes_volumes in (False, True, False):
        with pytest.raises(ContainerNotEnding):
            await bench.service.delete("one", force=True, removes_volumes=removes_volumes)
    stored = bench.records.saved[made.id]
    assert (stored.is_removed_at_end, stored.removes_volumes, stored.is_stopped_by_caller) == (True, True, True)
    started = transitions.starting(transitions.exited(stored, KILLED, oom_killed=False, exit_time_unix_nanos=1))
    assert not started.is_removed_at_end
    assert not started.removes_volumes
    bench.process(made).end(KILLED)


async def test_a_forced_removal_gives_up_what_waits_for_servers_of_its_volumes(bench: Bench) -> None:
    made = await stuck(bench, "one", device=":/export")
    bench.process(made).ends_when_forced = True
    await bench.service.delete("one", force=True)
    assert len(bench.service.ctx.table) == 0


async def test_what_another_container_has_mounted_is_given_up_for_neither(bench: Bench) -> None:
    made = await stuck(bench, "one", device=":/export")
    other = await stuck(bench, "other", device=":/export")
    with pytest.raises(ContainerNotEnding):
        await bench.service.delete("one", force=True)
    assert bench.process(made).forced == 0
    bench.process(other).end(KILLED)
    await until(lambda: not bench.service.get("other").is_live)
    bench.process(made).ends_when_forced = True
    await bench.service.delete("one", force=True)
    assert [entry.container.name for entry in bench.service.ctx.table] == ["other"]


async def test_a_stop_gives_up_nothing(bench: Bench) -> None:
    made = await stuck(bench, "one", device=":/export")
    with pytest.raises(ContainerNotEnding):
        await bench.service.stop("one", timeout_millis=0, signal=None)
    assert bench.process(made).forced == 0
    bench.process(made).end(KILLED)
