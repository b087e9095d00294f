"""A real dockerd of a test's own: data, state and socket in a directory, no network, no container is started."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.wait import until_now

START_SECONDS = 40.0
STOP_SECONDS = 20.0


class Docker:
    """Docker's command line, bound to one daemon."""

    def __init__(self, socket: Path) -> None:
        self._environment = os.environ | {"DOCKER_HOST": f"unix://{socket}"}

    def __call__(self, *arguments: str) -> bytes:
        """What the command prints. Raises AssertionError with what it complains of."""
        done = subprocess.run(["docker", *arguments], check=False, capture_output=True, env=self._environment)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def is_serving(self) -> bool:
        """Whether the daemon answers."""
        command = ["docker", "version"]
        return subprocess.run(command, check=False, capture_output=True, env=self._environment).returncode == 0


@contextmanager
def running(root: Path) -> Iterator[Docker]:
    """A daemon serves for the block. `root` is short: a socket's path has room for 107 bytes."""
    command = [
        *("dockerd", "--data-root", f"{root}/d", "--exec-root", f"{root}/x", "--pidfile", f"{root}/pid"),
        *("--host", f"unix://{root}/s", "--storage-driver", "vfs", "--config-file", f"{root}/none"),
        *("--bridge", "none", "--iptables=false", "--ip6tables=false", "--exec-opt", "native.cgroupdriver=cgroupfs"),
    ]
    (root / "none").write_text("{}")
    with (root / "log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        docker = Docker(root / "s")
        try:
            until_now(lambda: process.poll() is not None or docker.is_serving(), "dockerd serves", START_SECONDS)
            assert process.poll() is None, (root / "log").read_text()
            yield docker
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)
