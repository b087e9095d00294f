"""Every fact that the engine can tell has a message with the same fields."""

import dataclasses
import typing
from typing import Any

import pytest

from fluyt.v1 import events_pb2
from fluytd.api.convert.events import to_event
from fluytd.containers.health_state import HealthState
from fluytd.containers.model import State
from fluytd.errors import Failure
from fluytd.events.model import FACTS, Event
from fluytd.operations.model import OperationKind, OperationState

FAILURE = Failure(5, "IMAGE_NOT_FOUND", "m", {"reference": "x"}, "n")


def example(name: str) -> Event:
    """An event with a value in each field."""
    cls = FACTS[name]
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if field.name == "kind":
            values[field.name] = OperationKind.PULL_IMAGE
        elif field.name == "state":
            states = {"operation_ended": OperationState.FAILED, "container_health_changed": HealthState.HEALTHY}
            values[field.name] = states.get(name, State.EXITED)
        elif "Failure" in str(hint):
            values[field.name] = FAILURE
        elif "tuple" in str(hint):
            values[field.name] = ("a", "b")
        elif "bool" in str(hint):
            values[field.name] = True
        else:
            values[field.name] = 7 if "int" in str(hint) else "x"
    if "exit_code" in values:
        values["signal"] = None
    return Event(3, 5_000_000_007, cls(**values), "subject", {"k": "v"}, "actor")


@pytest.mark.parametrize("name", FACTS)
def test_a_fact_is_told_with_all_its_fields(name: str) -> None:
    event = example(name)
    message = to_event(event)
    assert (message.sequence, message.time.seconds, message.time.nanos) == (3, 5, 7)
    assert (message.actor, message.subject, dict(message.labels)) == ("actor", "subject", {"k": "v"})
    assert message.WhichOneof("fact") == name
    fact = getattr(message, name)
    told = {field.name for field, _ in fact.ListFields()}
    assert told == {f.name for f in dataclasses.fields(event.fact) if getattr(event.fact, f.name) is not None}


def test_the_names_of_facts_are_those_of_the_api() -> None:
    oneof = events_pb2.Event.DESCRIPTOR.oneofs_by_name["fact"]
    assert set(FACTS) <= {field.name for field in oneof.fields}
