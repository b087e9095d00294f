"""Here-documents: which words begin one. Source: BuildKit frontend/dockerfile/parser, ParseHeredoc."""

import re

from fluytd.builds.dockerfile.mistakes import Mistake
from fluytd.builds.dockerfile.model import Heredoc
from fluytd.builds.dockerfile.words import Style, expand

_WORD = re.compile(r"([0-9]*)<<(-?)[\t\n\f\r ]*([^<]*)")
_LINE_STYLE = Style(keeps_quotes=True, keeps_escapes=True, keeps_unset=True, limit="MAX_DOCKERFILE_BYTES")
_NAME_STYLE = Style(keeps_unset=True)
_RAW_NAME_STYLE = Style(keeps_quotes=True, keeps_unset=True)


def parse_heredoc(word: str) -> Heredoc | None:
    """The here-document that a word begins, without content; None if it begins none. Raises Mistake."""
    found = _WORD.fullmatch(word)
    if found is None or not found[3]:
        return None
    descriptor, dash, rest = found.groups()
    names = expand(rest, {}, _NAME_STYLE).words
    if len(names) != 1:
        return None
    raw = expand(rest, {}, _RAW_NAME_STYLE).words[0]
    is_expanded = _quotes(names[0]) == _quotes(raw)
    return Heredoc(names[0], "", is_expanded, bool(dash), int(descriptor[:9] or "0"))


def find_heredoc(word: str) -> Heredoc | None:
    """The same, and None for a word that is no here-document because of its quotes."""
    try:
        return parse_heredoc(word)
    except Mistake:
        return None


def heredocs_of(line: str) -> list[Heredoc]:
    """The here-documents that a line begins, in order. A line that is no sequence of words begins none."""
    if "<<" not in line:
        return []
    try:
        words = expand(line, {}, _LINE_STYLE).words
    except Mistake:
        return []
    return [heredoc for word in words if (heredoc := parse_heredoc(word)) is not None]


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')
