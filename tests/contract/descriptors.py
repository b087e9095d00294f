"""The descriptors of fluyt.v1 as protoc gives them, comments included, for the tests of the API's rules."""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from google.protobuf import descriptor_pb2

REPOSITORY = Path(__file__).resolve().parents[2]
PROTO_ROOT = REPOSITORY / "proto"

# Numbers of fields within descriptor.proto, which make up the paths of comments.
_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 4, 5, 6
_MESSAGE_FIELD, _MESSAGE_NESTED, _MESSAGE_ENUM, _MESSAGE_ONEOF = 2, 3, 4, 8
_ENUM_VALUE, _SERVICE_METHOD = 2, 2


@cache
def generator() -> ModuleType:
    """clients/python/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate", REPOSITORY / "clients" / "python" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def files() -> tuple[descriptor_pb2.FileDescriptorProto, ...]:
    """Every file of the API with its comments."""
    return tuple(generator().build_descriptor_set().file)


@dataclass(frozen=True)
class Element:
    """One named thing of the API."""

    kind: str  # message, field, oneof, enum, value, service, method
    name: str  # full, for people
    comment: str  # the comment above it, stripped
    proto: Any
    parent: Any
    file: descriptor_pb2.FileDescriptorProto


@cache
def elements() -> tuple[Element, ...]:
    """Every message, field, enum, value, service and method of the API."""
    return tuple(element for file in files() for element in _walk_file(file))


def of_kind(kind: str) -> list[Element]:
    """The elements of one kind."""
    return [element for element in elements() if element.kind == kind]


def messages() -> dict[str, descriptor_pb2.DescriptorProto]:
    """Top-level and nested messages by full name with a leading dot, as types are written in descriptors."""
    return {f".{element.name}": element.proto for element in of_kind("message")}


def _walk_file(file: descriptor_pb2.FileDescriptorProto) -> Iterator[Element]:
    comments = {tuple(location.path): location.leading_comments.strip() for location in file.source_code_info.location}
    for index, message in enumerate(file.message_type):
        yield from _walk_message(file, comments, message, scope=file.package, path=(_FILE_MESSAGE, index), parent=file)
    for index, enum in enumerate(file.enum_type):
        yield from _walk_enum(file, comments, enum, scope=file.package, path=(_FILE_ENUM, index), parent=file)
    for index, service in enumerate(file.service):
        name, path = f"{file.package}.{service.name}", (_FILE_SERVICE, index)
        yield Element("service", name, comments.get(path, ""), service, file, file)
        for position, method in enumerate(service.method):
            comment = comments.get((*path, _SERVICE_METHOD, position), "")
            yield Element("method", f"{name}.{method.name}", comment, method, service, file)


def _walk_message(file: Any, comments: Any, message: Any, *, scope: str, path: Any, parent: Any) -> Iterator[Element]:
    if message.options.map_entry:
        return
    name = f"{scope}.{message.name}"
    yield Element("message", name, comments.get(path, ""), message, parent, file)
    for index, field in enumerate(message.field):
        comment = comments.get((*path, _MESSAGE_FIELD, index), "")
        yield Element("field", f"{name}.{field.name}", comment, field, message, file)
    for index, oneof in enumerate(message.oneof_decl):
        if any(field.oneof_index == index and field.proto3_optional for field in message.field):
            continue  # what protoc makes of `optional`
        comment = comments.get((*path, _MESSAGE_ONEOF, index), "")
        yield Element("oneof", f"{name}.{oneof.name}", comment, oneof, message, file)
    for index, nested in enumerate(message.nested_type):
        yield from _walk_message(
            file, comments, nested, scope=name, path=(*path, _MESSAGE_NESTED, index), parent=message
        )
    for index, enum in enumerate(message.enum_type):
        yield from _walk_enum(file, comments, enum, scope=name, path=(*path, _MESSAGE_ENUM, index), parent=message)


def _walk_enum(file: Any, comments: Any, enum: Any, *, scope: str, path: Any, parent: Any) -> Iterator[Element]:
    name = f"{scope}.{enum.name}"
    yield Element("enum", name, comments.get(path, ""), enum, parent, file)
    for index, value in enumerate(enum.value):
        yield Element("value", f"{name}.{value.name}", comments.get((*path, _ENUM_VALUE, index), ""), value, enum, file)
