"""Binds and volumes on a file system of the host that answers no more: every call comes back, what cannot be ended is
told, no other container is held up, and all goes on once the file system is gone. FUSE stands for all such ones.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from google.protobuf import duration_pb2

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_pb2, container_spec_pb2, mount_pb2
from fluytd.containers.mount_sources import LOOK_SECONDS
from fluytd.containers.start import COPY_END_SECONDS
from fluytd.containers.stop import KILLED_SECONDS
from tests.e2e.containers import copy_steps as copies
from tests.e2e.containers import steps as containers
from tests.e2e.containers.steps import HOST_USERS, IMAGE, Refusal, refused
from tests.e2e.volumes.steps import bind, create, delete, export_tar, get, output, remove, volume
from tests.support.engine import PATIENCE_SECONDS, Engine
from tests.support.unanswering_files import CONTENT, NAME, UnansweringFiles, unanswering_files
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("fuse")

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
#: More starts at once than the daemon has threads for them.
MANY = 24


@pytest.fixture
def files(tmp_path: Path) -> Iterator[UnansweringFiles]:
    """One that answers yet."""
    with unanswering_files(tmp_path / "files") as files:
        yield files


def holding(engine: Engine, name: str, *mounts: mount_pb2.Mount) -> None:
    """A container runs with a file of each mount open, which its end has to close."""
    opened = "; ".join(f"exec {number}<{one.target}/{NAME}" for number, one in enumerate(mounts, 3))
    spec = container_spec_pb2.ContainerSpec(
        image=IMAGE,
        args=["sh", "-c", f"{opened}; read -r line <&3; echo $line; while :; do sleep 1000; done"],
        mounts=mounts,
        namespaces=HOST_USERS,
    )
    engine.containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec, name=name))
    containers.start(engine, name)
    until_now(lambda: containers.read_logs(engine, name)[0] != [], "the files are open")


def timed(call: Callable[[], object]) -> tuple[Refusal, float]:
    """Why a call fails, and after how long."""
    before = time.monotonic()
    failure = refused(call)
    return failure, time.monotonic() - before


def state(engine: Engine, name: str) -> int:
    """The state of a container."""
    return containers.get(engine, name).state


def test_what_cannot_be_ended_is_told_holds_up_nobody_and_is_removed_when_it_ends(
    engine: Engine, files: UnansweringFiles
) -> None:
    options = {"type": "none", "o": "bind", "device": str(files.place)}
    create(engine, "held", driver_options=options)
    holding(engine, "stuck", bind("/b", files.place), volume("/v", "held"))
    files.mute()
    stopping = containers_pb2.StopContainerRequest(container="stuck", timeout=duration_pb2.Duration())
    with ThreadPoolExecutor(2) as pool:
        calls = (lambda: engine.containers.StopContainer(stopping), lambda: remove(engine, "stuck", force=True))
        failures = [pool.submit(timed, call) for call in calls]
        time.sleep(1)
        # Everything about it is told at once meanwhile, and others come and go.
        assert containers.get(engine, "stuck").name == "stuck"
        assert [one.name for one in containers.listed(engine)] == ["stuck"]
        assert get(engine, "held").driver_options["device"] == str(files.place)
        assert list(engine.containers.WatchStats(containers_pb2.WatchStatsRequest(containers=["stuck"], once=True)))
        assert output(engine, IMAGE, "echo others") == "others"
        assert not any(found.done() for found in failures)
        for found in failures:
            (code, reason, metadata), seconds = found.result()
            assert (code, reason) == (UNAVAILABLE, "CONTAINER_NOT_ENDING")
            assert metadata["id"] == containers.get(engine, "stuck").id
            assert "process " in metadata["detail"]
            assert "state D" in metadata["detail"]
            assert KILLED_SECONDS <= seconds < 2 * KILLED_SECONDS + PATIENCE_SECONDS
    _, reason, _ = refused(lambda: delete(engine, "held"))
    assert reason == "VOLUME_IN_USE"
    files.end()
    until_now(lambda: not containers.listed(engine), "its forced removal is completed")
    delete(engine, "held")


def test_a_daemon_that_comes_up_meanwhile_serves_and_finds_its_end(engine: Engine, files: UnansweringFiles) -> None:
    holding(engine, "stuck", bind("/b", files.place))
    files.mute()
    engine.containers.KillContainer(containers_pb2.KillContainerRequest(container="stuck"))
    engine.kill()
    engine.start()
    assert state(engine, "stuck") == container_pb2.Container.STATE_RUNNING
    assert engine.containers.ListProcesses(containers_pb2.ListProcessesRequest(container="stuck")).processes
    assert output(engine, IMAGE, "echo others") == "others"
    files.end()
    until_now(lambda: state(engine, "stuck") == container_pb2.Container.STATE_EXITED, "it has ended")
    assert containers.exit_of(containers.get(engine, "stuck")) == ("signal", 9)
    remove(engine, "stuck")


def started(engine: Engine, name: str, *mounts: mount_pb2.Mount) -> None:
    """A container runs and uses nothing of what it has mounted."""
    containers.create(engine, "sleep", "1000", name=name, mounts=mounts, namespaces=HOST_USERS)
    containers.start(engine, name)


def test_a_copy_of_what_does_not_answer_is_told_in_time(engine: Engine, files: UnansweringFiles) -> None:
    started(engine, "one", bind("/b", files.place))
    containers.create(engine, "true", name="unstarted", mounts=[bind("/home", files.place)], namespaces=HOST_USERS)
    for name, place in (("one", "/b"), ("unstarted", "/home")):
        assert copies.read(engine, name, f"{place}/{NAME}") == CONTENT
    files.mute()
    calls: list[Callable[[], object]] = [
        lambda: copies.read(engine, "one", f"/b/{NAME}"),
        lambda: copies.copy_to(engine, "one", "/b", copies.tar(copies.member(NAME, b"x"))),
        lambda: copies.read(engine, "unstarted", "/etc/passwd"),
    ]
    with ThreadPoolExecutor(len(calls)) as pool:
        told = [pool.submit(timed, call) for call in calls]
        assert copies.read(engine, "one", "/etc/passwd")
        for found in told:
            (code, reason, metadata), seconds = found.result()
            assert (code, reason, metadata["file_system"]) == (UNAVAILABLE, "MOUNT_SOURCE_UNRESPONSIVE", "fuse")
            assert LOOK_SECONDS <= seconds < LOOK_SECONDS + PATIENCE_SECONDS
    files.end()
    for name in ("one", "unstarted"):
        remove(engine, name, force=True)


def test_copies_that_wait_for_content_hold_up_nothing_but_a_start_of_their_container(
    engine: Engine, files: UnansweringFiles
) -> None:
    started(engine, "one", bind("/b", files.place))
    files.mute(reads_alone=True)
    with ExitStack() as undo:
        # More than the daemon has threads for other work.
        pool = undo.enter_context(ThreadPoolExecutor(MANY))
        undo.callback(files.end)
        begun = [pool.submit(refused, lambda: copies.read(engine, "one", f"/b/{NAME}")) for _ in range(MANY)]
        assert output(engine, IMAGE, "echo others") == "others"
        assert copies.read(engine, "one", "/etc/passwd")
        assert not any(found.done() for found in begun)
        engine.containers.KillContainer(containers_pb2.KillContainerRequest(container="one"))
        containers.wait(engine, "one")
        (code, reason, metadata), seconds = timed(lambda: containers.start(engine, "one"))
        assert (code, reason, metadata["operation"]) == (grpc.StatusCode.ABORTED, "OPERATION_IN_PROGRESS", "copy")
        assert COPY_END_SECONDS <= seconds < COPY_END_SECONDS + PATIENCE_SECONDS
        files.end()
        assert {found.result()[1] for found in begun} <= {"CONTAINER_WRONG_STATE", "IO_FAILED"}
    remove(engine, "one", force=True)


def test_a_source_that_does_not_answer_is_an_error_in_time_however_many_want_it(
    engine: Engine, files: UnansweringFiles, tmp_path: Path
) -> None:
    create(engine, "held", driver_options={"type": "none", "o": "bind", "device": f"{files.place}/{NAME}"})
    (tmp_path / "link").symlink_to(files.place)
    mounts = [bind("/b", f"{tmp_path}/link/{NAME}"), volume("/v", "held")]
    for one in mounts:
        told = output(engine, IMAGE, f"cat {one.target}", mounts=[one], namespaces=HOST_USERS)
        assert told.encode() == CONTENT.strip()
    files.mute()

    def run(number: int) -> tuple[Refusal, float]:
        mount = mounts[number % len(mounts)]
        return timed(lambda: engine.run(IMAGE, "true", mounts=[mount], namespaces=HOST_USERS))

    with ExitStack() as undo:
        pool = undo.enter_context(ThreadPoolExecutor(MANY + 1))
        undo.callback(files.end)
        failures = [pool.submit(run, number) for number in range(MANY)]
        export = pool.submit(timed, lambda: export_tar(engine, "held"))
        time.sleep(1)
        assert output(engine, IMAGE, "echo others") == "others"
        assert not any(found.done() for found in (*failures, export))
        for found in (*failures, export):
            (code, reason, metadata), seconds = found.result()
            assert (code, reason) == (UNAVAILABLE, "MOUNT_SOURCE_UNRESPONSIVE")
            assert metadata["path"].endswith(NAME)
            assert metadata["file_system"] == "fuse"
            assert LOOK_SECONDS <= seconds < LOOK_SECONDS + PATIENCE_SECONDS
    assert not containers.listed(engine)
    delete(engine, "held")
