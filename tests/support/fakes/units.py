"""A systemd of one's own, for what is asked of it and in which order."""

from collections.abc import Sequence

from fluytd.containers.units import Property
from fluytd.errors import SystemdUnitFailed


class FakeUnits:
    """Implements `unit_ports.Units`; `failing` names what fails."""

    def __init__(self) -> None:
        self.units: dict[str, dict[str, tuple[str, object]]] = {}
        self.groups: dict[str, tuple[str, int]] = {}
        #: What was made below a unit, by whoever was given `made_groups.append`.
        self.made_groups: list[str] = []
        self.failing = ""
        self.is_closed = False

    def start(self, name: str, properties: Sequence[Property]) -> None:
        self._check("start", name)
        self.units[name] = dict(properties)

    def attach(self, name: str, subgroup: str, pid: int) -> None:
        self._check("attach", name)
        self.groups[name] = (subgroup, pid)

    def get(self, name: str, properties: Sequence[str]) -> list[Property]:
        self._check("get", name)
        return [(one, self.units[name][one]) for one in properties]

    def set(self, name: str, properties: Sequence[Property]) -> None:
        self._check("set", name)
        self.units[name].update(properties)

    def stop(self, name: str) -> None:
        self._check("stop", name)
        self.units.pop(name, None)

    def list(self, pattern: str) -> Sequence[tuple[str, str]]:
        self._check("list", pattern)
        return [(name, str(found["Description"][1])) for name, found in self.units.items()]

    def close(self) -> None:
        self.is_closed = True

    def _check(self, operation: str, name: str) -> None:
        if operation == self.failing:
            raise SystemdUnitFailed(unit=name, operation=operation, detail="as asked")
