"""A process that has loaded the daemon's modules and forks a daemon whenever it is told to.

Loading is most of what a start costs; tests that start hundreds of daemons take theirs from here. Each is a process of
its own that runs the daemon's own `main` with its own arguments, environment and log. Run as a program this is the
process that forks; imported it is the tests' side of it.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.wait import until_now

REPOSITORY = Path(__file__).resolve().parents[2]


class Preloaded:
    """The process that forks; `close` it. Thread-safe."""

    def __init__(self) -> None:
        paths = [str(REPOSITORY), str(REPOSITORY / "server"), str(REPOSITORY / "clients" / "python")]
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            env=os.environ | {"PYTHONPATH": ":".join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> "ForkedDaemon":
        """A daemon runs, with this environment alone; what it says is appended to `log`."""
        request = {"arguments": list(arguments), "environment": dict(environment), "log": str(log)}
        return ForkedDaemon(self, int(self.ask(request)))

    def ask(self, request: Mapping[str, object]) -> Any:
        """The answer to one request."""
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """It has ended; daemons run on."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class ForkedDaemon:
    """One daemon, with what tests need of `subprocess.Popen`."""

    def __init__(self, parent: Preloaded, pid: int) -> None:
        self._parent = parent
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended, as `Popen.returncode` tells it; None while it runs."""
        if self.returncode is None:
            self.returncode = self._parent.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float) -> int:
        """How it ended, once it has. Raises TimeoutExpired."""
        try:
            until_now(lambda: self.poll() is not None, f"daemon {self.pid} ends", timeout)
        except AssertionError:
            raise subprocess.TimeoutExpired("fluytd", timeout) from None
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """It is sent the signal unless it has ended. Its pid is its own until `poll` has told its end."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)


def serve() -> None:
    """Forks daemons and tells how they ended, as asked on stdin, until that ends. Returns in a daemon: never."""
    from fluytd import __main__ as daemon  # noqa: PLC0415 - what the tests' side need not load
    from fluytd import bootstrap, failpoints  # noqa: PLC0415 - the same

    assert bootstrap
    for line in sys.stdin.buffer:
        request = json.loads(line)
        answer: int | None
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            # A fork of a process with threads would be another thing than a daemon that was executed.
            assert len(list(Path("/proc/self/task").iterdir())) == 1
            answer = os.fork()
            if answer == 0:
                _become(request)
                importlib.reload(failpoints)
                raise SystemExit(daemon.main())
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


def _become(request: Mapping[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["fluytd", *request["arguments"]]
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)


if __name__ == "__main__":
    serve()
