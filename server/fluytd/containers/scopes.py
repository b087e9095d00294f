"""Containers in scopes of systemd's, each with its supervisor: what is asked of systemd, and when.

The name of a scope follows from the container's id, whose record stands before anything is asked for. What a daemon
that is killed in between leaves is found by that name and by the unit's description, and most of it systemd collects
itself: the supervisor of a container that was never started ends with its daemon.
"""

from collections.abc import Callable
from pathlib import Path

from fluytd import failpoints
from fluytd.containers import units
from fluytd.containers.model import Container
from fluytd.containers.process_spec import ResourceLimits
from fluytd.containers.unit_ports import Units
from fluytd.errors import EngineError


class Scopes:
    """The scopes of one engine. Any thread may use it."""

    def __init__(self, systemd: Units, slice_name: str, data_root: Path, make_group: Callable[[str], None]) -> None:
        """`slice_name`: of containers that name none. `data_root`: by which their units are known as this engine's.
        `make_group`: makes a group by its path from the root of the hierarchy, in a parent that is there."""
        self._systemd = systemd
        self._make_group = make_group
        self._slice = slice_name
        self._data_root = str(data_root)
        #: Of containers that asked for a slice.
        self._slices: dict[str, str] = {}

    def check_parent(self, parent: str, field: str) -> None:
        """Raises FIELD_INVALID for what is not the name of a slice."""
        if parent:
            units.check_slice(parent, field)

    def learn(self, container: Container) -> None:
        """Its slice is known until `forget`. One made under the other driver may have a path, and gets the engine's."""
        parent = container.spec.cgroup_parent
        if parent.endswith(".slice") and "/" not in parent:
            self._slices[container.id] = parent

    def place(self, container_id: str) -> tuple[str, str]:
        """(parent, name) of its processes' group."""
        return units.parent_of(self._slice_of(container_id), container_id), units.PAYLOAD

    def _slice_of(self, container_id: str) -> str:
        return self._slices.get(container_id, self._slice)

    def enter(self, container_id: str, supervisor_pid: int, limits: ResourceLimits) -> None:
        """The container's scope stands, with its supervisor in a group of its own, so that those of others can be made
        beside it. On failure nothing of it is left but what `leave` takes away. Raises as `Units`. Blocking."""
        name = units.scope_name(container_id)
        slice_name = self._slice_of(container_id)
        place = units.parent_of(slice_name, container_id)
        failpoints.hit("container.scope.start")
        told = units.start_properties(container_id, self._data_root, slice_name, supervisor_pid, limits)
        self._systemd.start(name, told)
        failpoints.hit("container.scope.attach")
        # systemd attaches to a group that is there, and makes none itself.
        self._make_group(f"{place}/{units.SUPERVISOR}")
        self._systemd.attach(name, f"/{units.SUPERVISOR}", supervisor_pid)

    def update(self, container_id: str, limits: ResourceLimits, write: Callable[[], list[str]]) -> list[str]:
        """systemd knows the limits, and `write`, whose answer this is, has given them to the kernel; or neither. Raises
        as `Units` and what `write` raises. Blocking."""
        name, told = units.scope_name(container_id), units.limit_properties(limits)
        if not told:
            return write()
        before = self._systemd.get(name, [named for named, _ in told])
        failpoints.hit("container.scope.update")
        self._systemd.set(name, told)
        try:
            return write()
        except EngineError:
            self._systemd.set(name, before)
            raise

    def leave(self, container_id: str) -> None:
        """Its scope is gone, whatever was in it killed. Idempotent. Raises as `Units`. Blocking."""
        failpoints.hit("container.scope.stop")
        self._systemd.stop(units.scope_name(container_id))

    def forget(self, container_id: str) -> None:
        """It has been let go of."""
        self._slices.pop(container_id, None)

    def list(self) -> list[str]:
        """The containers of this engine that have a scope, in whatever slice. Raises as `Units`. Blocking."""
        found = []
        for name, described in self._systemd.list(units.SCOPE_PATTERN):
            container_id = units.container_of(name)
            if container_id is not None and described == units.description(container_id, self._data_root):
                found.append(container_id)
        return found

    def close(self) -> None:
        """systemd is not asked any more; scopes stay. Blocking."""
        self._systemd.close()
