"""The host goes down and comes up: processes, groups and the run root are gone, the data root is kept."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_pb2, container_spec_pb2
from tests.e2e.containers.steps import IMAGE, NOT_FOUND, exit_of, get, refused, started, wait
from tests.e2e.execs import steps as execs
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.wait import until_now

State = container_pb2.Container
Policy = container_spec_pb2.RestartPolicy
STAY = ("sh", "-c", "echo up; sleep 1000")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Engine]:
    """An engine whose host can go down."""
    with Engine(tmp_path) as engine:
        engine.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield engine


def go_down(engine: Engine, *running: container_pb2.Container) -> None:
    """No process of the engine or of these containers is left, and no run root."""
    engine.kill()
    pids = [pid for one in running for pid in (_parent(one.host_pid), one.host_pid)]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for group in Path("/sys/fs/cgroup").glob(f"**/{engine.cgroup_parent}/*"):
        for file, thawed in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            if (group / file).exists():
                (group / file).write_text(thawed)
    until_now(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "all processes are gone")
    shutil.rmtree(engine.root / "run")


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_l04_policies_start_what_ran_when_the_host_went_down(host: Engine) -> None:
    modes = (Policy.MODE_ON_FAILURE, Policy.MODE_ALWAYS, Policy.MODE_UNLESS_STOPPED)
    kept = [started(host, *STAY, restart_policy=Policy(mode=mode)) for mode in modes]
    paused = started(host, *STAY, restart_policy=Policy(mode=Policy.MODE_ALWAYS))
    host.containers.PauseContainer(containers_pb2.PauseContainerRequest(container=paused.id))
    plain, removed = started(host, *STAY), started(host, *STAY, auto_remove=True)
    done = started(host, "true", restart_policy=Policy(mode=Policy.MODE_ON_FAILURE))
    wait(host, done.id)
    session = execs.run(host, plain.id, "sleep", "1000", detach=True).session.id
    go_down(host, *kept, paused, plain, removed)
    host.start()
    for container in (*kept, paused):
        # A start by the policy, with all that its earlier run wrote kept.
        until_now(lambda container=container: host.logs(container.id) == b"up\nup\n", "it runs again")  # type: ignore[misc]
        found = get(host, container.id)
        assert (found.state, found.restart_count, found.reason) == (State.STATE_RUNNING, 1, "")
    found = get(host, plain.id)
    assert (found.state, found.reason, exit_of(found)) == (State.STATE_EXITED, "SUPERVISOR_LOST", ("signal", 9))
    assert execs.get(host, session).failure.reason == "SUPERVISOR_LOST"
    assert refused(lambda: get(host, removed.id))[:2] == (NOT_FOUND, "CONTAINER_NOT_FOUND")
    assert (get(host, done.id).state, get(host, done.id).restart_count) == (State.STATE_EXITED, 0)
