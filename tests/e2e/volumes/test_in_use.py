"""Who has a volume is known whatever happens to the daemon, and what nobody has is told apart."""

import os
import shutil
import signal
from pathlib import Path

from fluyt.v1 import containers_pb2, volumes_pb2
from tests.e2e.containers import steps as containers
from tests.e2e.containers.steps import WRONG_STATE, refused
from tests.e2e.volumes.steps import create, delete, get, names, remove, volume
from tests.support.engine import Engine
from tests.support.wait import until_now


def crash(engine: Engine) -> None:
    """The daemon was killed, and another one serves."""
    engine.kill()
    engine.start()


def prune(engine: Engine) -> list[str]:
    """What a prune of all took."""
    answer = engine.volumes.PruneVolumes(volumes_pb2.PruneVolumesRequest(all=True))
    return sorted(answer.deleted)


def test_a_volume_that_a_container_has_is_not_deleted_by_any_later_daemon(engine: Engine) -> None:
    for name in ("of-created", "of-running", "of-ended", "of-inheriting", "of-nobody"):
        create(engine, name)
    created = containers.create(engine, "true", mounts=[volume("/v", "of-created")])
    running = containers.started(engine, "sleep", "1000", mounts=[volume("/v", "of-running")])
    ended = containers.started(engine, "true", mounts=[volume("/v", "of-ended"), volume("/w", "of-inheriting")])
    containers.wait(engine, ended.id)
    heir = containers.create(engine, "true", volumes_from=[ended.id])
    holders = {
        "of-created": [created.id],
        "of-running": [running.id],
        "of-ended": sorted([ended.id, heir.id]),
        "of-inheriting": sorted([ended.id, heir.id]),
    }
    for _ in range(2):
        crash(engine)
        for name, expected in holders.items():
            code, reason, facts = refused(lambda name=name: delete(engine, name))  # type: ignore[misc]
            assert (code, reason, facts["volume"]) == (WRONG_STATE, "VOLUME_IN_USE", name)
            assert sorted(get(engine, name).container_ids) == expected
            # Force is about what is not there, never about what is in use.
            assert refused(lambda name=name: delete(engine, name, force=True))[1] == "VOLUME_IN_USE"  # type: ignore[misc]
        assert names(engine, is_dangling=True) == ["of-nobody"]
        assert names(engine, is_dangling=False) == sorted(holders)
    assert prune(engine) == ["of-nobody"]
    # The first of two lets go, and the other still has it.
    remove(engine, ended.id, volumes=True)
    crash(engine)
    assert refused(lambda: delete(engine, "of-ended"))[2]["containers"] == heir.id
    for container in (created, running, heir):
        remove(engine, container.id, force=True)
    crash(engine)
    assert prune(engine) == sorted(holders)


def test_m08_what_ended_while_no_daemon_ran_takes_its_anonymous_volumes_along(engine: Engine) -> None:
    mounts = [volume("/anonymous"), volume("/named", "kept")]
    request = containers_pb2.RunContainerRequest(detach=True)
    request.spec.CopyFrom(
        containers.create(engine, "sleep", "1000", mounts=mounts, auto_remove=True, name="model").spec
    )
    remove(engine, "model", volumes=True)
    assert names(engine) == ["kept"]
    started = [event.started for event in engine.containers.RunContainer(request) if event.HasField("started")]
    (anonymous,) = {*names(engine)} - {"kept"}
    data = Path(get(engine, anonymous).mountpoint)
    engine.kill()
    os.kill(started[0].host_pid, signal.SIGKILL)
    until_now(lambda: not Path(f"/proc/{started[0].host_pid}").exists(), "it has ended")
    assert data.is_dir()
    engine.start()
    until_now(lambda: names(engine) == ["kept"], "its anonymous volume has gone with it")
    assert not data.exists()
    delete(engine, "kept")


def test_m08_a_start_that_fails_takes_anonymous_volumes_along_where_the_container_goes(engine: Engine) -> None:
    mounts = [volume("/anonymous"), volume("/named", "kept")]
    refusal = containers.refused_run(engine, "/no/such/command", mounts=mounts)
    assert refusal[1] == "PROCESS_START_FAILED"
    assert names(engine) == ["kept"]
    # Without --rm the container stays, and with it both.
    container = containers.create(engine, "/no/such/command", mounts=mounts)
    assert refused(lambda: containers.start(engine, container.id))[1] == "PROCESS_START_FAILED"
    assert len(names(engine)) == 2
    assert refused(lambda: delete(engine, "kept"))[1] == "VOLUME_IN_USE"
    remove(engine, container.id, volumes=True)
    assert prune(engine) == ["kept"]


def test_m08_a_running_one_that_is_removed_by_force_takes_anonymous_ones_where_asked(engine: Engine) -> None:
    for takes, left in ((False, 2), (True, 1)):
        running = containers.started(engine, "sleep", "1000", mounts=[volume("/anonymous"), volume("/named", "kept")])
        remove(engine, running.id, force=True, volumes=takes)
        assert len(names(engine)) == left
        assert "kept" in prune(engine)


def test_a_volume_is_mounted_by_many_and_removed_after_the_last(engine: Engine) -> None:
    mounts = [volume("/v", "of-many")]
    all_of_them = [containers.started(engine, "sleep", "1000", mounts=mounts) for _ in range(6)]
    crash(engine)
    for container in all_of_them:
        assert refused(lambda: delete(engine, "of-many"))[1] == "VOLUME_IN_USE"
        remove(engine, container.id, force=True)
    delete(engine, "of-many")
    assert names(engine) == []


def test_volumes_come_back_after_a_restart_of_the_host(engine: Engine) -> None:
    create(engine, "data", labels={"kept": "1"})
    script = "cat /v/f 2>/dev/null; echo written >> /v/f; exec sleep 1000"
    running = containers.started(engine, "sh", "-c", script, mounts=[volume("/v", "data"), volume("/anonymous")])
    before = sorted(names(engine))
    written = Path(get(engine, "data").mountpoint) / "f"
    until_now(written.exists, "it has written")
    engine.kill()
    # Processes, kernel objects and the run root are gone, the data root is kept.
    supervisor = int(Path(f"/proc/{running.host_pid}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in (supervisor, running.host_pid):
        os.kill(pid, signal.SIGKILL)
    until_now(lambda: not Path(f"/proc/{running.host_pid}").exists(), "its processes have gone")
    shutil.rmtree(engine.root / "run")
    engine.start()
    assert sorted(names(engine)) == before
    assert dict(get(engine, "data").labels) == {"kept": "1"}
    assert refused(lambda: delete(engine, "data"))[1] == "VOLUME_IN_USE"
    containers.start(engine, running.id)
    until_now(lambda: engine.logs(running.id) == b"written\n", "it reads what it wrote")
    remove(engine, running.id, force=True, volumes=True)
    assert prune(engine) == ["data"]
