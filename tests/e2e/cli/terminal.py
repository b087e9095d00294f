"""The command line on a pseudo-terminal."""

import contextlib
import os
import pty
import signal
import subprocess
import termios
from dataclasses import dataclass
from typing import Any

from tests.e2e.cli.program import PATIENCE_SECONDS, Program


@dataclass(frozen=True)
class Shown:
    """How a command on a terminal ended, and what the terminal was sent."""

    code: int
    text: str


class Terminal:
    """A terminal that a command writes to, and with `reads` reads from. Use it as a context manager."""

    def __init__(
        self,
        fluyt: Program,
        *arguments: str,
        reads: bool = False,
        size: tuple[int, int] | None = None,
        is_piped: bool = False,
    ) -> None:
        """`size`: rows and columns; None: unknown to the terminal, as a new one's is. `is_piped`: standard output is a
        pipe, `process.stdout`, and the terminal shows errors alone."""
        self._ours, theirs = pty.openpty()
        if size is not None:
            termios.tcsetwinsize(self._ours, size)
        self.process = subprocess.Popen(
            [fluyt.program, *arguments],
            env=fluyt.environment | {"TERM": "xterm"},
            stdin=theirs if reads else subprocess.DEVNULL,
            stdout=subprocess.PIPE if is_piped else theirs,
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

    def resize(self, rows: int, columns: int) -> None:
        """The window is given another size, and the command told so, as the kernel tells a foreground process."""
        termios.tcsetwinsize(self._ours, (rows, columns))
        self.process.send_signal(signal.SIGWINCH)

    @property
    def is_raw(self) -> bool:
        """Whether keys come through as they are: none echoed, none a signal."""
        return not termios.tcgetattr(self._ours)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)

    def attributes(self) -> list[Any]:
        """All that can be set of the terminal."""
        return termios.tcgetattr(self._ours)

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
