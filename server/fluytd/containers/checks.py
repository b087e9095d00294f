"""Rules that every container spec must meet before anything is made of it. Pure; each refusal names its field."""

import ipaddress
import posixpath
import re
from collections.abc import Iterable, Sequence
from typing import Final

from fluytd.containers import confinement
from fluytd.containers.name_files import HOST_GATEWAY
from fluytd.containers.process_checks import (
    MAX_ARG_BYTES,
    MAX_PATH_BYTES,
    bounded,
    check_directory,
    check_process,
    check_text,
)
from fluytd.containers.signals import parse_signal
from fluytd.containers.spec import (
    ContainerSpec,
    HealthCheck,
    NamespaceMode,
    NetworkMode,
    ResourcesSpec,
    RestartMode,
    RestartPolicy,
    RlimitSpec,
    mount_field,
)
from fluytd.errors import FieldInvalid
from fluytd.host.projects import MIN_BOUND_BYTES

MIB: Final = 1024 * 1024
#: Smallest memory limit. Source: moby `daemon/daemon_unix.go`, linuxMinMemory.
MIN_MEMORY_BYTES: Final = 6 * MIB
MAX_INT64: Final = 2**63 - 1
#: Source: mm/shmem.c, ULONG_MAX / BOGO_INODE_SIZE: more is refused by the kernel.
MAX_TMPFS_INODES: Final = (2**64 - 1) // 1024
#: Source: kernel/sched/core.c, max_cfs_runtime and min_cfs_quota_period.
MIN_CPU_QUOTA_MICROS: Final = 1_000
MIN_CPU_PERIOD_MICROS: Final = 1_000
MAX_CPU_PERIOD_MICROS: Final = 1_000_000
#: Source: kernel/sched/sched.h, MIN_SHARES and MAX_SHARES.
MIN_CPU_SHARES: Final = 2
MAX_CPU_SHARES: Final = 262_144
#: Source: include/linux/threads.h, PID_MAX_LIMIT.
MAX_PIDS: Final = 4_194_304
#: Source: include/uapi/linux/utsname.h, __NEW_UTS_LEN.
MAX_HOSTNAME_BYTES: Final = 64
MAX_LABELS_BYTES: Final = 256 * 1024
MAX_MOUNTS: Final = 256
MAX_DNS_ENTRIES: Final = 32
MAX_STOP_TIMEOUT_MILLIS: Final = 24 * 3600 * 1000
MAX_HEALTH_ARGS_BYTES: Final = 64 * 1024
MAX_HEALTH_SPAN_MILLIS: Final = 24 * 3600 * 1000
MAX_HEALTH_RETRIES: Final = 1_000
MIN_LOG_SEGMENT_BYTES: Final = 1024
MAX_LOG_SEGMENT_BYTES: Final = 1024 * MIB
MAX_LOG_SEGMENTS: Final = 1_000
MAX_LOG_DETAILS: Final = 64
MAX_EXPOSED_PORTS: Final = 1_024

RLIMIT_NAMES: Final = frozenset(
    [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ]
)
_HOSTNAME: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]*[a-zA-Z0-9])?", re.ASCII)
_CPU_LIST: Final = re.compile(r"\d{1,6}(?:-\d{1,6})?(?:,\d{1,6}(?:-\d{1,6})?)*", re.ASCII)
_HOST_ALIAS: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]*[a-zA-Z0-9])?:[^\s][^\s]*", re.ASCII)
_EXPOSED_PORT: Final = re.compile(r"([1-9]\d{0,4})/(?:tcp|udp|sctp)", re.ASCII)
MAX_PORT: Final = 65_535
_WORD: Final = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
#: Kernel parameters that belong to the container's own IPC namespace. Source: moby `opts`, ValidateSysctl.
_IPC_SYSCTLS: Final = frozenset(
    f"kernel.{name}" for name in ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"]
)


def check_spec(spec: ContainerSpec) -> None:
    """Nothing in the spec breaks a rule that can be told without image and host.

    Raises FIELD_INVALID with the field's path, LIMIT_EXCEEDED with the name of the limit.
    """
    _check_strings(spec)
    _check_host_names(spec)
    check_resources(spec.resources, "spec.resources")
    if spec.health_check is not None:
        check_health(spec.health_check)
    check_restart_policy(spec.restart_policy, "spec.restart_policy", auto_remove=spec.auto_remove)
    check_rlimits(spec.rlimits, "spec.rlimits")
    _check_mounts(spec)
    confinement.check_namespaces(spec)
    confinement.check_devices(spec)
    confinement.check_security(spec.security)
    _check_sysctls(spec)
    _check_network(spec)
    if spec.working_dir:
        check_path(spec.working_dir, "spec.working_dir")
    for field, paths in (("masked", spec.security.masked_paths), ("read_only", spec.security.read_only_paths)):
        for index, path in enumerate(paths or ()):
            check_path(path, f"spec.security.{field}_paths.paths[{index}]")
    if spec.stop_signal and parse_signal(spec.stop_signal) is None:
        raise FieldInvalid(field="spec.stop_signal", rule=f"{spec.stop_signal!r} is not a signal")
    if (spec.stop_timeout_millis or 0) > MAX_STOP_TIMEOUT_MILLIS:
        rule = f"must be at most {MAX_STOP_TIMEOUT_MILLIS} milliseconds, or negative to wait for ever"
        raise FieldInvalid(field="spec.stop_timeout", rule=rule)
    _in_range(spec.oom_score_adj, -1000, 1000, "spec.oom_score_adj", "")
    _in_range(spec.shm_size_bytes, 0, MAX_INT64, "spec.shm_size_bytes", "bytes")
    if spec.storage_size_bytes:
        _in_range(spec.storage_size_bytes, MIN_BOUND_BYTES, MAX_INT64, "spec.storage_size_bytes", "bytes")
    if spec.log.segment_size_bytes:
        bounds = (MIN_LOG_SEGMENT_BYTES, MAX_LOG_SEGMENT_BYTES)
        _in_range(spec.log.segment_size_bytes, *bounds, "spec.log.segment_size_bytes", "bytes")
    _in_range(spec.log.segment_count, 0, MAX_LOG_SEGMENTS, "spec.log.segment_count", "")
    for name, items in (("detail_labels", spec.log.detail_labels), ("detail_env", spec.log.detail_env)):
        bounded(len(items), MAX_LOG_DETAILS, "MAX_LOG_DETAILS", f"spec.log.{name}")
        for index, item in enumerate(items):
            if not _WORD.fullmatch(item) or "=" in item:
                raise FieldInvalid(
                    field=f"spec.log.{name}[{index}]", rule="must be a name of printable ASCII without `=`"
                )
    if spec.stdin_once and not spec.open_stdin:
        raise FieldInvalid(field="spec.stdin_once", rule="needs open_stdin")


def check_health(check: HealthCheck) -> None:
    """Raises FIELD_INVALID or LIMIT_EXCEEDED for a health check that cannot be, with the field's path."""
    at = "spec.health_check"
    for index, argument in enumerate(check.args):
        check_text(argument, f"{at}.args[{index}]", MAX_ARG_BYTES, "MAX_ARG_BYTES")
    size = sum(len(argument.encode()) for argument in check.args)
    bounded(size, MAX_HEALTH_ARGS_BYTES, "MAX_HEALTH_ARGS_BYTES", f"{at}.args in bytes")
    for name in ("interval", "timeout", "start_period", "start_interval"):
        _in_range(getattr(check, f"{name}_millis"), 0, MAX_HEALTH_SPAN_MILLIS, f"{at}.{name}", "milliseconds")
    _in_range(check.retries, 0, MAX_HEALTH_RETRIES, f"{at}.retries", "")
    if check.is_disabled and check.args:
        raise FieldInvalid(field=f"{at}.args", rule="cannot be given together with disabled")


def check_restart_policy(policy: RestartPolicy, at: str, *, auto_remove: bool) -> None:
    """Raises FIELD_INVALID for a policy that contradicts itself, or the removal of the container when it ends."""
    if policy.max_retry_count and policy.mode is not RestartMode.ON_FAILURE:
        raise FieldInvalid(field=f"{at}.max_retry_count", rule="needs the mode on-failure")
    if policy.mode is not RestartMode.NO and auto_remove:
        raise FieldInvalid(field=at, rule="cannot be given together with auto_remove")


def swap_default(memory_bytes: int | None, swap_bytes: int | None) -> int | None:
    """Memory and swap together: as asked, or twice the memory where only that was given (case C02)."""
    if memory_bytes is None or (swap_bytes is not None and swap_bytes != 0):
        return swap_bytes or None
    return min(2 * memory_bytes, MAX_INT64)


def check_resources(resources: ResourcesSpec, at: str) -> None:
    """Raises FIELD_INVALID for a limit that no host can give, with its path below `at`."""
    memory, swap = resources.memory_limit_bytes or 0, resources.memory_swap_limit_bytes or 0
    reservation = resources.memory_reservation_bytes or 0
    if memory != 0:
        _in_range(memory, MIN_MEMORY_BYTES, MAX_INT64, f"{at}.memory_limit_bytes", "bytes")
    if swap < -1:
        raise FieldInvalid(field=f"{at}.memory_swap_limit_bytes", rule="must be -1, or at least the memory limit")
    if swap > 0 and memory == 0:
        raise FieldInvalid(field=f"{at}.memory_swap_limit_bytes", rule="needs memory_limit_bytes")
    if 0 < swap < memory:
        raise FieldInvalid(
            field=f"{at}.memory_swap_limit_bytes", rule="counts memory and swap together: at least memory_limit_bytes"
        )
    if reservation != 0:
        _in_range(reservation, MIN_MEMORY_BYTES, memory or MAX_INT64, f"{at}.memory_reservation_bytes", "bytes")
    _check_cpu(resources, at)
    confinement.check_further_limits(resources, at)
    _in_range(resources.pids_limit, -1, MAX_PIDS, f"{at}.pids_limit", "processes")
    for field, text in (("cpuset_cpus", resources.cpuset_cpus), ("cpuset_mems", resources.cpuset_mems)):
        if text:
            parse_cpu_list(text, f"{at}.{field}")


def _check_cpu(resources: ResourcesSpec, at: str) -> None:
    quota, period, shares = resources.cpu_quota_micros, resources.cpu_period_micros, resources.cpu_shares
    if resources.nano_cpus:
        for field, value in (("cpu_quota_micros", quota), ("cpu_period_micros", period)):
            if value:
                raise FieldInvalid(field=f"{at}.{field}", rule="cannot be given together with nano_cpus")
        _in_range(resources.nano_cpus, 10_000_000, MAX_INT64 // MAX_CPU_PERIOD_MICROS, f"{at}.nano_cpus", "")
    if quota not in (None, 0, -1):
        _in_range(quota, MIN_CPU_QUOTA_MICROS, MAX_INT64 // 1_000, f"{at}.cpu_quota_micros", "microseconds")
    if period:
        bounds = (MIN_CPU_PERIOD_MICROS, MAX_CPU_PERIOD_MICROS)
        _in_range(period, *bounds, f"{at}.cpu_period_micros", "microseconds")
    if shares:
        _in_range(shares, MIN_CPU_SHARES, MAX_CPU_SHARES, f"{at}.cpu_shares", "")
    _in_range(period, 0, MAX_INT64, f"{at}.cpu_period_micros", "microseconds")
    _in_range(shares, 0, MAX_INT64, f"{at}.cpu_shares", "")
    _in_range(resources.nano_cpus, 0, MAX_INT64, f"{at}.nano_cpus", "")


def check_against_host(resources: ResourcesSpec, cpus: frozenset[int], memory_nodes: frozenset[int], at: str) -> None:
    """Raises FIELD_INVALID for CPUs or memory nodes that this host does not have, as Docker does."""
    if resources.nano_cpus and resources.nano_cpus > len(cpus) * 1_000_000_000:
        raise FieldInvalid(field=f"{at}.nano_cpus", rule=f"this host has {len(cpus)} CPUs")
    for field, text, present in (
        ("cpuset_cpus", resources.cpuset_cpus, cpus),
        ("cpuset_mems", resources.cpuset_mems, memory_nodes),
    ):
        missing = parse_cpu_list(text, f"{at}.{field}") - present if text else set()
        if missing:
            numbers = ", ".join(map(str, sorted(missing)[:8]))
            raise FieldInvalid(field=f"{at}.{field}", rule=f"this host does not have {numbers}")


def parse_cpu_list(text: str, field: str) -> set[int]:
    """The numbers of a list such as `0-2,7`. Raises FIELD_INVALID. Source: cpuset(7), list format."""
    if not _CPU_LIST.fullmatch(text):
        raise FieldInvalid(field=field, rule="must be a list of numbers and ranges such as `0-2,7`")
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if low > high or high > 8192:
            raise FieldInvalid(field=field, rule=f"{part!r} is not a range of numbers up to 8192")
        numbers.update(range(low, high + 1))
    return numbers


def check_path(path: str, field: str) -> None:
    """Raises FIELD_INVALID unless it is an absolute path without `..` that the kernel can take."""
    check_directory(path, field)
    if ".." in path.split("/"):
        raise FieldInvalid(field=field, rule="must not contain `..`")


def _check_strings(spec: ContainerSpec) -> None:
    check_process(spec.args, spec.env, spec.user, spec.additional_groups, entrypoint=spec.entrypoint or ())
    for name, pairs in (("labels", spec.labels), ("annotations", spec.annotations)):
        if "" in pairs:
            raise FieldInvalid(field=f"spec.{name}", rule="a key must not be empty")
        size = sum(len(key.encode()) + len(value.encode()) for key, value in pairs.items())
        bounded(size, MAX_LABELS_BYTES, "MAX_LABELS_BYTES", f"spec.{name} in bytes")


def _check_host_names(spec: ContainerSpec) -> None:
    for field, name in (("hostname", spec.hostname), ("domainname", spec.domainname)):
        if name and (len(name.encode()) > MAX_HOSTNAME_BYTES or not _HOSTNAME.fullmatch(name)):
            rule = f"must be at most {MAX_HOSTNAME_BYTES} letters, digits, `.`, `_` or `-`, not at an end"
            raise FieldInvalid(field=f"spec.{field}", rule=rule)


def check_rlimits(rlimits: Iterable[RlimitSpec], field: str) -> None:
    """Raises FIELD_INVALID for a limit of setrlimit(2) that cannot be, with its place in `field`."""
    seen: set[str] = set()
    for index, limit in enumerate(rlimits):
        at = f"{field}[{index}]"
        if limit.name not in RLIMIT_NAMES:
            raise FieldInvalid(field=f"{at}.name", rule=f"must be one of {', '.join(sorted(RLIMIT_NAMES))}")
        if limit.name in seen:
            raise FieldInvalid(field=f"{at}.name", rule=f"{limit.name} is given twice")
        seen.add(limit.name)
        _in_range(limit.soft, -1, MAX_INT64, f"{at}.soft", "")
        _in_range(limit.hard, -1, MAX_INT64, f"{at}.hard", "")
        if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            raise FieldInvalid(field=f"{at}.soft", rule="must not exceed the hard limit")


def _check_mounts(spec: ContainerSpec) -> None:
    bounded(len(spec.mounts), MAX_MOUNTS, "MAX_MOUNTS", "spec.mounts")
    bounded(len(spec.volumes_from), MAX_MOUNTS, "MAX_MOUNTS", "spec.volumes_from")
    seen: set[str] = set()
    for mount in spec.mounts:
        at = mount_field(mount.position)
        check_path(mount.target, f"{at}.target")
        target = posixpath.normpath(mount.target)
        if target == "/":
            raise FieldInvalid(field=f"{at}.target", rule="must not be the root")
        if target in seen:
            raise FieldInvalid(field=f"{at}.target", rule=f"{target} is given twice")
        seen.add(target)
    for bind in spec.binds:
        at = f"{mount_field(bind.position)}.bind"
        check_path(bind.source, f"{at}.source")
        if not bind.recursive_read_only and not bind.read_only:
            raise FieldInvalid(field=f"{at}.recursive_read_only", rule="needs read_only")
    for kind, parts in (("volume", spec.volumes), ("image", spec.image_mounts)):
        for part in parts:
            if part.sub_path:
                check_sub_path(part.sub_path, f"{mount_field(part.position)}.{kind}.sub_path")
    for tmpfs in spec.tmpfs:
        at = f"{mount_field(tmpfs.position)}.tmpfs"
        _in_range(tmpfs.size_bytes, 0, MAX_INT64, f"{at}.size_bytes", "bytes")
        _in_range(tmpfs.max_inodes, 0, MAX_TMPFS_INODES, f"{at}.max_inodes", "")
        _in_range(tmpfs.mode, 0, 0o7777, f"{at}.mode", "")


def check_sub_path(path: str, field: str) -> None:
    """Raises FIELD_INVALID unless it is a relative path that stays where it begins."""
    if path.startswith("/"):
        raise FieldInvalid(field=field, rule="must be a relative path")
    if ".." in path.split("/"):
        raise FieldInvalid(field=field, rule="must not contain `..`")
    check_text(path, field, MAX_PATH_BYTES, "MAX_PATH_BYTES")


def _check_sysctls(spec: ContainerSpec) -> None:
    # Source: case Z10; a key outside of the container's namespaces would change the host.
    for key, value in spec.sysctls.items():
        field = f"spec.sysctls[{key}]"
        if not re.fullmatch(r"[a-z0-9_]+(?:\.[a-zA-Z0-9_-]+)+", key, re.ASCII):
            raise FieldInvalid(field=field, rule="is not the name of a kernel parameter")
        is_network = key.startswith("net.")
        if is_network and spec.network.mode in {NetworkMode.HOST, NetworkMode.CONTAINER}:
            raise FieldInvalid(
                field=field, rule="net.* cannot be set in the network of the host or of another container"
            )
        is_ipc = key in _IPC_SYSCTLS or key.startswith("fs.mqueue.")
        if is_ipc and spec.namespaces.ipc.mode in {NamespaceMode.HOST, NamespaceMode.CONTAINER}:
            raise FieldInvalid(
                field=field, rule="cannot be set in the ipc namespace of the host or of another container"
            )
        if not is_network and key not in _IPC_SYSCTLS and not key.startswith("fs.mqueue."):
            raise FieldInvalid(field=field, rule="is not a parameter of the container's own namespaces")
        if "\n" in value or "\0" in value or not 0 < len(value) <= 1024:
            raise FieldInvalid(field=field, rule="must be one line of 1 to 1024 characters")
        if key in _IPC_SYSCTLS and not re.fullmatch(r"-?\d+([ \t]+-?\d+)*", value, re.ASCII):
            raise FieldInvalid(field=field, rule="must be a number, or several divided by blanks")


def _check_network(spec: ContainerSpec) -> None:
    network = spec.network
    for name, items in (
        ("dns_servers", network.dns_servers),
        ("dns_search", network.dns_search),
        ("dns_options", network.dns_options),
    ):
        _check_words(items, f"spec.network.{name}")
    check_extra_hosts(network.extra_hosts, "spec.network.extra_hosts")
    bounded(len(network.exposed_ports), MAX_EXPOSED_PORTS, "MAX_EXPOSED_PORTS", "spec.network.exposed_ports")
    for index, text in enumerate(network.exposed_ports):
        port = _EXPOSED_PORT.fullmatch(text)
        if port is None or int(port[1]) > MAX_PORT:
            raise FieldInvalid(field=f"spec.network.exposed_ports[{index}]", rule="must be a port as `80/tcp`")
    for index, server in enumerate(network.dns_servers):
        if not _is_address(server):
            raise FieldInvalid(field=f"spec.network.dns_servers[{index}]", rule="must be an IP address")


def _check_words(items: Sequence[str], field: str) -> None:
    bounded(len(items), MAX_DNS_ENTRIES, "MAX_DNS_ENTRIES", field)
    for index, item in enumerate(items):
        if not _WORD.fullmatch(item):
            raise FieldInvalid(field=f"{field}[{index}]", rule="must be one word of printable ASCII")


def check_extra_hosts(hosts: Sequence[str], field: str) -> None:
    """Raises FIELD_INVALID for a line of /etc/hosts that is none, with its place in `field`, LIMIT_EXCEEDED."""
    _check_words(hosts, field)
    for index, entry in enumerate(hosts):
        address = entry.partition(":")[2]
        if not _HOST_ALIAS.fullmatch(entry) or not (address == HOST_GATEWAY or _is_address(address)):
            rule = f"must be `name:address` with an IP address or {HOST_GATEWAY}"
            raise FieldInvalid(field=f"{field}[{index}]", rule=rule)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _in_range(value: int | None, low: int, high: int, field: str, unit: str) -> None:
    if value is not None and not low <= value <= high:
        suffix = f" {unit}" if unit else ""
        raise FieldInvalid(field=field, rule=f"must be {low} to {high}{suffix}")
