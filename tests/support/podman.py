"""podman with a store of its own, as a judge of images: it loads them, mounts them and runs them."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.wait import until_now

#: root of a host may lack the right to raise limits, which podman's own defaults need.
_CONFIG = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'


class Podman:
    """Runs podman's commands. Not over crun, which refuses hosts with both versions of cgroups."""

    def __init__(self, root: Path) -> None:
        """With everything of its own below `root`, a short path."""
        config = root / "containers.conf"
        config.write_text(_CONFIG)
        self._environment = os.environ | {"CONTAINERS_CONF": str(config)}
        self._command: tuple[str, ...] = (
            "podman",
            "--root",
            f"{root}/s",
            "--runroot",
            f"{root}/r",
            "--storage-driver",
            "vfs",
        )
        self._command += ("--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", "runc")

    def __call__(self, *arguments: str | Path) -> bytes:
        """What the command prints. Raises AssertionError with what it complains of."""
        done = subprocess.run(
            (*self._command, *arguments),
            check=False,
            capture_output=True,
            env=self._environment,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def load(self, archive: Path) -> str:
        """The id or name of the image of an archive."""
        return self("load", "-q", "-i", archive).decode().split()[-1]


@contextmanager
def podman() -> Iterator[Podman]:
    """A block with a podman; nothing of it is left afterwards."""
    root = Path(tempfile.mkdtemp(prefix="pb", dir="/tmp"))

    def is_removed() -> bool:
        # podman's own cleaning up outlives its commands, and may make something anew.
        shutil.rmtree(root, ignore_errors=True)
        return not root.exists()

    try:
        yield Podman(root)
    finally:
        until_now(is_removed)
