"""An engine whose containers are in scopes of the host's systemd, and what `systemctl` says of them."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fluyt.v1.types import container_pb2
from tests.support.engine import Engine

ROOT: Final = Path("/sys/fs/cgroup")
#: Below a slice of its own, so that the nesting is seen.
SLICE: Final = "fluyttest-scopes.slice"
SLICE_GROUP: Final = "fluyttest.slice/fluyttest-scopes.slice"
DRIVER: Final = ("--cgroup-driver", "systemd", "--cgroup-parent", SLICE)


class ScopedEngine(Engine):
    """An engine with the driver systemd; another start may have the other driver."""

    def __init__(self, root: Path, options: Sequence[str] = ()) -> None:
        super().__init__(root, options=(*DRIVER, *options))
        self.cgroup_parent = SLICE_GROUP

    def use_driver(self, *options: str) -> None:
        """The next daemon has these options in place of the driver's."""
        self._options = options or DRIVER


def scope(container: container_pb2.Container | str) -> str:
    """The name of a container's unit."""
    return f"fluyt-{container if isinstance(container, str) else container.id}.scope"


def scope_group(container: container_pb2.Container, parent: str = SLICE_GROUP) -> Path:
    """The directory of its scope."""
    return ROOT / parent / scope(container)


def scopes() -> list[str]:
    """All scopes of containers that systemd knows, in whatever state."""
    listed = systemctl("list-units", "--all", "--plain", "--no-legend", "fluyt-*.scope")
    return [line.split()[0] for line in listed.splitlines()]


def show(unit: str, *properties: str) -> dict[str, str]:
    """What `systemctl show` says."""
    lines = systemctl("show", unit, f"--property={','.join(properties)}").splitlines()
    return dict(line.split("=", 1) for line in lines)


def systemctl(*arguments: str, check: bool = True) -> str:
    """Its output."""
    return subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=check).stdout
