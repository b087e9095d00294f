"""Very many callers at once, callers that stop reading and callers that vanish.

Afterwards memory and open files of the daemon are where they were, and nothing of them is left in the container.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import grpc

from fluyt.v1 import containers_pb2, execs_pb2, execs_pb2_grpc
from tests.e2e.containers.steps import delete, read_logs, text
from tests.e2e.containers.steps import started as started_container
from tests.e2e.execs.steps import PATIENCE_SECONDS, api, get, run, stays
from tests.support import leftovers
from tests.support.engine import REPOSITORY, Engine
from tests.support.leftovers import READY_SUPERVISORS, processes_of
from tests.support.wait import until_now

EXECS = 100
FOLLOWERS = 50
LINES = 4_000
#: So much the daemon may grow by and keep, for allocators and caches: far less than what passed through it, or than one
#: caller that does not read could leave.
KEPT_BYTES = 8 << 20
#: So often it may grow by more before that is no chance any more.
ATTEMPTS = 3
#: Written for a caller that does not read: far above all that pipes, buffers and windows hold.
UNREAD_BYTES = 128 << 20
WRITE_ALL = ["head", "-c", str(UNREAD_BYTES), "/dev/zero"]
VANISHING_EXECS = 20
#: A caller with processes and followed logs of the container, until it is killed.
VANISHING = f"""
import sys, time, grpc
from fluyt.v1 import execs_pb2, execs_pb2_grpc, logs_pb2, logs_pb2_grpc
address, container = sys.argv[1:]
channel = grpc.insecure_channel(address)
execs, logs = execs_pb2_grpc.ExecServiceStub(channel), logs_pb2_grpc.LogServiceStub(channel)
spec = execs_pb2.ExecSpec(args=["sleep", "1000"], disconnect_policy=execs_pb2.ExecSpec.DISCONNECT_POLICY_KILL)
def said():
    yield execs_pb2.ExecRequest(start=execs_pb2.ExecStart(container=container, spec=spec))
    time.sleep(1000)
calls = [execs.Exec(said()) for _ in range({VANISHING_EXECS})]
follows = [logs.ReadLogs(logs_pb2.ReadLogsRequest(container=container, follow=True)) for _ in range(10)]
for call in calls:
    next(call)
print("ready", flush=True)
time.sleep(1000)
"""


def held(engine: Engine) -> Counter[str]:
    """What the daemon has open, by kind, numbers left out. Connections of callers are counted by their sockets."""
    kinds: Counter[str] = Counter()
    for path in Path(f"/proc/{engine.process.pid}/fd").iterdir():
        try:
            name = str(path.readlink())
        except FileNotFoundError:
            continue  # closed since the directory was read
        kinds["".join(one for one in name if not one.isdecimal())] += 1
    return kinds


def memory(engine: Engine) -> int:
    """Bytes of memory that the daemon has of its own (RssAnon). Source: proc_pid_status(5), in units of 1024 bytes."""
    lines = Path(f"/proc/{engine.process.pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("RssAnon:")]
    return int(line.split()[1]) * 1024


@contextmanager
def connection(engine: Engine) -> Iterator[grpc.Channel]:
    """A connection of its own: what one channel does not read holds up the others of it no more than they must."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with closing(grpc.insecure_channel(f"unix:{engine.root}/run/fluytd.sock", options)) as channel:
        yield channel


def returns_to_where_it_was(engine: Engine, work: Callable[[], None]) -> None:
    """`work`, which deletes its containers, leaves nothing open and does not make the daemon grow. The first time warms
    it up. What is kept makes it grow each time; an allocator's pages come and go (by 15 MB here, over ten times)."""
    work()
    until_now(lambda: idle_supervisors(engine) == READY_SUPERVISORS, "what starts need is there again")
    files, sizes = held(engine), [memory(engine)]
    while len(sizes) == 1 or sizes[-1] - sizes[-2] >= KEPT_BYTES:
        assert len(sizes) <= ATTEMPTS, f"it grew each time: {sizes}"
        work()
        all_closed(engine, files)
        sizes.append(memory(engine))


def all_closed(engine: Engine, files: Counter[str]) -> None:
    """Nothing is open that was not, a moment later."""
    found = [files]

    def is_closed() -> bool:
        found.append(held(engine))
        return not found[-1] - files

    try:
        until_now(is_closed)
    except AssertionError:
        raise AssertionError(f"still open: {dict(found[-1] - files)}") from None


def idle_supervisors(engine: Engine) -> int:
    """How many wait for starts; the daemon has a socket and a descriptor of each."""
    return len(leftovers.idle_supervisors(processes_of(engine)))


def test_a_hundred_processes_at_once_each_end_with_their_own_output(engine: Engine) -> None:
    def one(container: str, number: int) -> bytes:
        ended = run(engine, container, "sh", "-c", f"echo begin {number}; sleep 0.2; echo end {number}; exit {number}")
        assert ended.exit == ("exit_code", number)
        return ended.out

    def all_at_once() -> None:
        container = stays(engine)
        with ThreadPoolExecutor(EXECS) as pool:
            written = list(pool.map(partial(one, container), range(EXECS)))
        assert written == [f"begin {number}\nend {number}\n".encode() for number in range(EXECS)]
        delete(engine, container, force=True)

    returns_to_where_it_was(engine, all_at_once)


def test_fifty_followers_of_one_log_each_get_all_of_it(engine: Engine) -> None:
    expected = b"".join(b"line %d\n" % number for number in range(LINES))

    def all_at_once() -> None:
        script = f"mkfifo /gate; read go < /gate; i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); done"
        container = started_container(engine, "sh", "-c", script).id
        with ThreadPoolExecutor(FOLLOWERS) as pool:
            follows = [pool.submit(read_logs, engine, container, follow=True) for _ in range(FOLLOWERS)]
            run(engine, container, "sh", "-c", "until test -p /gate; do :; done; echo go > /gate")
            assert all(text(follow.result()[0]) == expected for follow in follows)
        delete(engine, container)

    returns_to_where_it_was(engine, all_at_once)


def test_a_caller_that_stops_reading_slows_its_process_and_nobody_else(engine: Engine) -> None:
    def stop_reading() -> None:
        container = stays(engine)
        with connection(engine) as channel:
            start = execs_pb2.ExecStart(container=container, spec=execs_pb2.ExecSpec(args=WRITE_ALL))
            start.spec.disconnect_policy = execs_pb2.ExecSpec.DISCONNECT_POLICY_KILL
            requests = iter([execs_pb2.ExecRequest(start=start)])
            unread = execs_pb2_grpc.ExecServiceStub(channel).Exec(requests, timeout=PATIENCE_SECONDS)
            session = next(unread).started.id
            written = -1

            def is_held_up() -> bool:
                nonlocal written
                before, written = written, get(engine, session).output_bytes
                time.sleep(0.2)  # much longer than what writes without being held up needs for some of it
                return before == written > 0

            until_now(is_held_up, "the process is held up")
            assert written < UNREAD_BYTES / 2
            assert run(engine, container, "echo", "served").out == b"served\n"
            unread.cancel()
        until_now(lambda: get(engine, session).signal == signal.SIGKILL, "the process is killed")
        delete(engine, container, force=True)

    returns_to_where_it_was(engine, stop_reading)


def test_a_caller_that_vanishes_leaves_nothing(engine: Engine) -> None:
    def vanish() -> None:
        container = stays(engine)
        command = [sys.executable, "-c", VANISHING, f"unix:{engine.root}/run/fluytd.sock", container]
        paths = os.pathsep.join([str(REPOSITORY / "clients" / "python"), os.environ.get("PYTHONPATH", "")])
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": paths}) as caller:
            try:
                assert caller.stdout is not None
                assert caller.stdout.readline() == b"ready\n"
                assert len(running(engine, container)) == VANISHING_EXECS
            finally:
                caller.kill()
        until_now(lambda: not running(engine, container), "its processes are killed")
        pids = engine.containers.ListProcesses(containers_pb2.ListProcessesRequest(container=container)).processes
        assert len(pids) == 1
        delete(engine, container, force=True)

    returns_to_where_it_was(engine, vanish)


def running(engine: Engine, container: str) -> list[str]:
    """Ids of the container's sessions that run."""
    listed = api(engine).ListExecs(execs_pb2.ListExecsRequest(container=container, page_size=1_000)).execs
    return [one.id for one in listed if one.state == execs_pb2.ExecSession.STATE_RUNNING]
