"""The CDI specs of the host: files of JSON or YAML in some directories, read when a start names a device of theirs."""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from fluytd.containers import cdi
from fluytd.containers.cdi import CdiInvalidError, Edits, Spec
from fluytd.errors import CdiDeviceUnavailable

_log = logging.getLogger(__name__)

#: Files of one directory that are looked at, and the most bytes of one.
MAX_SPEC_FILES: Final = 256
MAX_SPEC_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """A device that a spec has."""

    #: `vendor.com/class=name`.
    name: str
    #: Its spec says that builds need not be allowed it.
    is_auto_allowed: bool


class CdiRegistry:
    """Looks CDI names up. Any thread may use it; nothing is kept from one start to the next."""

    def __init__(self, directories: Sequence[Path]) -> None:
        """`directories`: what stands in a later one goes before what stands in an earlier one."""
        self._directories = tuple(directories)

    def edits(self, names: Sequence[str]) -> Edits:
        """What these devices stand for, those of whole files first, each once, and their nodes looked up on the host.

        Raises CDI_DEVICE_UNAVAILABLE. Blocking (reads every spec of the vendors that are named).
        """
        merged = self._merged(names)
        try:
            cdi.check_size(merged)
            known = [cdi.known_node(node, _status(node.host_path)) for node in merged.asked_nodes]
        except CdiInvalidError as error:
            raise CdiDeviceUnavailable(device=", ".join(names), rule=str(error)) from None
        return replace(merged, nodes=tuple(node for node, _ in known), rules=tuple(rule for _, rule in known))

    def as_written(self, names: Sequence[str]) -> tuple[str, ...]:
        """What the specs say of these devices, word for word; the same as long as they stand for the same.

        Raises CDI_DEVICE_UNAVAILABLE. Blocking (reads every spec of the vendors that are named).
        """
        return self._merged(names).as_written

    def _merged(self, names: Sequence[str]) -> Edits:
        """The edits of whole files first, each once, as the specs have them."""
        found: list[Edits] = []
        files: set[tuple[str, tuple[str, ...]]] = set()
        for name in dict.fromkeys(names):
            spec, device = self._find(name)
            if (spec.kind, spec.edits.as_written) not in files:
                files.add((spec.kind, spec.edits.as_written))
                found.append(spec.edits)
            found.append(spec.devices[device])
        return sum(found, Edits())

    def matches(self, name: str) -> list[FoundDevice]:
        """The devices that RUN --device=NAME means, by name: that one, all of a kind for `vendor.com/class=*`, the
        first of a kind without a name, and where none is called so all that are of that class by their annotation.

        Blocking (reads every spec). Source: BuildKit solver/llbsolver/cdidevices, FindDevices.
        """
        kind, _, wanted = name.partition("=")
        found: dict[str, tuple[bool, str]] = {}
        # What stands in a later directory takes the place of what stands in an earlier one.
        for directory in self._directories:
            for path in _files(directory):
                try:
                    spec = _read(path)
                except CdiInvalidError as error:
                    _log.warning("%s is no CDI spec: %s", path, error)
                    continue
                if spec.kind == kind:
                    found |= {one: (one in spec.auto_allowed, spec.classes.get(one, "")) for one in spec.devices}
        if not wanted:
            chosen = sorted(found)[:1]
        elif wanted == "*":
            chosen = sorted(found)
        elif wanted in found:
            chosen = [wanted]
        else:
            chosen = sorted(one for one, (_, its_class) in found.items() if its_class == wanted)
        return [FoundDevice(f"{kind}={one}", found[one][0]) for one in chosen]

    @property
    def places(self) -> str:
        """The directories, for errors."""
        return ", ".join(map(str, self._directories))

    def _find(self, name: str) -> tuple[Spec, str]:
        kind, _, device = name.partition("=")
        broken: list[str] = []
        for directory in reversed(self._directories):
            here: list[tuple[Path, Spec]] = []
            for path in _files(directory):
                try:
                    spec = _read(path)
                except CdiInvalidError as error:
                    broken.append(f"{path}: {error}")
                    continue
                if spec.kind == kind and device in spec.devices:
                    here.append((path, spec))
            if len(here) > 1:
                rule = f"both {here[0][0]} and {here[1][0]} have it"
                raise CdiDeviceUnavailable(device=name, rule=rule)
            if here:
                return here[0][1], device
        rule = f"no spec in {self.places} has it"
        if broken:
            rule += f"; {broken[0]}"
        raise CdiDeviceUnavailable(device=name, rule=rule)


def _files(directory: Path) -> Iterator[Path]:
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith((".json", ".yaml", ".yml")))
    except OSError:
        return  # a directory that is not there has no specs
    for name in names[:MAX_SPEC_FILES]:
        yield directory / name


def _read(path: Path) -> Spec:
    """The spec of a file. Raises CdiInvalidError."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SPEC_BYTES + 1)
    except OSError as error:
        raise CdiInvalidError(f"it cannot be read ({error.strerror})") from None
    if len(text) > MAX_SPEC_BYTES:
        raise CdiInvalidError(f"it is larger than {MAX_SPEC_BYTES} bytes (MAX_SPEC_BYTES)")
    try:
        document = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=_PlainLoader)  # noqa: S506
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise CdiInvalidError(f"it is neither JSON nor YAML: {error}") from None
    return cdi.parse(document)


class _PlainLoader(yaml.SafeLoader):
    """Plain values only, and no aliases: a few of them could stand for a document without end."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise CdiInvalidError("aliases (*name) are not supported")
        return super().compose_node(parent, index)


def _status(path: str) -> os.stat_result | None:
    try:
        return Path(path).stat()
    except OSError:
        return None
