"""A file system of FUSE, with one file, whose program can be told to answer no more: whatever then asks it waits, most
of it out of reach of any signal. The program is a process of its own, so that the tests never wait for it.

Source: linux/fuse.h, protocol 7.31, what the kernel asks for a file that is read and written.
"""

import ctypes
import errno
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
NAME: Final = "f"
CONTENT: Final = b"here\n"
_ROOT, _FILE = 1, 2
_MNT_DETACH: Final = 2
_READ, _MAX_OPCODE = 15, 4095
#: What is not answered in any case: FORGET, INTERRUPT, BATCH_FORGET.
_WITHOUT_ANSWER: Final = (2, 36, 42)
#: How long the kernel may keep names and attributes: not at all, so that each look asks.
_NOT_KEPT: Final = 0


class UnansweringFiles:
    """Answers until `mute`; `end` ends all that waits for it with an error."""

    def __init__(self, place: Path) -> None:
        """It is mounted at `place`, for every user."""
        self.place = place
        command = [sys.executable, "-m", "tests.support.unanswering_files", str(place)]
        self._process = subprocess.Popen(command, cwd=_REPOSITORY, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"mounted\n"

    def mute(self, *, reads_alone: bool = False) -> None:
        """From now on it takes questions and answers none; `reads_alone`: but those for content."""
        self._process.send_signal(signal.SIGUSR2 if reads_alone else signal.SIGUSR1)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"mute\n"

    def end(self) -> None:
        """The program has ended. Idempotent."""
        self._process.kill()
        self._process.wait()


@contextmanager
def unanswering_files(place: Path) -> Iterator[UnansweringFiles]:
    """One that answers, at a new directory; nothing of it is left."""
    place.mkdir()
    try:
        files = UnansweringFiles(place)
        try:
            yield files
        finally:
            files.end()
    finally:
        ctypes.CDLL(None).umount2(os.fsencode(place), _MNT_DETACH)
        place.rmdir()


def _attributes(node: int) -> bytes:
    mode, size = (0o040755, 0) if node == _ROOT else (0o100666, len(CONTENT))
    return struct.pack("<6Q10I", node, size, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 512, 0)


def _answer(opcode: int, node: int, body: bytes) -> bytes | int:
    """What the kernel is told, or the number of an error."""
    match opcode:
        case 26:  # INIT: nothing that is optional
            major, _, read_ahead = struct.unpack_from("<3I", body)
            return struct.pack("<4I2H2I2H8I", major, 31, read_ahead, 0, 12, 9, 65536, 1, 16, *[0] * 9)
        case 1:  # LOOKUP
            if body.rstrip(b"\0") != NAME.encode():
                return errno.ENOENT
            return struct.pack("<4Q2I", _FILE, 0, _NOT_KEPT, _NOT_KEPT, 0, 0) + _attributes(_FILE)
        case 3 | 4:  # GETATTR, SETATTR
            return struct.pack("<Q2I", _NOT_KEPT, 0, 0) + _attributes(node)
        case 14 | 27:  # OPEN, OPENDIR
            return struct.pack("<Q2I", 0, 0, 0)
        case 15:  # READ
            _, offset, size = struct.unpack_from("<2QI", body)
            return CONTENT[offset : offset + size]
        case 16:  # WRITE
            return struct.pack("<2I", struct.unpack_from("<2QI", body)[2], 0)
        case 17:  # STATFS
            return struct.pack("<5Q4I6I", 1, 0, 0, 2, 0, 512, 255, 512, 0, *[0] * 6)
        case 18 | 25 | 28 | 29:  # RELEASE, FLUSH, READDIR, RELEASEDIR
            return b""
    return errno.ENOSYS


def _serve(place: str) -> None:
    unanswered: set[int] = set(_WITHOUT_ANSWER)

    def fall_silent(number: int, _: object) -> None:
        unanswered.update([_READ] if number == signal.SIGUSR2 else range(1, _MAX_OPCODE + 1))
        os.write(1, b"mute\n")

    signal.signal(signal.SIGUSR1, fall_silent)
    signal.signal(signal.SIGUSR2, fall_silent)
    device = os.open("/dev/fuse", os.O_RDWR)
    data = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    if ctypes.CDLL(None, use_errno=True).mount(b"test", os.fsencode(place), b"fuse", 0, data.encode()) != 0:
        raise OSError(ctypes.get_errno(), "mount", place)
    os.write(1, b"mounted\n")
    while True:
        try:
            question = os.read(device, 128 * 1024)
        except OSError as error:
            raise SystemExit(0 if error.errno == errno.ENODEV else 1) from error
        _, opcode, unique, node = struct.unpack_from("<2I2Q", question)
        if opcode in unanswered:
            continue
        answer = _answer(opcode, node, question[40:])
        number, body = (-answer, b"") if isinstance(answer, int) else (0, answer)
        os.write(device, struct.pack("<IiQ", 16 + len(body), number, unique) + body)


if __name__ == "__main__":
    _serve(sys.argv[1])
