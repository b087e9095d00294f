"""Specs that callers send: messages that say the same are one spec, which is kept within a bound."""

import pytest

from fluyt.v1.types import container_spec_pb2, network_pb2
from fluytd.api.convert import container_specs
from fluytd.api.convert.container_specs import MAX_KEPT_BYTES, from_spec, to_spec
from fluytd.errors import FieldInvalid

_Spec = container_spec_pb2.ContainerSpec


def asked(*args: str) -> container_spec_pb2.ContainerSpec:
    """A message as a caller sends it."""
    network = network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_NONE)
    return _Spec(image="busybox", args=args, labels={"b": "1", "a": "2"}, network=network)


def test_messages_that_say_the_same_are_one_spec() -> None:
    first, again = from_spec(asked("true")), from_spec(_Spec.FromString(asked("true").SerializeToString()))
    assert again is first
    assert (first.args, first.labels) == (("true",), {"a": "2", "b": "1"})
    other = from_spec(asked("false"))
    assert other is not first
    assert other.args == ("false",)
    assert to_spec(first).args == ["true"]
    assert to_spec(other).args == ["false"]


def test_what_was_refused_is_refused_again() -> None:
    wrong = asked("true")
    wrong.network.attachments.add(network="front")
    for _ in range(2):
        with pytest.raises(FieldInvalid) as caught:
            from_spec(wrong)
        assert caught.value.field == "spec.network.attachments"


def test_no_more_are_kept_than_the_limits_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_specs, "MAX_KEPT_SPECS", 2)
    monkeypatch.setattr(container_specs, "_SPECS", {})
    first = from_spec(asked("0"))
    assert from_spec(asked("1")) is from_spec(asked("1"))
    assert from_spec(asked("0")) is first
    from_spec(asked("2"))
    assert from_spec(asked("0")) is not first
    large = asked("x" * MAX_KEPT_BYTES)
    assert from_spec(large) is not from_spec(large)
    assert from_spec(large) == from_spec(large)
