"""Values as the JSON of a row's `record`, and back: frozen dataclasses of plain fields. It knows no noun."""

import dataclasses
import json
import types
import typing
from enum import Enum
from typing import Any, Final


def dump(value: object) -> str:
    """The value as JSON."""
    return _ENCODER.encode(value)


def _fields(value: object) -> dict[str, object]:
    if not dataclasses.is_dataclass(value):
        raise TypeError(f"{type(value).__name__} has no place in a record")
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


#: `json.dumps` with options makes one for each call, which takes longer than most values.
_ENCODER: Final = json.JSONEncoder(default=_fields, separators=(",", ":"))


def build(kind: Any, value: Any) -> Any:
    """A parsed `value` as the annotated type says: dataclasses from objects, tuples from arrays, enums from values.

    Raises KeyError, TypeError or ValueError for anything that `dump` did not write.
    """
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return build(next(arm for arm in typing.get_args(kind) if arm is not type(None)), value)
    if origin is tuple:
        item = typing.get_args(kind)[0]
        return tuple(build(item, entry) for entry in value)
    if origin is not None:  # dict and Mapping of str to str
        return {str(key): str(entry) for key, entry in value.items()}
    if dataclasses.is_dataclass(kind):
        hints = _hints(kind)
        # A field that a newer engine wrote is dropped; one that an older engine did not write has its default.
        return kind(**{name: build(hints[name], entry) for name, entry in value.items() if name in hints})  # type: ignore[operator]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"expected {kind.__name__}, found {type(value).__name__}")
    return value


_HINTS: dict[type, dict[str, Any]] = {}


def _hints(kind: Any) -> dict[str, Any]:
    if kind not in _HINTS:
        _HINTS[kind] = typing.get_type_hints(kind)
    return _HINTS[kind]
