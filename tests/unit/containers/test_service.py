"""The verbs of the container service on fakes: states, events, what is left, and two callers at once."""

import asyncio
from collections.abc import Awaitable, Sequence

import pytest

from fluytd.containers.attach import AttachOptions, Detached
from fluytd.containers.model import Container, ExitStatus, State
from fluytd.containers.query import ContainerFilter
from fluytd.containers.run import Created, Exited, Output, Running
from fluytd.containers.spec import ContainerSpec, PullPolicy
from fluytd.containers.wait import Condition
from fluytd.errors import (
    CgroupBusy,
    ContainerNotFound,
    ContainerWrongState,
    FieldInvalid,
    ImageNotFound,
    NameInUse,
    ProcessStartFailed,
    StorageFull,
    VersionConflict,
)
from fluytd.events.model import Fact
from tests.support.fakes.containers import Bench
from tests.support.wait import until

SPEC = ContainerSpec(image="busybox", args=("true",))
REMOVED = ContainerSpec(image="busybox", args=("true",), auto_remove=True)
NOT_FOUND = ProcessStartFailed(step="exec", errno=2, path="/bin/nope", exit_code=127, detail="not found")


async def test_a_life_tells_its_events_in_order(bench: Bench) -> None:
    made = await bench.service.create(SPEC, "one")
    assert made.state is State.CREATED
    started = await bench.service.start("one")
    assert (started.state, started.host_pid) == (State.RUNNING, 4242)
    bench.process(made).end(ExitStatus(exit_code=3))
    ended = await bench.service.wait("one", Condition.NOT_RUNNING)
    assert ended.exit == ExitStatus(exit_code=3)
    assert await bench.service.delete("one", force=False) == (made.id, 7)
    names = ["ContainerCreated", "ContainerStarted", "ContainerExited", "ContainerDeleted"]
    assert bench.records.fact_names == names
    bench.assert_clean()


async def test_stop_adds_its_events_before_and_after_the_end(bench: Bench) -> None:
    made = await bench.service.create(SPEC, "one")
    await bench.service.start("one")
    ended = await bench.service.stop("one", timeout_millis=None, signal=None)
    assert ended.exit == ExitStatus(signal=15)
    names = ["ContainerStopping", "ContainerSignalled", "ContainerExited", "ContainerStopped"]
    assert bench.records.fact_names[2:] == names
    again = await bench.service.stop(made.id, timeout_millis=None, signal=None)
    assert again.state is State.EXITED


async def test_stop_kills_what_ignores_its_signal(bench: Bench) -> None:
    made = await bench.service.create(SPEC, "one")
    await bench.service.start("one")
    bench.process(made).ignores = {15}
    ended = await bench.service.stop("one", timeout_millis=30, signal=None)
    assert (ended.exit, bench.process(made).signals) == (ExitStatus(signal=9), [15, 9])


async def test_stop_with_no_time_kills_at_once(bench: Bench) -> None:
    made = await bench.service.create(SPEC, "one")
    await bench.service.start("one")
    await bench.service.stop("one", timeout_millis=0, signal=None)
    assert bench.process(made).signals == [9]


async def test_a_name_in_use_names_its_holder(bench: Bench) -> None:
    made = await bench.service.create(SPEC, "one")
    with pytest.raises(NameInUse) as caught:
        await bench.service.create(SPEC, "one")
    assert caught.value.metadata == {"name": "one", "holder_id": made.id}
    bench.assert_clean()


async def test_t02_a_failed_start_stays_created_and_says_why(bench: Bench) -> None:
    made = await bench.service.create(SPEC, "one")
    bench.runtime.start_error = NOT_FOUND
    with pytest.raises(ProcessStartFailed):
        await bench.service.start("one")
    failed = bench.service.get("one")
    assert (failed.state, failed.exit) == (State.CREATED, ExitStatus(exit_code=127))
    assert failed.failure is not None
    assert failed.failure.reason == "PROCESS_START_FAILED"
    await bench.service.delete("one", force=False)
    bench.runtime.start_error = None
    again = await bench.service.create(SPEC, "one")
    assert again.id != made.id
    bench.assert_clean()


async def test_a_failed_creation_leaves_nothing_and_frees_the_name(bench: Bench) -> None:
    bench.directories.create_error = StorageFull(operation="mkdir", path="/d", errno=28)
    with pytest.raises(StorageFull):
        await bench.service.create(SPEC, "one")
    assert len(bench.service.ctx.table) == 0
    bench.directories.create_error = None
    await bench.service.create(SPEC, "one")
    bench.assert_clean()


@pytest.mark.parametrize("spec", [SPEC, REMOVED])
async def test_a_run_whose_directories_cannot_be_made_leaves_nothing(bench: Bench, spec: ContainerSpec) -> None:
    bench.directories.create_error = StorageFull(operation="mkdir", path="/d", errno=28)
    with pytest.raises(StorageFull):
        _ = [event async for event in bench.service.run(spec, "one", detach=True)]
    assert len(bench.service.ctx.table) == 0
    bench.assert_clean()


async def test_a_run_that_fails_stays_created_durably_with_its_directories(bench: Bench) -> None:
    bench.runtime.start_error = NOT_FOUND
    with pytest.raises(ProcessStartFailed):
        _ = [event async for event in bench.service.run(SPEC, "one", detach=True)]
    failed = bench.service.get("one")
    assert (failed.state, failed.exit) == (State.CREATED, ExitStatus(exit_code=127))
    assert (failed.id in bench.directories.standing, bench.records.durable_count) == (True, 1)
    await bench.service.delete("one", force=False)
    bench.assert_clean()


@pytest.mark.parametrize("spec", [SPEC, REMOVED])
async def test_run_sends_created_started_output_and_exited(bench: Bench, spec: ContainerSpec) -> None:
    seen: list[object] = []
    async for event in bench.service.run(spec, "one", detach=False):
        seen.append(event)
        if isinstance(event, Running):
            bench.log.write("stdout", b"hi\n")
            bench.log.write("stderr", b"oh\n")
            bench.process(event.container).end(ExitStatus(exit_code=7))
    assert [type(event) for event in seen] == [Created, Running, Output, Exited]
    output, exited = seen[2], seen[3]
    assert isinstance(output, Output)
    assert [(record.stream, record.data) for record in output.records] == [("stdout", b"hi\n"), ("stderr", b"oh\n")]
    assert isinstance(exited, Exited)
    assert exited.container.exit == ExitStatus(exit_code=7)
    assert bench.records.durable_count == (0 if spec.auto_remove else 1)
    assert ("one" in bench.service.ctx.table.names) is not spec.auto_remove
    await until(lambda: not bench.runtime.standing)
    bench.assert_clean()
    assert bench.log.readers[0].is_closed


async def test_run_of_a_command_that_is_not_there_leaves_nothing_when_it_removes_itself(bench: Bench) -> None:
    bench.runtime.start_error = NOT_FOUND
    with pytest.raises(ProcessStartFailed):
        async for _ in bench.service.run(REMOVED, "one", detach=False):
            pass
    bench.assert_clean()
    assert not bench.records.saved


async def test_a_caller_that_goes_leaves_the_container_running(bench: Bench) -> None:
    events = bench.service.run(SPEC, "one", detach=False)
    await anext(events)
    await events.aclose()
    # It was told of while it was being started; the start goes on.
    await until(lambda: bench.service.get("one").state is State.RUNNING)


async def test_run_pulls_what_is_missing_unless_it_must_not(bench: Bench) -> None:
    bench.images.facts = None
    never = ContainerSpec(image="busybox", pull_policy=PullPolicy.NEVER)
    with pytest.raises(ImageNotFound):
        async for _ in bench.service.run(never, "", detach=True):
            pass
    assert [type(event) async for event in bench.service.run(SPEC, "", detach=True)] == [Created, Running]
    assert bench.images.pulls == 1


async def test_stop_during_start_waits_and_then_stops(bench: Bench) -> None:
    await bench.service.create(SPEC, "one")
    started, stopped = await asyncio.gather(
        bench.service.start("one"), bench.service.stop("one", timeout_millis=None, signal=None)
    )
    assert started.state is State.RUNNING
    assert stopped.state is State.EXITED


async def test_deleting_by_force_gets_through_while_a_stop_waits(bench: Bench) -> None:
    made = await bench.service.create(SPEC, "one")
    await bench.service.start("one")
    bench.process(made).ignores = {15}
    stop = asyncio.create_task(bench.service.stop("one", timeout_millis=-1, signal=None))
    await until(lambda: bench.service.get("one").state is State.STOPPING)
    await bench.service.delete("one", force=True)
    assert (await stop).exit == ExitStatus(signal=9)
    bench.assert_clean()


async def test_l06_deleting_what_runs_is_refused_and_it_runs_on(bench: Bench) -> None:
    await bench.service.create(SPEC, "one")
    await bench.service.start("one")
    with pytest.raises(ContainerWrongState):
        await bench.service.delete("one", force=False)
    assert bench.service.get("one").state is State.RUNNING


async def test_two_deletions_at_once_succeed_once(bench: Bench) -> None:
    await bench.service.create(SPEC, "one")
    results = await asyncio.gather(*(bench.service.delete("one", force=True) for _ in range(2)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["ContainerNotFound", "tuple"]


async def test_t16_memory_that_ran_out_is_told_before_the_end_and_for_that_run_only(bench: Bench) -> None:
    made = await bench.service.create(SPEC, "one")
    await bench.service.start("one")
    bench.process(made).end(ExitStatus(signal=9), oom_kill_count=1)
    ended = await bench.service.wait("one", Condition.NOT_RUNNING)
    assert ended.oom_killed
    assert bench.records.fact_names[-2:] == ["ContainerOutOfMemory", "ContainerExited"]
    again = await bench.service.start("one")
    assert not again.oom_killed


async def test_a_lost_supervisor_ends_the_container_with_a_reason(bench: Bench) -> None:
    made = await bench.service.create(SPEC, "one")
    await bench.service.start("one")
    bench.process(made).lose()
    ended = await bench.service.wait("one", Condition.NOT_RUNNING)
    assert (ended.reason, ended.exit) == ("SUPERVISOR_LOST", ExitStatus(signal=9))
    assert bench.runtime.killed_groups == [made.id]
    await until(lambda: not bench.runtime.standing)


async def test_l05_waiting_for_one_that_removes_itself_works_before_during_and_after(bench: Bench) -> None:
    events = bench.service.run(REMOVED, "one", detach=True)
    created = await anext(events)
    await anext(events)
    await events.aclose()
    assert isinstance(created, Created)
    before = asyncio.create_task(bench.service.wait("one", Condition.NOT_RUNNING))
    removed = asyncio.create_task(bench.service.wait("one", Condition.REMOVED))
    await asyncio.sleep(0)
    bench.process(created.container).end(ExitStatus(exit_code=5))
    assert (await before).exit == ExitStatus(exit_code=5)
    assert (await removed).exit == ExitStatus(exit_code=5)
    assert "one" not in bench.service.ctx.table.names
    assert (await bench.service.wait("one", Condition.NOT_RUNNING)).exit == ExitStatus(exit_code=5)
    with pytest.raises(ContainerNotFound):
        bench.service.get("one")


async def test_next_exit_waits_for_one_that_does_not_run(bench: Bench) -> None:
    made = await bench.service.create(SPEC, "one")
    waiting = asyncio.create_task(bench.service.wait("one", Condition.NEXT_EXIT))
    assert (await bench.service.wait("one", Condition.NOT_RUNNING)).state is State.CREATED
    await bench.service.start("one")
    assert not waiting.done()
    bench.process(made).end(ExitStatus(exit_code=0))
    assert (await waiting).exit == ExitStatus(exit_code=0)


async def test_a_release_that_failed_is_tried_again_before_the_next_start(bench: Bench) -> None:
    made = await bench.service.create(SPEC, "one")
    await bench.service.start("one")
    bench.runtime.release_errors = [CgroupBusy(path="/x")]
    bench.process(made).end(ExitStatus(exit_code=0))
    await bench.service.wait("one", Condition.NOT_RUNNING)
    assert (await bench.service.start("one")).run_number == 2
    assert not bench.runtime.release_errors


async def test_a_run_is_given_back_only_once_its_end_is_stored(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    stored, save = asyncio.Event(), bench.records.save

    def save_slowly(
        container: Container, facts: Sequence[Fact], *, durable: bool = False, lazy: bool = False
    ) -> Awaitable[None]:
        written = save(container, facts, durable=durable)
        return _after(stored, written) if container.state is State.EXITED else written

    monkeypatch.setattr(bench.records, "save", save_slowly)
    made = await bench.service.create(SPEC, "one")
    await bench.service.start("one")
    bench.process(made).end(ExitStatus(exit_code=3))
    await bench.service.wait("one", Condition.NOT_RUNNING)
    for _ in range(10):
        await bench.service.ctx.workers.run(lambda: None)
    assert made.id in bench.runtime.standing
    stored.set()
    await until(lambda: made.id not in bench.runtime.standing)


async def _after(event: asyncio.Event, work: Awaitable[None]) -> None:
    await event.wait()
    await work


async def test_s09_attaching_before_the_start_loses_nothing(bench: Bench) -> None:
    made = await bench.service.create(SPEC, "one")
    session = await bench.service.attach("one", AttachOptions(stdout=True, stderr=True, hold=True))
    events = asyncio.create_task(_all(session.events()))
    await bench.service.start("one")
    bench.log.write("stdout", b"a\n")
    bench.log.write("stderr", b"b\n")
    bench.process(made).end(ExitStatus(exit_code=7))
    seen = await events
    session.close()
    outputs = [event for event in seen if isinstance(event, Output)]
    data = [(record.stream, record.data) for event in outputs for record in event.records]
    assert data == [("stdout", b"a\n"), ("stderr", b"b\n")]
    assert isinstance(seen[-1], Exited)
    assert seen[-1].container.exit == ExitStatus(exit_code=7)


async def test_an_attached_caller_hears_of_a_start_that_fails(bench: Bench) -> None:
    await bench.service.create(SPEC, "one")
    session = await bench.service.attach("one", AttachOptions(stdout=True))
    events = asyncio.create_task(_all(session.events()))
    bench.runtime.start_error = NOT_FOUND
    with pytest.raises(ProcessStartFailed):
        await bench.service.start("one")
    (last,) = await events
    session.close()
    assert isinstance(last, Exited)
    assert last.container.exit == ExitStatus(exit_code=127)


async def test_detaching_ends_the_session_and_not_the_container(bench: Bench) -> None:
    await bench.service.create(SPEC, "one")
    await bench.service.start("one")
    session = await bench.service.attach("one", AttachOptions(stdout=True))
    events = asyncio.create_task(_all(session.events()))
    await asyncio.sleep(0)
    session.detach()
    assert [type(event) for event in await events] == [Detached]
    session.close()
    assert bench.service.get("one").state is State.RUNNING


async def test_one_that_removes_itself_stays_until_its_reader_has_all(bench: Bench) -> None:
    events = bench.service.run(REMOVED, "one", detach=False)
    created = await anext(events)
    assert isinstance(created, Created)
    assert isinstance(await anext(events), Running)
    bench.log.write("stdout", b"late\n")
    bench.process(created.container).end(ExitStatus(exit_code=0))
    await until(lambda: bench.service.get("one").state is State.EXITED)
    assert created.container.id in bench.directories.standing
    rest = [event async for event in events]
    assert [type(event) for event in rest] == [Output, Exited]
    assert not bench.directories.standing


async def test_a_version_that_has_passed_is_refused(bench: Bench) -> None:
    made = await bench.service.create(SPEC, "one")
    with pytest.raises(VersionConflict):
        await bench.service.start("one", expected_version=made.version + 1)


async def test_renaming_frees_the_old_name(bench: Bench) -> None:
    await bench.service.create(SPEC, "one")
    assert (await bench.service.rename("one", "two")).name == "two"
    await bench.service.create(SPEC, "one")
    with pytest.raises(NameInUse):
        await bench.service.rename("two", "one")


async def test_input_needs_attach(bench: Bench) -> None:
    with pytest.raises(FieldInvalid):
        async for _ in bench.service.run(ContainerSpec(image="busybox", open_stdin=True), "", detach=False):
            pass


async def test_lists_filter_and_are_newest_first(bench: Bench) -> None:
    for name in ("one", "two", "three"):
        await bench.service.create(ContainerSpec(image="busybox", labels={"is": name}), name)
    await bench.service.start("two")
    assert [one.name for one in bench.service.list(ContainerFilter())] == ["three", "two", "one"]
    running = ContainerFilter(states=frozenset({State.RUNNING}))
    assert [one.name for one in bench.service.list(running)] == ["two"]
    assert [one.name for one in bench.service.list(ContainerFilter(labels=("is=one",)))] == ["one"]
    assert [one.name for one in bench.service.list(ContainerFilter(names=("t",), labels=("is",)))] == ["three", "two"]
    assert bench.service.list(ContainerFilter(states=frozenset())) == []


async def _all(events: object) -> list[object]:
    return [event async for event in events]  # type: ignore[attr-defined]
