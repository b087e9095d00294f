"""Patterns of `${x#p}`, `${x%p}` and `${x/p/r}`: `*`, `?` and backslash. Work grows with value times pattern / 64.

Each pattern is a small automaton whose states are the bits of a number, so that no pattern can make it slow.
Source: BuildKit frontend/dockerfile/shell, convertShellPatternToRegex; neither wildcard matches a newline.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fluytd.builds.dockerfile.mistakes import Mistake

#: Characters that a backslash may stand before. `}` and `/` need one only to be read as part of the pattern.
_ESCAPABLE = "*?\\"
_BARE_ESCAPES = "}/"


@dataclass(frozen=True, slots=True)
class _Token:
    """One literal character; or any one, or any number of them, where that is empty."""

    literal: str = ""
    repeats: bool = False


def trim_prefix(value: str, pattern: str, *, longest: bool) -> str:
    """The value without the shortest or longest beginning that matches. Raises Mistake."""
    end = _Automaton(_tokens(pattern)).end(value, 0, longest=longest)
    return value if end is None else value[end:]


def trim_suffix(value: str, pattern: str, *, longest: bool) -> str:
    """The value without the shortest or longest end that matches. Raises Mistake."""
    backwards = value[::-1]
    end = _Automaton(_tokens(pattern)[::-1]).end(backwards, 0, longest=longest)
    return value if end is None else backwards[end:][::-1]


def replace(value: str, pattern: str, replacement: str, *, all_matches: bool) -> str:
    """The value with the first (or each) longest match replaced. Raises Mistake."""
    tokens = _tokens(pattern)
    forward = _Automaton(tokens)
    starts = _Automaton(tokens[::-1]).starts(value)
    parts: list[str] = []
    kept_from = 0
    for start, end in _matches(forward, value, starts):
        parts += [value[kept_from:start], replacement]
        kept_from = end
        if not all_matches:
            break
    return "".join(parts) + value[kept_from:]


def _matches(forward: "_Automaton", value: str, starts: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """(start, end) of each match, leftmost first; an empty one never stands right after another match."""
    position, last_end = 0, -1
    while position <= len(value):
        if starts[position]:
            # A match begins here, as the reversed pattern has shown, so that there is an end.
            end = forward.end(value, position, longest=True) or position
            if end > position or position != last_end:
                yield position, end
                last_end = end
                position = max(end, position + (end == position))
                continue
        position += 1


def _tokens(pattern: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            tokens.append(_Token(repeats=True))
        elif char == "?":
            tokens.append(_Token())
        elif char == "\\":
            following = pattern[position : position + 1]
            if following not in _BARE_ESCAPES or not following:
                if not following or following not in _ESCAPABLE:
                    raise Mistake(
                        f"the pattern {pattern!r} has a backslash before {following!r}",
                        r"write \*, \?, \\, \/ or \}, or double the backslash",
                    )
                tokens.append(_Token(following))
                position += 1
        else:
            tokens.append(_Token(char))
    return tokens


class _Automaton:
    """State i means that i tokens have matched; bit i of a number is whether state i is reached."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._accept = 1 << len(tokens)
        self._loops = self._any = 0
        self._literals: dict[str, int] = {}
        for index, token in enumerate(tokens):
            bit = 1 << index
            if token.repeats:
                self._loops |= bit
            elif token.literal:
                self._literals[token.literal] = self._literals.get(token.literal, 0) | bit
            else:
                self._any |= bit

    def _closed(self, states: int) -> int:
        """With the states behind any number of repeats that match nothing."""
        while True:
            more = states | (states & self._loops) << 1
            if more == states:
                return states
            states = more

    def _step(self, states: int, char: str) -> int:
        moved = (states & self._literals.get(char, 0)) << 1
        if char != "\n":
            moved |= (states & self._any) << 1 | states & self._loops
        return self._closed(moved)

    def end(self, value: str, start: int, *, longest: bool) -> int | None:
        """Where the match that begins at `start` ends; None if there is none."""
        states = self._closed(1)
        found = start if states & self._accept else None
        position = start
        while states and (longest or found is None) and position < len(value):
            states = self._step(states, value[position])
            position += 1
            if states & self._accept:
                found = position
        return found

    def starts(self, value: str) -> list[bool]:
        """Of an automaton of the reversed pattern: whether the pattern matches from each position on."""
        fresh = self._closed(1)
        states = fresh
        found = [False] * (len(value) + 1)
        found[len(value)] = bool(states & self._accept)
        for position in range(len(value) - 1, -1, -1):
            states = self._step(states, value[position]) | fresh
            found[position] = bool(states & self._accept)
        return found
