"""Damages good inputs: the same damage for the same seed, on every machine."""

import random
from collections.abc import Sequence

#: Values at which programs miscount: of one byte, and of numbers in text.
_BYTES = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF, 0x0A, 0x22, 0x2F, 0x5C, 0x7B, 0x7D)
_NUMBERS = (
    b"0",
    b"-1",
    b"255",
    b"65536",
    b"2147483648",
    b"4294967295",
    b"9223372036854775807",
    b"18446744073709551616",
)
_PIECES = (b"../", b"..", b"/", b"//", b"\0", b"\n", b"\\", b"$", b"${", b"<<", b"[]", b"{}", b"null", b'"', b":", b"@")
MAX_BYTES = 1 << 20


def damaged(corpus: Sequence[bytes], number: random.Random) -> bytes:
    """One of the corpus with one to four damages; at most MAX_BYTES."""
    data = bytearray(number.choice(corpus))
    for _ in range(number.randint(1, 4)):
        _damage(data, corpus, number)
    return bytes(data[:MAX_BYTES])


def _damage(data: bytearray, corpus: Sequence[bytes], number: random.Random) -> None:
    at = number.randint(0, len(data))
    end = min(len(data), at + number.choice((1, 2, 4, 16, 100, 512, 1024)))
    kind = number.randrange(9)
    if kind == 0 and data:
        data[at % len(data)] ^= 1 << number.randrange(8)
    elif kind == 1 and data:
        data[at % len(data)] = number.choice(_BYTES)
    elif kind == 2:
        del data[at:end]
    elif kind == 3:
        del data[at:]
    elif kind == 4:
        data[at:at] = data[at:end] * number.choice((1, 2, 100))
    elif kind == 5:
        data[at:at] = number.choice(_PIECES) * number.choice((1, 1, 3, 300))
    elif kind == 6:
        data[at:end] = number.choice(_NUMBERS)
    elif kind == 7:
        other = number.choice(corpus)
        start = number.randint(0, len(other))
        data[at:end] = other[start : start + number.choice((1, 16, 512, 4096))]
    else:
        data[at:end] = bytes(number.randrange(256) for _ in range(end - at))
