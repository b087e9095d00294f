"""Modes of --chmod: octal, or symbolic as chmod(1) writes them. It changes no file.

Source: chmod(1) and setmode(3) of the BSDs, which BuildKit follows (tonistiigi/dchapes-mode), with a umask of 0.
"""

import re

from fluytd.builds.dockerfile.mistakes import Mistake

_MAX_MODE = 0o7777
_CLAUSE = re.compile(r"([augo]*)((?:[+=-][rwxXstugo]*)+)")
_ACTION = re.compile(r"([+=-])([rwxXstugo]*)")
_CLASSES = {"u": 6, "g": 3, "o": 0}
_SET_ID = {"u": 0o4000, "g": 0o2000}
_STICKY = 0o1000
_BITS = {"r": 4, "w": 2, "x": 1}


def check_mode(text: str) -> None:
    """Nothing, if the text is a mode. Raises Mistake."""
    if re.fullmatch("[0-9]+", text):
        if re.fullmatch("[0-7]+", text) is None or int(text[-12:], 8) > _MAX_MODE or int(text or "0", 8) > _MAX_MODE:
            raise Mistake(f"the mode {text!r} is not octal from 0 to 7777", "write a mode such as 0755", text)
        return
    if not text or not all(_CLAUSE.fullmatch(clause) for clause in text.split(",")):
        raise Mistake(f"{text!r} is no mode", "write a mode such as 0755 or u=rwX,go=rX", text)


def apply_mode(text: str, mode: int, *, is_directory: bool) -> int:
    """The permission bits that a file of these bits gets. `text` has passed `check_mode`."""
    if text.isdecimal():
        return int(text, 8)
    for clause in text.split(","):
        found = _CLAUSE.fullmatch(clause)
        if found is None:
            raise ValueError(f"{text!r} has not passed check_mode")
        who = "ugo" if not found[1] or "a" in found[1] else found[1]
        sets_sticky = not found[1] or bool(set(found[1]) - {"o"})
        for sign, letters in _ACTION.findall(found[2]):
            mode = _act(mode, who, sign, letters, is_directory=is_directory, sets_sticky=sets_sticky)
    return mode


def _act(mode: int, who: str, sign: str, letters: str, *, is_directory: bool, sets_sticky: bool) -> int:
    bits = affected = 0
    for name in set(who):
        shift = _CLASSES[name]
        affected |= 7 << shift | _SET_ID.get(name, 0)
        bits |= _granted(mode, letters, is_directory=is_directory) << shift
        if "s" in letters:
            bits |= _SET_ID.get(name, 0)
    if "t" in letters and sets_sticky:
        bits |= _STICKY
        affected |= _STICKY
    if sign == "+":
        return mode | bits
    if sign == "-":
        return mode & ~bits
    return mode & ~affected | bits


def _granted(mode: int, letters: str, *, is_directory: bool) -> int:
    bits = 0
    for letter in letters:
        if letter in _BITS:
            bits |= _BITS[letter]
        elif letter == "X" and (is_directory or mode & 0o111):
            bits |= 1
        elif letter in _CLASSES:
            bits |= mode >> _CLASSES[letter] & 7
    return bits
