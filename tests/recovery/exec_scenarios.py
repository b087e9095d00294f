"""How each failpoint on the way of a further process is reached, and what must hold after it."""

from collections.abc import Iterator

from fluyt.v1 import execs_pb2, execs_pb2_grpc
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


EXECUTING = Scenario(execute, ended_or_absent, stays)

#: Failpoint of the daemon -> how it is reached.
SCENARIOS = {"exec.start.process": EXECUTING, "exec.start.begun": EXECUTING}
