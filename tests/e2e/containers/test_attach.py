"""Callers joined to containers without a terminal: before the start, by input and its end, leaving, at once, slowly."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from fluyt.v1.types import attach_pb2, container_spec_pb2
from tests.e2e.containers import steps
from tests.e2e.containers.attach_steps import Caller
from tests.e2e.containers.steps import WRONG_STATE, create, exit_of, start, started, touch, wait
from tests.support.engine import Engine
from tests.support.wait import until_now

#: Answers each line, and ends with 9 at `end` and with 4 at the end of its input.
ANSWER = "echo ready; while read x; do echo got $x; test $x = end && exit 9; done; exit 4"


@pytest.mark.parametrize("tty", [False, True], ids=["pipes", "terminal"])
def test_s09_a_caller_before_the_start_of_a_very_short_one_gets_all_and_the_code(engine: Engine, tty: bool) -> None:
    container = create(engine, "sh", "-c", "echo a; echo b >&2; exit 7", tty=tty).id
    for number in range(5):
        caller = Caller(engine, container, stdin=False, await_start=number > 0)
        start(engine, container)
        kind, ended = caller.end()
        assert (kind, exit_of(ended)) == ("exited", ("exit_code", 7))
        assert (caller.out, caller.err) == ((b"a\r\nb\r\n", b"") if tty else (b"a\n", b"b\n")), number


def test_s09_one_that_has_ended_is_joined_for_its_next_run_alone(engine: Engine) -> None:
    container = started(engine, "sh", "-c", "echo run; test -e /again && exit 3; touch /again").id
    wait(engine, container)
    code, reason, metadata = steps.refused(lambda: Caller(engine, container, stdin=False))
    assert (code, reason, metadata["state"]) == (WRONG_STATE, "CONTAINER_WRONG_STATE", "exited")
    new = Caller(engine, container, stdin=False, await_start=True)
    both = Caller(engine, container, stdin=False, await_start=True, include_logs=True)
    start(engine, container)
    assert [exit_of(caller.end()[1]) for caller in (new, both)] == [("exit_code", 3)] * 2
    assert (new.out, both.out) == (b"run\n", b"run\nrun\n")


def test_s09_a_caller_that_waits_is_told_of_a_start_that_fails_and_of_a_deletion(engine: Engine) -> None:
    container = create(engine, "/nothing").id
    caller = Caller(engine, container, stdin=False)
    assert steps.refused(lambda: start(engine, container))[1] == "PROCESS_START_FAILED"
    assert caller.end()[0] == "exited"
    caller = Caller(engine, container, stdin=False)
    steps.delete(engine, container)
    assert caller.end()[0] == "exited"


@pytest.mark.parametrize("says", ["close_stdin", "half_close"])
def test_s07_the_end_of_a_callers_input_is_the_processes_and_output_still_comes(engine: Engine, says: str) -> None:
    container = started(engine, "sh", "-c", "cat; echo after; exit 5", open_stdin=True).id
    caller = Caller(engine, container, include_logs=True)
    caller.type("hi\n")
    caller.until(b"hi\n")
    if says == "half_close":
        caller.half_close()
    else:
        caller.say(close_stdin=attach_pb2.CloseStdin())
    assert exit_of(caller.end()[1]) == ("exit_code", 5)
    assert caller.out == b"hi\nafter\n"


@pytest.mark.parametrize("tty", [False, True], ids=["pipe", "terminal"])
def test_s08_the_end_is_told_though_input_stays_open(engine: Engine, tty: bool) -> None:
    container = create(engine, "true", open_stdin=True, tty=tty).id
    caller = Caller(engine, container)
    start(engine, container)
    assert exit_of(caller.end()[1]) == ("exit_code", 0)


def leave(caller: Caller) -> None:
    """By the message."""
    caller.say(detach=attach_pb2.Detach())
    assert caller.end()[0] == "detached"


def vanish(caller: Caller) -> None:
    """Without a word."""
    caller.vanish()


@pytest.mark.parametrize("go", [leave, vanish])
def test_input_stays_open_for_the_next_caller(engine: Engine, go: Callable[[Caller], None]) -> None:
    container = started(engine, "sh", "-c", ANSWER, open_stdin=True).id
    for number in range(3):
        caller = Caller(engine, container)
        caller.type(f"{number}\n")
        caller.until(b"got %d\n" % number)
        go(caller)
    last = Caller(engine, container)
    last.type("end\n")
    assert exit_of(last.end()[1]) == ("exit_code", 9)


@pytest.mark.parametrize("go", [leave, vanish])
def test_with_stdin_once_input_ends_with_the_first_caller_that_had_it(
    engine: Engine, go: Callable[[Caller], None]
) -> None:
    container = started(engine, "sh", "-c", ANSWER, open_stdin=True, stdin_once=True).id
    watching = Caller(engine, container, stdin=False, include_logs=True)
    go(Caller(engine, container, stdin=False))
    caller = Caller(engine, container)
    caller.type("one\n")
    caller.until(b"got one\n")
    go(caller)
    assert exit_of(watching.end()[1]) == ("exit_code", 4)
    assert watching.out == b"ready\ngot one\n"


def test_callers_get_the_streams_that_they_ask_for(engine: Engine) -> None:
    container = create(engine, "sh", "-c", "echo out; echo err >&2; exit 3").id
    asked = [(True, True), (True, False), (False, True), (False, False)]
    callers = [Caller(engine, container, stdin=False, stdout=out, stderr=err) for out, err in asked]
    start(engine, container)
    for caller, (out, err) in zip(callers, asked, strict=True):
        assert exit_of(caller.end()[1]) == ("exit_code", 3)
        assert (caller.out, caller.err) == (b"out\n" * out, b"err\n" * err)


def test_several_callers_get_the_same_and_the_slow_ones_of_hold_make_it_wait(engine: Engine) -> None:
    log = container_spec_pb2.LogSpec(segment_size_bytes=65_536, segment_count=2)
    container = create(
        engine, "sh", "-c", "echo ready; while [ ! -e /go ]; do sleep 0.05; done; seq 100000; touch /done", log=log
    ).id
    fast = Caller(engine, container, stdin=False, hold=True)
    slow = Caller(engine, container, stdin=False, hold=True)
    inside = Path(f"/proc/{start(engine, container).host_pid}/root")
    for caller in (fast, slow):
        caller.until(b"ready\n")
    touch(engine, container, "/go")
    fast.until(b"1\n")
    assert not (inside / "done").exists()
    expected = b"ready\n" + b"".join(b"%d\n" % number for number in range(1, 100_001))
    slow.until(b"99999\n")
    for caller in (fast, slow):
        assert exit_of(caller.end()[1]) == ("exit_code", 0)
        assert caller.out == expected


def test_a_signal_of_a_caller_reaches_the_first_process_and_one_that_is_none_is_refused(engine: Engine) -> None:
    script = "trap 'exit 6' USR1; echo ready; while :; do sleep 0.05; done"
    container = started(engine, "sh", "-c", script).id
    wrong = Caller(engine, container, stdin=False)
    wrong.say(signal="SIGNONE")
    assert steps.refused(wrong.end)[1] == "FIELD_INVALID"
    caller = Caller(engine, container, stdin=False, include_logs=True)
    caller.until(b"ready\n")
    caller.say(signal=signal.SIGUSR1.name)
    assert exit_of(caller.end()[1]) == ("exit_code", 6)


def test_a_size_is_nothing_to_a_container_without_a_terminal(engine: Engine) -> None:
    container = started(engine, "sh", "-c", ANSWER, open_stdin=True).id
    caller = Caller(engine, container, terminal_size={"width": 90, "height": 30})
    caller.say(resize={"width": 80, "height": 20})
    caller.type("end\n")
    assert exit_of(caller.end()[1]) == ("exit_code", 9)


@pytest.mark.parametrize(
    ("action", "field"),
    [
        ({"stdin": bytes(256 * 1024 + 1)}, "stdin"),
        ({"open": attach_pb2.AttachOptions(container="x")}, "action"),
        ({"signal": ""}, "signal"),
        ({}, "action"),
    ],
    ids=["long", "open again", "no signal", "nothing"],
)
def test_what_a_caller_must_not_say_ends_its_stream_alone(
    engine: Engine, action: dict[str, object], field: str
) -> None:
    container = started(engine, "sh", "-c", ANSWER, open_stdin=True).id
    caller = Caller(engine, container)
    caller.say(**action)
    code, reason, metadata = steps.refused(caller.end)
    assert (code, reason, metadata["field"]) == (steps.INVALID, "FIELD_INVALID", field)
    until_now(lambda: steps.get(engine, container).host_pid, "it goes on")
    other = Caller(engine, container)
    other.type("end\n")
    assert exit_of(other.end()[1]) == ("exit_code", 9)


@pytest.mark.parametrize("tty", [False, True], ids=["pipes", "terminal"])
def test_s02_a_short_log_loses_nothing_for_who_holds_it_before_the_start(engine: Engine, tty: bool) -> None:
    log = container_spec_pb2.LogSpec(segment_size_bytes=1_024, segment_count=1)
    end = b"\r\n" if tty else b"\n"
    expected = b"".join(b"%d" % number + end for number in range(1, 2_001))
    container = create(engine, "seq", "2000", tty=tty, log=log).id
    for number in range(2):
        caller = Caller(engine, container, stdin=False, hold=True, await_start=number > 0)
        start(engine, container)
        assert exit_of(caller.end()[1]) == ("exit_code", 0)
        assert caller.out == expected, number
        assert engine.run(steps.IMAGE, "seq", "2000", tty=tty, log=log)[0] == expected
    # Who has left before the start holds nothing.
    caller = Caller(engine, container, stdin=False, hold=True, await_start=True)
    leave(caller)
    start(engine, container)
    wait(engine, container)
