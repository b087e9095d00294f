"""From bytes to logical lines: directives, comments, continuations, here-documents. It knows no instruction's meaning.

Source: BuildKit frontend/dockerfile/parser/parser.go.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from fluytd.builds.dockerfile import limits
from fluytd.builds.dockerfile.directives import DirectiveReader
from fluytd.builds.dockerfile.fields import json_words, split_command
from fluytd.builds.dockerfile.heredocs import heredocs_of
from fluytd.builds.dockerfile.mistakes import Mistake, blamed_on, invalid
from fluytd.builds.dockerfile.model import Heredoc
from fluytd.builds.dockerfile.source import Directives, Position, Source
from fluytd.builds.dockerfile.text import SPACE, strip, strip_left

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WITH_HEREDOCS = frozenset({"RUN", "COPY", "ADD"})


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """One instruction's text, lines joined, with what hangs on it."""

    source: Source
    comments: tuple[str, ...]
    heredocs: tuple[Heredoc, ...]
    #: The first line that stands empty where a continuation was to come; 0 for none.
    empty_line: int


def decode(data: bytes, file: str) -> str:
    """The text without a byte order mark. Raises DOCKERFILE_INVALID, LIMIT_EXCEEDED."""
    limits.check("MAX_DOCKERFILE_BYTES", len(data), file)
    data = data.removeprefix(_BYTE_ORDER_MARK)
    for number, line in enumerate(data.split(b"\n"), 1):
        limits.check("MAX_DOCKERFILE_LINE_BYTES", len(line), f"{file}:{number}")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        where = _position(data[: error.start].decode())
        raise invalid(file, where, "the file is not UTF-8 here", "save the file as UTF-8") from None
    if "\0" in text:
        raise invalid(file, _position(text[: text.index("\0")]), "a NUL character stands here", "remove it")
    return text


def _position(before: str) -> Position:
    return Position(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


class LineReader:
    """Reads a file once, from top to bottom; `directives` is complete with the first logical line."""

    def __init__(self, text: str, file: str) -> None:
        self._lines: list[str] = re.findall(r"[^\n]*\n|[^\n]+", text)
        self._file = file
        #: How many lines have been read.
        self.number = 0
        self._directives = DirectiveReader()

    @property
    def directives(self) -> Directives:
        """What the directives at the top say."""
        return self._directives.directives

    def __iter__(self) -> Iterator[LogicalLine]:
        """Each logical line with its here-documents. Raises DOCKERFILE_INVALID, LIMIT_EXCEEDED."""
        comments: list[str] = []
        while (line := self._next()) is not None:
            text = strip_left(line.rstrip("\r\n"))
            is_directive = not self._directives.is_done and self._read_directive(text)
            if text.startswith("#"):
                comment = strip(text[1:])
                if not comment:
                    comments.clear()
                elif not is_directive:
                    comments.append(comment)
                continue
            if not text:
                continue
            column = len(line) - len(line.lstrip(SPACE)) + 1
            yield self._logical_line(text, Position(self.number, column), tuple(comments))
            comments.clear()

    def _read_directive(self, text: str) -> bool:
        source = Source(self._file, text, Position(self.number, 1), self.number)
        with blamed_on(source):
            return self._directives.read(text)

    def _next(self) -> str | None:
        if self.number == len(self._lines):
            return None
        self.number += 1
        return self._lines[self.number - 1]

    def _logical_line(self, text: str, start: Position, comments: tuple[str, ...]) -> LogicalLine:
        parts: list[str] = []
        marks: list[tuple[int, Position]] = []
        length = empty_line = 0
        position = start
        while True:
            stretch, continues = self._cut_continuation(text)
            marks.append((length, position))
            parts.append(stretch)
            length += len(stretch)
            while continues:
                line = self._next()
                if line is None:
                    continues = False
                    break
                text = line.rstrip("\r\n")
                bare = strip_left(text)
                if bare and not bare.startswith("#"):
                    break
                empty_line = empty_line or (0 if bare else self.number)
            if not continues:
                break
            position = Position(self.number, 1)
        source = Source(self._file, "".join(parts), start, self.number, tuple(marks))
        with blamed_on(source):
            heredocs = tuple(self._read_body(each) for each in self._announced(source.text))
        return LogicalLine(replace(source, end_line=self.number), comments, heredocs, empty_line)

    def _cut_continuation(self, text: str) -> tuple[str, bool]:
        """The text without an escape character at its end that joins the next line, and whether there was one."""
        escape = self.directives.escape
        bare = text.rstrip("\t ")
        if not bare.endswith(escape) or bare[-2:-1] == escape:
            return text, False
        return bare[:-1], True

    def _announced(self, line: str) -> list[Heredoc]:
        """The here-documents whose bodies follow."""
        if "<<" not in line:
            return []
        command = split_command(line, self.directives.escape)
        if command.name == "ONBUILD":
            command = split_command(command.rest, self.directives.escape)
        if command.name not in _WITH_HEREDOCS or json_words(command.rest) is not None:
            return []
        found = heredocs_of(line)
        limits.check("MAX_INSTRUCTION_HEREDOCS", len(found), f"{self._file}:{self.number}")
        return found

    def _read_body(self, heredoc: Heredoc) -> Heredoc:
        first = self.number
        body: list[str] = []
        size = 0
        while (line := self._next()) is not None:
            ending = line.rstrip("\r\n")
            if (ending.lstrip("\t") if heredoc.strips_tabs else ending) == heredoc.name:
                return replace(heredoc, content="".join(body))
            size += len(line.encode())
            limits.check("MAX_HEREDOC_BYTES", size, f"{self._file}:{first}")
            body.append(line)
        raise Mistake(
            f"the here-document {heredoc.name!r} has no end",
            f"put {heredoc.name} alone on a line after it",
            f"<<{'-' if heredoc.strips_tabs else ''}{heredoc.name}",
        )
