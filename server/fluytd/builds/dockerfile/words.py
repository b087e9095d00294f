"""Words: quotes, escapes and `$` put to their meaning, as BuildKit's shell lexer does. It knows no instruction.

Source: BuildKit frontend/dockerfile/shell/lex.go.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fluytd.builds.dockerfile import globs, limits
from fluytd.builds.dockerfile.mistakes import Mistake
from fluytd.builds.dockerfile.text import SPACE

#: Parameters of a shell of one character; a Dockerfile never sets them.
_SPECIAL = frozenset("@*#?-$!")
_PLAIN_RUN = re.compile(r"[^$<'\"\\`/}]+")
_SPACES = re.compile(f"[{SPACE}]+")


@dataclass(frozen=True, slots=True)
class Expanded:
    """A word after expansion."""

    text: str
    #: The same, split at blanks that no quote or escape protects.
    words: tuple[str, ...]
    #: Variables that were looked up and found, and not found.
    matched: frozenset[str]
    unmatched: frozenset[str]


@dataclass(frozen=True, slots=True)
class Style:
    """What is left as it is."""

    escape: str = "\\"
    #: Quotes stay in the result, though they still protect what they enclose.
    keeps_quotes: bool = False
    keeps_escapes: bool = False
    #: Quotes are characters like others (bodies of here-documents).
    ignores_quotes: bool = False
    #: `$x` of a variable that is not set stays as written.
    keeps_unset: bool = False
    #: The limit that the result meets, by name.
    limit: str = "MAX_EXPANSION_CHARS"


def expand(word: str, variables: Mapping[str, str], style: Style | None = None) -> Expanded:
    """The word with variables put in. Raises Mistake, LIMIT_EXCEEDED (MAX_EXPANSION_CHARS, MAX_EXPANSION_DEPTH)."""
    lexer = _Lexer(word, variables, style or Style())
    text, words = lexer.run("", lexer.style.keeps_escapes)
    return Expanded(text, tuple(words), frozenset(lexer.matched), frozenset(lexer.unmatched))


class _Result:
    """One result under way: the whole text, and the words that blanks make of it."""

    def __init__(self, limit: str, subject: str) -> None:
        self._parts: list[str] = []
        self._word: list[str] = []
        self._words: list[str] = []
        self._size = 0
        self._limit = limit
        self._subject = subject

    def add(self, text: str, *, is_raw: bool) -> None:
        """More text; blanks in it part words unless it is raw."""
        self._size += len(text)
        limits.check(self._limit, self._size, self._subject)
        self._parts.append(text)
        if is_raw:
            self._word.append(text)
            return
        first, *others = _SPACES.split(text)
        self._word.append(first)
        for other in others:
            self._end_word()
            self._word.append(other)

    def _end_word(self) -> None:
        word = "".join(self._word)
        self._word.clear()
        if word:
            self._words.append(word)

    def close(self) -> tuple[str, list[str]]:
        self._end_word()
        return "".join(self._parts), self._words


class _Lexer:
    def __init__(self, text: str, variables: Mapping[str, str], style: Style) -> None:
        self.text = text
        self.position = 0
        self.depth = 0
        self.variables = variables
        self.style = style
        self.matched: set[str] = set()
        self.unmatched: set[str] = set()

    def peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def next(self) -> str:
        char = self.peek()
        self.position += 1
        return char

    @property
    def subject(self) -> str:
        """The word, for errors about limits."""
        return f"the expansion of {self.text[:80]!r}"

    def fail(self, rule: str, fix: str) -> Mistake:
        return Mistake(f"{rule} in {self.text!r}", fix, self.text)

    def run(self, stop: str, keeps_escapes: bool) -> tuple[str, list[str]]:
        """Everything up to the character `stop`, which is consumed; to the end if that is empty."""
        result = _Result(self.style.limit, self.subject)
        while char := self.peek():
            if char == stop:
                self.position += 1
                return result.close()
            if char == "$":
                result.add(self.dollar(), is_raw=False)
            elif char == "<":
                result.add(self.angle(), is_raw=True)
            elif char in "'\"" and not self.style.ignores_quotes:
                quoted = self.single_quoted() if char == "'" else self.double_quoted(keeps_escapes)
                result.add(quoted, is_raw=True)
            elif char == self.style.escape:
                self.position += 1
                following = self.next()
                result.add((char if keeps_escapes else "") + following, is_raw=True)
            else:
                run = _PLAIN_RUN.match(self.text, self.position)
                plain = run[0] if run else char
                self.position += len(plain)
                result.add(plain, is_raw=False)
        if stop:
            raise self.fail(f"{stop!r} is missing", f"close it with {stop}")
        return result.close()

    def single_quoted(self) -> str:
        end = self.text.find("'", self.position + 1)
        if end < 0:
            raise self.fail("a single quote is not closed", "close it, or put the escape character before it")
        start, self.position = self.position, end + 1
        return self.text[start : end + 1] if self.style.keeps_quotes else self.text[start + 1 : end]

    def double_quoted(self, keeps_escapes: bool) -> str:
        quote = self.next() if self.style.keeps_quotes else (self.next() and "")
        parts = [quote]
        while char := self.peek():
            if char == "$":
                parts.append(self.dollar())
                continue
            self.position += 1
            if char == '"':
                return "".join(parts) + quote
            if char == self.style.escape:
                if keeps_escapes:
                    parts.append(char)
                following = self.peek()
                if not following:
                    continue
                if following in ('"', "$", self.style.escape):
                    char = self.next()
            parts.append(char)
        raise self.fail("a double quote is not closed", "close it, or put the escape character before it")

    def angle(self) -> str:
        """`<`, or `<<` with the blanks behind it, which belong to the word of a here-document."""
        start = self.position
        self.position += 1
        if self.peek() == "<":
            self.position += 1
            while self.peek() and self.peek() in "\t\r ":
                self.position += 1
        return self.text[start : self.position]

    def dollar(self) -> str:
        self.position += 1
        if self.peek() != "{":
            name = self.name()
            if not name:
                return "$"
            value = self.lookup(name)
            return value if value is not None else f"${name}" if self.style.keeps_unset else ""
        self.position += 1
        self.depth += 1
        limits.check("MAX_EXPANSION_DEPTH", self.depth, self.subject)
        value = self.braced()
        self.depth -= 1
        return value

    def braced(self) -> str:
        if not self.peek():
            raise self.fail("'}' is missing", "close ${ with }")
        if self.peek() in "{}:":
            raise self.fail("${ has no name", "write ${NAME}, or put the escape character before $")
        name = self.name()
        modifier = self.next()
        if modifier == "}":
            value = self.lookup(name)
            return value if value is not None else f"${{{name}}}" if self.style.keeps_unset else ""
        if not modifier:
            raise self.fail("'}' is missing", "close ${ with }")
        if modifier == "/":
            return self.replaced(name)
        treats_empty_as_unset = modifier == ":"
        if treats_empty_as_unset:
            modifier = self.next()
        handlers: dict[str, Callable[[str, str, bool], str]] = {
            "-": self.default, "+": self.alternative, "?": self.required, "#": self.trimmed, "%": self.trimmed
        }  # fmt: skip
        if modifier not in handlers or not modifier or (treats_empty_as_unset and modifier in "#%"):
            shown = (":" if treats_empty_as_unset else "") + modifier
            raise self.fail(
                f"the modifier {shown!r} of ${{{name}}} is not known", "use :-, -, :+, +, :?, ?, #, ##, %, %% or /"
            )
        word, _ = self.run("}", modifier in "#%")
        if self.style.keeps_unset and name not in self.variables:
            self.lookup(name)
            return f"${{{name}{':' if treats_empty_as_unset else ''}{modifier}{word}}}"
        return handlers[modifier](name, modifier + word, treats_empty_as_unset)

    def default(self, name: str, operation: str, treats_empty_as_unset: bool) -> str:
        value = self.lookup(name)
        return operation[1:] if value is None or (treats_empty_as_unset and not value) else value

    def alternative(self, name: str, operation: str, treats_empty_as_unset: bool) -> str:
        value = self.lookup(name)
        return "" if value is None or (treats_empty_as_unset and not value) else operation[1:]

    def required(self, name: str, operation: str, treats_empty_as_unset: bool) -> str:
        value = self.lookup(name)
        if value is None or (treats_empty_as_unset and not value):
            state = "unset" if value is None else "empty"
            raise self.fail(
                f"{name}: {operation[1:] or f'is not allowed to be {state}'}", f"set {name} with ARG or ENV"
            )
        return value

    def trimmed(self, name: str, operation: str, treats_empty_as_unset: bool) -> str:
        value = self.lookup(name) or ""
        sign, pattern = operation[0], operation[1:]
        longest = pattern.startswith(sign)
        pattern = pattern.removeprefix(sign)
        return (globs.trim_prefix if sign == "#" else globs.trim_suffix)(value, pattern, longest=longest)

    def replaced(self, name: str) -> str:
        all_matches = self.peek() == "/"
        self.position += all_matches
        pattern, _ = self.run("/", True)
        replacement, _ = self.run("}", True)
        value = self.lookup(name)
        if value is None and self.style.keeps_unset:
            return f"${{{name}/{'/' * all_matches}{pattern}/{replacement}}}"
        text = value or ""
        # How long the result becomes must be known before it is made: a match may be empty.
        marks = globs.replace(text, pattern, "\0", all_matches=all_matches)
        limits.check(self.style.limit, len(marks) + marks.count("\0") * len(replacement), self.subject)
        return marks.replace("\0", replacement)

    def name(self) -> str:
        """A variable's name; digits make a number of their own; empty if none stands here."""
        start = self.position
        first = self.peek()
        if first.isdecimal():
            while self.peek().isdecimal():
                self.position += 1
        elif first in _SPECIAL:
            self.position += 1
        else:
            while self.peek().isalpha() or self.peek().isdecimal() or self.peek() == "_":
                self.position += 1
        return self.text[start : self.position]

    def lookup(self, name: str) -> str | None:
        value = self.variables.get(name)
        (self.unmatched if value is None else self.matched).add(name)
        return value
