"""The command line on a pseudo-terminal."""

import contextlib
import os
import pty
import subprocess
from dataclasses import dataclass

from tests.e2e.cli.program import PATIENCE_SECONDS, Program


@dataclass(frozen=True)
class Shown:
    """How a command on a terminal ended, and what the terminal was sent."""

    code: int
    text: str


class Terminal:
    """A terminal that a command writes to, and with `reads` reads from. Use it as a context manager."""

    def __init__(self, fluyt: Program, *arguments: str, reads: bool = False) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [fluyt.program, *arguments],
            env=fluyt.environment | {"TERM": "xterm"},
            stdin=theirs if reads else subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._sent = b""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)
        os.close(self._ours)

    def type(self, text: str) -> None:
        """Keys are pressed."""
        os.write(self._ours, text.encode())

    def until(self, text: str) -> None:
        """The terminal has been sent this; fails if the command ends before."""
        while text not in self._sent.decode(errors="replace"):
            assert self._more(), self._sent

    def ended(self) -> Shown:
        """How the command ends."""
        while self._more():
            pass
        return Shown(self.process.wait(PATIENCE_SECONDS), self._sent.decode())

    def _more(self) -> bool:
        piece = b""
        with contextlib.suppress(OSError):  # EIO: nobody holds the other side any more
            piece = os.read(self._ours, 65536)
        self._sent += piece
        return bool(piece)


def on_terminal(fluyt: Program, *arguments: str) -> Shown:
    """How a command without input ends on a terminal."""
    with Terminal(fluyt, *arguments) as terminal:
        return terminal.ended()
