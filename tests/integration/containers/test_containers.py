"""Containers on the real core, without an API in front: what runs, how it ends, and what is left."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fluytd.containers.attach import AttachOptions
from fluytd.containers.model import ExitStatus, State
from fluytd.containers.spec import ContainerSpec, ResourcesSpec
from fluytd.containers.wait import Condition
from fluytd.errors import ContainerWrongState, EngineError, ProcessStartFailed
from tests.integration.containers.bench import CoreBench, ending, output

pytestmark = pytest.mark.needs("root", "busybox")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[CoreBench]:
    made = CoreBench(tmp_path)
    await made.open()
    yield made
    await made.close()


def spec(*args: str, **fields: object) -> ContainerSpec:
    return ContainerSpec(image="busybox", args=args, **fields)  # type: ignore[arg-type]


async def test_output_and_exit_code_are_the_containers(bench: CoreBench) -> None:
    assert await bench.run("sh", "-c", "echo a; echo b >&2; exit 7") == (b"a\n", b"b\n", ExitStatus(exit_code=7))


@pytest.mark.parametrize(("command", "code"), [("/etc", "126"), ("nosuch", "127")])
async def test_t01_a_command_that_cannot_be_executed_tells_its_code(bench: CoreBench, command: str, code: str) -> None:
    with pytest.raises(ProcessStartFailed) as caught:
        await bench.run(command)
    assert caught.value.metadata["exit_code"] == code


async def test_t02_a_missing_command_leaves_created_with_127_and_a_name_to_use_again(bench: CoreBench) -> None:
    await bench.service.create(spec("/bin/nope"), "one")
    with pytest.raises(ProcessStartFailed):
        await bench.service.start("one")
    failed = bench.service.get("one")
    assert (failed.state, failed.exit) == (State.CREATED, ExitStatus(exit_code=127))
    await bench.service.delete("one", force=False)
    await bench.service.create(spec("true"), "one")


async def test_t03_process_one_without_a_handler_is_killed_after_its_time(bench: CoreBench) -> None:
    await bench.service.create(spec("sleep", "100"), "one")
    await bench.service.start("one")
    begun = time.monotonic()
    ended = await bench.service.stop("one", timeout_millis=2000, signal=None)
    assert ended.exit == ExitStatus(signal=9)
    assert 2 <= time.monotonic() - begun < 4


async def test_t03_a_handler_of_the_stop_signal_ends_it_at_once(bench: CoreBench) -> None:
    script = 'trap "exit 7" TERM; echo ready; while :; do sleep .1; done'
    await bench.service.create(spec("sh", "-c", script), "one")
    session = await bench.service.attach("one", AttachOptions(stdout=True))
    events = session.events()
    first = asyncio.ensure_future(anext(events))
    await bench.service.start("one")
    await first
    ended = await bench.service.stop("one", timeout_millis=10_000, signal=None)
    await events.aclose()
    session.close()
    assert ended.exit == ExitStatus(exit_code=7)


async def test_t05_digits_are_a_number_and_never_a_name(bench: CoreBench) -> None:
    out, _, _ = await bench.run(spec=spec("id", "-u", user="1000", auto_remove=True))
    assert out == b"1000\n"


@pytest.mark.parametrize("user", ["evil", "4294967296", "nobodyhere"])
async def test_t06_a_user_that_cannot_be_had_starts_nothing(bench: CoreBench, user: str) -> None:
    with pytest.raises(EngineError) as caught:
        await bench.run(spec=spec("id", "-u", user=user, auto_remove=True))
    assert caught.value.reason == "USER_INVALID"


async def test_t11_and_t14_the_environment_is_dockers(bench: CoreBench) -> None:
    wanted = spec("env", env=("FOO", "EMPTY=", "OWN=x"), hostname="box", auto_remove=True)
    out, _, _ = await bench.run(spec=wanted)
    lines = out.decode().splitlines()
    assert {"EMPTY=", "OWN=x", "HOSTNAME=box", "HOME=/root", "PATH=/bin"} <= set(lines)
    assert not [line for line in lines if line.startswith(("FOO", "TERM"))]


async def test_t13_fifty_at_once_see_their_own_environment_only(bench: CoreBench) -> None:
    async def one(number: int) -> None:
        wanted = spec("sh", "-c", "echo $ID", env=(f"ID={number}",), auto_remove=True)
        assert (await bench.run(spec=wanted))[0] == f"{number}\n".encode()

    await asyncio.gather(*(one(number) for number in range(50)))


async def test_t16_memory_that_runs_out_is_told(bench: CoreBench) -> None:
    hog = "x=$(head -c 200m /dev/zero | tr '\\0' a)"
    limits = ResourcesSpec(memory_limit_bytes=32 << 20, memory_swap_limit_bytes=32 << 20)
    await bench.service.create(spec("sh", "-c", hog, resources=limits), "one")
    await bench.service.start("one")
    ended = await bench.service.wait("one", Condition.NOT_RUNNING)
    assert ended.oom_killed


async def test_s02_and_s05_and_s06_output_is_whole_and_exact(bench: CoreBench) -> None:
    out, _, _ = await bench.run("seq", "100000")
    assert out == b"".join(b"%d\n" % number for number in range(1, 100_001))
    out, _, _ = await bench.run("sh", "-c", "head -c 102400 /dev/zero | tr '\\0' x; echo")
    assert out == b"x" * 102_400 + b"\n"
    out, _, _ = await bench.run("printf", "\\355\\253\\356\\333\\003\\000")
    assert out == b"\xed\xab\xee\xdb\x03\x00"


async def test_s09_attach_before_start_gives_all_and_stdin_closes(bench: CoreBench) -> None:
    await bench.service.create(spec("sh", "-c", "cat; echo b >&2; exit 7", open_stdin=True), "one")
    session = await bench.service.attach("one", AttachOptions(stdin=True, stdout=True, stderr=True, hold=True))

    async def collect() -> list[object]:
        return [event async for event in session.events()]

    collecting = asyncio.create_task(collect())
    await bench.service.start("one")
    await session.write_stdin(b"hello" * 50_000)
    await session.close_stdin()
    events = await collecting
    session.close()
    assert (output(events, "stdout"), output(events, "stderr")) == (b"hello" * 50_000, b"b\n")
    assert ending(events) == ExitStatus(exit_code=7)


async def test_l06_a_name_is_free_when_its_deletion_returns(bench: CoreBench) -> None:
    for _ in range(20):
        await bench.service.create(spec("sleep", "100"), "one")
        await bench.service.start("one")
        with pytest.raises(ContainerWrongState):
            await bench.service.delete("one", force=False)
        await bench.service.delete("one", force=True)


async def test_a_new_daemon_takes_over_what_runs_and_learns_what_ended(bench: CoreBench) -> None:
    await bench.service.create(spec("sleep", "100"), "runs")
    await bench.service.create(spec("sh", "-c", "sleep .5; exit 9"), "ends")
    for name in ("runs", "ends"):
        await bench.service.start(name)
    await bench.leave()
    await asyncio.sleep(1)  # what must happen is that nobody is there to see it
    report = await bench.open()
    assert (report.adopted_count, report.exited_count, report.failures) == (1, 1, {})
    assert bench.service.get("ends").exit == ExitStatus(exit_code=9)
    ended = await bench.service.stop("runs", timeout_millis=0, signal=None)
    assert ended.exit == ExitStatus(signal=9)


async def test_a_killed_supervisor_is_told_and_leaks_nothing(bench: CoreBench) -> None:
    made = await bench.service.create(spec("sleep", "100"), "one")
    await bench.service.start("one")
    run = bench.service.ctx.table.find(made.id).run
    assert run is not None
    os.kill(run.process.supervisor_pid, signal.SIGKILL)
    ended = await bench.service.wait("one", Condition.NOT_RUNNING)
    assert (ended.reason, ended.exit) == ("SUPERVISOR_LOST", ExitStatus(signal=9))
