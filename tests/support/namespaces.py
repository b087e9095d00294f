"""Network namespaces of a test's own: an engine's host, and another machine beside it. The real host has no part."""

import ctypes
import os
import re
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from fluytd.containers.waiting import MAX_WAITING
from tests.support.engine import Daemon, Engine

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


class Machine:
    """A network namespace with loopback, held by a process that sleeps in it."""

    def __init__(self) -> None:
        """It is there, `lo` is up."""
        self._process = subprocess.Popen(
            ["unshare", "--net", "--", "sh", "-c", "ip link set lo up && echo up && exec sleep 1000000"],
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"up\n"
        self.pid = self._process.pid

    def inside(self, work: Callable[[], T]) -> T:
        """What `work` returns, called by a thread in the namespace; sockets that it opens stay in it."""
        results: list[T] = []
        failures: list[BaseException] = []

        def enter_and_work() -> None:
            try:
                fd = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    if _LIBC.setns(fd, _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                finally:
                    os.close(fd)
                results.append(work())
            except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
                failures.append(error)

        thread = threading.Thread(target=enter_and_work)
        thread.start()
        thread.join()
        if failures:
            raise failures[0]
        return results[0]

    def run(self, *command: str) -> str:
        """What the command prints; it must succeed."""
        done = subprocess.run(
            ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def links(self) -> set[str]:
        """Names of its interfaces but those that wait for a container to come, which are no more than may be."""
        found = self.all_links()
        waiting = {name for name in found if is_waiting(name)}
        assert len(waiting) <= MAX_WAITING, waiting
        return found - waiting

    def all_links(self) -> set[str]:
        """Names of its interfaces."""
        return self.inside(lambda: {line.split(":")[0].strip() for line in _lines("/proc/thread-self/net/dev")[2:]})

    def connect_to(self, other: "Machine", own: Sequence[str], others: Sequence[str]) -> None:
        """A wire leads to the other machine; each end has its addresses (with prefix lengths)."""
        self.run("ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", str(other.pid))
        for machine, addresses in ((self, own), (other, others)):
            for address in addresses:
                nodad = ["nodad"] if ":" in address else []
                machine.run("ip", "address", "add", address, "dev", "wire", *nodad)
            machine.run("ip", "link", "set", "wire", "up")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def is_waiting(name: str) -> bool:
    """Whether an interface of that name waits for a container to come."""
    return re.fullmatch(r"f[0-9a-f]{6}_[0-9a-f]{7}", name) is not None


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


class NetworkEngine(Engine):
    """An engine whose host's network is a machine of its own; its containers are on a bridge unless they ask."""

    def __init__(self, root: Path, *, options: Sequence[str] = (), **fields: Any) -> None:
        """As `Engine`."""
        self.host = Machine()
        try:
            super().__init__(root, options=["--default-network", "bridge", *options], **fields)
        except BaseException:
            self.host.__exit__()
            raise

    def execute(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Daemon:
        """The daemon runs in the machine's namespace."""
        return self.host.inside(lambda: super(NetworkEngine, self).execute(arguments, environment))

    def __exit__(self, *_: object) -> None:
        try:
            super().__exit__()
        finally:
            self.host.__exit__()
