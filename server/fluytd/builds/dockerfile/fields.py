"""One logical line taken apart: keyword, flags, and the rest as words, pairs or JSON. It knows no instruction.

Source: BuildKit frontend/dockerfile/parser, split_command.go and line_parsers.go.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from fluytd.builds.dockerfile import limits
from fluytd.builds.dockerfile.mistakes import Mistake
from fluytd.builds.dockerfile.text import IS_SPACE, split_blanks, split_once, strip, strip_left


@dataclass(frozen=True, slots=True)
class Flag:
    """A word that begins with `--`, quotes and escapes taken off."""

    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class Command:
    """A logical line as keyword, flags and rest."""

    keyword: str
    flags: tuple[Flag, ...]
    #: Without blanks at both ends.
    rest: str
    #: Where the rest begins in the line.
    offset: int

    @property
    def name(self) -> str:
        """The keyword in upper case."""
        return self.keyword.upper()


def split_command(line: str, escape: str) -> Command:
    """The line's parts. Raises LIMIT_EXCEEDED (MAX_INSTRUCTION_WORDS)."""
    indent = len(line) - len(strip_left(line))
    parts = split_once(strip(line))
    if parts is None:
        return Command(strip(line), (), "", len(line))
    keyword, arguments, start = parts
    flags: list[Flag] = []
    position = 0
    while True:
        position += len(arguments[position:]) - len(strip_left(arguments[position:]))
        if not arguments.startswith("--", position):
            break
        text, end = _flag(arguments, position, escape)
        if text == "--":
            # What stands behind it is never a flag.
            position = end
            break
        flags.append(Flag(text, indent + start + position))
        limits.check("MAX_INSTRUCTION_WORDS", len(flags), f"the flags of {keyword}")
        position = end
    rest = strip(arguments[position:])
    offset = indent + start + position + len(arguments[position:]) - len(strip_left(arguments[position:]))
    return Command(keyword, tuple(flags), rest, offset)


def _flag(text: str, start: int, escape: str) -> tuple[str, int]:
    """One flag without its quotes and escapes, and where it ends."""
    parts: list[str] = []
    quote = ""
    position = start
    while position < len(text):
        char = text[position]
        if not quote and char in IS_SPACE:
            break
        position += 1
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif char == escape:
            parts.append(text[position : position + 1])
            position += 1
        else:
            parts.append(char)
    return "".join(parts), min(position, len(text))


def quoted_words(text: str, escape: str) -> list[str]:
    """Words parted by blanks outside quotes; quotes and escapes stay. Raises LIMIT_EXCEEDED."""
    words = list(_quoted_words(text, escape))
    limits.check("MAX_INSTRUCTION_WORDS", len(words), "the words of one instruction")
    return words


def _quoted_words(text: str, escape: str) -> Iterator[str]:
    word: list[str] = []
    quote = ""
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if not quote and char in IS_SPACE:
            if word:
                yield "".join(word)
                word.clear()
            continue
        if char == escape and quote != "'":
            if position == len(text):
                break
            word += (char, text[position])
            position += 1
            continue
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        word.append(char)
    if word:
        yield "".join(word)


def blank_words(rest: str) -> list[str]:
    """Words parted by blanks, quotes or not; none of an empty text. Raises LIMIT_EXCEEDED."""
    words = split_blanks(rest) if rest else []
    limits.check("MAX_INSTRUCTION_WORDS", len(words), "the words of one instruction")
    return words


def json_words(rest: str) -> tuple[str, ...] | None:
    """The strings of a JSON array; None if the text is no JSON array, which then is the shell form.

    Raises Mistake for an array of anything else than strings.
    """
    if not strip_left(rest).startswith("["):
        return None
    try:
        values = json.loads(rest, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(value, str) for value in values):
        raise Mistake(
            "an array in JSON form holds something that is no string", 'put each item in "double quotes"', rest
        )
    limits.check("MAX_INSTRUCTION_WORDS", len(values), "the words of one instruction")
    return tuple(_scalar(value) for value in values)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _scalar(value: str) -> str:
    """Half of a surrogate pair becomes U+FFFD, as Go's decoder has it: UTF-8 cannot write it."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
