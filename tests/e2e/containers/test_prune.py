"""Deleting what does not run, lists by filter, and a daemon that stops its containers with it."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.protobuf import duration_pb2

from fluyt.v1 import containers_pb2, images_pb2
from fluyt.v1.types import container_filter_pb2, container_pb2, container_spec_pb2, mount_pb2, network_pb2
from tests.e2e.containers.steps import (
    IMAGE,
    INVALID,
    NOT_FOUND,
    create,
    exit_of,
    get,
    listed,
    refused,
    start,
    started,
    wait,
)
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.wait import until_now

Filter = container_filter_pb2.ContainerFilter
State = container_pb2.Container
#: What the daemon gives its containers to end in: enough for a shell on a loaded machine.
BUDGET_SECONDS = 3


def prune(engine: Engine, *, dry_run: bool = False, **conditions: object) -> containers_pb2.PruneContainersResponse:
    """PruneContainers' answer."""
    request = containers_pb2.PruneContainersRequest(filter=Filter(**conditions), dry_run=dry_run)  # type: ignore[arg-type]
    return engine.containers.PruneContainers(request)  # type: ignore[no-any-return]


def names(engine: Engine, **conditions: object) -> set[str]:
    """Names of the containers that fit."""
    request = containers_pb2.ListContainersRequest(filter=Filter(**conditions))  # type: ignore[arg-type]
    return {container.name for container in engine.containers.ListContainers(request).containers}


def test_what_does_not_run_is_deleted_and_what_runs_stays(engine: Engine) -> None:
    made, running = create(engine, "true"), started(engine, "sleep", "100")
    ended = started(engine, "sh", "-c", "echo out; head -c 100k /dev/zero > /file")
    wait(engine, ended.id)
    would = prune(engine, dry_run=True)
    assert set(would.deleted) == {made.id, ended.id}
    assert len(listed(engine)) == 3
    pruned = prune(engine)
    assert (set(pruned.deleted), pruned.reclaimed_bytes >= 100 * 1024) == ({made.id, ended.id}, True)
    assert [container.id for container in listed(engine)] == [running.id]
    assert list(prune(engine).deleted) == []


def test_a_prune_keeps_to_its_filter(engine: Engine) -> None:
    kept = create(engine, "true", labels={"role": "db"})
    gone = create(engine, "true", labels={"role": "web"})
    assert list(prune(engine, labels=["role=web"]).deleted) == [gone.id]
    later = create(engine, "true")
    assert list(prune(engine, before_time=later.create_time).deleted) == [kept.id]
    assert [container.id for container in listed(engine)] == [later.id]
    code, reason, _ = refused(lambda: prune(engine, before_container="nosuch"))
    assert (code, reason) == (NOT_FOUND, "CONTAINER_NOT_FOUND")


def test_states_of_a_prunes_filter_are_ignored(engine: Engine) -> None:
    running = started(engine, "sleep", "100")
    assert list(prune(engine, states=[State.STATE_RUNNING]).deleted) == []
    assert get(engine, running.id).state == State.STATE_RUNNING


def test_what_waits_for_its_restart_is_told_and_found(engine: Engine) -> None:
    always = container_spec_pb2.RestartPolicy(mode=container_spec_pb2.RestartPolicy.MODE_ALWAYS)
    crashing = started(engine, "false", name="crashing", restart_policy=always)
    started(engine, "sleep", "100", name="running")
    wait(engine, started(engine, "false", name="ended").id)
    # Given only now, a policy starts what has ended when the daemon comes up, and not in a moment.
    wait(engine, started(engine, "false", name="updated").id)
    engine.containers.UpdateContainer(containers_pb2.UpdateContainerRequest(container="updated", restart_policy=always))
    until_now(lambda: get(engine, crashing.id).restart_count >= 4, "it waits for more than a second each time")
    until_now(lambda: get(engine, crashing.id).state == State.STATE_EXITED, "it has ended again")
    assert get(engine, crashing.id).reason == "RESTARTING"
    assert names(engine, restarting=True) == {"crashing"}
    assert names(engine, restarting=True, states=[State.STATE_RUNNING]) == {"crashing", "running"}
    assert names(engine, states=[State.STATE_EXITED]) == {"crashing", "ended", "updated"}
    told = {container.name: container.reason for container in listed(engine)}
    assert told == {"crashing": "RESTARTING", "running": "", "ended": "", "updated": ""}
    engine.containers.StopContainer(containers_pb2.StopContainerRequest(container=crashing.id))
    assert names(engine, restarting=True) == set()
    assert (get(engine, crashing.id).reason, listed(engine)[-1].reason) == ("", "")


def test_what_waits_for_its_restart_is_not_pruned(engine: Engine) -> None:
    policy = container_spec_pb2.RestartPolicy(mode=container_spec_pb2.RestartPolicy.MODE_ALWAYS)
    container = started(engine, "false", restart_policy=policy)
    until_now(lambda: get(engine, container.id).restart_count >= 3, "it is started again and again")
    assert list(prune(engine).deleted) == []


def test_a_retry_of_a_prune_has_the_first_ones_answer(engine: Engine) -> None:
    create(engine, "true")
    request = containers_pb2.PruneContainersRequest(request_id="prune-once")
    first = engine.containers.PruneContainers(request)
    create(engine, "true")
    assert engine.containers.PruneContainers(request) == first
    assert len(listed(engine)) == 1


def test_each_condition_of_a_list_holds_alone_and_with_others(engine: Engine, tmp_path: Path) -> None:
    bind = mount_pb2.Mount(target="/data", bind=mount_pb2.BindMount(source=str(tmp_path)))
    host = network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_HOST)
    create(engine, "true", name="made", labels={"tier": "a"}, mounts=[bind])
    paused = started(engine, "sleep", "100", name="paused", network=host)
    engine.containers.PauseContainer(containers_pb2.PauseContainerRequest(container=paused.id))
    started(engine, "sleep", "100", name="running", labels={"tier": "b"})
    wait(engine, started(engine, "sh", "-c", "exit 7", name="ended", labels={"tier": "b"}).id)
    assert names(engine, states=[State.STATE_PAUSED]) == {"paused"}
    assert names(engine, states=[State.STATE_PAUSED, State.STATE_RUNNING]) == {"paused", "running"}
    assert names(engine, labels=["tier=b"]) == {"running", "ended"}
    assert names(engine, labels=["tier"], states=[State.STATE_EXITED]) == {"ended"}
    assert names(engine, exit_codes=[7]) == {"ended"}
    assert names(engine, networks=["host"]) == {"paused"}
    assert names(engine, networks=["none", "host"]) == {"made", "paused", "running", "ended"}
    assert names(engine, volumes=["/data"]) == {"made"}
    assert names(engine, images=[IMAGE], names=["a"]) == {"made", "paused"}
    assert names(engine, before_container="running") == {"made", "paused"}
    assert names(engine, since_container="paused") == {"running", "ended"}
    assert names(engine, since_container="made", before_container="ended") == {"paused", "running"}


def test_a_name_is_found_by_a_part_its_beginning_or_its_end(engine: Engine) -> None:
    for name in ("web-1", "web-10", "old-web-1"):
        create(engine, "true", name=name)
    assert names(engine, names=["web-1"]) == {"web-1", "web-10", "old-web-1"}
    for begun in ("^web-1", "/web-1", "^/web-1"):
        assert names(engine, names=[begun]) == {"web-1", "web-10"}, begun
        assert names(engine, names=[f"{begun}$"]) == {"web-1"}, begun
    assert names(engine, names=["web-1$"]) == {"web-1", "old-web-1"}
    assert names(engine, names=["^old", "0$"]) == {"old-web-1", "web-10"}
    assert set(prune(engine, dry_run=True, names=["^old"]).deleted) == {get(engine, "old-web-1").id}
    for part in ("web.*|x", "web*", "a^", "$a", "\n", "é"):
        code, reason, metadata = refused(lambda part=part: names(engine, names=["a", part]))  # type: ignore[misc]
        assert (code, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", "filter.names[1]"), part


def test_an_image_is_found_by_whatever_it_was_and_is_called(engine: Engine) -> None:
    made = [create(engine, "true", image=image).name for image in (IMAGE, f"docker.io/library/{IMAGE}")]
    for image in (IMAGE, f"library/{IMAGE}", f"docker.io/library/{IMAGE}", get(engine, made[0]).image_id[7:19]):
        assert names(engine, images=[image]) == set(made), image
    engine.images.TagImage(images_pb2.TagImageRequest(image=IMAGE, reference="called:otherwise"))
    assert names(engine, images=["called:otherwise"]) == set(made)
    assert set(prune(engine, dry_run=True, images=["called:otherwise"]).deleted) == {
        get(engine, one).id for one in made
    }
    engine.images.UntagImage(images_pb2.UntagImageRequest(reference="called:otherwise"))
    for image in ("called:otherwise", "busybox", "busybox:2", "no/such:1", "NO", "sha256:00"):
        assert names(engine, images=[image]) == set(), image


@pytest.fixture
def make_engine(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Engine]:
    """Engines that stop their containers with them."""

    def make() -> Engine:
        engine = Engine(tmp_path_factory.mktemp("stops"), options=("--stop-containers-seconds", str(BUDGET_SECONDS)))
        engine.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        return engine

    return make


def test_a_daemon_that_is_told_so_stops_all_its_containers_at_once_within_its_time(
    make_engine: Callable[[], Engine],
) -> None:
    always = container_spec_pb2.RestartPolicy(mode=container_spec_pb2.RestartPolicy.MODE_UNLESS_STOPPED)
    with make_engine() as engine:
        heeding = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"
        deaf = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
        polite = started(engine, "sh", "-c", heeding)
        for_ever = duration_pb2.Duration(seconds=-1)
        rude = [started(engine, "sh", "-c", deaf, **more).id for more in ({}, {}, {}, {"stop_timeout": for_ever})]
        kept = started(engine, "sh", "-c", heeding, restart_policy=always)
        started_paused = started(engine, "sh", "-c", heeding)
        until_now(lambda: all(engine.logs(one.id) == b"ready\n" for one in listed(engine)), "all have set their traps")
        engine.containers.PauseContainer(containers_pb2.PauseContainerRequest(container=started_paused.id))
        began = time.monotonic()
        engine.channel.close()
        engine.process.terminate()
        assert engine.process.wait(30) == 0
        assert time.monotonic() - began < len(rude) * BUDGET_SECONDS
        engine.start()
        assert exit_of(get(engine, polite.id)) == ("exit_code", 3)
        assert [exit_of(get(engine, container_id)) for container_id in rude] == [("signal", 9)] * 4
        assert exit_of(get(engine, started_paused.id)) == ("exit_code", 3)
        until_now(lambda: get(engine, kept.id).state == State.STATE_RUNNING, "its policy started it again")


def test_many_stops_at_once_do_not_wait_for_each_other(engine: Engine) -> None:
    deaf = "trap '' TERM; echo ready; while :; do sleep 1; done"
    ids = [create(engine, "sh", "-c", deaf).id for _ in range(20)]
    for container_id in ids:
        start(engine, container_id)
    until_now(lambda: all(engine.logs(container_id) == b"ready\n" for container_id in ids), "all are deaf")

    def stop(container_id: str) -> None:
        request = containers_pb2.StopContainerRequest(container=container_id)
        request.timeout.FromMilliseconds(500)
        engine.containers.StopContainer(request)

    began = time.monotonic()
    with ThreadPoolExecutor(len(ids)) as pool:
        list(pool.map(stop, ids))
    assert time.monotonic() - began < 0.5 * len(ids) / 2
