"""Values as the JSON of a row's `record`, and back: frozen dataclasses of plain fields. It knows no noun."""

import dataclasses
import json
import operator
import types
import typing
from collections.abc import Callable
from enum import Enum
from functools import cache
from typing import Any, Final


def dump(value: object) -> str:
    """The value as JSON."""
    return _ENCODER.encode(value)


def _fields(value: object) -> dict[str, object]:
    if not dataclasses.is_dataclass(value):
        raise TypeError(f"{type(value).__name__} has no place in a record")
    kind: Any = type(value)
    names, values_of = _getter(kind)
    return dict(zip(names, values_of(value), strict=True))


@cache
def _getter(kind: Any) -> tuple[tuple[str, ...], Callable[[object], tuple[object, ...]]]:
    names = tuple(field.name for field in dataclasses.fields(kind))
    if len(names) > 1:
        return names, operator.attrgetter(*names)
    return names, lambda value: tuple(getattr(value, name) for name in names)


#: `json.dumps` with options makes one for each call, which takes longer than most values. Nothing frozen holds itself.
_ENCODER: Final = json.JSONEncoder(default=_fields, separators=(",", ":"), check_circular=False)


def build(kind: Any, value: Any) -> Any:
    """A parsed `value` as the annotated type says: dataclasses from objects, tuples from arrays, enums from values.

    Raises KeyError, TypeError or ValueError for anything that `dump` did not write.
    """
    return _builder(kind)(value)


_Builder = Callable[[Any], Any]


@cache
def _builder(kind: Any) -> _Builder:
    """What makes values of a type; found out once a type, since a start reads many records."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        arm = _builder(next(arm for arm in typing.get_args(kind) if arm is not type(None)))
        return lambda value: None if value is None else arm(value)
    if origin is tuple:
        item = _builder(typing.get_args(kind)[0])
        return lambda value: tuple([item(entry) for entry in value])
    if origin is not None:  # dict and Mapping of str to str
        return lambda value: {str(key): str(entry) for key, entry in value.items()}
    if dataclasses.is_dataclass(kind):
        return _object_builder(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    return _plain_builder(kind)


def _object_builder(kind: Any) -> _Builder:
    hints = typing.get_type_hints(kind)
    # Filled in when the first value comes: a type may hold its own.
    fields: dict[str, _Builder] = {}

    def make(value: Any) -> Any:
        if not fields:
            fields.update({name: _builder(hint) for name, hint in hints.items()})
        # A field that a newer engine wrote is dropped; one that an older engine did not write has its default.
        return kind(**{name: fields[name](entry) for name, entry in value.items() if name in fields})

    return make


def _plain_builder(kind: Any) -> _Builder:
    def check(value: Any) -> Any:
        if type(value) is kind:
            return value
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise TypeError(f"expected {kind.__name__}, found {type(value).__name__}")
        return value

    return check
