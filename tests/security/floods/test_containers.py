"""Containers that take all they can get: with a limit set they get no more, and the engine answers others meanwhile."""

import time

from fluyt.v1.types import container_spec_pb2, resources_pb2
from fluytd.execs.service import MAX_ENDED_EXECS_PER_CONTAINER
from tests.e2e.containers.steps import IMAGE, cgroup_file, delete, group, started, wait
from tests.e2e.execs import steps as execs
from tests.e2e.execs.test_load import held, memory
from tests.security.floods.others import Others, descriptors_return
from tests.support.engine import Engine
from tests.support.sizes import files_below
from tests.support.wait import until_now

MIB = 1024 * 1024
#: How long a flood goes on.
SECONDS = 2.0
PIDS = 64


def logged(engine: Engine, container: str) -> int:
    """Bytes that a container's log takes on the disk."""
    folder = engine.root / "data" / "containers" / container
    return sum(size for path, size in files_below(folder) if "log" in str(path))


def test_a_fork_bomb_stops_at_its_limit_of_processes(engine: Engine) -> None:
    bomb = "bomb() { bomb | bomb & }; (while :; do bomb; done) & exec sleep 1000"
    with Others(engine):
        container = started(engine, "sh", "-c", bomb, resources=resources_pb2.Resources(pids_limit=PIDS))
        until_now(lambda: b"can't fork" in engine.logs(container.id), "the limit is met", 20)
        time.sleep(SECONDS)
        assert 2 < int(cgroup_file(engine, container.id, "pids", "pids.current")) <= PIDS
        delete(engine, container.id, force=True)
    assert not (group(engine, "pids") / container.id).exists()


def test_a_memory_bomb_ends_by_its_limit_and_is_told(engine: Engine) -> None:
    with Others(engine):
        for _ in range(3):
            container = started(
                engine, "tail", "/dev/zero", resources=resources_pb2.Resources(memory_limit_bytes=32 * MIB)
            )
            ended = wait(engine, container.id)
            assert ended.oom_killed
            assert ended.signal == 9 or ended.exit_code == 137
            delete(engine, container.id)


def test_a_log_flood_keeps_no_more_than_its_segments(engine: Engine) -> None:
    log = container_spec_pb2.LogSpec(segment_size_bytes=MIB, segment_count=2)
    before = memory(engine)
    with Others(engine):
        container = started(engine, "yes", "x" * 4_000, log=log)
        until_now(lambda: logged(engine, container.id) > MIB, "it writes", 20)
        largest = 0
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            largest = max(largest, logged(engine, container.id))
            time.sleep(0.02)
        delete(engine, container.id, force=True)
    # One segment may be on its way out while the next is begun.
    assert largest <= 3 * MIB + MIB // 2
    assert memory(engine) - before < 64 * MIB


def test_a_flood_of_files_hinders_nobody_and_goes_with_its_container(engine: Engine) -> None:
    script = "i=0; mkdir /d; while :; do i=$((i+1)); mkdir /d/$i; : > /d/$i/f; done"
    with Others(engine):
        container = started(engine, "sh", "-c", script)
        upper = engine.root / "data" / "containers" / container.id / "upper" / "d"
        until_now(lambda: upper.is_dir() and len(list(upper.iterdir())) > 3_000, "files", 40)
        delete(engine, container.id, force=True)
    until_now(lambda: not upper.exists(), "they go", 40)


def test_a_flood_of_bytes_hinders_nobody_and_goes_with_its_container(engine: Engine) -> None:
    script = "while :; do dd if=/dev/zero of=/f bs=1M count=64 2>/dev/null; mv /f /last; done"
    with Others(engine):
        container = started(engine, "sh", "-c", script)
        upper = engine.root / "data" / "containers" / container.id / "upper"
        last = upper / "last"
        until_now(last.exists, "it writes", 40)
        time.sleep(SECONDS)
        assert last.stat().st_size == 64 * MIB
        delete(engine, container.id, force=True)
    until_now(lambda: not upper.exists(), "it goes", 40)


def test_a_flood_of_descriptors_ends_at_the_limit_of_the_container(engine: Engine) -> None:
    before = held(engine)
    limit = resources_pb2.Rlimit(name="nofile", soft=128, hard=128)
    script = 'i=3; while eval "exec $i</dev/null"; do i=$((i+1)); done'
    with Others(engine):
        out, err, _ = engine.run(IMAGE, "sh", "-c", f"ulimit -n; {script}", rlimits=[limit])
        assert out == b"128\n"
        assert b"Too many open files" in err or b"Bad file descriptor" in err or b"bad" in err.lower(), err
    descriptors_return(engine, before)


def test_thousands_of_processes_one_after_the_other_leave_nothing(engine: Engine) -> None:
    container = execs.stays(engine)
    # As many as it remembers after their end.
    for _ in range(MAX_ENDED_EXECS_PER_CONTAINER):
        execs.run(engine, container, "true")
    before = held(engine)
    with Others(engine):
        until = time.monotonic() + SECONDS * 2
        count = 0
        while time.monotonic() < until:
            assert execs.run(engine, container, "true").exit == ("exit_code", 0)
            count += 1
    assert count > 20
    descriptors_return(engine, before)
