"""Terminals of processes: their sizes, and the keys that leave a process without ending it. Pure."""

from typing import Final

from fluytd.errors import FieldInvalid, LimitExceeded

#: (columns, rows) of a terminal whose size nobody told.
DEFAULT_SIZE: Final = (80, 24)
#: The most columns or rows that a terminal has. Source: ioctl_tty(2), struct winsize holds 16 bits.
MAX_TERMINAL_SIZE: Final = 65_535
#: The keys of a process on a terminal where its caller names none. Source: moby `daemon/stream`, attach.go.
DEFAULT_DETACH_KEYS: Final = "ctrl-p,ctrl-q"
#: What a caller writes who wants no keys at all.
NO_DETACH_KEYS: Final = "none"
#: Most keys of one sequence.
MAX_DETACH_KEYS: Final = 16
_CTRL: Final = "ctrl-"
#: What `ctrl-` may stand before; the place is the byte. Source: moby/term, ascii.go.
_HELD: Final = "@abcdefghijklmnopqrstuvwxyz[\\]^_"
_DELETE: Final = "DEL"
_DELETE_BYTE: Final = 127


def parse_detach_keys(text: str, field: str, *, has_terminal: bool) -> bytes:
    """The bytes that the keys are typed as: characters, or `ctrl-` and one of `a-z @ [ \\ ] ^ _`, or `DEL`, commas
    between; nothing for `none`, and for an empty text without a terminal.

    Raises FIELD_INVALID, LIMIT_EXCEEDED (MAX_DETACH_KEYS). Source: moby/term, ascii.go, ToBytes().
    """
    if text == NO_DETACH_KEYS or not (text or has_terminal):
        return b""
    count = text.count(",") + 1
    if count > MAX_DETACH_KEYS:
        raise LimitExceeded(limit="MAX_DETACH_KEYS", limit_value=MAX_DETACH_KEYS, actual=count, subject=field)
    return bytes(_key(key, field) for key in (text or DEFAULT_DETACH_KEYS).split(","))


def _key(key: str, field: str) -> int:
    if len(key) == 1 and key.isascii():
        return ord(key)
    held = key.removeprefix(_CTRL)
    if len(held) == 1 and held != key and held.lower() in _HELD:
        return _HELD.index(held.lower())
    if key == _DELETE:
        return _DELETE_BYTE
    rule = f"{key[:16]!r} is not a key: one character, ctrl- and one of a-z @ [ \\ ] ^ _, or DEL"
    raise FieldInvalid(field=field, rule=rule)


class DetachKeys:
    """Finds the keys in what is typed, however it is cut into pieces."""

    def __init__(self, keys: bytes) -> None:
        """`keys`: as `parse_detach_keys` gives them."""
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what of the input so far is the process's, whether the keys were typed). What follows them is dropped; what
        may begin them is held back until the next input tells."""
        if not self._keys:
            return data, False
        data = self._held + data
        at = data.find(self._keys)
        if at >= 0:
            self._held = b""
            return data[:at], True
        longest = min(len(self._keys) - 1, len(data))
        length = next((n for n in range(longest, 0, -1) if data.endswith(self._keys[:n])), 0)
        self._held = data[len(data) - length :]
        return data[: len(data) - length], False

    def rest(self) -> bytes:
        """What was held back, once the input is over."""
        held, self._held = self._held, b""
        return held
