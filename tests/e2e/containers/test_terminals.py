"""Containers with a terminal: what is inside, size, bytes, input, leaving and coming back."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from fluyt.v1 import containers_pb2
from fluyt.v1.types import attach_pb2, container_pb2, container_spec_pb2, output_pb2
from tests.e2e.containers import steps
from tests.e2e.containers.attach_steps import RESIZED, Caller, size
from tests.e2e.containers.steps import IMAGE, INVALID, create, delete, exit_of, get, read_logs, start, started, wait
from tests.support.engine import Engine
from tests.support.wait import until_now

#: Answers each line, and ends with 9 at `end`.
ANSWER = "echo ready; while read x; do echo got $x; test $x = end && exit 9; done; exit 4"
#: Shows its size, and each one that it is told of by SIGWINCH; ends with 5 at the second.
SIZES = "stty size; trap 'stty size; n=x$n; test $n = xx && exit 5' WINCH; echo ready; while :; do sleep 0.05; done"
RESTART_ALWAYS = container_spec_pb2.RestartPolicy(mode=container_spec_pb2.RestartPolicy.MODE_ALWAYS)


def shown(engine: Engine, script: str, **spec: Any) -> str:
    """What a script on a terminal shows."""
    out, err, ended = engine.run(IMAGE, "sh", "-c", script, tty=True, **spec)
    assert (err, exit_of(ended)) == (b"", ("exit_code", 0)), (out, ended)
    return out.decode()


def on_terminal(engine: Engine, script: str, **spec: Any) -> str:
    """The id of a container that was started with a terminal and reads from it."""
    return started(engine, "sh", "-c", script, tty=True, open_stdin=True, **spec).id


def test_the_three_streams_and_dev_console_are_one_terminal_of_the_container(engine: Engine) -> None:
    script = "for n in 0 1 2; do test -t $n && readlink /proc/self/fd/$n; done; tty; ls -1 /dev/pts; echo err >&2"
    expected = "/dev/pts/0\r\n" * 4 + "0\r\nptmx\r\nerr\r\n"
    assert shown(engine, script) == expected
    # It is the controlling terminal, and /dev/console and /dev/tty are it: what is written there is shown.
    script = "echo a >/dev/console; echo b >/dev/tty; stat -c '%t:%T %a %u %g' /dev/console /dev/pts/0"
    assert shown(engine, script) == "a\r\nb\r\n88:0 620 0 5\r\n88:0 620 0 5\r\n"


def test_the_terminal_belongs_to_the_user(engine: Engine) -> None:
    assert shown(engine, "stat -c %u /dev/pts/0; tty </dev/tty", user="1000") == "1000\r\n/dev/tty\r\n"


def test_what_is_written_to_the_console_after_all_have_closed_it_is_shown(engine: Engine) -> None:
    script = "exec </dev/null >/dev/null 2>&1; sleep 0.2; echo one >/dev/console; sleep 0.2; echo two >/dev/pts/0"
    assert shown(engine, script) == "one\r\ntwo\r\n"


def test_an_init_and_a_privileged_container_have_the_same_terminal(engine: Engine) -> None:
    script = "tty; stty size; echo on >/dev/console"
    assert shown(engine, script, init=True) == "/dev/pts/0\r\n24 80\r\non\r\n"
    privileged = shown(engine, script, security={"privileged": True})
    assert privileged == "/dev/pts/0\r\n24 80\r\non\r\n"


@pytest.mark.parametrize(
    ("asked", "rows_and_columns"),
    [
        ({}, "24 80"),
        ({"tty_width": 120, "tty_height": 40}, "40 120"),
        ({"tty_width": 29_999, "tty_height": 2}, "2 29999"),
    ],
    ids=["default", "asked", "bounds"],
)
def test_s10_the_first_command_sees_the_size(engine: Engine, asked: dict[str, int], rows_and_columns: str) -> None:
    assert shown(engine, "stty size", **asked) == f"{rows_and_columns}\r\n"


@pytest.mark.parametrize("field", ["tty_width", "tty_height"])
def test_s10_a_size_that_no_terminal_has_is_refused(engine: Engine, field: str) -> None:
    code, reason, metadata = steps.refused(lambda: shown(engine, "true", **{field: 65536}))
    assert (code, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", f"spec.{field}")
    assert "65535" in metadata["rule"]
    # busybox' stty knows no such size, the kernel does.
    assert shown(engine, "echo on", **{field: 65535}) == "on\r\n"


def test_s10_a_new_size_is_seen_and_told_by_sigwinch(engine: Engine) -> None:
    caller = Caller(engine, on_terminal(engine, SIZES, tty_width=90, tty_height=20), include_logs=True)
    caller.until(b"20 90\r\nready\r\n")
    caller.say(resize=size(120, 40))
    caller.until(b"40 120\r\n")
    caller.say(resize=size(200, 50))
    assert exit_of(caller.end()[1]) == ("exit_code", 5)
    assert caller.out == b"20 90\r\nready\r\n40 120\r\n50 200\r\n"


def test_s10_the_size_of_a_caller_that_comes_before_the_start_is_that_of_the_first_command(engine: Engine) -> None:
    container = create(engine, "stty", "size", tty=True, open_stdin=True, tty_width=90, tty_height=20).id
    caller = Caller(engine, container, terminal_size=size(120, 40))
    start(engine, container)
    caller.end()
    assert caller.out == b"40 120\r\n"
    again = Caller(engine, create(engine, "stty", "size", tty=True, open_stdin=True).id)
    again.say(resize=size(33, 11))
    # The message is carried out in order: a signal that comes after it is refused once it is there.
    again.say(signal="SIGINT")
    with pytest.raises(grpc.RpcError):
        again.end()


def test_s10_a_restarted_container_has_the_size_that_it_had(engine: Engine) -> None:
    script = "stty size; test -e /second && exit; touch /second; read x; exit 1"
    container = on_terminal(engine, script, restart_policy=RESTART_ALWAYS)
    caller = Caller(engine, container, include_logs=True)
    caller.until(b"24 80\r\n")
    caller.say(resize=size(120, 40))
    caller.type("go\n")
    assert exit_of(caller.end()[1]) == ("exit_code", 1)
    until_now(lambda: b"40 120\r\n" in engine.logs(container), "it has started again")


@pytest.mark.parametrize("wrong", [size(0, 24), size(80, 0), size(65536, 24)], ids=["width", "height", "above"])
def test_s10_a_callers_size_that_no_terminal_has_is_refused(engine: Engine, wrong: output_pb2.TerminalSize) -> None:
    container = on_terminal(engine, ANSWER)
    code, reason, metadata = steps.refused(lambda: Caller(engine, container, terminal_size=wrong))
    assert (code, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", "open.terminal_size")
    caller = Caller(engine, container)
    caller.say(resize=wrong)
    code, reason, metadata = steps.refused(caller.end)
    assert (code, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", "resize")


def test_s02_all_of_the_output_comes_in_order_with_its_line_ends(engine: Engine) -> None:
    expected = b"".join(b"%d\r\n" % number for number in range(1, 20_001))
    container = create(engine, "seq", "20000", tty=True).id
    caller = Caller(engine, container, stdin=False)
    start(engine, container)
    assert caller.end()[0] == "exited"
    assert (caller.out, caller.err) == (expected, b"")
    assert engine.logs(container) == expected


def test_s06_bytes_are_exact_where_the_terminal_is_told_to_leave_them(engine: Engine) -> None:
    every = 'i=0; while [ $i -lt 256 ]; do printf "\\\\$(printf %o $i)"; i=$((i+1)); done'
    container = started(engine, "sh", "-c", f"stty raw; {every}", tty=True).id
    wait(engine, container)
    records, _ = read_logs(engine, container)
    assert b"".join(record.data for record in records) == bytes(range(256))
    assert {record.stream for record in records} == {output_pb2.OUTPUT_STREAM_STDOUT}


def test_s01_the_last_piece_without_a_newline_is_kept(engine: Engine) -> None:
    assert shown(engine, "echo hello; printf world") == "hello\r\nworld"


def test_what_is_typed_is_echoed_and_read_and_keys_are_signals(engine: Engine) -> None:
    caller = Caller(engine, on_terminal(engine, "trap 'echo int; exit 6' INT; " + ANSWER), include_logs=True)
    caller.until(b"ready\r\n")
    caller.type("one\r")
    caller.until(b"got one\r\n")
    caller.type("\x03")
    assert exit_of(caller.end()[1]) == ("exit_code", 6)
    assert caller.out == b"ready\r\none\r\ngot one\r\n^Cint\r\n"


def test_a_signal_of_the_stream_reaches_the_first_process(engine: Engine) -> None:
    caller = Caller(engine, on_terminal(engine, "trap 'exit 7' TERM; " + ANSWER), include_logs=True)
    caller.until(b"ready\r\n")
    caller.say(signal="SIGTERM")
    # The shell waits in `read` and takes the signal at its end.
    caller.type("x\r")
    assert exit_of(caller.end()[1]) == ("exit_code", 7)


def test_job_control_works(engine: Engine) -> None:
    caller = Caller(engine, on_terminal(engine, "exec sh -i"), include_logs=True)
    caller.until(b"# ")
    caller.type("sleep 1000\r")
    caller.until(b"sleep 1000\r\n")
    container = get(engine, read_id(engine))
    until_now(lambda: "sleep 1000" in commands(engine, container.id), "it runs in the foreground")
    caller.type("\x1a")
    caller.until(b"Stopped")
    delete(engine, container.id, force=True)
    assert exit_of(caller.end()[1]) == ("signal", signal.SIGKILL)
    assert b"can't access tty" not in caller.out


def read_id(engine: Engine) -> str:
    """The only container."""
    (one,) = steps.listed(engine)
    return one.id


def commands(engine: Engine, container: str) -> list[str]:
    """The command lines of its processes."""
    request = containers_pb2.ListProcessesRequest(container=container)
    return [" ".join(one.args) for one in engine.containers.ListProcesses(request).processes]


def leave_by_keys(caller: Caller) -> None:
    """ctrl-p, ctrl-q."""
    caller.type("\x10")
    caller.type("\x11dropped")


def leave_by_message(caller: Caller) -> None:
    """The detach message."""
    caller.say(detach=attach_pb2.Detach())


@pytest.mark.parametrize("leave", [leave_by_keys, leave_by_message])
@pytest.mark.parametrize("stdin_once", [False, True])
def test_a_caller_that_leaves_is_told_so_and_the_next_one_types_on(
    engine: Engine, leave: Callable[[Caller], None], stdin_once: bool
) -> None:
    container = on_terminal(engine, ANSWER, stdin_once=stdin_once)
    first = Caller(engine, container, include_logs=True)
    first.until(b"ready\r\n")
    leave(first)
    kind, left = first.end()
    assert (kind, left.state) == ("detached", container_pb2.Container.STATE_RUNNING)
    second = Caller(engine, container)
    second.type("end\r")
    assert exit_of(second.end()[1]) == ("exit_code", 9)
    assert b"got end\r\n" in second.out
    assert b"dropped" not in second.out


def test_a_caller_that_vanishes_leaves_the_terminal_as_it_is(engine: Engine) -> None:
    container = on_terminal(engine, ANSWER, stdin_once=True)
    first = Caller(engine, container, include_logs=True)
    first.until(b"ready\r\n")
    first.vanish()
    second = Caller(engine, container)
    second.type("end\r")
    assert exit_of(second.end()[1]) == ("exit_code", 9)


def test_the_end_of_a_callers_input_is_the_terminals_and_the_next_one_types_on(engine: Engine) -> None:
    script = "echo ready; cat; echo over; read x; echo got $x; exit 8"
    container = on_terminal(engine, script)
    first = Caller(engine, container, include_logs=True)
    first.until(b"ready\r\n")
    first.type("a\n")
    first.say(close_stdin=attach_pb2.CloseStdin())
    first.until(b"over\r\n")
    second = Caller(engine, container)
    second.type("b\n")
    assert exit_of(second.end()[1]) == ("exit_code", 8)
    assert exit_of(first.end()[1]) == ("exit_code", 8)
    assert b"got b\r\n" in first.out


def test_several_callers_see_the_same_and_all_may_type(engine: Engine) -> None:
    container = on_terminal(engine, ANSWER)
    callers = [Caller(engine, container, include_logs=True) for _ in range(3)]
    for number, caller in enumerate(callers):
        caller.until(b"ready\r\n")
        caller.type(f"{number}\r")
        for each in callers:
            each.until(b"got %d\r\n" % number)
    callers[0].type("end\r")
    ends = [caller.end() for caller in callers]
    assert {exit_of(end) for _, end in ends} == {("exit_code", 9)}
    assert len({caller.out for caller in callers}) == 1


def test_a_caller_goes_on_where_another_has_stopped(engine: Engine) -> None:
    container = on_terminal(engine, ANSWER)
    first = Caller(engine, container, include_logs=True)
    first.until(b"ready\r\n")
    records, _ = read_logs(engine, container)
    leave_by_message(first)
    first.end()
    second = Caller(engine, container, cursor=records[-1].cursor)
    second.type("end\r")
    second.end()
    assert second.out == b"end\r\ngot end\r\n"


@pytest.mark.parametrize(
    ("keys", "typed"),
    [("ctrl-a,d", "\x01d"), ("DEL", "\x7f"), ("a,b,c", "abc"), ("ctrl-@,ctrl-_", "\0\x1f"), ("ctrl-P,q", "\x10q")],
)
def test_the_detach_keys_are_those_of_the_caller(engine: Engine, keys: str, typed: str) -> None:
    caller = Caller(engine, on_terminal(engine, ANSWER), include_logs=True, detach_keys=keys)
    caller.until(b"ready\r\n")
    caller.type("\x10\x11" if "ctrl-P" not in keys else "")
    caller.type(typed[:1])
    caller.type(typed[1:])
    assert caller.end()[0] == "detached"


def test_without_detach_keys_all_is_input(engine: Engine) -> None:
    script = "stty raw -echo; echo ready; head -c 2 | od -An -tx1"
    caller = Caller(engine, on_terminal(engine, script), include_logs=True, detach_keys="none")
    caller.until(b"ready")
    caller.type("\x10\x11")
    assert caller.end()[0] == "exited"
    assert b"10 11" in caller.out


def test_keys_that_begin_as_the_detach_keys_and_go_on_otherwise_are_input(engine: Engine) -> None:
    script = "stty raw -echo; echo ready; head -c 4 | od -An -tx1"
    caller = Caller(engine, on_terminal(engine, script), include_logs=True)
    caller.until(b"ready")
    for key in "\x10\x10l\x11":
        caller.type(key)
    assert caller.end()[0] == "exited"
    assert b"10 10 6c 11" in caller.out


def test_a_container_without_a_terminal_has_detach_keys_only_if_told(engine: Engine) -> None:
    container = started(engine, "sh", "-c", "head -c 2 | od -An -tx1", open_stdin=True).id
    caller = Caller(engine, container)
    caller.type("\x10\x11")
    assert caller.end()[0] == "exited"
    assert b"10 11" in caller.out
    told = Caller(engine, started(engine, "sh", "-c", ANSWER, open_stdin=True).id, detach_keys="ctrl-p,ctrl-q")
    told.type("one\n\x10")
    told.until(b"got one\n")
    told.type("\x11")
    assert told.end()[0] == "detached"


@pytest.mark.parametrize("keys", ["ctrl-", "ctrl-1", "ab", ",", "a,", "é", "alt-a", "ctrl-p,ctrl-qq", "x" * 1000])
def test_what_are_no_detach_keys_is_refused(engine: Engine, keys: str) -> None:
    container = create(engine, "true", tty=True, open_stdin=True).id
    code, reason, metadata = steps.refused(lambda: Caller(engine, container, detach_keys=keys))
    assert (code, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", "open.detach_keys")


def test_too_many_detach_keys_are_refused_by_the_limits_name(engine: Engine) -> None:
    container = create(engine, "true", tty=True, open_stdin=True).id
    _, reason, metadata = steps.refused(lambda: Caller(engine, container, detach_keys=",".join("a" * 17)))
    assert (reason, metadata["limit"], metadata["actual"]) == ("LIMIT_EXCEEDED", "MAX_DETACH_KEYS", "17")


def test_t14_term_is_xterm_with_a_terminal_alone_and_the_callers_wins(engine: Engine) -> None:
    assert shown(engine, "echo $TERM") == "xterm\r\n"
    assert shown(engine, "echo $TERM", env=["TERM=dumb"]) == "dumb\r\n"
    assert shown(engine, "echo ${TERM-none}", env=["TERM"]) == "none\r\n"
    image = steps.load(engine, env=["TERM=vt100"])
    assert engine.run(image, "sh", "-c", "echo $TERM", tty=True)[0] == b"vt100\r\n"
    assert engine.run(IMAGE, "sh", "-c", "echo ${TERM-none}")[0] == b"none\n"


def test_without_open_stdin_nothing_can_be_typed_and_reading_waits(engine: Engine) -> None:
    container = started(engine, "sh", "-c", "echo ready; read x; echo not here", tty=True).id
    assert steps.refused(lambda: Caller(engine, container))[2]["field"] == "open.stdin"
    caller = Caller(engine, container, stdin=False, include_logs=True)
    caller.until(b"ready\r\n")
    delete(engine, container, force=True)
    assert exit_of(caller.end()[1]) == ("signal", signal.SIGKILL)
    assert caller.out == b"ready\r\n"


def test_the_terminal_is_the_supervisors_and_outlives_the_daemon(engine: Engine) -> None:
    container = on_terminal(engine, RESIZED + ANSWER.replace("read x", "ask"))
    first = Caller(engine, container, include_logs=True)
    first.until(b"ready\r\n")
    engine.kill()
    engine.start()
    second = Caller(engine, container)
    second.say(resize=size(111, 22))
    second.type("one\r")
    second.until(b"22 111\r\n")
    second.until(b"got one\r\n")
    second.type("end\r")
    assert exit_of(second.end()[1]) == ("exit_code", 9)
    assert engine.logs(container).startswith(b"ready\r\n")


def test_a_caller_that_does_not_read_makes_the_process_wait_and_loses_nothing(engine: Engine) -> None:
    log = container_spec_pb2.LogSpec(segment_size_bytes=65536, segment_count=2)
    script = "stty -echo; echo ready; read x; seq 100000; touch /done; read x"
    container = create(engine, "sh", "-c", script, tty=True, open_stdin=True, log=log).id
    caller = Caller(engine, container, hold=True)
    inside = f"/proc/{start(engine, container).host_pid}/root/done"
    caller.until(b"ready\r\n")
    caller.type("go\n")
    caller.until(b"1\r\n")
    assert not Path(inside).exists()
    caller.until(b"100000\r\n")
    assert caller.out == b"ready\r\n" + b"".join(b"%d\r\n" % number for number in range(1, 100_001))
    until_now(lambda: Path(inside).exists(), "it goes on")
