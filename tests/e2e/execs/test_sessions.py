"""Sessions of further processes: one a request id, their records across daemons, their events, how many are kept."""

import os
import signal
from pathlib import Path

import grpc
import pytest

from fluyt.v1 import containers_pb2, events_pb2, execs_pb2
from tests.e2e.containers import steps as containers
from tests.e2e.execs.steps import PATIENCE_SECONDS, Caller, Ended, api, attach, collect, get, run, stays
from tests.support.engine import Engine
from tests.support.inside import touch
from tests.support.leftovers import process_of
from tests.support.wait import until_now

Session = execs_pb2.ExecSession
WAIT = "echo ready; touch /tmp/ready; while [ ! -e /go ]; do sleep 0.05; done; echo went; exit 6"


def begin(engine: Engine, container: str, *args: str, **spec: object) -> Session:
    """A session that goes on without its caller."""
    return run(engine, container, *args, detach=True, **spec).session


def again(engine: Engine, container: str, request_id: str, *args: str) -> Ended:
    """Exec with a request id."""
    spec = execs_pb2.ExecSpec(args=args)
    start = execs_pb2.ExecStart(container=container, spec=spec, request_id=request_id)
    return collect(api(engine).Exec(iter([execs_pb2.ExecRequest(start=start)]), timeout=PATIENCE_SECONDS))


def listed(engine: Engine, container: str) -> list[Session]:
    """The sessions of a container, newest first."""
    return list(api(engine).ListExecs(execs_pb2.ListExecsRequest(container=container)).execs)


def restart(engine: Engine) -> None:
    """Another daemon serves on the same roots."""
    engine.kill()
    engine.start()


def events_of(engine: Engine, session: str) -> list[tuple[str, str, str]]:
    """(fact, container's id, its name) of each event of a session."""
    wanted = events_pb2.EventFilter(facts=["exec_created", "exec_started", "exec_exited"])
    now = events_pb2.WatchEventsRequest(from_sequence=1, filter=wanted)
    now.until_time.GetCurrentTime()
    found = []
    for message in engine.events.WatchEvents(now, timeout=PATIENCE_SECONDS):
        event = message.event
        kind = event.WhichOneof("fact")
        if kind and getattr(event, kind).exec_id == session:
            fact = getattr(event, kind)
            found.append((kind, fact.container_id, fact.name))
            assert event.subject == fact.container_id
    return found


def test_a_repeated_request_runs_once_and_joins_the_first(engine: Engine) -> None:
    container = stays(engine)
    first = again(engine, container, "once", "sh", "-c", "echo $$ | tee -a /runs; exit 3")
    second = again(engine, container, "once", "sh", "-c", "echo $$ | tee -a /runs; exit 3")
    assert (first.out, first.session.id, first.exit) == (second.out, second.session.id, second.exit)
    assert first.exit == ("exit_code", 3)
    assert run(engine, container, "wc", "-l", "/runs").out == b"1 /runs\n"
    other = containers.refused(lambda: again(engine, container, "once", "echo", "other"))
    assert other[1] == "REQUEST_ID_REUSED"
    assert containers.refused(lambda: again(engine, container, "é", "true"))[1] == "FIELD_INVALID"


def test_a_repeated_request_whose_first_could_not_be_started_tries_again(engine: Engine) -> None:
    container = stays(engine)
    assert containers.refused(lambda: again(engine, container, "twice", "/new"))[1] == "PROCESS_START_FAILED"
    run(engine, container, "ln", "-s", "/bin/busybox", "/tmp/true")
    run(engine, container, "mv", "/tmp/true", "/new")
    assert again(engine, container, "twice", "/new").session.state == Session.STATE_EXITED


def test_what_was_asked_is_known_to_the_next_daemon(engine: Engine) -> None:
    container = stays(engine)
    before = begin(engine, container, "sh", "-c", WAIT, user="7:8", env=["A=b"], working_dir="/tmp", tty=True)
    ended = run(engine, container, "sh", "-c", "echo out; exit 5").session
    restart(engine)
    after = get(engine, before.id)
    assert (after.state, after.host_pid, after.spec) == (Session.STATE_RUNNING, before.host_pid, before.spec)
    assert (after.create_time, after.start_time) == (before.create_time, before.start_time)
    assert get(engine, ended.id).spec == ended.spec
    assert [one.id for one in listed(engine, container)] == [ended.id, before.id]
    assert attach(engine, ended.id).out == b"out\n"
    run(engine, container, "touch", "/go")
    found = attach(engine, before.id)
    assert (found.out, found.exit) == (b"ready\r\nwent\r\n", ("exit_code", 6))


def test_how_it_ended_without_a_daemon_is_known_to_the_next_one(engine: Engine) -> None:
    container = stays(engine)
    first = begin(engine, container, "sh", "-c", WAIT)
    second = begin(engine, container, "sleep", "1000")
    inside = containers.get(engine, container).host_pid
    until_now(lambda: Path(f"/proc/{inside}/root/tmp/ready").exists(), "it is ready")
    engine.kill()
    touch(inside, "/go")
    until_now(lambda: process_of(first.host_pid) is None, "it has ended")
    engine.start()
    assert get(engine, first.id).exit_code == 6
    assert attach(engine, first.id).out == b"ready\nwent\n"
    assert get(engine, second.id).state == Session.STATE_RUNNING


def test_how_it_ended_with_its_container_and_no_daemon_is_known(engine: Engine) -> None:
    container = stays(engine)
    session = begin(engine, container, "sleep", "1000")
    ended = run(engine, container, "sh", "-c", "exit 5").session
    inside = containers.get(engine, container).host_pid
    engine.kill()
    os.kill(inside, signal.SIGKILL)
    until_now(lambda: process_of(inside) is None, "the container has ended")
    engine.start()
    found = get(engine, session.id)
    assert (found.state, found.signal, found.spec) == (Session.STATE_EXITED, 9, session.spec)
    assert attach(engine, session.id).exit == ("signal", 9)
    assert get(engine, ended.id).exit_code == 5
    assert [kind for kind, *_ in events_of(engine, session.id)] == ["exec_created", "exec_started", "exec_exited"]


def test_sessions_of_an_ended_container_stay_until_it_is_deleted(engine: Engine) -> None:
    container = stays(engine)
    session = run(engine, container, "sh", "-c", "echo kept; exit 4").session
    engine.containers.StopContainer(containers_pb2.StopContainerRequest(container=container, signal="KILL"))
    assert get(engine, session.id).exit_code == 4
    restart(engine)
    found = attach(engine, session.id)
    assert (found.out, found.exit) == (b"", ("exit_code", 4))
    containers.delete(engine, container)
    assert containers.refused(lambda: get(engine, session.id))[:2] == (grpc.StatusCode.NOT_FOUND, "EXEC_NOT_FOUND")
    restart(engine)
    assert containers.refused(lambda: get(engine, session.id))[1] == "EXEC_NOT_FOUND"


def test_each_session_is_told_by_three_events(engine: Engine) -> None:
    made = containers.create(engine, "sleep", "1000", name="told")
    containers.start(engine, made.id)
    session = run(engine, made.id, "sh", "-c", "exit 7").session
    kinds = ["exec_created", "exec_started", "exec_exited"]
    until_now(lambda: len(events_of(engine, session.id)) == 3, "all are recorded")
    assert events_of(engine, session.id) == [(kind, made.id, "told") for kind in kinds]


def test_one_that_could_not_be_started_leaves_no_session_and_was_not_started(engine: Engine) -> None:
    container = stays(engine)
    assert containers.refused(lambda: run(engine, container, "/nothing"))[1] == "PROCESS_START_FAILED"
    assert listed(engine, container) == []
    restart(engine)
    assert listed(engine, container) == []


@pytest.mark.parametrize("restarts", [False, True])
def test_the_newest_ended_sessions_are_kept_up_to_a_bound(engine: Engine, restarts: bool) -> None:
    container = stays(engine)
    ids = [run(engine, container, "echo", str(number)).session.id for number in range(40)]
    if restarts:
        restart(engine)
    ids.append(run(engine, container, "true").session.id)
    assert [one.id for one in listed(engine, container)] == ids[:-33:-1]


def test_each_has_a_group_of_its_own_below_the_containers(engine: Engine) -> None:
    container = stays(engine)
    own = [_group_of(begin(engine, container, "sleep", "1000").host_pid) for _ in range(2)]
    assert own[0] != own[1]
    assert {path.parent.name for path in own} == {container}
    containers.delete(engine, container, force=True)
    until_now(lambda: not any(path.exists() for path in own), "the groups are gone")


def test_what_a_killed_one_has_begun_is_killed_with_it_wherever_it_hides(engine: Engine) -> None:
    container = stays(engine)
    script = "setsid sh -c 'echo $$; exec sleep 987' & sleep 1000"
    caller = Caller(engine, container, "sh", "-c", script, disconnect_policy=execs_pb2.ExecSpec.DISCONNECT_POLICY_KILL)
    caller.started()
    assert next(caller.responses).stdout.data
    beside = begin(engine, container, "sleep", "988").id
    assert _commands(engine, container) >= {"sleep 987", "sleep 988"}
    caller.responses.cancel()
    until_now(lambda: "sleep 987" not in _commands(engine, container), "what it had begun is gone")
    assert _commands(engine, container) == {"sleep 1000", "sleep 988"}
    assert get(engine, beside).state == Session.STATE_RUNNING


def _commands(engine: Engine, container: str) -> set[str]:
    """What runs in the container."""
    request = containers_pb2.ListProcessesRequest(container=container)
    return {" ".join(process.args) for process in engine.containers.ListProcesses(request).processes}


def _group_of(pid: int) -> Path:
    """The group of the unified hierarchy that a process is in."""
    (line,) = (line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
    for mount in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")):
        if (found := mount / line[3:].lstrip("/")).is_dir():
            return found
    raise AssertionError(line)
