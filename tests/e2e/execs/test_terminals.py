"""Further processes on terminals: keys that leave them, coming back, environment, more than one caller."""

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluyt.v1 import execs_pb2
from fluyt.v1.types import attach_pb2, output_pb2
from tests.e2e.containers import steps as containers
from tests.e2e.execs.steps import PATIENCE_SECONDS, Caller, api, get, refused, run, stays
from tests.support.engine import Engine
from tests.support.wait import until_now

#: Answers each line, and ends with 9 at `end`.
ANSWER = "echo ready; while read x; do echo got $x; test $x = end && exit 9; done; exit 4"
EXITED = execs_pb2.ExecSession.STATE_EXITED


def until(responses: Any, text: bytes) -> bytes:
    """The output up to and with this; fails if the stream ends before."""
    out = b""
    while text not in out:
        response = next(responses)
        assert response.WhichOneof("event") == "stdout", response
        out += response.stdout.data
    return out


def on_terminal(engine: Engine, container: str, script: str = ANSWER, **spec: Any) -> Caller:
    """A caller whose process has said that it is ready."""
    caller = Caller(engine, container, "sh", "-c", script, tty=True, open_stdin=True, **spec)
    caller.started()
    until(caller.responses, b"ready\r\n")
    return caller


class Again:
    """A caller of AttachExec that types."""

    def __init__(self, engine: Engine, session: str, **options: Any) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.say(open=execs_pb2.AttachExecOptions(id=session, **options))
        self.responses = api(engine).AttachExec(self._said(), timeout=PATIENCE_SECONDS)
        assert next(self.responses).WhichOneof("event") == "attached"

    def _said(self) -> Iterator[execs_pb2.AttachExecRequest]:
        while (request := self._requests.get()) is not None:
            yield request

    def say(self, **action: Any) -> None:
        """One message."""
        self._requests.put(execs_pb2.AttachExecRequest(**action))

    def kinds(self) -> list[str]:
        """What comes until the end."""
        found = [response.WhichOneof("event") for response in self.responses]
        self._requests.put(None)
        return found


@pytest.mark.parametrize(
    ("keys", "typed"), [("", b"\x10\x11"), ("ctrl-a,d", b"\x01d"), ("DEL", b"\x7f")], ids=["default", "chosen", "DEL"]
)
def test_the_keys_leave_it_and_it_is_joined_again(engine: Engine, keys: str, typed: bytes) -> None:
    caller = on_terminal(engine, stays(engine), detach_keys=keys)
    for number in range(len(typed)):
        caller.say(stdin=typed[number : number + 1])
    *_, last = caller.responses
    caller.half_close()
    assert last.WhichOneof("event") == "detached"
    again = Again(engine, last.detached.id, offset_bytes=last.offset_bytes, terminal_size=size(100, 30))
    again.say(stdin=b"one\r")
    assert until(again.responses, b"got one\r\n") == b"one\r\ngot one\r\n"
    again.say(stdin=b"end\r")
    assert again.kinds()[-1] == "exited"
    assert get(engine, last.detached.id).exit_code == 9


def test_who_joins_again_may_have_other_keys(engine: Engine) -> None:
    caller = on_terminal(engine, stays(engine))
    caller.say(detach=attach_pb2.Detach())
    *_, last = caller.responses
    caller.half_close()
    again = Again(engine, last.detached.id, detach_keys="x,y")
    again.say(stdin=b"xy")
    assert again.kinds()[-1] == "detached"
    wrong = containers.refused(lambda: Again(engine, last.detached.id, detach_keys="xy"))
    assert wrong[1:] == ("FIELD_INVALID", wrong[2] | {"field": "open.detach_keys"})
    wrong = containers.refused(lambda: Again(engine, last.detached.id, terminal_size=size(0, 1)))
    assert wrong[2]["field"] == "open.terminal_size"


def size(width: int, height: int) -> output_pb2.TerminalSize:
    """The size of a terminal."""
    return output_pb2.TerminalSize(width=width, height=height)


def test_without_keys_all_is_input(engine: Engine) -> None:
    script = "stty raw -echo; printf 'ready\\r\\n'; head -c 2 | od -An -tx1"
    caller = on_terminal(engine, stays(engine), script, detach_keys="none")
    caller.say(stdin=b"\x10\x11")
    assert b"10 11" in caller.end().out
    caller.half_close()


def test_what_are_no_keys_is_refused(engine: Engine) -> None:
    container = stays(engine)
    _, reason, metadata = refused(engine, container, "true", detach_keys="nokey")
    assert (reason, metadata["field"]) == ("FIELD_INVALID", "start.spec.detach_keys")
    _, reason, metadata = refused(engine, container, "true", detach_keys=",".join("a" * 17))
    assert (reason, metadata["limit"]) == ("LIMIT_EXCEEDED", "MAX_DETACH_KEYS")


def test_the_end_of_input_is_told_to_the_terminal_and_the_next_caller_types_on(engine: Engine) -> None:
    caller = on_terminal(engine, stays(engine), "echo ready; cat; echo over; read x; echo got $x")
    caller.say(close_stdin=attach_pb2.CloseStdin())
    until(caller.responses, b"over\r\n")
    (session,) = api(engine).ListExecs(execs_pb2.ListExecsRequest()).execs
    again = Again(engine, session.id)
    again.say(stdin=b"b\r")
    assert again.kinds()[-1] == "exited"
    assert b"got b\r\n" in caller.end().out
    caller.half_close()


def test_one_of_two_callers_that_vanishes_does_not_end_it(engine: Engine) -> None:
    caller = on_terminal(engine, stays(engine), disconnect_policy=execs_pb2.ExecSpec.DISCONNECT_POLICY_KILL)
    (session,) = api(engine).ListExecs(execs_pb2.ListExecsRequest()).execs
    again = Again(engine, session.id)
    until(again.responses, b"ready\r\n")
    caller.responses.cancel()
    caller.half_close()
    again.say(stdin=b"one\r")
    until(again.responses, b"got one\r\n")
    again.responses.cancel()
    until_now(lambda: get(engine, session.id).state == EXITED, "the last one's loss ends it")
    assert get(engine, session.id).signal == 9


def test_t14_term_goes_with_a_terminal_of_its_own(engine: Engine) -> None:
    script = ("sh", "-c", "echo ${TERM-none}")
    plain, on_tty = stays(engine), containers.started(engine, "sleep", "1000", tty=True).id
    given = containers.started(engine, "sleep", "1000", tty=True, env=["TERM=vt100"]).id
    assert run(engine, plain, *script).out == b"none\n"
    assert run(engine, plain, *script, tty=True).out == b"xterm\r\n"
    assert run(engine, plain, *script, tty=True, env=["TERM=dumb"]).out == b"dumb\r\n"
    assert run(engine, on_tty, *script).out == b"none\n"
    assert run(engine, given, *script).out == b"vt100\n"


def test_it_has_a_terminal_of_its_own_beside_the_containers(engine: Engine) -> None:
    container = containers.started(engine, "sh", "-c", "read x", tty=True, open_stdin=True).id
    assert run(engine, container, "sh", "-c", "tty; echo a >/dev/tty", tty=True).out == b"/dev/pts/1\r\na\r\n"
    assert engine.logs(container) == b""


def test_a_privileged_one_has_every_capability_that_the_host_gives_and_no_filter(engine: Engine) -> None:
    container = stays(engine, security={"drop_capabilities": ["ALL"]}, namespaces=containers.HOST_USERS)
    status = containers.status_of(run(engine, container, "cat", "/proc/self/status", privileged=True).out)
    ours = containers.status_of(Path("/proc/self/status").read_bytes())["CapBnd"]
    assert [status[name] for name in ("CapPrm", "CapEff", "CapBnd")] == [ours] * 3
    assert status["Seccomp"] == "0"
    plain = containers.status_of(run(engine, container, "cat", "/proc/self/status").out)
    assert int(plain["CapEff"], 16) == 0
