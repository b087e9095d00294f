"""Rules about namespaces, devices, security and the limits that few containers ask for. Pure; each refusal names its
field. What another container or the host would have to be is checked where they are known."""

import posixpath
import re
from collections.abc import Sequence
from typing import Final

from fluytd.containers.spec import (
    ContainerSpec,
    IoDeviceSpec,
    NamespaceMode,
    NetworkMode,
    ResourcesSpec,
    SecuritySpec,
)
from fluytd.errors import FieldInvalid, LimitExceeded

#: Source: moby `daemon/daemon_unix.go`, verifyPlatformContainerResources.
MIN_IO_WEIGHT: Final = 10
MAX_IO_WEIGHT: Final = 1_000
MAX_SWAPPINESS: Final = 100
MAX_IO_DEVICES: Final = 64
MAX_HUGETLB_LIMITS: Final = 16
MAX_DEVICES: Final = 256
MAX_DEVICE_RULES: Final = 256
MAX_CDI_DEVICES: Final = 64
MAX_NAME_BYTES: Final = 256
MAX_PATH_BYTES: Final = 4_095
MAX_INT64: Final = 2**63 - 1
#: Source: kernel/sched/core.c, max_cfs_runtime; kernel/sched/rt.c, sysctl_sched_rt_period.
MAX_CPU_BURST_MICROS: Final = 2**43
MAX_REAL_TIME_PERIOD_MICROS: Final = 2**31 - 1
#: As a profile is told in the API; what it compiles to is bounded by the core.
MAX_SECCOMP_BYTES: Final = 256 * 1024
MAX_CGROUP_PARENT_BYTES: Final = 1_024
#: Source: moby `opts/opts.go`, deviceCgroupRuleRegexp. The kernel takes numbers of 32 bits.
_RULE: Final = re.compile(r"[acb] (?:\d{1,10}|\*):(?:\d{1,10}|\*) [rwm]{1,3}", re.ASCII)
_PERMISSIONS: Final = re.compile(r"[rwm]{1,3}", re.ASCII)
#: Sizes that some processor has. Source: rust_core/cgroup, huge_pages.rs.
PAGE_SIZES: Final = ("64KB", "1MB", "2MB", "16MB", "32MB", "512MB", "1GB", "16GB")
#: Source: CDI specification, Device naming: vendor, class and name.
_CDI_NAME: Final = re.compile(
    r"[A-Za-z](?:[A-Za-z0-9._-]*[A-Za-z0-9])?/[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?"
    r"=[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?",
    re.ASCII,
)
#: Places in /dev that are the container's own, whatever devices it is given.
_OWN_IN_DEV: Final = frozenset({"fd", "stdin", "stdout", "stderr", "ptmx", "pts", "shm", "mqueue", "console"})


def check_namespaces(spec: ContainerSpec) -> None:
    """Raises FIELD_INVALID for namespaces that cannot be, or cannot be together with something else that is asked."""
    for name in ("pid", "ipc", "uts", "cgroup"):
        asked = getattr(spec.namespaces, name)
        at = f"spec.namespaces.{name}"
        if asked.mode in {NamespaceMode.SHAREABLE, NamespaceMode.NONE} and name != "ipc":
            raise FieldInvalid(field=f"{at}.mode", rule=f"{asked.mode.value} is a mode of ipc alone")
        _check_other(asked.container, f"{at}.container", is_wanted=asked.mode is NamespaceMode.CONTAINER)
    network = spec.network
    is_joined = network.mode is NetworkMode.CONTAINER
    _check_other(network.container, "spec.network.container", is_wanted=is_joined)
    has_own_name = spec.namespaces.uts.mode is NamespaceMode.PRIVATE
    for name, value in (("hostname", spec.hostname), ("domainname", spec.domainname)):
        if value and not has_own_name:
            raise FieldInvalid(field=f"spec.{name}", rule="cannot be given in a uts namespace of others")
        if value and is_joined:
            raise FieldInvalid(field=f"spec.{name}", rule="cannot be given in the network of another container")
    for name in ("dns_servers", "dns_search", "dns_options", "extra_hosts"):
        if is_joined and getattr(network, name):
            raise FieldInvalid(field=f"spec.network.{name}", rule="cannot be given in the network of another container")
    own_shm = {NamespaceMode.PRIVATE, NamespaceMode.SHAREABLE}
    if spec.shm_size_bytes and spec.namespaces.ipc.mode not in own_shm:
        raise FieldInvalid(field="spec.shm_size_bytes", rule="needs an ipc namespace of the container's own")


def _check_other(container: str, field: str, *, is_wanted: bool) -> None:
    if is_wanted and not container:
        raise FieldInvalid(field=field, rule="must name the other container")
    if container and not is_wanted:
        raise FieldInvalid(field=field, rule="needs the mode container")
    if len(container.encode()) > MAX_NAME_BYTES:
        raise FieldInvalid(field=field, rule=f"is longer than {MAX_NAME_BYTES} bytes (MAX_NAME_BYTES)")


def check_devices(spec: ContainerSpec) -> None:
    """Raises FIELD_INVALID or LIMIT_EXCEEDED for devices, rules and names of devices that cannot be."""
    _bounded(len(spec.devices), MAX_DEVICES, "MAX_DEVICES", "spec.devices")
    _bounded(len(spec.device_cgroup_rules), MAX_DEVICE_RULES, "MAX_DEVICE_RULES", "spec.device_cgroup_rules")
    _bounded(len(spec.cdi_devices), MAX_CDI_DEVICES, "MAX_CDI_DEVICES", "spec.cdi_devices")
    for index, device in enumerate(spec.devices):
        at = f"spec.devices[{index}]"
        _check_path(device.host_path, f"{at}.host_path")
        if device.container_path:
            _check_path(device.container_path, f"{at}.container_path")
        check_place_in_dev(device.container_path or device.host_path, f"{at}.container_path")
        if not _PERMISSIONS.fullmatch(device.permissions):
            raise FieldInvalid(field=f"{at}.permissions", rule="must be some of `r`, `w` and `m`")
    for index, rule in enumerate(spec.device_cgroup_rules):
        if not _RULE.fullmatch(rule):
            raise FieldInvalid(field=f"spec.device_cgroup_rules[{index}]", rule="must be like `c 1:3 rwm` or `b 8:* r`")
    for index, name in enumerate(spec.cdi_devices):
        if len(name) > MAX_NAME_BYTES or not _CDI_NAME.fullmatch(name):
            raise FieldInvalid(field=f"spec.cdi_devices[{index}]", rule="must be like `vendor.com/class=name`")
    check_cgroup_parent(spec.cgroup_parent)


def check_place_in_dev(path: str, field: str) -> None:
    """Raises FIELD_INVALID for a place of a device that the container has for itself."""
    names = posixpath.normpath(path).split("/")
    if names[1] == "dev" and (len(names) == 2 or names[2] in _OWN_IN_DEV):
        raise FieldInvalid(field=field, rule=f"{path} is the container's own place; give another one")


def check_cgroup_parent(parent: str, field: str = "spec.cgroup_parent") -> None:
    """Raises FIELD_INVALID for a parent that is no path of plain names."""
    if not parent:
        return
    names = parent.strip("/").split("/")
    is_plain = all(name not in {"", ".", ".."} and "\0" not in name and "\n" not in name for name in names)
    if not is_plain or len(parent.encode()) > MAX_CGROUP_PARENT_BYTES:
        rule = f"must be a path of names, of at most {MAX_CGROUP_PARENT_BYTES} bytes, without `.` and `..`"
        raise FieldInvalid(field=field, rule=rule)


def check_security(security: SecuritySpec) -> None:
    """Raises FIELD_INVALID for a profile that is too long; the core says what else is wrong with one."""
    if len((security.seccomp_profile or "").encode()) > MAX_SECCOMP_BYTES:
        rule = f"is longer than {MAX_SECCOMP_BYTES} bytes (MAX_SECCOMP_BYTES)"
        raise FieldInvalid(field="spec.security.seccomp.json", rule=rule)


def check_further_limits(limits: ResourcesSpec, at: str) -> None:
    """Raises FIELD_INVALID or LIMIT_EXCEEDED for limits that no host can give, with the path below `at`."""
    _in_range(limits.memory_swappiness, 0, MAX_SWAPPINESS, f"{at}.memory_swappiness")
    _in_range(limits.cpu_burst_micros, 0, MAX_CPU_BURST_MICROS, f"{at}.cpu_burst_micros")
    period = limits.cpu_real_time_period_micros
    _in_range(period, 0, MAX_REAL_TIME_PERIOD_MICROS, f"{at}.cpu_real_time_period_micros")
    runtime = limits.cpu_real_time_runtime_micros
    _in_range(runtime, 0, period or MAX_REAL_TIME_PERIOD_MICROS, f"{at}.cpu_real_time_runtime_micros")
    if limits.io_weight:
        _in_range(limits.io_weight, MIN_IO_WEIGHT, MAX_IO_WEIGHT, f"{at}.io_weight")
    if limits.oom_kill_disabled and not limits.memory_limit_bytes:
        # Source: docker run's own warning: without a bound such a container can hang the host.
        raise FieldInvalid(field=f"{at}.oom_kill_disabled", rule="needs memory_limit_bytes")
    _check_burst(limits, at)
    _bounded(len(limits.io_devices), MAX_IO_DEVICES, "MAX_IO_DEVICES", f"{at}.io_device_limits")
    _bounded(len(limits.hugetlb), MAX_HUGETLB_LIMITS, "MAX_HUGETLB_LIMITS", f"{at}.hugetlb_limits")
    check_listed_limits(limits, at)
    paths = [device.path for device in limits.io_devices]
    for index, path in enumerate(paths):
        if path in paths[:index]:
            raise FieldInvalid(field=f"{at}.io_device_limits[{index}].path", rule=f"{path} is given twice")
    sizes = [bound.page_size for bound in limits.hugetlb]
    for index, size in enumerate(sizes):
        if size in sizes[:index]:
            raise FieldInvalid(field=f"{at}.hugetlb_limits[{index}].page_size", rule=f"{size} is given twice")


def _check_burst(limits: ResourcesSpec, at: str) -> None:
    quota = limits.cpu_quota_micros
    if limits.nano_cpus:
        quota = limits.nano_cpus // 10_000
    if limits.cpu_burst_micros and (quota or 0) < limits.cpu_burst_micros:
        raise FieldInvalid(field=f"{at}.cpu_burst_micros", rule="must be at most the quota of a period")


def check_listed_limits(limits: ResourcesSpec, at: str) -> None:
    """Raises FIELD_INVALID for one of a list that cannot be by itself, with its place in the list."""
    for index, device in enumerate(limits.io_devices):
        here = f"{at}.io_device_limits[{index}]"
        _check_path(device.path, f"{here}.path")
        for name in ("read_bytes_per_second", "write_bytes_per_second", "read_ops_per_second", "write_ops_per_second"):
            _in_range(getattr(device, name), 0, MAX_INT64, f"{here}.{name}")
        if device.weight:
            _in_range(device.weight, MIN_IO_WEIGHT, MAX_IO_WEIGHT, f"{here}.weight")
    for index, bound in enumerate(limits.hugetlb):
        here = f"{at}.hugetlb_limits[{index}]"
        if bound.page_size not in PAGE_SIZES:
            raise FieldInvalid(field=f"{here}.page_size", rule=f"must be one of {', '.join(PAGE_SIZES)}")
        _in_range(bound.limit_bytes, -1, MAX_INT64, f"{here}.limit_bytes")


def io_device_fields(devices: Sequence[IoDeviceSpec], at: str) -> dict[str, str]:
    """The request's fields of the devices, by their paths."""
    return {device.path: f"{at}.io_device_limits[{index}].path" for index, device in enumerate(devices)}


def _check_path(path: str, field: str) -> None:
    if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise FieldInvalid(field=field, rule="must be an absolute path without `..`")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise FieldInvalid(field=field, rule=f"is longer than {MAX_PATH_BYTES} bytes (MAX_PATH_BYTES)")


def _bounded(actual: int, limit: int, name: str, subject: str) -> None:
    if actual > limit:
        raise LimitExceeded(limit=name, limit_value=limit, actual=actual, subject=subject)


def _in_range(value: int | None, low: int, high: int, field: str) -> None:
    if value is not None and not low <= value <= high:
        raise FieldInvalid(field=field, rule=f"must be {low} to {high}")
