"""Health checks on fakes: what an answer means, when the next is asked for, and what follows."""

import asyncio
from dataclasses import replace

import pytest

from fluytd.containers import restart, stop
from fluytd.containers.context import Context
from fluytd.containers.health import MAX_OUTPUT_BYTES, MAX_RESULTS, after, delay_millis
from fluytd.containers.health_state import Health, HealthResult, HealthState
from fluytd.containers.model import State
from fluytd.containers.process_ports import ProbeResult
from fluytd.containers.query import ContainerFilter
from fluytd.containers.resolve import health_check
from fluytd.containers.spec import ContainerSpec, HealthAction, HealthCheck, RestartMode, RestartPolicy
from fluytd.containers.table import Entry, Run
from fluytd.errors import FieldInvalid, FieldNotBuilt, IoFailed, LimitExceeded
from fluytd.recovery.apply import recover
from tests.support.fakes.containers import IMAGE, Bench, FakeProcess
from tests.support.wait import until

GOOD, BAD = ProbeResult(0, b"", 7), ProbeResult(1, b"no", 8)
CHECK = HealthCheck(
    args=("test", "-f", "/ok"),
    interval_millis=1_000,
    timeout_millis=1_000,
    start_period_millis=3_000,
    start_interval_millis=500,
    retries=2,
)


def spec(check: HealthCheck | None = CHECK, mode: RestartMode = RestartMode.NO) -> ContainerSpec:
    """A container with this check."""
    return ContainerSpec(image="busybox", args=("true",), health_check=check, restart_policy=RestartPolicy(mode))


def last(health: Health) -> HealthResult:
    """What the last check found."""
    assert health.last is not None
    return health.last


def test_l08_a_failure_in_the_start_period_does_not_count() -> None:
    health = Health()
    for age in (0, 1_000, 2_999):
        health = after(health, CHECK, BAD, millis_since_start=age)
        assert (health.state, health.failing_streak) == (HealthState.STARTING, 0)
    health = after(health, CHECK, BAD, millis_since_start=3_000)
    assert (health.state, health.failing_streak) == (HealthState.STARTING, 1)
    health = after(health, CHECK, BAD, millis_since_start=4_000)
    assert (health.state, health.failing_streak) == (HealthState.UNHEALTHY, 2)
    assert health.results[-1] == HealthResult(8, 1, "no")


def test_l08_a_success_in_the_start_period_makes_it_healthy_and_ends_the_grace() -> None:
    health = after(Health(), CHECK, GOOD, millis_since_start=100)
    assert health.state is HealthState.HEALTHY
    health = after(health, CHECK, BAD, millis_since_start=200)
    assert (health.state, health.failing_streak) == (HealthState.HEALTHY, 1)
    health = after(health, CHECK, BAD, millis_since_start=300)
    assert health.state is HealthState.UNHEALTHY
    health = after(health, CHECK, GOOD, millis_since_start=400)
    assert (health.state, health.failing_streak) == (HealthState.HEALTHY, 0)


def test_l08_checks_are_denser_until_the_start_period_is_over() -> None:
    assert delay_millis(Health(), CHECK, millis_since_start=0) == 500
    assert delay_millis(Health(), CHECK, millis_since_start=3_000) == 1_000
    assert delay_millis(Health(HealthState.HEALTHY), CHECK, millis_since_start=0) == 1_000


def test_what_a_check_wrote_is_bounded_and_any_bytes() -> None:
    output = bytes(range(256)) * 100
    health = after(Health(), CHECK, ProbeResult(1, output, 1), millis_since_start=0)
    assert last(health).output_latin1.encode("latin-1") == output[-MAX_OUTPUT_BYTES:]


def test_the_last_results_are_kept_and_no_more() -> None:
    health = Health()
    for number in range(MAX_RESULTS + 3):
        health = after(health, CHECK, ProbeResult(number % 2, b"", number), millis_since_start=0)
    assert [result.end_time_unix_nanos for result in health.results] == list(range(3, MAX_RESULTS + 3))


def test_what_a_caller_leaves_out_is_the_images_or_the_default() -> None:
    image = HealthCheck(args=("a",), interval_millis=7, retries=9)
    assert health_check(None, None) is None
    assert health_check(None, HealthCheck(is_disabled=True)) is None
    assert health_check(HealthCheck(is_disabled=True), image) is None
    found = health_check(None, image)
    assert found == HealthCheck(
        args=("a",), interval_millis=7, timeout_millis=30_000, start_interval_millis=7, retries=9
    )
    found = health_check(HealthCheck(args=("b",), retries=1, action=HealthAction.STOP), image)
    assert found is not None
    assert (found.args, found.interval_millis, found.retries, found.action) == (("b",), 7, 1, HealthAction.STOP)
    found = health_check(HealthCheck(args=("b",)), None)
    assert found == HealthCheck(
        args=("b",), interval_millis=30_000, timeout_millis=30_000, start_interval_millis=5_000, retries=3
    )
    with pytest.raises(FieldInvalid):
        health_check(HealthCheck(retries=3), None)


@pytest.mark.parametrize(
    ("check", "error"),
    [
        (HealthCheck(args=("a",), interval_millis=-1), FieldInvalid),
        (HealthCheck(args=("a",), timeout_millis=24 * 3600 * 1000 + 1), FieldInvalid),
        (HealthCheck(args=("a",), retries=1_001), FieldInvalid),
        (HealthCheck(args=("a\0",)), FieldInvalid),
        (HealthCheck(args=("a" * 65_537,)), LimitExceeded),
        (HealthCheck(is_disabled=True, args=("a",)), FieldInvalid),
    ],
)
async def test_a_check_that_cannot_be_is_refused(bench: Bench, check: HealthCheck, error: type[Exception]) -> None:
    with pytest.raises(error):
        await bench.service.create(spec(check), "one")


async def next_check(bench: Bench) -> None:
    """The time of the next check has come, and it was answered."""
    count = len(bench.probe.asked)
    waits = len(bench.sleep.asked)
    bench.sleep.wake()
    await until(lambda: len(bench.probe.asked) > count and len(bench.sleep.asked) > waits)


async def started(bench: Bench, wanted: ContainerSpec) -> None:
    """A container that runs, long after its start period; its first check waits for its time."""
    await bench.service.create(wanted, "one")
    await bench.service.start("one")
    bench.clock.now += 10_000_000_000
    await until(lambda: len(bench.sleep.asked) == 1)


async def test_l08_the_record_and_the_events_tell_the_health(bench: Bench) -> None:
    await started(bench, spec())
    first = bench.service.get("one").health
    assert first is not None
    assert first.state is HealthState.STARTING
    bench.probe.answers = [GOOD, BAD, BAD, GOOD]
    for state, streak in (
        (HealthState.HEALTHY, 0),
        (HealthState.HEALTHY, 1),
        (HealthState.UNHEALTHY, 2),
        (HealthState.HEALTHY, 0),
    ):
        await next_check(bench)
        health = bench.service.get("one").health
        assert health is not None
        assert (health.state, health.failing_streak) == (state, streak)
    assert bench.probe.asked == [(CHECK.args, 1_000)] * 4
    assert bench.records.fact_names.count("ContainerHealthChanged") == 3
    healthy = ContainerFilter(health_states=frozenset({HealthState.HEALTHY}))
    assert len(bench.service.list(healthy)) == 1


async def test_a_check_that_changes_nothing_is_not_stored(bench: Bench) -> None:
    await started(bench, spec())
    await next_check(bench)
    version = bench.service.get("one").version
    await next_check(bench)
    assert bench.service.get("one").version == version


async def test_l09_a_check_that_was_broken_off_counts_and_says_so(bench: Bench) -> None:
    await started(bench, spec())
    bench.probe.answers = [ProbeResult(-1, b"the check took longer than 1000 ms", 1)]
    await next_check(bench)
    health = bench.service.get("one").health
    assert health is not None
    assert (last(health).exit_code, health.failing_streak) == (-1, 1)
    assert "1000 ms" in last(health).output_latin1


async def test_a_check_that_cannot_be_run_is_a_failure_of_the_container(bench: Bench) -> None:
    await started(bench, spec())
    bench.probe.answers = [IoFailed(operation="exec", path="/x", errno=5)]
    await next_check(bench)
    health = bench.service.get("one").health
    assert health is not None
    assert (last(health).exit_code, health.failing_streak) == (-1, 1)


async def test_a_paused_container_is_not_asked(bench: Bench) -> None:
    await started(bench, spec())
    await bench.service.pause("one")
    bench.sleep.wake()
    await until(lambda: len(bench.sleep.asked) == 2)
    assert bench.probe.asked == []
    await bench.service.resume("one")
    await next_check(bench)
    assert len(bench.probe.asked) == 1


async def unhealthy(bench: Bench, wanted: ContainerSpec) -> None:
    """Two checks have failed."""
    bench.probe.answers = [BAD]
    await started(bench, wanted)
    await next_check(bench)
    bench.sleep.wake()
    await until(lambda: len(bench.probe.asked) == 2)


async def test_an_unhealthy_container_is_stopped_and_stays_so(bench: Bench) -> None:
    await unhealthy(bench, spec(replace(CHECK, action=HealthAction.STOP), RestartMode.ALWAYS))
    await until(lambda: bench.service.get("one").state is State.EXITED)
    assert bench.service.get("one").is_stopped_by_caller
    assert bench.runtime.starts == 1


async def test_an_unhealthy_container_is_killed_and_its_policy_goes_on(bench: Bench) -> None:
    await unhealthy(bench, spec(replace(CHECK, action=HealthAction.KILL), RestartMode.ALWAYS))
    await until(lambda: bench.service.get("one").state is State.EXITED)
    assert not bench.service.get("one").is_stopped_by_caller
    bench.sleep.wake()
    await until(lambda: bench.runtime.starts == 2)


async def test_an_unhealthy_container_is_restarted_and_begins_anew(bench: Bench) -> None:
    await unhealthy(bench, spec(replace(CHECK, action=HealthAction.RESTART)))
    await until(lambda: bench.runtime.starts == 2 and bench.service.get("one").health is not None)
    health = bench.service.get("one").health
    assert health is not None
    assert (health.state, health.failing_streak) == (HealthState.STARTING, 0)


async def test_an_action_that_failed_is_tried_again_at_the_next_failure(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = stop.kill_unhealthy, 0

    async def fail_first(ctx: Context, entry: Entry, run: Run) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise IoFailed(operation="kill", path="/x", errno=5)
        await real(ctx, entry, run)

    monkeypatch.setattr(stop, "kill_unhealthy", fail_first)
    await unhealthy(bench, spec(replace(CHECK, action=HealthAction.KILL)))
    await until(lambda: tries == 1 and len(bench.sleep.asked) == 3)
    assert bench.service.get("one").state is State.RUNNING
    bench.sleep.wake()
    await until(lambda: bench.service.get("one").state is State.EXITED)
    assert tries == 2


@pytest.mark.parametrize("is_paused", [False, True])
async def test_an_action_undoes_nothing_that_a_caller_has_done_meanwhile(bench: Bench, is_paused: bool) -> None:
    await bench.service.create(spec(None), "one")
    await bench.service.start("one")
    entry = bench.service.ctx.table.find("one")
    run = entry.run
    assert run is not None
    if is_paused:
        await bench.service.pause("one")
    else:
        await bench.service.stop("one", timeout_millis=None, signal=None)
    before = bench.service.get("one")
    await restart.restart_unhealthy(bench.service.ctx, entry, run)
    await stop.stop(bench.service.ctx, entry, timeout_millis=None, signal=None, only=run)
    assert bench.service.get("one") is before
    assert bench.runtime.starts == 1


async def test_nobody_is_asked_after_the_end(bench: Bench) -> None:
    await started(bench, spec())
    await bench.service.stop("one", timeout_millis=None, signal=None)
    bench.sleep.wake()
    await asyncio.sleep(0.02)
    assert bench.probe.asked == []


async def test_health_is_found_out_further_by_the_next_daemon(bench: Bench) -> None:
    await started(bench, spec())
    await next_check(bench)
    await asyncio.wait_for(bench.service.close(), 5)
    container_id = bench.service.get("one").id
    # The old one's connection was closed with the daemon that had it.
    bench.runtime.processes[container_id] = FakeProcess(bench.runtime, container_id)
    waits = len(bench.sleep.asked)
    service = bench.restart()
    await recover(service.ctx)
    health = service.get("one").health
    assert health is not None
    assert health.state is HealthState.HEALTHY
    await until(lambda: len(bench.sleep.asked) > waits)
    await next_check(bench)


async def test_an_engine_that_cannot_run_checks_refuses_them_by_name(bench: Bench) -> None:
    bench.service.ctx.probe = None
    with pytest.raises(FieldNotBuilt):
        await bench.service.create(spec(), "one")
    bench.images.facts = replace(IMAGE, health_check=CHECK)
    made = await bench.service.create(spec(None), "one")
    await bench.service.start(made.id)
    assert bench.service.get("one").health is None
