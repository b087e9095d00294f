"""One caller joined to a further process: what it types, and when it leaves. Output: `JoinedExec.output`."""

import asyncio

from fluytd.containers.terminals import DetachKeys, parse_detach_keys
from fluytd.errors import FieldInvalid
from fluytd.execs.session import JoinedExec


class ExecCaller:
    """Two tasks use it: one reads the output until `left`, one gives input."""

    def __init__(self, exec_: JoinedExec, detach_keys: str = "") -> None:
        """`detach_keys`: in place of those of the session's spec; checked before."""
        spec = exec_.session.spec
        text = detach_keys or spec.detach_keys
        self._exec = exec_
        self._keys = DetachKeys(parse_detach_keys(text, "detach_keys", has_terminal=spec.tty))
        #: Set once the caller has left.
        self.left = asyncio.Event()

    @property
    def is_detached(self) -> bool:
        """It has left."""
        return self.left.is_set()

    @property
    def gives_stdin(self) -> bool:
        """Its input is the process's."""
        return self._exec.session.spec.open_stdin

    async def write_stdin(self, data: bytes) -> None:
        """The input is with the process, or dropped because nobody reads it any more. At the keys that detach, the
        caller has left. Raises FIELD_INVALID (`stdin`) for a process without."""
        if not self.gives_stdin:
            raise FieldInvalid(field="stdin", rule="needs `open_stdin` in the spec")
        data, is_left = self._keys.feed(data)
        await self._exec.write_stdin(data)
        if is_left:
            self.detach()

    async def close_stdin(self) -> None:
        """The process reads the end of its input. Idempotent."""
        if rest := self._keys.rest():
            await self._exec.write_stdin(rest)
        self._exec.close_stdin()

    def resize(self, width: int, height: int) -> None:
        """Columns and rows of its terminal; nothing without one. Raises IO_FAILED."""
        self._exec.process.resize(width, height)

    async def signal(self, number: int) -> None:
        """The process has been sent the signal. Raises PROCESS_NOT_FOUND."""
        self._exec.process.signal(number)

    def detach(self) -> None:
        """The caller has left. Idempotent."""
        self.left.set()
