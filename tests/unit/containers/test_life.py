"""Restarts, pauses, updates and figures on fakes, with a clock that a test moves."""

import asyncio
import time
from dataclasses import replace

import pytest

from fluytd.containers import restart
from fluytd.containers.model import Container, ExitStatus, State
from fluytd.containers.query import ContainerFilter
from fluytd.containers.resolve import resolve
from fluytd.containers.spec import ContainerSpec, ResourcesSpec, RestartMode, RestartPolicy
from fluytd.containers.stats import WHOLE_SECONDS, Sampler
from fluytd.containers.stop import stop, stop_all
from fluytd.containers.update import difference_of, merged
from fluytd.errors import CgroupBusy, CgroupLimitRejected, ContainerNotFound, ContainerWrongState, FieldInvalid
from fluytd.recovery.apply import recover
from tests.support.fakes.containers import IMAGE, Bench
from tests.support.wait import until

MIB = 1 << 20
REFUSED = CgroupLimitRejected(file="/f", value="1", errno=16)


def spec(mode: RestartMode = RestartMode.NO, count: int = 0) -> ContainerSpec:
    """A container of this policy."""
    return ContainerSpec(image="busybox", args=("true",), restart_policy=RestartPolicy(mode, count))


def ended(mode: RestartMode, count: int = 0, *, code: int = 1, restarts: int = 0, by_caller: bool = False) -> Container:
    """The record of one that has ended so."""

    wanted = spec(mode, count)
    made = Container("a" * 64, "one", wanted, IMAGE, resolve(wanted, IMAGE, "a" * 64), 1)
    return replace(
        made,
        state=State.EXITED,
        exit=ExitStatus(exit_code=code),
        restart_count=restarts,
        is_stopped_by_caller=by_caller,
    )


@pytest.mark.parametrize(
    ("container", "is_due", "is_due_at_daemon_start"),
    [
        (ended(RestartMode.NO), False, False),
        (ended(RestartMode.ON_FAILURE), True, True),
        (ended(RestartMode.ON_FAILURE, code=0), False, False),
        (ended(RestartMode.ON_FAILURE, 3, restarts=2), True, True),
        (ended(RestartMode.ON_FAILURE, 3, restarts=3), False, False),
        (ended(RestartMode.ON_FAILURE, by_caller=True), False, False),
        (ended(RestartMode.ALWAYS, code=0), True, True),
        (ended(RestartMode.ALWAYS, by_caller=True), False, True),
        (ended(RestartMode.UNLESS_STOPPED, code=0), True, True),
        (ended(RestartMode.UNLESS_STOPPED, by_caller=True), False, False),
        (replace(ended(RestartMode.NO), is_restarting=True, is_stopped_by_caller=True), False, True),
        (replace(ended(RestartMode.ALWAYS), state=State.CREATED), False, False),
        (replace(ended(RestartMode.ALWAYS), state=State.UNKNOWN), False, False),
    ],
)
def test_l04_whether_a_restart_is_due_follows_from_the_record(
    container: Container, is_due: bool, is_due_at_daemon_start: bool
) -> None:
    assert restart.is_due(container) is is_due
    assert restart.is_due(container, is_daemon_start=True) is is_due_at_daemon_start


def test_l02_the_delay_doubles_to_a_minute_and_begins_anew_after_a_steady_run() -> None:
    delays, delay = [], 0
    for _ in range(12):
        delay = restart.next_delay_millis(delay, 50)
        delays.append(delay)
    assert delays == [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 60_000, 60_000]
    assert restart.next_delay_millis(60_000, 9_999) == 60_000
    assert restart.next_delay_millis(60_000, 10_000) == 100


async def test_l02_restarts_wait_for_their_time(bench: Bench) -> None:
    made = await bench.service.create(spec(RestartMode.ALWAYS), "one")
    await bench.service.start("one")
    for number in range(3):
        bench.process(made).end(ExitStatus(exit_code=1))
        await until(lambda number=number: len(bench.sleep.asked) == number + 1)  # type: ignore[misc]
        assert (bench.service.get("one").state, bench.runtime.starts) == (State.EXITED, number + 1)
        bench.sleep.wake()
        await until(lambda number=number: bench.runtime.starts == number + 2)  # type: ignore[misc]
    # The fake's processes run for half a second, as their records tell.
    assert bench.sleep.asked == [0.1, 0.2, 0.4]
    await until(lambda: bench.service.get("one").restart_count == 3)


async def test_l01_after_the_last_try_it_stays_ended(bench: Bench) -> None:
    made = await bench.service.create(spec(RestartMode.ON_FAILURE, 1), "one")
    await bench.service.start("one")
    bench.process(made).end(ExitStatus(exit_code=1))
    await until(lambda: bench.sleep.asked != [])
    bench.sleep.wake()
    await until(lambda: bench.service.get("one").state is State.RUNNING)
    bench.process(made).end(ExitStatus(exit_code=1))
    await until(lambda: bench.service.get("one").state is State.EXITED)
    assert (bench.service.get("one").restart_count, len(bench.sleep.asked)) == (1, 1)


async def test_l03_a_stop_in_the_wait_ends_it(bench: Bench) -> None:
    made = await bench.service.create(spec(RestartMode.ALWAYS), "one")
    await bench.service.start("one")
    bench.process(made).end(ExitStatus(exit_code=1))
    await until(lambda: bench.sleep.asked != [])
    stopped = await bench.service.stop("one", timeout_millis=None, signal=None)
    bench.sleep.wake()
    await asyncio.sleep(0.02)
    assert (stopped.is_stopped_by_caller, bench.runtime.starts) == (True, 1)
    again = await bench.service.start("one")
    assert (again.is_stopped_by_caller, again.restart_count) == (False, 0)


async def test_a_restart_that_fails_is_tried_again_until_its_tries_are_used_up(bench: Bench) -> None:
    made = await bench.service.create(spec(RestartMode.ON_FAILURE, 2), "one")
    await bench.service.start("one")
    bench.runtime.start_error = CgroupBusy(path="/g")
    bench.process(made).end(ExitStatus(exit_code=1))
    for number in (1, 2):
        await until(lambda number=number: len(bench.sleep.asked) == number)  # type: ignore[misc]
        bench.sleep.wake()
        await until(lambda number=number: bench.runtime.starts == number + 1)  # type: ignore[misc]
    await until(lambda: bench.service.get("one").restart_count == 2)
    await asyncio.sleep(0.02)
    assert len(bench.sleep.asked) == 2
    bench.runtime.start_error = None


async def test_deleting_and_updating_take_a_restart_away(bench: Bench) -> None:
    for name in ("deleted", "updated"):
        made = await bench.service.create(spec(RestartMode.ALWAYS), name)
        await bench.service.start(name)
        bench.process(made).end(ExitStatus(exit_code=1))
        await until(lambda name=name: bench.service.ctx.table.find(name).restarting is not None)  # type: ignore[misc]
    await bench.service.delete("deleted", force=False)
    await bench.service.update("updated", None, RestartPolicy())
    bench.sleep.wake()
    await asyncio.sleep(0.02)
    assert (bench.runtime.starts, bench.service.get("updated").state) == (2, State.EXITED)


async def test_the_daemon_stops_its_containers_and_leaves_their_policies_alone(bench: Bench) -> None:
    made = await bench.service.create(spec(RestartMode.UNLESS_STOPPED), "one")
    await bench.service.start("one")
    bench.process(made).ignores = {15}
    bench.service.ctx.is_closing = True
    await stop_all(bench.service.ctx, 20)
    record = bench.records.saved[made.id]
    assert (record.state, record.is_stopped_by_caller, bench.sleep.asked) == (State.EXITED, False, [])
    await bench.service.close()
    service = bench.restart()
    await recover(service.ctx)
    await until(lambda: service.get("one").state is State.RUNNING)


async def test_what_a_caller_had_stopped_stays_so_when_the_daemon_stops_it_too(bench: Bench) -> None:
    made = await bench.service.create(spec(RestartMode.UNLESS_STOPPED), "one")
    await bench.service.start("one")
    bench.process(made).ignores = {15}
    stopping = asyncio.ensure_future(bench.service.stop("one", timeout_millis=500, signal=None))
    await until(lambda: bench.service.get("one").state is State.STOPPING)
    await stop_all(bench.service.ctx, 20)
    await stopping
    assert bench.records.saved[made.id].is_stopped_by_caller


async def test_a_pause_that_the_next_daemon_cannot_carry_out_is_not_told(bench: Bench) -> None:
    await bench.service.create(spec(), "one")
    await bench.service.start("one")
    await bench.service.pause("one")
    bench.runtime.freeze_error = CgroupBusy(path="/g")
    service = bench.restart()
    report = await recover(service.ctx)
    assert (service.get("one").state, len(report.failures)) == (State.RUNNING, 1)


async def test_a_restart_that_was_half_done_goes_on_with_the_next_daemon(bench: Bench) -> None:
    made = await bench.service.create(spec(), "one")
    await bench.service.start("one")
    entry = bench.service.ctx.table.find("one")

    await stop(bench.service.ctx, entry, timeout_millis=None, signal=None, is_restarting=True)
    assert bench.records.saved[made.id].is_restarting
    await bench.service.close()
    service = bench.restart()
    await recover(service.ctx)
    await until(lambda: service.get("one").state is State.RUNNING)
    assert service.get("one").restart_count == 0


async def test_c03_a_paused_container_is_thawed_to_hear_its_signal(bench: Bench) -> None:
    made = await bench.service.create(spec(), "one")
    await bench.service.start("one")
    await bench.service.pause("one")
    assert bench.runtime.frozen == {made.id}
    await bench.service.stop("one", timeout_millis=None, signal=None)
    assert (bench.runtime.frozen, bench.process(made).signals) == (set(), [15])


async def test_a_pause_that_fails_leaves_it_running(bench: Bench) -> None:
    await bench.service.create(spec(), "one")
    await bench.service.start("one")
    bench.runtime.freeze_error = CgroupBusy(path="/g")
    with pytest.raises(CgroupBusy):
        await bench.service.pause("one")
    assert bench.service.get("one").state is State.RUNNING
    assert "ContainerPaused" not in bench.records.fact_names


async def test_a_pause_and_a_resume_tell_one_event_each(bench: Bench) -> None:
    await bench.service.create(spec(), "one")
    await bench.service.start("one")
    for verb in (bench.service.pause, bench.service.pause, bench.service.resume, bench.service.resume):
        await verb("one")
    assert bench.records.fact_names[2:] == ["ContainerPaused", "ContainerResumed"]


async def test_a_paused_container_is_frozen_again_by_the_next_daemon(bench: Bench) -> None:
    made = await bench.service.create(spec(), "one")
    await bench.service.start("one")
    await bench.service.pause("one")
    bench.runtime.frozen.clear()  # as if the daemon had died between the record and the freezer
    service = bench.restart()
    await recover(service.ctx)
    assert (service.get("one").state, bench.runtime.frozen) == (State.PAUSED, {made.id})


async def test_a_stop_that_is_under_way_refuses_a_pause(bench: Bench) -> None:
    made = await bench.service.create(spec(), "one")
    await bench.service.start("one")
    bench.process(made).ignores = {15}
    stopping = asyncio.ensure_future(bench.service.stop("one", timeout_millis=50, signal=None))
    await until(lambda: bench.service.get("one").state is State.STOPPING)
    with pytest.raises(ContainerWrongState):
        await bench.service.pause("one")
    await stopping


async def test_c06_an_update_that_the_kernel_refuses_changes_nothing(bench: Bench) -> None:
    made = await bench.service.create(spec(), "one")
    await bench.service.start("one")
    bench.runtime.update_error = REFUSED
    with pytest.raises(CgroupLimitRejected):
        await bench.service.update("one", ResourcesSpec(memory_limit_bytes=64 * MIB), RestartPolicy(RestartMode.ALWAYS))
    record = bench.records.saved[made.id]
    assert (record.spec, record.pending_resources) == (made.spec, None)


async def test_an_update_of_one_that_has_ended_meanwhile_is_that_of_one_at_rest(bench: Bench) -> None:
    made = await bench.service.create(spec(), "one")
    await bench.service.start("one")
    bench.runtime.update_error = REFUSED
    process = bench.process(made)
    original = bench.runtime.update_limits

    def end_first(container_id: str, limits: object, fields: dict[str, str]) -> list[str]:
        process.end(ExitStatus(exit_code=0))

        time.sleep(0.05)
        return original(container_id, limits, fields)  # type: ignore[arg-type]

    bench.runtime.update_limits = end_first  # type: ignore[method-assign, assignment]
    updated = await bench.service.update("one", ResourcesSpec(pids_limit=9), None)
    assert (updated.state, updated.spec.resources.pids_limit) == (State.EXITED, 9)


async def test_an_update_that_a_daemon_left_half_done_is_undone(bench: Bench) -> None:
    made = await bench.service.create(spec(), "one")
    await bench.service.start("one")
    entry = bench.service.ctx.table.find("one")
    bench.records.saved[made.id] = replace(entry.container, pending_resources=ResourcesSpec(pids_limit=9))
    service = bench.restart()
    await recover(service.ctx)
    assert [limits.pids_limit for limits in bench.runtime.updates] == [-1]
    assert service.get("one").pending_resources is None


async def test_a_policy_and_removal_exclude_each_other_in_an_update(bench: Bench) -> None:
    await bench.service.create(replace(spec(), auto_remove=True), "one")
    with pytest.raises(FieldInvalid):
        await bench.service.update("one", None, RestartPolicy(RestartMode.ALWAYS))


def test_only_what_changes_is_written_and_what_is_lifted_has_the_kernels_default(bench: Bench) -> None:
    ctx = bench.service.ctx
    present = ResourcesSpec(memory_limit_bytes=64 * MIB, cpu_shares=512, cpuset_cpus="0", pids_limit=5)
    same = difference_of(present, present, ctx)
    assert all(getattr(same, name) in (None, []) for name in same.__dataclass_fields__)
    changed = merged(present, ResourcesSpec(memory_limit_bytes=0, pids_limit=0))
    difference = difference_of(present, changed, ctx)
    assert (difference.memory_limit_bytes, difference.memory_swap_limit_bytes) == (-1, -1)
    assert (difference.pids_limit, difference.cpu_shares, difference.cpuset_cpus) == (-1, None, None)
    lifted = difference_of(present, ResourcesSpec(), ctx)
    assert (lifted.cpu_shares, lifted.cpuset_cpus) == (1024, "0,1")


async def test_a_removed_container_takes_no_new_name(bench: Bench) -> None:
    await bench.service.create(spec(), "one")
    renaming = asyncio.ensure_future(bench.service.rename("one", "two"))
    deleting = asyncio.ensure_future(bench.service.delete("one", force=False))
    await asyncio.gather(renaming, deleting, return_exceptions=True)
    assert dict(bench.service.ctx.table.names) == {}
    with pytest.raises(ContainerNotFound):
        await bench.service.rename("two", "three")


async def test_many_watchers_read_each_container_once_a_round(bench: Bench) -> None:
    for name in ("one", "two"):
        await bench.service.create(spec(), name)
        await bench.service.start(name)
    watchers = [bench.service.watch_stats([], 1000, once=False) for _ in range(10)]
    first = await asyncio.gather(*(anext(watcher) for watcher in watchers))
    assert {len(samples) for samples in first} == {2}
    assert len(bench.runtime.stats_calls) == 1
    for watcher in watchers:
        await watcher.aclose()


async def test_what_is_known_of_a_run_spares_reads_for_a_time_and_under_the_same_limits(bench: Bench) -> None:
    await bench.service.create(spec(), "one")
    await bench.service.start("one")
    sampler, known = Sampler(bench.service.ctx), bench.runtime.stats_known

    async def read_later(seconds: float) -> bool:
        bench.clock.now += int(seconds * 1e9)
        await sampler.read_all(0.1)
        return known[-1] == [True]

    assert [await read_later(1) for _ in range(3)] == [False, True, True]
    assert not await read_later(WHOLE_SECONDS)
    assert await read_later(1)
    await bench.service.update("one", ResourcesSpec(pids_limit=9), None)
    assert [await read_later(1) for _ in range(2)] == [False, True]
    await bench.service.restart("one", timeout_millis=None, signal=None)
    assert not await read_later(1)


async def test_pressure_is_read_as_often_as_the_kernel_averages_it(bench: Bench) -> None:
    await bench.service.create(spec(), "one")
    await bench.service.start("one")
    sampler = Sampler(bench.service.ctx)
    for _ in range(9):
        await sampler.read_all(0.1)
        bench.clock.now += int(0.99e9)
    known = [one for [one] in bench.runtime.pressure_known]
    assert known == [False, True, False, True, False, True, False, True, False]


async def test_a_prune_leaves_what_a_verb_is_at_work_on(bench: Bench) -> None:

    await bench.service.create(spec(), "one")
    entry = bench.service.ctx.table.find("one")
    async with entry.lock:
        assert (await bench.service.prune(ContainerFilter(), dry_run=False)).ids == []
    pruned = await bench.service.prune(ContainerFilter(), dry_run=True)
    assert (len(pruned.ids), len(bench.service.ctx.table)) == (1, 1)
    await bench.service.prune(ContainerFilter(), dry_run=False)
    bench.assert_clean()
