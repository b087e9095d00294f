"""What happened to containers, chosen by filters and times."""

from typing import Any

import grpc

from fluyt.v1 import containers_pb2, events_pb2
from tests.e2e.containers.steps import INVALID, create, delete, refused, start, started, wait
from tests.e2e.execs.steps import run
from tests.support.engine import Engine

LIFE = ["container_created", "container_started", "container_exited", "container_deleted"]


def watched(engine: Engine, **request: Any) -> list[events_pb2.Event]:
    """Events of a watch that ends by itself."""
    wanted = events_pb2.WatchEventsRequest(**request)
    responses = engine.events.WatchEvents(wanted, timeout=30)
    return [response.event for response in responses if response.WhichOneof("message") == "event"]


def head(engine: Engine) -> int:
    """The number of the newest event."""
    first = next(iter(engine.events.WatchEvents(events_pb2.WatchEventsRequest(), timeout=30)))
    return first.heartbeat.head_sequence  # type: ignore[no-any-return]


def told(engine: Engine, after: int, **conditions: Any) -> list[events_pb2.Event]:
    """Events after a number that fit."""
    wanted = events_pb2.EventFilter(**conditions)
    return watched(engine, from_sequence=after + 1, until_sequence=head(engine), filter=wanted)


def facts(events: list[events_pb2.Event]) -> list[str | None]:
    """Names of what happened."""
    return [event.WhichOneof("fact") for event in events]


def test_events_are_chosen_by_fact_container_and_label(engine: Engine) -> None:
    before = head(engine)
    first = create(engine, "true", name="first", labels={"tier": "a"})
    start(engine, first.id)
    wait(engine, first.id)
    delete(engine, first.id)
    other = started(engine, "sleep", "100", name="other", labels={"tier": "b"})
    assert run(engine, other.id, "true").session.exit_code == 0
    for subject in (first.id, "first", first.id[:12], first.id[:20]):
        assert facts(told(engine, before, subjects=[subject])) == LIFE, subject
    assert told(engine, before, subjects=[first.id[:11]]) == []
    assert facts(told(engine, before, labels=["tier=a"])) == LIFE
    assert facts(told(engine, before, labels=["tier"], facts=["container_created"])) == ["container_created"] * 2
    assert {event.subject for event in told(engine, before, facts=["container"])} == {first.id, other.id}
    # What is done to a container is about it, however it is called.
    execs = ["exec_created", "exec_started", "exec_exited"]
    for subject in (other.id, other.id[:12], "other"):
        assert facts(told(engine, before, subjects=[subject], facts=["exec"])) == execs, subject
    assert told(engine, before, subjects=["none"]) == []


def test_events_since_a_time_and_until_one_are_those_between(engine: Engine) -> None:
    before = head(engine)
    create(engine, "true", name="one")
    create(engine, "true", name="two")
    engine.containers.RenameContainer(containers_pb2.RenameContainerRequest(container="one", name="three"))
    events = told(engine, before)
    assert facts(events) == ["container_created", "container_created", "container_renamed"]
    between = watched(engine, since_time=events[1].time, until_time=events[2].time)
    assert between[0] == events[1]
    assert events[0] not in between


def test_a_filter_that_cannot_be_is_refused_with_what_there_is(engine: Engine) -> None:
    for wrong, known in (
        ("start", "container_started"),
        ("die", "container"),
        ("", "container"),
        ("containers", "exec"),
    ):
        code, reason, metadata = refused(lambda wrong=wrong: told(engine, 0, facts=["container", wrong]))  # type: ignore[misc]
        assert (code, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", "filter.facts[1]"), wrong
        assert known in metadata["rule"]
    for name in ("subjects", "labels", "facts"):
        many = {name: [f"{number}" for number in range(1_001)]}
        code, reason, metadata = refused(lambda many=many: told(engine, 0, **many))  # type: ignore[misc]
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"), name
        assert (metadata["limit"], metadata["subject"]) == ("MAX_FILTER_VALUES", f"filter.{name}")
