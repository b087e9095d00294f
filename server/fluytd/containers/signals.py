"""Names and numbers of signals. It sends none."""

import signal
from typing import Final

SIGTERM: Final = int(signal.SIGTERM)
SIGKILL: Final = int(signal.SIGKILL)

#: Linux's range; 0 only asks whether a process exists and is refused. Source: signal(7).
MIN_SIGNAL: Final = 1
MAX_SIGNAL: Final = 64
#: As programs built with glibc or musl see them; the kernel's own first real-time signal is 32. Source: signal(7).
_RTMIN: Final = 34
_RTMAX: Final = 64

_NUMBERS: Final[dict[str, int]] = {
    **{name[3:]: int(number) for name, number in signal.Signals.__members__.items() if name.startswith("SIG")},
    "RTMIN": _RTMIN,
    "RTMAX": _RTMAX,
}
_NAMES: Final[dict[int, str]] = {int(member): member.name for member in signal.Signals}


def parse_signal(text: str) -> int | None:
    """The number of a signal given as `SIGTERM`, `term`, `15`, `RTMIN+3` or `SIGRTMAX-1`; None if there is none.

    Source: moby/sys `signal/signal.go`, which takes names in any case, with or without `SIG`, and decimal numbers.
    """
    word = text.strip().upper()
    if word.isascii() and word.isdigit():
        return _in_range(int(word)) if len(word) <= 3 else None
    word = word.removeprefix("SIG")
    if word in _NUMBERS:
        return _NUMBERS[word]
    for base, sign in (("RTMIN+", 1), ("RTMAX-", -1)):
        offset = word.removeprefix(base)
        if offset != word and offset.isascii() and offset.isdigit() and len(offset) <= 2:
            number = _NUMBERS[base[:-1]] + sign * int(offset)
            return number if _RTMIN <= number <= _RTMAX else None
    return None


def signal_name(number: int) -> str:
    """`SIGTERM` for 15, `SIGRTMIN+3` for 37; the number itself where it has no name."""
    if number in _NAMES:
        return _NAMES[number]
    if _RTMIN <= number <= _RTMAX:
        return f"SIGRTMIN+{number - _RTMIN}"
    return str(number)


def _in_range(number: int) -> int | None:
    return number if MIN_SIGNAL <= number <= MAX_SIGNAL else None
