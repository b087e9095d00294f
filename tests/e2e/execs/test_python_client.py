"""The Python client's calls about further processes, against a live engine."""

import threading
from collections.abc import Iterator

import pytest

from fluyt import errors, execs, streams
from fluyt.v1 import execs_pb2
from tests.e2e.execs.steps import stays
from tests.support.engine import Engine


def test_a_process_is_run_to_its_end(engine: Engine) -> None:
    script = "cat; echo err >&2; id -u; pwd; echo $A; exit 7"
    argv = ["sh", "-c", script]
    ended = execs.run(engine.channel, stays(engine), argv, stdin=b"in\n", env=["A=1"], user="9", working_dir="/tmp")
    assert (ended.stdout, ended.stderr, ended.exit_code) == (b"in\n9\n/tmp\n1\n", b"err\n", 7)
    assert ended.session.state == execs_pb2.ExecSession.STATE_EXITED


def test_long_input_is_cut_into_messages_and_absent_input_reads_as_empty(engine: Engine) -> None:
    container = stays(engine)
    data = bytes(range(256)) * 4096
    assert execs.run(engine.channel, container, ["cat"], stdin=data).stdout == data
    assert execs.run(engine.channel, container, ["cat"]).stdout == b""


def test_a_signal_is_added_to_128(engine: Engine) -> None:
    assert execs.run(engine.channel, stays(engine), ["sh", "-c", "kill -9 $$"]).exit_code == 137


def test_a_refusal_is_an_exception_of_the_client(engine: Engine) -> None:
    with pytest.raises(errors.NotFound):
        execs.run(engine.channel, "nosuch", ["true"])
    with pytest.raises(errors.WrongState) as refusal:
        execs.run(engine.channel, stays(engine), ["absent"])
    assert (refusal.value.reason, refusal.value.metadata["exit_code"]) == ("PROCESS_START_FAILED", "127")


def test_more_output_than_asked_for_is_refused_by_the_bounds_name(engine: Engine) -> None:
    argv = ["head", "-c", "1001", "/dev/zero"]
    container = stays(engine)
    with pytest.raises(execs.OutputTooLong, match="max_output_bytes"):
        execs.run(engine.channel, container, argv, max_output_bytes=1000)
    assert len(execs.run(engine.channel, container, argv, max_output_bytes=1001).stdout) == 1001


def test_a_stream_answers_what_it_is_told_and_is_listed_and_joined_again(engine: Engine) -> None:
    container = stays(engine)
    wanted = execs.spec("sh", "-c", "read x; echo got $x; read y; echo got $y")
    wanted.open_stdin = True
    is_answered = threading.Event()

    def lines() -> Iterator[bytes]:
        yield b"one\n"
        assert is_answered.wait(30)
        yield b"two\n"

    out, kinds = b"", []
    for event in execs.stream(engine.channel, container, wanted, stdin=lines()):
        kinds.append(event.WhichOneof("event"))
        out += event.stdout.data
        if out == b"got one\n":
            is_answered.set()
    assert out == b"got one\ngot two\n"
    assert (kinds[0], kinds[-1]) == ("started", "exited")
    [session] = execs.list_all(engine.channel, container)
    assert execs.get(engine.channel, session.id) == session
    again = b"".join(event.stdout.data for event in execs.attach(engine.channel, session.id, offset_bytes=8))
    assert again == b"got two\n"


def test_a_terminal_is_left_and_joined_again_and_a_repeated_call_joins_too(engine: Engine) -> None:
    container = stays(engine)
    wanted = execs.terminal("sh", "-c", "read x; stty size; echo got $x; exit 5", size=(90, 30))
    said = (streams.Resize(80, 25), streams.DETACH)
    *_, left = execs.stream(engine.channel, container, wanted, stdin=said, request_id="one")
    assert left.WhichOneof("event") == "detached"
    again = execs.attach(engine.channel, left.detached.id, stdin=(b"x\n",), size=(100, 20))
    events = list(again)
    assert execs.shell_exit_code(events[-1].exited) == 5
    out = b"".join(event.stdout.data for event in events)
    assert out.endswith(b"20 100\r\ngot x\r\n")
    *_, joined = execs.stream(engine.channel, container, wanted, request_id="one")
    assert joined.exited.id == left.detached.id
