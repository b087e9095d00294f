"""Blanks as Go and BuildKit see them; Python's own idea differs by a few control characters."""

import re
from posixpath import normpath
from typing import Final

#: What Go's unicode.IsSpace accepts.
SPACE: Final = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_BLANKS: Final = re.compile(r"[\t\v\f\r ]+")
IS_SPACE: Final = frozenset(SPACE)


def strip(text: str) -> str:
    """Without blanks at both ends."""
    return text.strip(SPACE)


def strip_left(text: str) -> str:
    """Without blanks at the beginning."""
    return text.lstrip(SPACE)


def split_once(text: str) -> tuple[str, str, int] | None:
    """(before, after, offset of after) at the first blanks; None if there are none."""
    found = _BLANKS.search(text)
    return (text[: found.start()], text[found.end() :], found.end()) if found else None


def split_blanks(text: str) -> list[str]:
    """The parts between blanks; an empty one where the text begins or ends with them."""
    return _BLANKS.split(text)


_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def parse_bool(text: str) -> bool | None:
    """True or false as Go's strconv.ParseBool reads it; None for anything else."""
    return True if text in _TRUE else False if text in _FALSE else None


def clean_path(path: str) -> str:
    """The shortest path of the same meaning, as Go's path.Clean has it; `.` for an empty one."""
    cleaned = normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def join_paths(*parts: str) -> str:
    """The parts below each other, cleaned; an absolute part does not begin anew. Source: Go path.Join."""
    given = [part for part in parts if part]
    return clean_path("/".join(given)) if given else ""
