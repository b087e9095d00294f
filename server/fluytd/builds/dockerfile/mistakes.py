"""How the parts of the front end say that something is wrong, and how that becomes the catalogue's error."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

from fluytd.builds.dockerfile.source import Position, Source
from fluytd.errors import DockerfileInvalid

#: More edits than this are no slip of the pen. Source: BuildKit util/suggest.
_MAX_DISTANCE = 2
#: Longer words are not compared: the work grows with the square.
_MAX_COMPARED_CHARS = 32
#: Nor are more options than this looked at.
_MAX_OPTIONS = 128


class Mistake(Exception):
    """Something wrong in one instruction; never leaves the front end, since `blamed_on` knows the place."""

    def __init__(self, rule: str, fix: str, at: int | str = "") -> None:
        super().__init__(rule)
        self.rule = rule
        self.fix = fix
        #: An offset in the instruction's text, or the word at fault.
        self.at = at


@contextmanager
def blamed_on(source: Source) -> Iterator[None]:
    """A Mistake inside becomes DOCKERFILE_INVALID with the file, line and column of `source`."""
    try:
        yield
    except Mistake as mistake:
        where = source.at(mistake.at) if isinstance(mistake.at, int) else source.locate(mistake.at)
        raise invalid(source.file, where, mistake.rule, mistake.fix) from None


def invalid(file: str, where: Position, rule: str, fix: str) -> DockerfileInvalid:
    """DOCKERFILE_INVALID for a place."""
    return DockerfileInvalid(file=file, line=where.line, column=where.column, rule=rule, fix=fix.rstrip("."))


def suggestion(word: str, options: Iterable[str], *, ignores_case: bool = False) -> str:
    """The option that a misspelt word most likely means; empty if none is near. Source: BuildKit util/suggest."""
    best, found = _MAX_DISTANCE + 1, ""
    wanted = word.lower() if ignores_case else word
    if len(wanted) > _MAX_COMPARED_CHARS:
        return ""
    for option in islice(options, _MAX_OPTIONS):
        other = option.lower() if ignores_case else option
        if other == wanted:
            return ""
        if abs(len(other) - len(wanted)) < best and (distance := _distance(wanted, other)) < best:
            best, found = distance, option
    return found


def perhaps(word: str, options: Iterable[str], prefix: str = "", *, ignores_case: bool = False) -> str:
    """` (did you mean X?)` for the end of a rule; empty where nothing is near."""
    found = suggestion(word, sorted(options), ignores_case=ignores_case)
    return f" (did you mean {prefix}{found}?)" if found else ""


def _distance(one: str, other: str) -> int:
    """Levenshtein's: how many characters are put in, taken out or changed; some number above the bound if more."""
    row = list(range(len(other) + 1))
    for i, first in enumerate(one, 1):
        previous, row[0] = row[0], i
        for j, second in enumerate(other, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (first != second))
        if min(row) > _MAX_DISTANCE:
            break
    return max(row[-1], min(row))
