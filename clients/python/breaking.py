"""What a change of the API would break: buf's FILE rules on two descriptor sets, the frozen one and the new one.

`generate.py` refuses to freeze a breaking change unless it is told to. Source: https://buf.build/docs/breaking/rules.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf import descriptor_pb2

FileSet = descriptor_pb2.FileDescriptorSet


def compare(frozen: FileSet, now: FileSet) -> list[str]:
    """One sentence for each thing that a client of `frozen` loses with `now`; empty if nothing."""
    return list(_files(frozen, now))


def _files(frozen: FileSet, now: FileSet) -> Iterator[str]:
    for name, old, new in _pairs(frozen.file, now.file, "file"):
        if isinstance(name, Lost):
            yield str(name)
            continue
        if old.package != new.package:
            yield f"{name}: its package was {old.package}"
        yield from _messages(name, old.message_type, new.message_type)
        yield from _enums(name, old.enum_type, new.enum_type)
        yield from _services(name, old.service, new.service)


class Lost(str):
    """The sentence for a thing that is gone."""

    __slots__ = ()


def _pairs(old: Iterable[Any], new: Iterable[Any], kind: str, scope: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(name, old, new) of all old things; for those that are gone a `Lost` and nothing new."""
    present = {one.name: one for one in new}
    for one in old:
        name = f"{scope}{one.name}"
        if one.name in present:
            yield name, one, present[one.name]
        else:
            yield Lost(f"{name}: the {kind} is gone"), one, None


def _messages(scope: str, old: Iterable[Any], new: Iterable[Any]) -> Iterator[str]:
    for name, before, after in _pairs(old, new, "message", f"{scope}: "):
        if isinstance(name, Lost):
            yield str(name)
            continue
        yield from _fields(name, before, after)
        yield from _reserved(name, before, after)
        yield from _messages(name, before.nested_type, after.nested_type)
        yield from _enums(name, before.enum_type, after.enum_type)
        kept = {oneof.name for oneof in after.oneof_decl}
        yield from (f"{name}: the oneof {one.name} is gone" for one in before.oneof_decl if one.name not in kept)


def _fields(scope: str, before: Any, after: Any) -> Iterator[str]:
    by_number = {field.number: field for field in after.field}
    for old in before.field:
        new = by_number.get(old.number)
        if new is None:
            yield f"{scope}: field {old.number} ({old.name}) is gone"
            continue
        for fact in ("name", "json_name", "type", "type_name", "label", "proto3_optional"):
            if getattr(old, fact) != getattr(new, fact):
                yield f"{scope}: field {old.number} ({old.name}) has another {fact}"
        if _oneof(before, old) != _oneof(after, new):
            yield f"{scope}: field {old.number} ({old.name}) is in another oneof"


def _oneof(message: Any, field: Any) -> str:
    return str(message.oneof_decl[field.oneof_index].name) if field.HasField("oneof_index") else ""


def _reserved(scope: str, before: Any, after: Any) -> Iterator[str]:
    kept = {(span.start, span.end) for span in after.reserved_range}
    for span in before.reserved_range:
        if (span.start, span.end) not in kept:
            yield f"{scope}: the numbers {span.start} to {span.end - 1} are no longer reserved"
    names = set(after.reserved_name)
    yield from (f"{scope}: the name {name} is no longer reserved" for name in before.reserved_name if name not in names)


def _enums(scope: str, old: Iterable[Any], new: Iterable[Any]) -> Iterator[str]:
    for name, before, after in _pairs(old, new, "enum", f"{scope}: "):
        if isinstance(name, Lost):
            yield str(name)
            continue
        by_number = {value.number: value.name for value in after.value}
        for value in before.value:
            if by_number.get(value.number) != value.name:
                yield f"{name}: value {value.number} ({value.name}) is gone or has another name"


def _services(scope: str, old: Iterable[Any], new: Iterable[Any]) -> Iterator[str]:
    for name, before, after in _pairs(old, new, "service", f"{scope}: "):
        if isinstance(name, Lost):
            yield str(name)
            continue
        for rpc, was, is_now in _pairs(before.method, after.method, "RPC", f"{name}."):
            if isinstance(rpc, Lost):
                yield str(rpc)
                continue
            for fact in ("input_type", "output_type", "client_streaming", "server_streaming"):
                if getattr(was, fact) != getattr(is_now, fact):
                    yield f"{rpc}: it has another {fact}"
