"""Further processes in running containers through the API: streams, terminal, user, directory, end."""

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from fluyt.v1 import containers_pb2, execs_pb2
from fluyt.v1.types import attach_pb2, output_pb2
from tests.e2e.containers import steps as containers
from tests.e2e.execs.steps import Caller, api, attach, get, refused, run, stays
from tests.support import tarball
from tests.support.engine import Engine
from tests.support.wait import until_now

POLICY = execs_pb2.ExecSpec.DisconnectPolicy


def test_output_is_told_apart_and_the_exit_is_data(engine: Engine) -> None:
    ended = run(engine, stays(engine), "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (ended.out, ended.err, ended.exit) == (b"out\n", b"err\n", ("exit_code", 7))
    assert (ended.offset, ended.session.output_bytes) == (8, 8)


def test_a_signal_that_ends_it_is_data(engine: Engine) -> None:
    assert run(engine, stays(engine), "sh", "-c", "kill -9 $$").exit == ("signal", 9)


def test_s07_input_and_its_end_reach_it_and_output_still_comes(engine: Engine) -> None:
    caller = Caller(engine, stays(engine), "sh", "-c", "cat; echo after", open_stdin=True)
    caller.say(stdin=b"hi\n")
    caller.half_close()
    ended = caller.end()
    assert (ended.out, ended.exit) == (b"hi\nafter\n", ("exit_code", 0))


def test_s08_the_end_is_told_though_nothing_is_said(engine: Engine) -> None:
    caller = Caller(engine, stays(engine), "true", open_stdin=True)
    assert caller.end().exit == ("exit_code", 0)
    caller.half_close()


def test_s10_a_terminal_has_its_size_at_the_first_instruction_and_changes_it(engine: Engine) -> None:
    script = "stty size; trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.05; done"
    size = output_pb2.TerminalSize(width=120, height=40)
    caller = Caller(engine, stays(engine), "sh", "-c", script, tty=True, open_stdin=True, terminal_size=size)
    caller.started()
    out = b""
    while b"ready" not in out:
        out += next(caller.responses).stdout.data
    caller.say(resize=output_pb2.TerminalSize(width=200, height=50))
    ended = caller.end()
    caller.half_close()
    assert (out + ended.out).replace(b"\r\n", b"\n") == b"40 120\nready\n50 200\n"
    assert ended.exit == ("exit_code", 4)


def test_a_signal_and_a_terminals_interrupt_reach_it(engine: Engine) -> None:
    container = stays(engine)
    script = "trap 'exit 5' INT; echo ready; while :; do sleep 0.05; done"
    for tty, action in ((False, {"signal": "SIGINT"}), (True, {"stdin": b"\x03"})):
        caller = Caller(engine, container, "sh", "-c", script, tty=tty, open_stdin=True)
        caller.started()
        next(caller.responses)
        caller.say(**action)
        assert caller.end().exit == ("exit_code", 5)
        caller.half_close()


def test_t10_root_enters_any_directory_and_another_user_only_its_own(engine: Engine) -> None:
    image = containers.load(
        engine,
        tarball.directory("h", mode=0o700, uid=1000),
        tarball.directory("root", mode=0o700),
    )
    container = stays(engine, image=image, working_dir="/h")
    assert run(engine, container, "pwd", user="0").out == b"/h\n"
    code, reason, metadata = refused(engine, container, "pwd", user="1000", working_dir="/root")
    assert (code, reason, metadata["exit_code"]) == (containers.WRONG_STATE, "PROCESS_START_FAILED", "126")
    assert "/root" in metadata["detail"]
    assert run(engine, container, "pwd", user="1000").out == b"/h\n"


def test_z04_no_descriptor_or_directory_of_the_host_is_there(engine: Engine) -> None:
    container = stays(engine)
    assert run(engine, container, "sh", "-c", "ls /proc/$$/fd; true").out == b"0\n1\n2\n"
    for number in range(3, 21):
        answer = containers.refused(
            lambda number=number: run(engine, container, "ls", working_dir=f"/proc/self/fd/{number}")  # type: ignore[misc]
        )
        assert answer[1] == "PROCESS_START_FAILED"


def test_z11_the_supervisors_program_cannot_be_executed_nor_written(engine: Engine) -> None:
    container = stays(engine)
    assert refused(engine, container, "/proc/self/exe")[1] == "PROCESS_START_FAILED"
    run(engine, container, "ln", "-s", "/proc/self/exe", "/x")
    assert refused(engine, container, "/x")[1] == "PROCESS_START_FAILED"


def test_user_groups_environment_and_capabilities_are_its_own(engine: Engine) -> None:
    container = stays(engine, env=["A=1", "B=2"])
    ended = run(engine, container, "sh", "-c", "id -u; id -G; echo $A$B$C", user="7:8", env=["A=3", "B"])
    assert ended.out == b"7\n8\n3\n"
    capabilities = {}
    for name, spec in (("plain", {}), ("added", {"add_capabilities": ["NET_ADMIN"]}), ("all", {"privileged": True})):
        status = containers.status_of(run(engine, container, "cat", "/proc/self/status", **spec).out)
        capabilities[name] = int(status["CapEff"], 16)
        assert (status["Seccomp"] == "0") == (name == "all")
    assert capabilities["added"] == capabilities["plain"] | 1 << 12
    assert capabilities["all"] & capabilities["added"] == capabilities["added"] != capabilities["all"]


def test_a_missing_command_is_127_and_the_container_goes_on(engine: Engine) -> None:
    container = stays(engine)
    code, reason, metadata = refused(engine, container, "nothing")
    assert (code, reason, metadata["exit_code"]) == (containers.WRONG_STATE, "PROCESS_START_FAILED", "127")
    assert run(engine, container, "echo", "on").out == b"on\n"


def test_a_container_that_does_not_run_is_named_by_its_state(engine: Engine) -> None:
    created = containers.create(engine, "true").id
    assert refused(engine, created, "true")[1:] == (
        "CONTAINER_WRONG_STATE",
        {"id": created, "state": "created", "allowed_states": "running"},
    )
    paused = stays(engine)
    engine.containers.PauseContainer(containers_pb2.PauseContainerRequest(container=paused))
    assert refused(engine, paused, "true")[2]["state"] == "paused"


def test_it_ends_with_the_container(engine: Engine) -> None:
    container = stays(engine)
    caller = Caller(engine, container, "sleep", "1000")
    caller.started()
    containers.delete(engine, container, force=True)
    assert caller.end().exit == ("signal", 9)


def test_a_reader_that_stops_makes_it_wait_and_loses_nothing(engine: Engine) -> None:
    container = stays(engine)
    script = "head -c 20000000 /dev/zero; echo done > /done; echo -n end"
    caller = Caller(engine, container, "sh", "-c", script)
    caller.started()
    time.sleep(0.3)  # what it would do meanwhile if nothing held it
    assert run(engine, container, "ls", "/").out.find(b"done") == -1
    ended = caller.end()
    assert len(ended.out) == 20_000_003
    assert ended.out.endswith(b"end")


def test_a_session_can_be_joined_from_an_offset_and_got_and_listed(engine: Engine) -> None:
    container = stays(engine)
    caller = Caller(engine, container, "sh", "-c", "echo one; echo two; read x; echo $x; exit 3", open_stdin=True)
    session = caller.started()
    until_now(lambda: get(engine, session.id).output_bytes == 8, "both lines are written")
    caller.say(stdin=b"three\n")
    assert caller.end().exit == ("exit_code", 3)
    caller.half_close()
    assert attach(engine, session.id).out == b"one\ntwo\nthree\n"
    assert attach(engine, session.id, 5).out == b"wo\nthree\n"
    assert get(engine, session.id).state == execs_pb2.ExecSession.STATE_EXITED
    listed = api(engine).ListExecs(execs_pb2.ListExecsRequest(container=container)).execs
    assert [one.id for one in listed] == [session.id]


@pytest.mark.parametrize(
    ("policy", "exit_"),
    [
        (POLICY.DISCONNECT_POLICY_KEEP, ("exit_code", 6)),
        (POLICY.DISCONNECT_POLICY_SIGNAL, ("exit_code", 8)),
        (POLICY.DISCONNECT_POLICY_KILL, ("signal", 9)),
    ],
)
def test_a_caller_that_vanishes_does_what_the_policy_says(
    engine: Engine, policy: "execs_pb2.ExecSpec.DisconnectPolicy.ValueType", exit_: tuple[str, int]
) -> None:
    container = stays(engine)
    script = "trap 'exit 8' HUP; echo ready; while [ ! -e /go ]; do sleep 0.05; done; exit 6"
    caller = Caller(engine, container, "sh", "-c", script, disconnect_policy=policy)
    session = caller.started()
    next(caller.responses)
    caller.responses.cancel()
    caller.half_close()
    if policy == POLICY.DISCONNECT_POLICY_KEEP:
        run(engine, container, "touch", "/go")
    until_now(lambda: get(engine, session.id).state == execs_pb2.ExecSession.STATE_EXITED, "it ends")
    ended = attach(engine, session.id)
    assert (ended.exit, ended.out) == (exit_, b"ready\n")


def test_a_caller_may_leave_and_another_join(engine: Engine) -> None:
    container = stays(engine)
    caller = Caller(engine, container, "sh", "-c", "echo one; while [ ! -e /go ]; do sleep 0.05; done; echo two")
    session = caller.started()
    next(caller.responses)
    caller.say(detach=attach_pb2.Detach())
    assert [one.WhichOneof("event") for one in caller.responses] == ["detached"]
    run(engine, container, "touch", "/go")
    assert attach(engine, session.id, 4).out == b"two\n"


def test_a_hundred_at_once_are_apart(engine: Engine) -> None:
    container = stays(engine)
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda number: run(engine, container, "echo", str(number)).out, range(100)))
    assert found == [b"%d\n" % number for number in range(100)]


def test_more_than_the_limit_are_refused_by_its_name(engine: Engine) -> None:
    container = stays(engine)
    for _ in range(128):
        run(engine, container, "sleep", "1000", detach=True)
    code, reason, metadata = refused(engine, container, "true")
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert metadata["limit"] == "MAX_EXECS_PER_CONTAINER"
