"""Which images a list shows. It reads values only."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from fluytd.ids import ImageReference
from fluytd.images.model import Image


@dataclass(frozen=True, slots=True)
class ImageFilter:
    """Conditions of different kinds must all hold; of the values of one kind, one must."""

    #: Patterns of references, see `fits`; a pattern without a tag fits every tag.
    references: tuple[str, ...] = ()
    #: `name` or `name=value`; here all must hold.
    labels: tuple[str, ...] = ()
    #: As `labels`; here none may hold.
    excluded_labels: tuple[str, ...] = ()
    is_dangling: bool | None = None
    #: Built before, after these images.
    before: Image | None = None
    since: Image | None = None
    before_time_unix_nanos: int | None = None

    def accepts(self, image: Image, references: Iterable[str]) -> bool:
        """True if the image with these references in full fits."""
        names = list(references)
        if self.is_dangling is not None and self.is_dangling != (not names):
            return False
        if self.references and not any(fits(name, pattern) for name in names for pattern in self.references):
            return False
        if not all(_has_label(image, label) for label in self.labels):
            return False
        if any(_has_label(image, label) for label in self.excluded_labels):
            return False
        built = image.config.build_time_unix_nanos or 0
        if self.before is not None and built >= (self.before.config.build_time_unix_nanos or 0):
            return False
        if self.since is not None and built <= (self.since.config.build_time_unix_nanos or 0):
            return False
        return self.before_time_unix_nanos is None or image.create_time_unix_nanos < self.before_time_unix_nanos


def _has_label(image: Image, label: str) -> bool:
    name, equals, value = label.partition("=")
    labels = image.config.labels
    return name in labels and (not equals or labels[name] == value)


def fits(full: str, pattern: str) -> bool:
    """True if the pattern fits the reference in full or as Docker shortens it, with its tag or without.

    Source: moby, reference.FamiliarMatch.
    """
    reference = ImageReference.parse(full)
    names = (reference.name, reference.familiar_name)
    return any(glob(text, pattern) for name in names for text in (name, f"{name}:{reference.tag}"))


def glob(text: str, pattern: str) -> bool:
    """True if the pattern fits the whole text, in time text x pattern.

    `*` is any run without a slash, `?` one character but a slash, `[a-z]` one of a set, `[^a-z]` one of no set, and a
    character after `\\` is itself. A pattern that breaks off within a set or after `\\` fits nothing. Source: Go,
    path.Match.
    """
    parts = _parts(pattern)
    if parts is None:
        return False
    at, star, resume, position = 0, -1, 0, 0
    while position < len(text):
        if at < len(parts) and parts[at] is None:
            star, resume = at, position
            at += 1
        elif at < len(parts) and _takes(parts[at], text[position]):
            at += 1
            position += 1
        elif star >= 0 and text[resume] != "/":
            resume += 1
            at, position = star + 1, resume
        else:
            return False
    return all(part is None for part in parts[at:])


@dataclass(frozen=True, slots=True)
class _Set:
    """Characters that one place takes."""

    ranges: tuple[tuple[str, str], ...]
    is_inverted: bool = False


#: What `?` takes: all but a slash.
_ANY: Final = _Set((("/", "/"),), is_inverted=True)


def _takes(part: _Set | None, character: str) -> bool:
    if part is None:
        return False
    return any(low <= character <= high for low, high in part.ranges) != part.is_inverted


def _parts(pattern: str) -> "list[_Set | None] | None":
    """What each place takes, None for a `*`; None in all for a pattern that is none."""
    parts: list[_Set | None] = []
    rest = pattern
    while rest:
        first, rest = rest[0], rest[1:]
        if first == "*":
            parts.append(None)
        elif first == "?":
            parts.append(_ANY)
        elif first == "[":
            found = _set(rest)
            if found is None:
                return None
            part, rest = found
            parts.append(part)
        else:
            if first == "\\":
                if not rest:
                    return None
                first, rest = rest[0], rest[1:]
            parts.append(_Set(((first, first),)))
    return parts


def _set(rest: str) -> tuple[_Set, str] | None:
    """The set that begins after `[`, and what follows its end."""
    is_inverted = rest.startswith("^")
    rest = rest[is_inverted:]
    ranges: list[tuple[str, str]] = []
    while rest and (rest[0] != "]" or not ranges):
        low, rest = _member(rest)
        high = low
        if rest.startswith("-"):
            high, rest = _member(rest[1:])
        if not low or not high:
            return None
        ranges.append((low, high))
    if not rest:
        return None
    return _Set(tuple(ranges), is_inverted), rest[1:]


def _member(rest: str) -> tuple[str, str]:
    """One character of a set, empty where there is none, and what follows."""
    if rest.startswith("\\"):
        rest = rest[1:]
        return rest[:1], rest[1:]
    return ("", rest) if rest[:1] in {"", "-", "]"} else (rest[0], rest[1:])
