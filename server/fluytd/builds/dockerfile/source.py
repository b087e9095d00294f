"""Places in a Dockerfile, findings about it, and the directives at its top. It reads nothing."""

import re
from bisect import bisect_right
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file: line and column, in characters, both counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Source:
    """Where an instruction stands, and its text after lines were joined and comments dropped (here-documents apart)."""

    file: str
    text: str
    start: Position
    #: The last line that belongs to it, here-documents included.
    end_line: int
    #: (offset in `text`, its place in the file) for each stretch that came from one line, in order.
    marks: tuple[tuple[int, Position], ...] = ()

    def at(self, offset: int) -> Position:
        """The place in the file of a character of `text`."""
        index = bisect_right(self.marks, offset, key=lambda mark: mark[0]) - 1
        if index < 0:
            return self.start
        begin, position = self.marks[index]
        return Position(position.line, position.column + offset - begin)

    def locate(self, word: str) -> Position:
        """The place where a word of the instruction first stands; the instruction's own where it does not."""
        if not word:
            return self.start
        whole = re.search(rf"(?<!\S){re.escape(word)}(?!\S)", self.text)
        offset = whole.start() if whole else self.text.find(word)
        return self.at(offset) if offset >= 0 else self.start


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding of a build check; it never stops a build unless `# check=error=true` asks for that."""

    #: The check's name in Docker's reference, for example `UndefinedVar`.
    rule: str
    #: What it is about in general, one sentence.
    description: str
    #: The page about it; empty where there is none.
    url: str
    #: What was found here, one sentence.
    message: str
    position: Position
    end_line: int


@dataclass(frozen=True, slots=True)
class Checks:
    """What `# check=` and `--check` ask for. Source: Docker's build checks reference."""

    skips_all: bool = False
    skipped: frozenset[str] = frozenset()
    runs_all_experimental: bool = False
    experimental: frozenset[str] = frozenset()
    #: Any finding fails the build.
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Directives:
    """The parser directives at the top of a file."""

    #: The front end that `# syntax=` names, as written; empty where it names none.
    syntax: str = ""
    escape: str = "\\"
    #: The text of `# check=`, for a message; its meaning is in `checks`.
    check: str = ""
    checks: Checks = field(default_factory=Checks)
