"""What a CDI spec says of its devices, as the edits to a container that it stands for. Pure.

Source: Container Device Interface specification, versions 0.3.0 to 1.1.0 (SPEC.md of
cncf-tags/container-device-interface).
"""

import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fluytd.containers import process_spec as core

#: Versions of the specification that are understood.
VERSIONS: Final = frozenset({"0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"})
#: Devices of one spec; edits of each kind that one start takes from all specs.
MAX_SPEC_DEVICES: Final = 1_024
MAX_EDITS: Final = 512
MAX_TEXT_BYTES: Final = 4_095
MAX_ID: Final = 2**32 - 2
#: Options of a mount that are understood; others are refused by name.
_MOUNT_OPTIONS: Final = frozenset(
    ["ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "bind", "rbind", "private", "rprivate"]
)


_OCTAL: Final = re.compile(r"0o[0-7]{1,11}", re.ASCII)
#: What builds are told of a device. Source: BuildKit solver/llbsolver/cdidevices.
_CLASS: Final = "org.mobyproject.buildkit.device.class"
_AUTO_ALLOW: Final = "org.mobyproject.buildkit.device.autoallow"


class CdiInvalidError(Exception):
    """A spec, or what it asks for, that cannot be carried out; the message is the rule it breaks."""


@dataclass(frozen=True, slots=True)
class Node:
    """A device node as a spec has it; what is None is looked up on the host."""

    path: str
    host_path: str
    kind: str = ""
    major: int | None = None
    minor: int | None = None
    mode: int | None = None
    permissions: str = "rwm"
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class Edits:
    """What a start is given besides what its caller asked."""

    env: tuple[str, ...] = ()
    #: As specs have them.
    asked_nodes: tuple[Node, ...] = ()
    mounts: tuple[core.Mount, ...] = ()
    gids: tuple[int, ...] = ()
    #: The same nodes looked up on the host, and who may do what with them.
    nodes: tuple[core.DeviceNode, ...] = ()
    rules: tuple[core.DeviceRule, ...] = ()
    #: What stands in the specs, word for word: whoever keeps a result made with the edits compares these.
    as_written: tuple[str, ...] = ()

    def __add__(self, other: "Edits") -> "Edits":
        return Edits(
            self.env + other.env,
            self.asked_nodes + other.asked_nodes,
            self.mounts + other.mounts,
            self.gids + other.gids,
            as_written=self.as_written + other.as_written,
        )


@dataclass(frozen=True, slots=True)
class Spec:
    """One file: a vendor's devices of one class."""

    #: `vendor.com/class`.
    kind: str
    #: For every container that has a device of this file.
    edits: Edits
    devices: Mapping[str, Edits] = field(default_factory=dict)
    #: Devices that a build need not be allowed, and the class of those that are of one.
    auto_allowed: frozenset[str] = frozenset()
    classes: Mapping[str, str] = field(default_factory=dict)


def parse(document: object) -> Spec:
    """The spec of a decoded file. Raises CdiInvalidError with the rule that it breaks."""
    top = _table(document, "the spec")
    version = _text(top.get("cdiVersion"), "cdiVersion")
    if version not in VERSIONS:
        raise CdiInvalidError(f"cdiVersion {version!r} is not known; known are {', '.join(sorted(VERSIONS))}")
    kind = _text(top.get("kind"), "kind")
    if kind.count("/") != 1:
        raise CdiInvalidError("kind must be like vendor.com/class")
    listed = _list(top.get("devices"), "devices")
    if len(listed) > MAX_SPEC_DEVICES:
        raise CdiInvalidError(f"more than {MAX_SPEC_DEVICES} devices (MAX_SPEC_DEVICES)")
    devices: dict[str, Edits] = {}
    auto_allowed: set[str] = set()
    classes: dict[str, str] = {}
    for index, entry in enumerate(listed):
        device = _table(entry, f"devices[{index}]")
        name = _text(device.get("name"), f"devices[{index}].name")
        if name in devices:
            raise CdiInvalidError(f"the device {name!r} stands there twice")
        devices[name] = _edits(device.get("containerEdits"), f"devices[{index}].containerEdits")
        notes = _annotations(top) | _annotations(device)
        if notes.get(_AUTO_ALLOW) in {True, "true", "True", "TRUE", "t", "T", "1"}:
            auto_allowed.add(name)
        if isinstance(notes.get(_CLASS), str):
            classes[name] = notes[_CLASS]
    edits = _edits(top.get("containerEdits"), "containerEdits")
    return Spec(kind, edits, devices, frozenset(auto_allowed), classes)


def _annotations(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The two that count here, plain values of whatever type; a spec is not refused for the others."""
    found = entry.get("annotations")
    notes = found if isinstance(found, dict) else {}
    return {name: notes[name] for name in (_CLASS, _AUTO_ALLOW) if isinstance(notes.get(name), str | bool)}


def _edits(value: object, at: str) -> Edits:
    if value is None:
        return Edits()
    edits = _table(value, at)
    for name in ("hooks", "intelRdt", "netDevices"):
        if edits.get(name):
            raise CdiInvalidError(f"{at}.{name} is not supported by this engine")
    found = Edits(
        env=tuple(_variable(item, f"{at}.env") for item in _list(edits.get("env"), f"{at}.env")),
        asked_nodes=tuple(
            _node(item, f"{at}.deviceNodes") for item in _list(edits.get("deviceNodes"), f"{at}.deviceNodes")
        ),
        mounts=tuple(_mount(item, f"{at}.mounts") for item in _list(edits.get("mounts"), f"{at}.mounts")),
        gids=tuple(_number(item, f"{at}.additionalGids", MAX_ID) for item in _list(edits.get("additionalGids"), at)),
        as_written=(repr([edits.get(name) for name in ("env", "deviceNodes", "mounts", "additionalGids")]),),
    )
    check_size(found)
    return found


def check_size(edits: Edits) -> None:
    """Raises CdiInvalidError for more edits than one start takes."""
    for name, count in (
        ("env", len(edits.env)),
        ("deviceNodes", len(edits.asked_nodes)),
        ("mounts", len(edits.mounts)),
        ("additionalGids", len(edits.gids)),
    ):
        if count > MAX_EDITS:
            raise CdiInvalidError(f"{count} {name}, more than {MAX_EDITS} (MAX_EDITS)")


def _variable(value: object, at: str) -> str:
    text = _text(value, at)
    if "=" not in text[1:]:
        raise CdiInvalidError(f"{at}: {text!r} is not NAME=value")
    return text


def _node(value: object, at: str) -> Node:
    entry = _table(value, at)
    path = _path(entry.get("path"), f"{at}.path")
    kind = _text(entry.get("type", ""), f"{at}.type", may_be_empty=True)
    if kind not in {"", "b", "c", "u"}:
        raise CdiInvalidError(f"{at}.type {kind!r} is not supported; it is b or c")
    permissions = _text(entry.get("permissions", "rwm"), f"{at}.permissions", may_be_empty=True) or "rwm"
    if not set(permissions) <= set("rwm"):
        raise CdiInvalidError(f"{at}.permissions must be some of r, w and m")

    def number(name: str) -> int | None:
        return None if entry.get(name) is None else _number(entry[name], f"{at}.{name}", MAX_ID)

    return Node(
        path=path,
        host_path=_path(entry.get("hostPath", path), f"{at}.hostPath"),
        kind=kind,
        major=number("major"),
        minor=number("minor"),
        mode=number("fileMode"),
        permissions=permissions,
        uid=number("uid"),
        gid=number("gid"),
    )


def _mount(value: object, at: str) -> core.Mount:
    entry = _table(value, at)
    source = _path(entry.get("hostPath"), f"{at}.hostPath")
    target = _path(entry.get("containerPath"), f"{at}.containerPath")
    if _text(entry.get("type", ""), f"{at}.type", may_be_empty=True) not in {"", "bind"}:
        raise CdiInvalidError(f"{at}.type must be bind")
    options = [_text(option, f"{at}.options") for option in _list(entry.get("options"), f"{at}.options")]
    unknown = [option for option in options if option not in _MOUNT_OPTIONS]
    if unknown:
        raise CdiInvalidError(f"{at}.options: {unknown[0]!r} is not supported")
    return core.Mount(
        "bind",
        source,
        target,
        is_read_only="ro" in options,
        no_exec="noexec" in options,
        no_suid="nosuid" in options,
        no_dev="nodev" in options,
    )


def known_node(node: Node, status: os.stat_result | None) -> tuple[core.DeviceNode, core.DeviceRule]:
    """The node as the core makes it, what the spec leaves out taken from the host's (`status`, None: it has none).

    Raises CdiInvalidError if there is no such device.
    """
    is_device = status is not None and (stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode))
    if status is None or not is_device:
        if node.major is None or not node.kind:
            raise CdiInvalidError(f"there is no device at {node.host_path} on the host")
        is_block, number, mode, owner = node.kind == "b", (node.major, node.minor or 0), 0o666, (0, 0)
    else:
        is_block = node.kind == "b" if node.kind else stat.S_ISBLK(status.st_mode)
        number = (os.major(status.st_rdev), os.minor(status.st_rdev))
        if node.major is not None and (node.major or (node.minor or 0)):
            number = (node.major, node.minor or 0)
        mode, owner = stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)
    made = core.DeviceNode(
        path=node.path,
        is_block=is_block,
        major=number[0],
        minor=number[1],
        mode=mode if node.mode is None else stat.S_IMODE(node.mode),
        uid=owner[0] if node.uid is None else node.uid,
        gid=owner[1] if node.gid is None else node.gid,
    )
    return made, core.DeviceRule(is_block, number[0], number[1], node.permissions)


def merged_env(env: Sequence[str], further: Iterable[str]) -> list[str]:
    """The variables with the further ones over them, each in its place."""
    merged = dict(item.split("=", 1) for item in env)
    merged |= dict(item.split("=", 1) for item in further)
    return [f"{name}={value}" for name, value in merged.items()]


def _table(value: object, at: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise CdiInvalidError(f"{at} must be an object")
    return value


def _list(value: object, at: str) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise CdiInvalidError(f"{at} must be a list")
    return value


def _text(value: object, at: str, *, may_be_empty: bool = False) -> str:
    if not isinstance(value, str) or (not value and not may_be_empty) or "\0" in value:
        raise CdiInvalidError(f"{at} must be a text")
    if len(value.encode()) > MAX_TEXT_BYTES:
        raise CdiInvalidError(f"{at} is longer than {MAX_TEXT_BYTES} bytes (MAX_TEXT_BYTES)")
    return value


def _path(value: object, at: str) -> str:
    path = _text(value, at)
    if not path.startswith("/") or ".." in path.split("/"):
        raise CdiInvalidError(f"{at} must be an absolute path without ..")
    return path


def _number(value: object, at: str, most: int) -> int:
    if isinstance(value, str) and _OCTAL.fullmatch(value):
        value = int(value, 8)  # as YAML 1.2 writes it, which the reader takes for a text
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise CdiInvalidError(f"{at} must be a number of 0 to {most}")
    return value
