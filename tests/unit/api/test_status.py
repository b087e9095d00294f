"""EngineError -> google.rpc.Status."""

from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2

from fluytd import errors
from fluytd.api import status


def unpack(message: status_pb2.Status) -> dict[str, Any]:
    """Details by message name."""
    found = {}
    for packed in message.details:
        name = packed.TypeName().rpartition(".")[2]
        found[name] = getattr(error_details_pb2, name)()
        packed.Unpack(found[name])
    return found


def example(leaf: type[errors.EngineError]) -> errors.EngineError:
    """An error of that entry with a recognisable value for each key."""
    return leaf(**{key: f"<{key}>" for key in leaf.keys})


@pytest.mark.parametrize("leaf", errors.catalogue().values(), ids=lambda leaf: leaf.reason)
def test_every_entry_of_the_catalogue_makes_a_status(leaf: type[errors.EngineError]) -> None:
    message = status.build(example(leaf))
    found = unpack(message)
    info = found["ErrorInfo"]
    assert message.code == int(leaf.code)
    assert (info.reason, info.domain) == (leaf.reason, "fluyt")
    assert dict(info.metadata) == {key: f"<{key}>" for key in leaf.keys}
    assert "{" not in message.message
    assert found["LocalizedMessage"].message
    assert "{" not in found["LocalizedMessage"].message
    assert len(message.details) == len(found)


@pytest.mark.parametrize("leaf", errors.catalogue().values(), ids=lambda leaf: leaf.reason)
def test_every_entry_can_be_sent(leaf: type[errors.EngineError]) -> None:
    code, text, trailing = status.abort_arguments(example(leaf))
    assert code.value[0] == int(leaf.code)
    assert text
    assert trailing[0][0].endswith("-bin")


def test_a_field_at_fault_is_named_once_and_as_in_the_proto() -> None:
    error = errors.DigestInvalid(digest="x").at("spec.image")
    violation = unpack(status.build(error))["BadRequest"].field_violations[0]
    assert violation.field == "spec.image"
    assert violation.reason == "DIGEST_INVALID"


def test_a_wrong_state_names_its_subject() -> None:
    error = errors.ContainerWrongState(id="abc", state="running", allowed_states=["exited"])
    violation = unpack(status.build(error))["PreconditionFailure"].violations[0]
    assert (violation.type, violation.subject) == ("CONTAINER_WRONG_STATE", "abc")


def test_a_taken_name_names_its_holder() -> None:
    found = unpack(status.build(errors.NameInUse(name="web", holder_id="abc")))["ResourceInfo"]
    assert (found.resource_type, found.resource_name, found.owner) == ("container", "web", "abc")


def test_a_registrys_wish_to_wait_is_passed_on() -> None:
    error = errors.RegistryRateLimited(registry="r", retry_after_seconds=17)
    assert unpack(status.build(error))["RetryInfo"].retry_delay.seconds == 17


def test_a_full_disk_does_not_ask_for_a_retry() -> None:
    error = errors.StorageFull(operation="write", path="/x", errno=28)
    assert "RetryInfo" not in unpack(status.build(error))
