"""Writing a caller's input into a container's stdin without blocking and without keeping more than one piece of it."""

import asyncio
import contextlib
import errno
import os


class StdinPipe:
    """The write end of a container's stdin. Belongs to one task; takes the descriptor over."""

    def __init__(self, fd: int) -> None:
        """`fd` is non-blocking."""
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self.is_open = True

    async def write(self, data: bytes) -> None:
        """All of `data` is in the pipe, or the reading side is gone and it was dropped, as a shell's pipe does.

        Waits as long as the process does not read: the caller's flow control is the back-pressure.
        """
        view = memoryview(data)
        while view and self.is_open:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                await self._writable()
            except BrokenPipeError:
                self.close()
            except OSError as error:
                if error.errno != errno.EIO:  # a terminal that nobody has open any more
                    raise
                self.close()

    async def _writable(self) -> None:
        ready = self._loop.create_future()

        def settle() -> None:
            if not ready.done():
                ready.set_result(None)

        self._loop.add_writer(self._fd, settle)
        try:
            await ready
        finally:
            if self.is_open:
                self._loop.remove_writer(self._fd)

    def close(self) -> None:
        """The descriptor is closed. Idempotent."""
        if self.is_open:
            self.is_open = False
            with contextlib.suppress(ValueError):
                self._loop.remove_writer(self._fd)
            os.close(self._fd)
