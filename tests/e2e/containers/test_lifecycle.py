"""What a container's life looks like from outside: waits, names, deletions, events, and two callers at once."""

import concurrent.futures
from collections.abc import Iterator
from functools import partial

import grpc
import pytest

from fluyt.v1 import containers_pb2, events_pb2, images_pb2
from fluyt.v1.types import container_pb2, resources_pb2
from tests.e2e.containers.steps import (
    EXISTS,
    IMAGE,
    INVALID,
    NOT_FOUND,
    WRONG_STATE,
    create,
    delete,
    exit_of,
    get,
    load,
    refused,
    start,
    started,
    wait,
)
from tests.support.engine import Engine
from tests.support.wait import until_now

NOT_RUNNING = containers_pb2.WaitContainerRequest.CONDITION_NOT_RUNNING
NEXT_EXIT = containers_pb2.WaitContainerRequest.CONDITION_NEXT_EXIT
REMOVED = containers_pb2.WaitContainerRequest.CONDITION_REMOVED
State = container_pb2.Container
EVENT_SECONDS = 30
#: Of each of the three conditions.
ROUNDS = 34


def stop(engine: Engine, name: str, millis: int = 2000) -> container_pb2.Container:
    request = containers_pb2.StopContainerRequest(container=name)
    request.timeout.FromMilliseconds(millis)
    return engine.containers.StopContainer(request).container  # type: ignore[no-any-return]


@pytest.mark.parametrize("condition", [NOT_RUNNING, NEXT_EXIT, REMOVED])
def test_l05_a_wait_for_a_container_that_removes_itself_tells_its_exit(engine: Engine, condition: int) -> None:
    for number in range(ROUNDS):
        created = create(engine, "sh", "-c", "exit 5", name="short", auto_remove=True)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            # A container that was never started does not run, so that only the other two may wait from before.
            if condition != NOT_RUNNING:
                waiting = engine.containers.WaitContainer.future(
                    containers_pb2.WaitContainerRequest(container=created.id, condition=condition),  # type: ignore[arg-type]
                    timeout=30,
                )
                start(engine, created.id)
                ended = waiting.result().container
            else:
                running = pool.submit(start, engine, created.id)
                running.result()
                ended = wait(engine, created.id)
        assert exit_of(ended) == ("exit_code", 5), number
        if condition == REMOVED:
            create(engine, "true", name="short")
            delete(engine, "short")
        until_now(lambda: not engine.containers.ListContainers(containers_pb2.ListContainersRequest()).containers)


def test_l05_a_wait_after_the_end_answers_at_once_and_next_exit_waits_for_the_next(engine: Engine) -> None:
    container = started(engine, "sh", "-c", "exit 5")
    assert exit_of(wait(engine, container.id)) == ("exit_code", 5)
    assert exit_of(wait(engine, container.id)) == ("exit_code", 5)
    with pytest.raises(grpc.RpcError) as late:
        wait(engine, container.id, NEXT_EXIT, timeout=0.3)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_l05_a_wait_for_what_was_never_there_is_not_found(engine: Engine) -> None:
    for condition in (NOT_RUNNING, NEXT_EXIT, REMOVED):
        assert refused(partial(wait, engine, "nosuch", condition))[:2] == (NOT_FOUND, "CONTAINER_NOT_FOUND")


def test_l06_a_name_is_free_once_the_deletion_answered(engine: Engine) -> None:
    for _ in range(100):
        create(engine, "true", name="again")
        delete(engine, "again")
    for _ in range(5):
        start(engine, create(engine, "sleep", "100", name="again").id)
        delete(engine, "again", force=True)
    assert engine.left_on_host() == []


def test_l06_a_running_container_is_not_deleted_without_force_and_runs_on(engine: Engine) -> None:
    container = started(engine, "sleep", "100", name="busy")
    status, reason, metadata = refused(lambda: delete(engine, "busy"))
    assert (status, reason, metadata["id"]) == (WRONG_STATE, "CONTAINER_WRONG_STATE", container.id)
    after = get(engine, "busy")
    assert (after.state, after.host_pid) == (State.STATE_RUNNING, container.host_pid)


def test_l06_a_name_in_use_is_told_with_its_holder(engine: Engine) -> None:
    holder = create(engine, "true", name="held")
    status, reason, metadata = refused(lambda: create(engine, "true", name="held"))
    assert (status, reason, metadata["holder_id"]) == (EXISTS, "NAME_IN_USE", holder.id)
    rename = containers_pb2.RenameContainerRequest(container=create(engine, "true", name="other").id, name="held")
    assert refused(lambda: engine.containers.RenameContainer(rename))[:2] == (EXISTS, "NAME_IN_USE")


@pytest.mark.parametrize("name", ["-a", ".a", "a b", "a/b", "x" * 129, "ü", "a\n"])
def test_l06_a_name_that_is_none_is_refused(engine: Engine, name: str) -> None:
    assert refused(lambda: create(engine, "true", name=name))[:2] == (INVALID, "FIELD_INVALID")


@pytest.mark.parametrize("running", [True, False])
def test_l07_an_image_in_use_is_not_deleted_and_keeps_its_names(engine: Engine, running: bool) -> None:
    reference = load(engine, labels={"running": str(running)})
    engine.images.TagImage(images_pb2.TagImageRequest(image=reference, reference=f"second:{running}".lower()))
    container = create(engine, "sleep", "100", image=reference)
    if running:
        start(engine, container.id)
    before = engine.images.ListImages(images_pb2.ListImagesRequest())
    delete_image = images_pb2.DeleteImageRequest(image=container.image_id, force=running)
    status, reason, _ = refused(lambda: engine.images.DeleteImage(delete_image))
    assert (status, reason) == (WRONG_STATE, "IMAGE_IN_USE")
    assert engine.images.ListImages(images_pb2.ListImagesRequest()) == before
    engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=reference))
    after = engine.images.ListImages(images_pb2.ListImagesRequest()).images
    kept = [list(image.references) for image in after if image.id == container.image_id]
    assert kept == [[f"docker.io/library/second:{running}".lower()]]
    delete(engine, container.id, force=True)
    engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=container.image_id, force=True))


class Watch:
    """The facts about one container, in order, as they come."""

    def __init__(self, engine: Engine) -> None:
        self._stream = engine.events.WatchEvents(events_pb2.WatchEventsRequest(), timeout=EVENT_SECONDS)
        self._messages: Iterator[events_pb2.WatchEventsResponse] = iter(self._stream)
        next(self._messages)  # the first heartbeat: whatever happens from now on is told

    def until(self, container: str, last: str) -> list[events_pb2.Event]:
        found: list[events_pb2.Event] = []
        for message in self._messages:
            if message.WhichOneof("message") == "event" and message.event.subject == container:
                found.append(message.event)
                if message.event.WhichOneof("fact") == last:
                    self._stream.cancel()
                    return found
        raise AssertionError([event.WhichOneof("fact") for event in found])


def test_l10_create_start_exit_delete_are_told_in_order(engine: Engine) -> None:
    watch = Watch(engine)
    container = create(engine, "sh", "-c", "exit 3")
    start(engine, container.id)
    wait(engine, container.id)
    delete(engine, container.id)
    events = watch.until(container.id, "container_deleted")
    assert [event.WhichOneof("fact") for event in events] == [
        "container_created",
        "container_started",
        "container_exited",
        "container_deleted",
    ]
    assert events[2].container_exited.exit_code == 3
    times = [event.time.ToNanoseconds() for event in events]
    assert times == sorted(times)
    assert [event.sequence for event in events] == sorted({event.sequence for event in events})


def test_l10_a_stop_is_told_with_its_signal_before_the_end_and_stopped_after(engine: Engine) -> None:
    watch = Watch(engine)
    container = started(engine, "sh", "-c", 'trap "exit 0" TERM; echo ready; while :; do sleep .02; done')
    until_now(lambda: engine.logs(container.id) == b"ready\n", "the handler is set")
    stop(engine, container.id, 10_000)
    events = watch.until(container.id, "container_stopped")
    assert [event.WhichOneof("fact") for event in events] == [
        "container_created",
        "container_started",
        "container_stopping",
        "container_signalled",
        "container_exited",
        "container_stopped",
    ]
    assert events[3].container_signalled.signal == 15


def test_l10_a_start_that_failed_is_told(engine: Engine) -> None:
    watch = Watch(engine)
    container = create(engine, "nosuch")
    refused(lambda: start(engine, container.id))
    events = watch.until(container.id, "container_start_failed")
    assert events[-1].container_start_failed.failure.reason == "PROCESS_START_FAILED"


def test_t16_out_of_memory_is_told_before_the_end(engine: Engine) -> None:
    watch = Watch(engine)
    limits = resources_pb2.Resources(memory_limit_bytes=32 << 20, memory_swap_limit_bytes=32 << 20)
    container = started(engine, "sh", "-c", 'x=$(head -c 200m /dev/zero | tr "\\0" a)', resources=limits)
    facts = [event.WhichOneof("fact") for event in watch.until(container.id, "container_exited")]
    assert facts[-2:] == ["container_out_of_memory", "container_exited"]


def test_c04_a_child_out_of_memory_is_told_and_the_exit_code_of_its_parent_stays(engine: Engine) -> None:
    watch = Watch(engine)
    limits = resources_pb2.Resources(memory_limit_bytes=32 << 20, memory_swap_limit_bytes=32 << 20)
    script = '(x=$(head -c 200m /dev/zero | tr "\\0" a)); exit 0'
    container = started(engine, "sh", "-c", script, resources=limits)
    events = watch.until(container.id, "container_exited")
    assert [event.WhichOneof("fact") for event in events][-2:] == ["container_out_of_memory", "container_exited"]
    assert events[-1].container_exited.exit_code == 0


def test_a_kill_of_what_does_not_run_is_refused(engine: Engine) -> None:
    container = create(engine, "true")
    request = containers_pb2.KillContainerRequest(container=container.id)
    assert refused(lambda: engine.containers.KillContainer(request))[:2] == (WRONG_STATE, "CONTAINER_WRONG_STATE")
    assert exit_of(engine.run(IMAGE, "true")[2]) == ("exit_code", 0)
