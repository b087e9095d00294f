"""Device nodes of the host that a container is given: looked up when it starts, told to the core by number.

It also puts what CDI names stand for into a start.
"""

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from fluytd.containers import process_spec as core
from fluytd.containers.cdi import Edits, merged_env
from fluytd.containers.cdi_registry import CdiRegistry
from fluytd.containers.confinement import check_place_in_dev, io_device_fields
from fluytd.containers.spec import ContainerSpec, DeviceSpec
from fluytd.errors import FieldInvalid, LimitExceeded

#: Nodes that a container is given at most, those below directories included.
MAX_DEVICE_NODES: Final = 512
#: How deep below a directory of the host nodes are looked for.
MAX_DEVICE_DEPTH: Final = 8


class HostDevices:
    """Looks the host's devices up. Any thread may use it."""

    def __init__(self, cdi: CdiRegistry) -> None:
        self._cdi = cdi

    def given(self, spec: ContainerSpec, start: core.ContainerStart) -> core.ContainerStart:
        """The start with the spec's devices and what its CDI names stand for.

        Raises FIELD_INVALID, LIMIT_EXCEEDED, CDI_DEVICE_UNAVAILABLE, IO_FAILED. Blocking.
        """
        if not (start.limits.io_devices or spec.devices or spec.cdi_devices):
            return start
        fields = io_device_fields(spec.resources.io_devices, "spec.resources")
        limits = replace(start.limits, io_devices=numbered(start.limits.io_devices, fields))
        if not spec.devices and not spec.cdi_devices:
            return replace(start, limits=limits)
        edits = self._cdi.edits(spec.cdi_devices) if spec.cdi_devices else Edits()
        asked = [(device, f"spec.devices[{index}]") for index, device in enumerate(spec.devices)]
        nodes, mounts, rules = [], [], []
        for device, field in asked:
            for path, inside in _expanded(device, field):
                node = look_up(path, inside, field)
                if node.path.startswith("/dev/"):
                    nodes.append(node)
                else:
                    mounts.append(core.Mount("bind", path, inside, no_exec=True, no_suid=True))
                rules.append(core.DeviceRule(node.is_block, node.major, node.minor, device.permissions))
        nodes += edits.nodes
        _check_count(len(nodes) + len(mounts))
        return replace(
            start,
            limits=limits,
            devices=nodes,
            device_rules=[*start.device_rules, *rules, *edits.rules],
            mounts=sorted([*start.mounts, *mounts, *edits.mounts], key=_depth),
            env=merged_env(start.env, edits.env),
            additional_groups=[*start.additional_groups, *map(str, edits.gids)],
        )


def _depth(mount: core.Mount) -> int:
    return mount.destination.rstrip("/").count("/")


def _check_count(count: int) -> None:
    if count > MAX_DEVICE_NODES:
        raise LimitExceeded(
            limit="MAX_DEVICE_NODES", limit_value=MAX_DEVICE_NODES, actual=count, subject="devices of a container"
        )


def look_up(path: str, inside: str, field: str) -> core.DeviceNode:
    """The node of the host at `path`, to be at `inside`. Raises FIELD_INVALID (`field`) if there is no device."""
    try:
        found = Path(path).stat()
    except OSError as error:
        rule = f"there is no device at {path} on the host ({error.strerror})"
        raise FieldInvalid(field=f"{field}.host_path", rule=rule) from None
    if not stat.S_ISBLK(found.st_mode) and not stat.S_ISCHR(found.st_mode):
        raise FieldInvalid(field=f"{field}.host_path", rule=f"{path} is no device on the host")
    return core.DeviceNode(
        path=inside,
        is_block=stat.S_ISBLK(found.st_mode),
        major=os.major(found.st_rdev),
        minor=os.minor(found.st_rdev),
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
    )


def _expanded(device: DeviceSpec, field: str) -> list[tuple[str, str]]:
    """(path on the host, path inside) of the device, or of each node below a directory, links left out."""
    inside = (device.container_path or device.host_path).rstrip("/")
    host = device.host_path.rstrip("/")
    if not Path(host).is_dir():
        return [(host, inside)]
    found: list[tuple[str, str]] = []
    _collect(host, inside, MAX_DEVICE_DEPTH, found)
    if not found:
        raise FieldInvalid(field=f"{field}.host_path", rule=f"there is no device below {host} on the host")
    for _, place in found:
        check_place_in_dev(place, f"{field}.container_path")
    return found


def _collect(host: str, inside: str, depth: int, found: list[tuple[str, str]]) -> None:
    # Source: moby `oci/devices_linux.go`, DevicesFromPath.
    with os.scandir(host) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.is_dir(follow_symlinks=False):
                if depth > 0 and entry.name not in {"pts", "shm", "fd", "mqueue"}:
                    _collect(entry.path, f"{inside}/{entry.name}", depth - 1, found)
                continue
            mode = entry.stat(follow_symlinks=False).st_mode
            if entry.name != "console" and (stat.S_ISBLK(mode) or stat.S_ISCHR(mode)):
                found.append((entry.path, f"{inside}/{entry.name}"))
                _check_count(len(found))


def numbered(devices: Sequence[core.IoDevice], fields: Mapping[str, str]) -> list[core.IoDevice]:
    """The devices with their numbers. Raises FIELD_INVALID for a path that is no block device, with its field of
    `fields`. Blocking."""
    found = []
    for device in devices:
        field = fields.get(device.path, "resources.io_device_limits")
        try:
            status = Path(device.path).stat()
        except OSError as error:
            rule = f"there is no device at {device.path} on the host ({error.strerror})"
            raise FieldInvalid(field=field, rule=rule) from None
        if not stat.S_ISBLK(status.st_mode):
            raise FieldInvalid(field=field, rule=f"{device.path} is no block device")
        found.append(replace(device, major=os.major(status.st_rdev), minor=os.minor(status.st_rdev)))
    return found
