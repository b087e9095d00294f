"""The options of RUN --mount, from text to values. What they mean for a stage is in `mount_steps.py`.

Source: BuildKit frontend/dockerfile/instructions/commands_runmount.go.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

from fluytd.builds.dockerfile import limits
from fluytd.builds.dockerfile.mistakes import Mistake, perhaps
from fluytd.builds.dockerfile.text import parse_bool

Kind = Literal["bind", "cache", "tmpfs", "secret", "ssh"]
Sharing = Literal["shared", "private", "locked"]

_KINDS = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARINGS = ("shared", "private", "locked")
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_WITHOUT_VALUE = frozenset({"readonly", "readwrite", "required"})
#: Options that are texts, with the fields that keep them.
_TEXTS = {"from": "from_", "source": "source", "target": "target", "id": "id", "env": "env"}
#: Options that are numbers, with their base and greatest value.
_NUMBERS = {"mode": (8, 0o7777), "uid": (10, 2**32 - 1), "gid": (10, 2**32 - 1)}
_KEYS = (*_TEXTS, *_NUMBERS, "type", "readonly", "readwrite", "required", "sharing", "size")
_REQUIRABLE = frozenset({"secret", "ssh"})
_OWNED = frozenset({"secret", "ssh", "cache"})
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)i?b?", re.IGNORECASE)
_MAX_SIZE_BYTES = 2**63 - 1


@dataclass(slots=True)
class MountOptions:
    """What one --mount says, expanded."""

    kind: Kind = "bind"
    from_: str = ""
    source: str = ""
    target: str = ""
    #: None where neither readonly nor readwrite stands.
    is_read_only: bool | None = None
    id: str = ""
    sharing: Sharing | None = None
    is_required: bool = False
    size_bytes: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    env: str | None = None


def comma_fields(text: str) -> list[str]:
    """The fields of one CSV record. Raises Mistake, LIMIT_EXCEEDED. Source: RFC 4180."""
    if not text:
        raise Mistake("a flag has an empty value", "write its options, such as type=bind,target=/PATH", 0)
    fields: list[str] = []
    position = 0
    while True:
        if text.startswith('"', position):
            field, position = _quoted_field(text, position + 1)
        else:
            end = text.find(",", position)
            end = len(text) if end < 0 else end
            field, position = text[position:end], end
            if '"' in field:
                raise Mistake(f"a quote stands inside a field of {text!r}", "put the whole field in quotes", text)
        fields.append(field)
        if position >= len(text):
            limits.check("MAX_INSTRUCTION_WORDS", len(fields), "the options of one flag")
            return fields
        position += 1


def _quoted_field(text: str, position: int) -> tuple[str, int]:
    parts: list[str] = []
    while (end := text.find('"', position)) >= 0:
        parts.append(text[position:end])
        if not text.startswith('"', end + 1):
            if end + 1 < len(text) and text[end + 1] != ",":
                break
            return "".join(parts), end + 1
        parts.append('"')
        position = end + 2
    raise Mistake(f"a quoted field of {text!r} is not closed", "close it before the next comma", text)


def check_mount(text: str) -> str:
    """What from= names, "" for nothing. Raises Mistake for a variable in it, which no stage could be found by."""
    origin = ""
    for field in comma_fields(text):
        key, separator, value = field.partition("=")
        if key.lower() == "from" and separator:
            if "$" in value[:-1]:
                raise Mistake(
                    "from= of a mount takes no variables", "give the image a stage: FROM ${IMAGE} AS name", value
                )
            origin = value
    return origin


def parse_mount(text: str, expand: Callable[[str], str]) -> MountOptions:
    """The options, each value expanded. Raises Mistake."""
    options = MountOptions()
    for field in comma_fields(text):
        written, separator, value = field.partition("=")
        key = _ALIASES.get(written.lower(), written.lower())
        if key not in _KEYS:
            known = ", ".join(_KEYS)
            raise Mistake(
                f"a mount has no option {written!r}{perhaps(key, [*_KEYS, *_ALIASES])}", f"use {known}", field
            )
        if not separator and key not in _WITHOUT_VALUE:
            raise Mistake(f"the mount's option {written!r} has no value", f"write {written}=VALUE", field)
        _set(options, key, expand(value) if separator else "true", field)
    _check(options, text)
    return options


def _set(options: MountOptions, key: str, value: str, field: str) -> None:
    if key in _TEXTS:
        setattr(options, _TEXTS[key], value)
    elif key in _NUMBERS:
        setattr(options, key, _number(key, value, *_NUMBERS[key], field))
    elif key in {"readonly", "readwrite"}:
        options.is_read_only = _bool(key, value, field) == (key == "readonly")
    elif key == "type":
        options.kind = cast(Kind, _word(value, _KINDS, "a type of mount", field))
    elif key == "sharing":
        options.sharing = cast(Sharing, _word(value, _SHARINGS, "a way of sharing a cache", field))
    elif key == "required":
        _only(options, key, _REQUIRABLE, field)
        options.is_required = _bool(key, value, field)
    else:
        _only(options, key, frozenset({"tmpfs"}), field)
        options.size_bytes = _size(value, field)


def _word(value: str, words: tuple[str, ...], what: str, field: str) -> str:
    word = value.lower()
    if word not in words:
        raise Mistake(f"{value!r} is not {what}{perhaps(word, words)}", f"use {', '.join(words)}", field)
    return word


def _only(options: MountOptions, key: str, kinds: frozenset[str], field: str) -> None:
    if options.kind not in kinds:
        raise Mistake(
            f"a mount of type {options.kind} has no option {key!r}",
            f"put type={' or type='.join(sorted(kinds))} before it",
            field,
        )


def _bool(key: str, value: str, field: str) -> bool:
    found = parse_bool(value)
    if found is None:
        raise Mistake(f"{key} of a mount is true or false, not {value!r}", f"write {key} or {key}=false", field)
    return found


def _number(key: str, value: str, base: int, maximum: int, field: str) -> int:
    digits = "01234567"[:base] if base == 8 else "0123456789"
    if not value or len(value) > 16 or set(value) - set(digits) or int(value, base) > maximum:
        kind = "an octal number" if base == 8 else "a number"
        raise Mistake(
            f"{key} of a mount is {kind}, not {value!r}", f"write {key}={'0755' if base == 8 else '1000'}", field
        )
    return int(value, base)


def _size(value: str, field: str) -> int:
    found = _SIZE.fullmatch(value)
    size = (
        0
        if found is None or len(value) > 32
        else int(float(found[1]) * 1024 ** " kmgtp".index(found[2].lower() or " "))
    )
    if found is None or len(value) > 32 or size > _MAX_SIZE_BYTES:
        raise Mistake(f"{value!r} is no size", "write a number with k, m or g, such as 64m", field)
    return size


def _check(options: MountOptions, text: str) -> None:
    kind = options.kind
    for key in ("mode", "uid", "gid"):
        if getattr(options, key) is not None and kind not in _OWNED:
            raise Mistake(f"a mount of type {kind} has no option {key!r}", f"remove {key}", text)
    if options.sharing is not None and kind != "cache":
        raise Mistake(f"a mount of type {kind} has no option 'sharing'", "remove sharing, or write type=cache", text)
    if options.env is not None and kind != "secret":
        raise Mistake(f"a mount of type {kind} has no option 'env'", "remove env, or write type=secret", text)
    if kind == "secret":
        if options.from_:
            raise Mistake("a secret has no option 'from'", "remove from", text)
        if not (options.source or options.target or options.id):
            raise Mistake("a secret has no name", "write id=NAME", text)
        if options.source and options.id:
            raise Mistake("a secret has both source and id", "keep id", text)
    if kind == "ssh" and options.source:
        raise Mistake("a mount of type ssh has no option 'source'", "remove source", text)
