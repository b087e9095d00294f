"""A unix socket before an engine's own that breaks off or holds up what passes."""

import contextlib
import socket
import threading
from pathlib import Path

PIECE_BYTES = 16 * 1024


class Relay:
    """Passes all on to `engine` and back, until told otherwise. A context manager that listens from the start."""

    def __init__(self, listen: Path, engine: Path) -> None:
        self.accepted_count = 0
        self._engine = engine
        self._hold_after: int | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.held = threading.Event()
        self._released = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(listen))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Relay":
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def hold_after(self, count: int) -> None:
        """After so many bytes of the engine on one connection `held` is set, and none of that connection follow."""
        self._hold_after = count

    def cut(self) -> None:
        """Every connection of now is broken; new ones pass."""
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):  # it has ended by itself
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed at the end
            while True:
                caller, _ = self._listener.accept()
                self.accepted_count += 1
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(str(self._engine))
                with self._lock:
                    self._open |= {caller, engine}
                for source, target in ((caller, engine), (engine, caller)):
                    threading.Thread(target=self._pass, args=(source, target, source is engine), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, is_of_engine: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):  # cut, or one side has gone
            while data := source.recv(PIECE_BYTES):
                if is_of_engine and self._hold_after is not None and passed + len(data) > self._hold_after:
                    self.held.set()
                    self._released.wait()
                passed += len(data)
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
