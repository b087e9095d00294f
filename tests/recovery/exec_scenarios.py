"""How each failpoint on the way of a further process is reached, and what must hold after it."""

import threading
from collections.abc import Iterator

import grpc
import pytest

from fluyt.v1 import execs_pb2, execs_pb2_grpc
from tests.e2e.containers.steps import refusal
from tests.recovery.container_scenarios import NAME, stays, stays_until_stopped
from tests.recovery.crash import CALL_SECONDS, CrashedEngine, Scenario, get
from tests.support.wait import until_now


def execute(engine: CrashedEngine) -> None:
    """Exec of a process that ends at once."""
    start = execs_pb2.ExecStart(container=NAME, spec=execs_pb2.ExecSpec(args=["sh", "-c", "echo in; exit 4"]))

    def said() -> Iterator[execs_pb2.ExecRequest]:
        yield execs_pb2.ExecRequest(start=start)

    responses = execs_pb2_grpc.ExecServiceStub(engine.channel).Exec(said(), timeout=CALL_SECONDS)
    found = [response for response in responses if response.WhichOneof("event") in {"stdout", "exited"}]
    assert found[0].stdout.data == b"in\n"
    assert found[-1].exited.exit_code == 4


def execute_in_two_steps(engine: CrashedEngine) -> None:
    """Exec of a process that runs until its caller has been told so."""
    spec = execs_pb2.ExecSpec(args=["sh", "-c", "read x; exit 4"], open_stdin=True)
    told = threading.Event()

    def said() -> Iterator[execs_pb2.ExecRequest]:
        yield execs_pb2.ExecRequest(start=execs_pb2.ExecStart(container=NAME, spec=spec))
        told.wait(CALL_SECONDS)

    try:
        for response in execs_pb2_grpc.ExecServiceStub(engine.channel).Exec(said(), timeout=CALL_SECONDS):
            told.set()
            if response.WhichOneof("event") == "exited":
                assert response.exited.exit_code == 4
    finally:
        told.set()


def end_what_reads(engine: CrashedEngine) -> None:
    """As `ended_or_absent`; what the last daemon began gets its line first."""
    api = execs_pb2_grpc.ExecServiceStub(engine.channel)
    for session in api.ListExecs(execs_pb2.ListExecsRequest(container=NAME), timeout=CALL_SECONDS).execs:
        said = [
            execs_pb2.AttachExecRequest(open=execs_pb2.AttachExecOptions(id=session.id)),
            execs_pb2.AttachExecRequest(stdin=b"line\n"),
        ]
        *_, last = api.AttachExec(iter(said), timeout=CALL_SECONDS)
        assert last.exited.exit_code == 4
        assert list(last.exited.spec.args)
    ended_or_absent(engine)


def ended_or_absent(engine: CrashedEngine) -> None:
    """A session that the last daemon began is known and ends, or there is none; the next one goes to its end."""
    api = execs_pb2_grpc.ExecServiceStub(engine.channel)
    request = execs_pb2.ListExecsRequest(container=NAME)

    def all_have_ended() -> bool:
        found = api.ListExecs(request, timeout=CALL_SECONDS).execs
        return all(one.state == execs_pb2.ExecSession.STATE_EXITED and one.exit_code == 4 for one in found)

    until_now(all_have_ended, "what was begun ends")
    execute(engine)
    assert get(engine, NAME).host_pid
    stays_until_stopped(engine)


def fail(engine: CrashedEngine) -> None:
    """Exec of a program that is not there."""
    spec = execs_pb2.ExecSpec(args=["/nothing"])
    start = execs_pb2.ExecRequest(start=execs_pb2.ExecStart(container=NAME, spec=spec))
    with pytest.raises(grpc.RpcError) as caught:
        list(execs_pb2_grpc.ExecServiceStub(engine.channel).Exec(iter([start]), timeout=CALL_SECONDS))
    if caught.value.code() is grpc.StatusCode.UNAVAILABLE:  # the daemon has died
        raise caught.value
    assert refusal(caught.value)[1] == "PROCESS_START_FAILED"


def none_is_left(engine: CrashedEngine) -> None:
    """Nothing stays known of what could not be started; the same fails again, and what can be started goes to its
    end."""
    api = execs_pb2_grpc.ExecServiceStub(engine.channel)
    request = execs_pb2.ListExecsRequest(container=NAME)
    # It may be failing in this moment.
    until_now(lambda: not api.ListExecs(request, timeout=CALL_SECONDS).execs, "what could not be started is forgotten")
    fail(engine)
    execute(engine)
    stays_until_stopped(engine)


EXECUTING = Scenario(execute, ended_or_absent, stays)
FAILING = Scenario(fail, none_is_left, stays)

#: Failpoint of the daemon -> how it is reached.
SCENARIOS = {
    "exec.start.process": EXECUTING,
    "exec.start.begun": EXECUTING,
    "exec.record.starting": EXECUTING,
    "exec.record.running": Scenario(execute_in_two_steps, end_what_reads, stays),
    "exec.record.exited": EXECUTING,
    "exec.record.deleted": FAILING,
}

#: The last daemon has not heard yet that it could not be started; the next one does.
FURTHER = [("exec.start.begun", FAILING)]
