"""What a benchmark's daemon leaves when it or its containers could not be ended in order: processes and control groups.

Mounts of containers go with their last process; folders are the benchmark's own to remove.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
#: How long killed processes may take to go.
GONE_SECONDS: Final = 30.0
_SUPERVISOR: Final = "fluyt-supervisor"


def swept(cgroup_parent: str, *roots: Path) -> list[str]:
    """Nothing of a daemon that has ended is left: returns what was, a line each kind.

    Args:
        cgroup_parent: its setting; all processes below it are killed and the groups removed.
        roots: its data and run roots: supervisors with a file open below one of them are killed.

    Raises RuntimeError for what does not go.
    """
    found = []
    killed: set[int] = set()
    deadline = time.monotonic() + GONE_SECONDS
    while living := {*_members(cgroup_parent), *_supervisors(roots)}:
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes that do not end: {sorted(living)}")
        for pid in living:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= living
        time.sleep(0.05)
    if killed:
        found.append(f"{len(killed)} processes")
    groups = 0
    for parent in _parents(cgroup_parent):
        for folder, _, _ in os.walk(parent, topdown=False):
            groups += folder != str(parent)
            _remove(Path(folder), deadline)
    return [*found, *([f"{groups} control groups"] if groups else [])]


def ended_by_signals() -> None:
    """SIGTERM ends this program as an exception does, so that what it started is given back."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def run_inner(command: list[str], environment: dict[str, str] | None = None) -> int:
    """The exit code of a further part of this program; where this one is broken off, that one gives back its own."""
    inner = subprocess.Popen(command, env=environment)
    try:
        return inner.wait()
    except BaseException:
        inner.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            inner.wait(GONE_SECONDS)
        raise


def _parents(name: str) -> list[Path]:
    return [path for path in (*CGROUPS.glob(f"*/{name}"), CGROUPS / name) if path.is_dir()]


def _members(name: str) -> Iterator[int]:
    for parent in _parents(name):
        for folder, _, _ in os.walk(parent):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                yield from map(int, Path(folder, "cgroup.procs").read_text().split())


def _supervisors(roots: tuple[Path, ...]) -> Iterator[int]:
    places = tuple(f"{root}/" for root in roots)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cmdline").read_bytes().split(b"\0", 1)[0].decode(errors="replace") != _SUPERVISOR:
                continue
            if any(str(entry.readlink()).startswith(places) for entry in (process / "fd").iterdir()):
                yield int(process.name)


def _remove(folder: Path, deadline: float) -> None:
    while True:
        try:
            return folder.rmdir()
        except FileNotFoundError:
            return None
        except OSError:  # processes that have ended are counted a moment longer
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
