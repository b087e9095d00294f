"""A tiny init as process 1: what it hands on, what it reaps, and how it ends."""

import pytest

from fluyt.v1 import containers_pb2
from tests.e2e.containers.steps import IMAGE, create, exit_of, get, start, started, wait
from tests.support.engine import Engine
from tests.support.wait import until_now

#: Leaves children that end behind, each of which nobody but process 1 can reap; then tells how many zombies there are.
ORPHANS = """
for n in 1 2 3 4 5; do (sh -c 'sleep 0.1 & exit 0'); done
sleep 1
grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l
"""


def test_the_command_is_not_process_1_and_is_told_as_it_was_asked_for(engine: Engine) -> None:
    made = create(engine, "sh", "-c", "echo $$; cat /proc/1/comm", init=True)
    assert (made.spec.init, list(made.resolved_args)) == (True, ["sh", "-c", "echo $$; cat /proc/1/comm"])
    start(engine, made.id)
    assert exit_of(wait(engine, made.id)) == ("exit_code", 0)
    pid, name = engine.logs(made.id).split()
    assert (int(pid) > 1, name) == (True, b"fluyt-init")


@pytest.mark.parametrize(("init", "zombies"), [(True, b"0"), (False, b"5")])
def test_what_lost_its_parent_is_reaped(engine: Engine, init: bool, zombies: bytes) -> None:
    # Without an init the shell is process 1; busybox's reaps only what it waits for itself.
    out, _, ended = engine.run(IMAGE, "sh", "-c", ORPHANS if init else f"{ORPHANS}:", init=init)
    assert exit_of(ended) == ("exit_code", 0)
    if init:
        assert out.split() == [zombies]


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("kill -TERM $$", 143)]
)
def test_it_ends_as_the_command_ended(engine: Engine, script: str, code: int) -> None:
    _, _, ended = engine.run(IMAGE, "sh", "-c", script, init=True)
    assert exit_of(ended) == ("exit_code", code)


@pytest.mark.parametrize(("signal", "code"), [("TERM", 3), ("USR1", 4), ("HUP", 5), ("RTMIN+3", 165)])
def test_every_signal_reaches_the_command(engine: Engine, signal: str, code: int) -> None:
    script = "trap 'exit 3' TERM; trap 'exit 4' USR1; trap 'exit 5' HUP; echo ready; while :; do sleep 0.05; done"
    container = started(engine, "sh", "-c", script, init=True)
    until_now(lambda: engine.logs(container.id) == b"ready\n", "it hears signals")
    engine.containers.KillContainer(containers_pb2.KillContainerRequest(container=container.id, signal=signal))
    assert exit_of(wait(engine, container.id)) == ("exit_code", code)


def test_a_command_without_handlers_ends_at_once_when_it_is_stopped(engine: Engine) -> None:
    container = started(engine, "sleep", "1000", init=True)
    until_now(lambda: pids(engine, container.id) == 2, "the command runs")
    request = containers_pb2.StopContainerRequest(container=container.id)
    request.timeout.FromSeconds(30)
    ended = engine.containers.StopContainer(request, timeout=20).container
    assert exit_of(ended) == ("exit_code", 143)


def pids(engine: Engine, name: str) -> int:
    """How many processes it has."""
    request = containers_pb2.ListProcessesRequest(container=name)
    return len(engine.containers.ListProcesses(request).processes)


@pytest.mark.parametrize(("program", "code"), [("/nope", 127), ("nope", 127), ("/etc", 126), ("/etc/passwd", 126)])
def test_a_command_that_cannot_be_executed_is_told_by_its_exit_code(engine: Engine, program: str, code: int) -> None:
    _, err, ended = engine.run(IMAGE, program, init=True)
    assert (exit_of(ended), err.startswith(b"fluyt-init: ")) == (("exit_code", code), True)


def test_an_init_leaves_nothing_in_the_writable_layer_and_works_on_a_read_only_root(engine: Engine) -> None:
    out, _, ended = engine.run(IMAGE, "sh", "-c", "ls /dev/fluyt-init", init=True, read_only_root=True, user="1000")
    assert (out, exit_of(ended)) == (b"/dev/fluyt-init\n", ("exit_code", 0))
    made = create(engine, "true", init=True)
    start(engine, made.id)
    wait(engine, made.id)
    upper = engine.root / "data" / "containers" / made.id / "upper"
    assert not [path for path in upper.rglob("*") if "init" in path.name]
    assert get(engine, made.id).spec.init
