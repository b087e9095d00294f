"""ENV, LABEL and ARG. Source: Docker's Dockerfile reference; BuildKit parseNameVal and parseArg."""

from fluytd.builds.dockerfile.fields import quoted_words
from fluytd.builds.dockerfile.instructions.entry import Entry, description
from fluytd.builds.dockerfile.mistakes import Mistake
from fluytd.builds.dockerfile.model import Arg, Argument, Env, KeyValue, Label
from fluytd.builds.dockerfile.text import split_once


def parse_env(entry: Entry) -> Env:
    """ENV KEY=VALUE... or ENV KEY VALUE."""
    entry.flags()
    return Env(**entry.common, pairs=parse_pairs(entry.name, entry.needed("KEY=VALUE"), entry.escape))


def parse_label(entry: Entry) -> Label:
    """LABEL KEY=VALUE... or LABEL KEY VALUE."""
    entry.flags()
    return Label(**entry.common, pairs=parse_pairs(entry.name, entry.needed("KEY=VALUE"), entry.escape))


def parse_pairs(name: str, rest: str, escape: str) -> tuple[KeyValue, ...]:
    """The pairs of ENV or LABEL. Raises Mistake."""
    words = quoted_words(rest, escape)
    if not words:
        raise Mistake(f"{name} has no argument", f"write {name} KEY=VALUE", 0)
    if "=" not in words[0]:
        # The old form: the first blank ends the key, and everything behind it is the value.
        parts = split_once(rest)
        if parts is None:
            raise Mistake(f"{name} {words[0]} has no value", f"write {name} {words[0]}=VALUE", words[0])
        return (KeyValue(parts[0], parts[1], is_legacy=True),)
    return tuple(_pair(name, word) for word in words)


def _pair(instruction: str, word: str) -> KeyValue:
    key, separator, value = word.partition("=")
    if not separator:
        raise Mistake(
            f"{word!r} in {instruction} has no '='", 'write KEY=VALUE, with "quotes" around a value with blanks', word
        )
    if not key:
        raise Mistake(f"a name in {instruction} is blank", "write a name before '='", word)
    return KeyValue(key, value)


def parse_arg(entry: Entry) -> Arg:
    """ARG NAME[=DEFAULT]..."""
    entry.flags()
    words = quoted_words(entry.needed("NAME or ARG NAME=DEFAULT"), entry.escape)
    if not words:
        raise Mistake("ARG has no argument", "write ARG NAME or ARG NAME=DEFAULT", 0)
    return Arg(**entry.common, arguments=tuple(_argument(word, entry.comments) for word in words))


def _argument(word: str, comments: tuple[str, ...]) -> Argument:
    key, separator, value = word.partition("=")
    if not key:
        raise Mistake("a name in ARG is blank", "write a name before '='", word)
    return Argument(key, value if separator else None, description(comments, key))
