"""The keys that detach: how they are written, and how they are found in what is typed."""

import pytest

from fluytd.containers.terminals import DEFAULT_DETACH_KEYS, MAX_DETACH_KEYS, DetachKeys, parse_detach_keys
from fluytd.errors import FieldInvalid, LimitExceeded


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (DEFAULT_DETACH_KEYS, b"\x10\x11"),
        ("ctrl-@", b"\0"),
        ("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x1b\x1c\x1d\x1e\x1f"),
        ("a,B,9", b"aB9"),
        ("ctrl-A,ctrl-z", b"\x01\x1a"),
        ("DEL", b"\x7f"),
        ("none", b""),
        ("n,o", b"no"),
        ("-", b"-"),
        (",".join("x" * MAX_DETACH_KEYS), b"x" * MAX_DETACH_KEYS),
    ],
)
def test_keys_are_read_as_dockers(text: str, keys: bytes) -> None:
    for has_terminal in (True, False):
        assert parse_detach_keys(text, "f", has_terminal=has_terminal) == keys


def test_no_keys_are_the_default_with_a_terminal_alone() -> None:
    assert parse_detach_keys("", "f", has_terminal=True) == b"\x10\x11"
    assert parse_detach_keys("", "f", has_terminal=False) == b""


@pytest.mark.parametrize(
    "text",
    ["ctrl-", "ctrl-1", "ctrl-ab", "ctrl--", "ab", ",", "a,", "é", "ctrl-é", "alt-a", "del", "NONE", "ctrl-p,none"],
)
def test_what_are_no_keys_is_refused(text: str) -> None:
    with pytest.raises(FieldInvalid) as caught:
        parse_detach_keys(text, "f", has_terminal=True)
    assert caught.value.metadata["field"] == "f"


def test_more_keys_than_the_limit_are_refused_by_its_name() -> None:
    with pytest.raises(LimitExceeded) as caught:
        parse_detach_keys(",".join("x" * (MAX_DETACH_KEYS + 1)), "f", has_terminal=True)
    assert caught.value.metadata["limit"] == "MAX_DETACH_KEYS"


def test_keys_are_found_wherever_the_input_is_cut() -> None:
    typed, keys = b"xaaab rest", b"aab"
    for first in range(len(typed) + 1):
        for second in range(first, len(typed) + 1):
            found, through = DetachKeys(keys), b""
            for piece in (typed[:first], typed[first:second], typed[second:]):
                data, is_left = found.feed(piece)
                through += data
                if is_left:
                    break
            assert (through, is_left, found.rest()) == (b"xa", True, b""), (first, second)


def test_a_sequence_that_goes_on_otherwise_is_input_and_nothing_of_it_is_lost() -> None:
    keys = DetachKeys(b"\x10\x11")
    assert keys.feed(b"\x10") == (b"", False)
    assert keys.feed(b"l\x11\x10") == (b"\x10l\x11", False)
    assert keys.feed(b"\x10") == (b"\x10", False)
    assert keys.rest() == b"\x10"
    assert DetachKeys(b"").feed(b"\x10\x11") == (b"\x10\x11", False)
