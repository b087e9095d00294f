"""The checker of breaking changes sees each kind of them, and lets additions pass."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from tests.contract.descriptors import generator


def api() -> descriptor_pb2.FileDescriptorSet:
    """A small API."""
    file = descriptor_pb2.FileDescriptorProto(name="a.proto", package="a.v1")
    message = file.message_type.add(name="M")
    message.oneof_decl.add(name="o")
    message.field.add(name="f", number=1, type=9, label=1, json_name="f", oneof_index=0)
    message.field.add(name="g", number=2, type=3, label=1, json_name="g")
    message.nested_type.add(name="N").field.add(name="x", number=1, type=9, label=1)
    message.enum_type.add(name="E").value.add(name="E_UNSPECIFIED", number=0)
    message.reserved_range.add(start=5, end=6)
    message.reserved_name.append("old")
    file.enum_type.add(name="K").value.add(name="K_UNSPECIFIED", number=0)
    file.service.add(name="S").method.add(name="R", input_type=".a.v1.M", output_type=".a.v1.M")
    return descriptor_pb2.FileDescriptorSet(file=[file])


def change(edit: Callable[[Any], Any]) -> list[str]:
    """What an edit of the file breaks."""
    now = api()
    edit(now.file[0])
    found: list[str] = generator().breaking.compare(api(), now)
    return found


def delete(items: str) -> Callable[[Any], Any]:
    """An edit that deletes the first of some items."""

    def edit(file: Any) -> None:
        target = file
        *path, last = items.split(".")
        for step in path:
            target = getattr(target, step)[0]
        del getattr(target, last)[0]

    return edit


def assign(path: str, value: Any) -> Callable[[Any], Any]:
    """An edit that sets a fact of the first of some items."""

    def edit(file: Any) -> None:
        *steps, last = path.split(".")
        target = file
        for step in steps:
            target = getattr(target, step)[0]
        setattr(target, last, value)

    return edit


BREAKING = {
    "a deleted message": delete("message_type"),
    "a deleted nested message": delete("message_type.nested_type"),
    "a deleted field": delete("message_type.field"),
    "a deleted enum": delete("enum_type"),
    "a deleted nested enum": delete("message_type.enum_type"),
    "a deleted value": delete("enum_type.value"),
    "a deleted service": delete("service"),
    "a deleted RPC": delete("service.method"),
    "a number that is no longer reserved": delete("message_type.reserved_range"),
    "a name that is no longer reserved": delete("message_type.reserved_name"),
    "another package": assign("package", "b.v1"),
    "another field name": assign("message_type.field.name", "h"),
    "another JSON name": assign("message_type.field.json_name", "h"),
    "another field type": assign("message_type.field.type", 3),
    "another label": assign("message_type.field.label", 3),
    "another field number": assign("message_type.field.number", 9),
    "a field that left its oneof": lambda file: file.message_type[0].field[0].ClearField("oneof_index"),
    "a renamed value": assign("enum_type.value.name", "K_OTHER"),
    "another request": assign("service.method.input_type", ".a.v1.N"),
    "another response": assign("service.method.output_type", ".a.v1.N"),
    "a stream where there was none": assign("service.method.server_streaming", True),
    "a client stream where there was none": assign("service.method.client_streaming", True),
    "a renamed file": assign("name", "b.proto"),
}


@pytest.mark.parametrize("kind", BREAKING)
def test_it_is_seen(kind: str) -> None:
    assert change(BREAKING[kind])


def test_additions_break_nothing() -> None:
    def add(file: Any) -> None:
        file.message_type.add(name="Z")
        file.message_type[0].field.add(name="z", number=9, type=9, label=1)
        file.message_type[0].reserved_name.append("never")
        file.enum_type[0].value.add(name="K_Z", number=1)
        file.service[0].method.add(name="Z", input_type=".a.v1.M", output_type=".a.v1.M")

    assert change(add) == []


def test_the_frozen_api_is_compatible_with_itself() -> None:
    frozen = generator().frozen_set()
    assert len(frozen.file) > 20
    assert generator().breaking.compare(frozen, generator().build_descriptor_set()) == []
