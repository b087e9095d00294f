"""Image and spec put together, and turned into what the core starts. Pure: it reads neither host nor clock."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fluytd.containers import namespaces, selinux
from fluytd.containers import process_spec as core
from fluytd.containers.checks import swap_default
from fluytd.containers.model import Container, ImageFacts, Resolved
from fluytd.containers.selinux import SelinuxHost
from fluytd.containers.signals import SIGTERM, parse_signal
from fluytd.containers.spec import (
    BindSpec,
    ContainerSpec,
    HealthCheck,
    LogDriver,
    LogSpec,
    NamespaceMode,
    ResourcesSpec,
    SecuritySpec,
    TmpfsSpec,
)
from fluytd.containers.terminals import DEFAULT_SIZE
from fluytd.containers.volume_mounts import volume_mount
from fluytd.errors import FieldInvalid

#: Source: moby `oci/defaults.go` and `pkg/system/path.go`.
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: What a terminal is taken for. Source: moby `container/container_unix.go`, CreateDaemonEnvironment().
DEFAULT_TERM: Final = "xterm"
#: Source: moby `container/container.go`, defaultStopTimeout.
DEFAULT_STOP_TIMEOUT_MILLIS: Final = 10_000
#: Source: moby `daemon/config`, DefaultShmSize.
DEFAULT_SHM_SIZE_BYTES: Final = 64 * 1024 * 1024
DEFAULT_CPU_PERIOD_MICROS: Final = 100_000
#: Interval and timeout of health checks, the interval in their start period, and how many failures make unhealthy.
DEFAULT_HEALTH_MILLIS: Final = 30_000
DEFAULT_START_INTERVAL_MILLIS: Final = 5_000
DEFAULT_HEALTH_RETRIES: Final = 3
#: Where a container's init stands inside; the supervisor's program knows its task by the last name.
INIT_PATH: Final = "/dev/fluyt-init"
#: Where POSIX shared memory is, inside and on the host. Source: shm_overview(7).
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - it is no place for files of our own
#: Source: systemd, "Native Journal Protocol".
JOURNAL_SOCKET: Final = "/run/systemd/journal/socket"
#: What stands of a log that is not kept, for those who read it while it comes.
UNKEPT_SEGMENT_BYTES: Final = 64 * 1024
UNKEPT_SEGMENTS: Final = 2
#: Longest name of a field. Source: systemd, `journal_field_valid`.
MAX_FIELD_NAME: Final = 64
_NO_FIELD_NAME: Final = re.compile(r"[^A-Z0-9_]", re.ASCII)
#: What a label must not be taken for.
_OWN_FIELDS: Final = frozenset(
    {
        "CONTAINER_ID",
        "CONTAINER_ID_FULL",
        "CONTAINER_NAME",
        "CONTAINER_PARTIAL_MESSAGE",
        "CONTAINER_TAG",
        "IMAGE_NAME",
        "MESSAGE",
        "PRIORITY",
        "SYSLOG_IDENTIFIER",
    }
)
_NANOS_PER_CPU: Final = 1_000_000_000

#: Source: moby `oci/defaults.go`.
MASKED_PATHS: Final = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READ_ONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
#: Layers below a writable one. Source: Linux fs/overlayfs/params.h, OVL_MAX_STACK.
MAX_LOWER_DIRS: Final = 500


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a start must know of the host; read once when the daemon starts."""

    default_capabilities: tuple[str, ...]
    all_capabilities: tuple[str, ...]
    cpus: frozenset[int]
    memory_nodes: frozenset[int]
    hostname: str = ""
    kernel_release: str = ""
    #: Whether the host has this security module, switched on.
    has_apparmor: bool = False
    #: The profile that is loaded for containers that ask for none; empty for none.
    default_apparmor_profile: str = ""
    #: None: the host has none, or the engine's settings want none.
    selinux: SelinuxHost | None = None


@dataclass(frozen=True, slots=True)
class StartPaths:
    """Host paths of one container."""

    run_dir: str
    log_dir: str
    #: Top-most first.
    lower_dirs: tuple[str, ...]
    upper_dir: str
    work_dir: str
    hosts: str
    hostname: str
    resolv_conf: str
    #: Directory of all volumes.
    volumes_dir: str = ""
    #: Host paths of volumes that drivers keep, by volume id.
    volume_sources: dict[str, str] = dataclasses.field(default_factory=dict)
    #: Directories of images that are mounted, by target; top-most first.
    image_dirs: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    #: Below `lower_dirs` while it runs: what the engine mounts on where the image has nothing. Empty: not given.
    mount_targets_dir: str = ""


@dataclass(frozen=True, slots=True)
class StartSettings:
    """Settings of the engine that every start needs."""

    cgroup_parent: str
    log_segment_bytes: int
    log_segment_count: int
    #: Host path of the program that is the init of a container that asks for one.
    init_path: str
    #: Host path of the journal's socket.
    journal_socket: str = JOURNAL_SOCKET


def resolve(spec: ContainerSpec, image: ImageFacts, container_id: str, hostname: str = "") -> Resolved:
    """What is executed for this spec in this image. `hostname`: that of whom its namespaces are, if not its own. Raises
    FIELD_INVALID (`spec.args`, `spec.stop_signal`)."""
    hostname = hostname or spec.hostname or container_id[:12]
    return Resolved(
        args=_args(spec, image),
        env=_env(spec, image, hostname),
        working_dir=spec.working_dir or image.working_dir or "/",
        user=spec.user or image.user,
        hostname=hostname,
        stop_signal=_stop_signal(spec, image),
        stop_timeout_millis=(
            DEFAULT_STOP_TIMEOUT_MILLIS if spec.stop_timeout_millis is None else spec.stop_timeout_millis
        ),
        labels=image.labels | spec.labels,
        health_check=health_check(spec.health_check, image.health_check),
        binds=spec.binds,
    )


def health_check(asked: HealthCheck | None, image: HealthCheck | None) -> HealthCheck | None:
    """The check that is carried out, every default filled in: what the caller left out is the image's. None: there is
    none. Raises FIELD_INVALID (`spec.health_check.args`). Source: moby `daemon/commit.go`, merge(), and
    `daemon/health.go` for the defaults."""
    base = image if image is not None and not image.is_disabled else HealthCheck()
    wanted = asked or base
    if wanted.is_disabled or (asked is None and not base.args):
        return None
    args = wanted.args or base.args
    if not args:
        raise FieldInvalid(field="spec.health_check.args", rule="is needed: the image has no health check")
    interval = wanted.interval_millis or base.interval_millis or DEFAULT_HEALTH_MILLIS
    start_interval = wanted.start_interval_millis or base.start_interval_millis
    return HealthCheck(
        args=args,
        interval_millis=interval,
        timeout_millis=wanted.timeout_millis or base.timeout_millis or DEFAULT_HEALTH_MILLIS,
        start_period_millis=wanted.start_period_millis or base.start_period_millis,
        # A short interval must not be made longer by the start period (case L08).
        start_interval_millis=start_interval or min(DEFAULT_START_INTERVAL_MILLIS, interval),
        retries=wanted.retries or base.retries or DEFAULT_HEALTH_RETRIES,
        action=wanted.action,
    )


def _args(spec: ContainerSpec, image: ImageFacts) -> tuple[str, ...]:
    # Source: moby `daemon/commit.go`, merge(): an entrypoint of the caller's own drops the image's command.
    own, args = spec.entrypoint, spec.args
    args = image.entrypoint + (args or image.cmd) if own is None else own + args
    if not args:
        raise FieldInvalid(field="spec.args", rule="is needed: neither the image nor the request names a command")
    return args


def _env(spec: ContainerSpec, image: ImageFacts, hostname: str) -> tuple[str, ...]:
    # A dict keeps the place of a variable that is set again, as Docker does. Source: moby `container/env.go`.
    merged: dict[str, str] = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if spec.tty:
        merged["TERM"] = DEFAULT_TERM
    for item in image.env:
        name, separator, value = item.partition("=")
        if separator and name:
            merged[name] = value
    for item in spec.env:
        name, separator, value = item.partition("=")
        if separator:
            merged[name] = value
        else:
            merged.pop(name, None)
    return tuple(f"{name}={value}" for name, value in merged.items())


def _stop_signal(spec: ContainerSpec, image: ImageFacts) -> int:
    for field, text in (("spec.stop_signal", spec.stop_signal), ("spec.image", image.stop_signal)):
        if text:
            number = parse_signal(text)
            if number is None:
                raise FieldInvalid(field=field, rule=f"{text!r} is not a signal")
            return number
    return SIGTERM


def apparmor_profile(security: SecuritySpec, host: HostFacts) -> str:
    """The profile that the processes are under; empty for none, as a privileged container has unless it asks for one.

    Source: moby `daemon/apparmor_default.go` and `daemon/oci_linux.go`, withApparmor.
    """
    if security.apparmor_profile:
        return "" if security.apparmor_profile == "unconfined" else security.apparmor_profile
    return "" if security.privileged else host.default_apparmor_profile


def capabilities(security: SecuritySpec, host: HostFacts) -> list[str]:
    """The capabilities of root in the container, sorted. Raises FIELD_INVALID for a name this kernel does not know.

    Source: moby `oci/caps/utils.go`, TweakCapabilities.
    """
    known = set(host.all_capabilities)
    check_capabilities(security.add_capabilities, host, "spec.security.add_capabilities")
    check_capabilities(security.drop_capabilities, host, "spec.security.drop_capabilities")
    added, dropped = set(security.add_capabilities), set(security.drop_capabilities)
    if security.privileged:
        chosen = known
    elif "ALL" in added:
        chosen = known - dropped
    elif "ALL" in dropped:
        chosen = added
    else:
        chosen = (set(host.default_capabilities) & known) - dropped | added
    return sorted(chosen - {"ALL"})


def check_capabilities(names: Sequence[str], host: HostFacts, field: str) -> None:
    """Raises FIELD_INVALID for a name that this kernel does not know, with its place in `field`."""
    for index, name in enumerate(names):
        if name != "ALL" and name not in host.all_capabilities:
            raise FieldInvalid(field=f"{field}[{index}]", rule=f"{name!r} is not a capability of this kernel")


def limits(resources: ResourcesSpec) -> core.ResourceLimits:
    """The limits as the kernel takes them. Sources: moby `daemon/daemon_unix.go`; case C02 for swap, C05 for pids."""
    memory = resources.memory_limit_bytes or None
    quota, period = resources.cpu_quota_micros, resources.cpu_period_micros
    if resources.nano_cpus:
        period = DEFAULT_CPU_PERIOD_MICROS
        quota = resources.nano_cpus * period // _NANOS_PER_CPU
    pids = resources.pids_limit
    return core.ResourceLimits(
        memory_limit_bytes=memory,
        memory_swap_limit_bytes=swap_default(memory, resources.memory_swap_limit_bytes),
        memory_reservation_bytes=resources.memory_reservation_bytes or None,
        cpu_quota_micros=quota or None,
        cpu_period_micros=period or None,
        cpu_shares=resources.cpu_shares or None,
        cpuset_cpus=resources.cpuset_cpus or None,
        cpuset_mems=resources.cpuset_mems or None,
        pids_limit=None if pids is None else (-1 if pids <= 0 else pids),
        cpu_burst_micros=resources.cpu_burst_micros,
        cpu_real_time_period_micros=resources.cpu_real_time_period_micros or None,
        cpu_real_time_runtime_micros=resources.cpu_real_time_runtime_micros,
        memory_swappiness=resources.memory_swappiness,
        oom_kill_disabled=resources.oom_kill_disabled,
        io_weight=resources.io_weight or None,
        io_devices=[
            core.IoDevice(
                device.path,
                device.read_bytes_per_second,
                device.write_bytes_per_second,
                device.read_ops_per_second,
                device.write_ops_per_second,
                device.weight,
            )
            for device in resources.io_devices
        ],
        huge_pages=[(bound.page_size, bound.limit_bytes) for bound in resources.hugetlb],
    )


def device_rules(rules: Sequence[str]) -> list[core.DeviceRule]:
    """The rules as the core takes them: one for both kinds of device becomes two."""
    found = []
    for rule in rules:
        kind, numbers, permissions = rule.split(" ")
        major, minor = (None if number == "*" else int(number) for number in numbers.split(":"))
        kinds = {"a": (True, False), "b": (True,), "c": (False,)}[kind]
        found += [core.DeviceRule(is_block, major, minor, permissions) for is_block in kinds]
    return found


def start_spec(
    container: Container, paths: StartPaths, settings: StartSettings, host: HostFacts, *, is_held: bool = False
) -> core.ContainerStart:
    """Everything the core needs to execute this container but for what its devices are on the host. Raises
    FIELD_INVALID as `capabilities`, KERNEL_FEATURE_MISSING as `selinux.applied`."""
    modes = namespaces.modes(container.spec)
    spec, resolved, security = container.spec, container.resolved, container.spec.security
    segment_bytes, segment_count = log_bounds(spec.log, settings)
    labels = selinux.applied(container, host.selinux, host.kernel_release)
    masked = security.masked_paths
    read_only = security.read_only_paths
    return core.ContainerStart(
        container_id=container.id,
        run_dir=paths.run_dir,
        log_dir=paths.log_dir,
        lower_dirs=stacked_dirs(paths),
        upper_dir=paths.upper_dir,
        work_dir=paths.work_dir,
        args=[INIT_PATH, "--", *resolved.args] if spec.init else list(resolved.args),
        env=list(resolved.env),
        cwd=resolved.working_dir,
        user=resolved.user,
        additional_groups=list(spec.additional_groups),
        hostname=resolved.hostname,
        domainname=spec.domainname,
        network_mode=modes["network"],
        pid_mode=modes["pid"],
        ipc_mode=modes["ipc"],
        uts_mode=modes["uts"],
        cgroup_mode=modes["cgroup"],
        shm_mode=modes["shm"],
        devices=[],
        device_rules=device_rules(spec.device_cgroup_rules),
        is_root_read_only=spec.read_only_root,
        is_privileged=security.privileged,
        capabilities=capabilities(security, host),
        seccomp_profile=security.seccomp_profile or ("unconfined" if security.privileged else "default"),
        no_new_privileges=security.no_new_privileges,
        apparmor_profile=apparmor_profile(security, host),
        process_label="" if labels is None else labels.process,
        mount_label="" if labels is None else labels.mount,
        rlimits=[core.Rlimit(f"RLIMIT_{limit.name.upper()}", limit.soft, limit.hard) for limit in spec.rlimits],
        masked_paths=list(masked if masked is not None else () if security.privileged else MASKED_PATHS),
        read_only_paths=list(read_only if read_only is not None else () if security.privileged else READ_ONLY_PATHS),
        sysctls=sorted(spec.sysctls.items()),
        mounts=mounts(container, paths, settings.init_path),
        shm_size_bytes=spec.shm_size_bytes or DEFAULT_SHM_SIZE_BYTES,
        oom_score_adj=spec.oom_score_adj,
        cgroup_parent=spec.cgroup_parent.strip("/") or settings.cgroup_parent,
        cgroup_name=container.id,
        limits=limits(spec.resources),
        open_stdin=spec.open_stdin,
        terminal=terminal_size(spec),
        is_held=is_held,
        log_segment_bytes=segment_bytes,
        log_segment_count=segment_count,
        journal_socket=settings.journal_socket if spec.log.driver is LogDriver.JOURNALD else None,
        journal_fields=journal_fields(container),
        ids=None if container.ids is None else (container.ids.first_id, container.ids.count),
        ids_joined=0 if container.ids is not None and namespaces.others(spec) else None,
    )


def log_bounds(log: LogSpec, settings: StartSettings) -> tuple[int, int]:
    """Size and number of a log's segments. Of one that is not kept only as much stands as callers need who read the
    container's output while it comes."""
    if log.driver is LogDriver.NONE:
        return UNKEPT_SEGMENT_BYTES, UNKEPT_SEGMENTS
    return log.segment_size_bytes or settings.log_segment_bytes, log.segment_count or settings.log_segment_count


def journal_fields(container: Container) -> list[tuple[str, str]]:
    """What the journal is told of each line. Source: moby `daemon/logger/journald`, whose names these are."""
    if container.spec.log.driver is not LogDriver.JOURNALD:
        return []
    return [
        ("CONTAINER_ID", container.id[:12]),
        ("CONTAINER_ID_FULL", container.id),
        ("CONTAINER_NAME", container.name),
        ("CONTAINER_TAG", container.id[:12]),
        ("IMAGE_NAME", container.spec.image),
        ("SYSLOG_IDENTIFIER", container.id[:12]),
        *_journal_details(container),
    ]


def _journal_details(container: Container) -> list[tuple[str, str]]:
    """Labels and variables that the journal is told too, under names that it takes. Source: as above."""
    log, labels = container.spec.log, container.resolved.labels
    found = {name: labels[name] for name in log.detail_labels if name in labels}
    variables = dict(item.partition("=")[::2] for item in container.resolved.env if "=" in item)
    found |= {name: variables[name] for name in log.detail_env if name in variables}
    fields = {_NO_FIELD_NAME.sub("_", name.upper()).lstrip("_0123456789"): value for name, value in found.items()}
    return [(name[:MAX_FIELD_NAME], value) for name, value in fields.items() if name and name not in _OWN_FIELDS]


def terminal_size(spec: ContainerSpec) -> tuple[int, int] | None:
    """(columns, rows) of the terminal at the first instruction; None without one."""
    if not spec.tty:
        return None
    width, height = DEFAULT_SIZE
    return spec.tty_width or width, spec.tty_height or height


def stacked_dirs(paths: StartPaths) -> list[str]:
    """What a start stacks below the writable layer, top-most first: one more than the image has, up to the limit."""
    # Without these a start would make them in the writable layer, which costs it more than all other files it makes.
    targets = [paths.mount_targets_dir] if paths.mount_targets_dir and len(paths.lower_dirs) < MAX_LOWER_DIRS else []
    return [*paths.lower_dirs, *targets]


def mounts(container: Container, paths: StartPaths, init_path: str) -> list[core.Mount]:
    """The mounts below the root, parents before what is below them, else in the order asked (case M01).

    The init, if there is to be one, stands in /dev, which is no part of the writable layer.

    /etc/hosts, /etc/hostname and /etc/resolv.conf are the engine's unless the caller mounts something there.
    Raises FIELD_INVALID for options of a volume that its driver does not take.
    """
    spec, resolved = container.spec, container.resolved
    # Records of before there were volumes have their binds in the spec alone.
    chosen = {mount.target: _bind(mount) for mount in resolved.binds or spec.binds}
    chosen |= {mount.target: _tmpfs(mount) for mount in spec.tmpfs}
    chosen |= {mount.target: volume_mount(mount, paths.volumes_dir, paths.volume_sources) for mount in resolved.volumes}
    for image in resolved.images:
        lower_dirs = list(paths.image_dirs.get(image.target, ()))
        chosen[image.target] = core.Mount(
            "image", "", image.target, is_read_only=True, sub_path=image.sub_path, lower_dirs=lower_dirs
        )
    own = {"/etc/hosts": paths.hosts, "/etc/hostname": paths.hostname, "/etc/resolv.conf": paths.resolv_conf}
    # As read-only as the root that they seem to be part of. Source: moby `container.NetworkMounts`.
    is_read_only = spec.read_only_root
    files = [
        core.Mount("bind", source, target, is_read_only=is_read_only)
        for target, source in own.items()
        if target not in chosen
    ]
    if spec.namespaces.ipc.mode is NamespaceMode.HOST and SHARED_MEMORY not in chosen:
        files.append(core.Mount("bind", SHARED_MEMORY, SHARED_MEMORY, no_exec=True, no_suid=True, no_dev=True))
    if spec.init:
        files.append(core.Mount("bind", init_path, INIT_PATH, is_read_only=True))
    return sorted([*files, *chosen.values()], key=lambda mount: mount.destination.rstrip("/").count("/"))


def mount_points(container: Container, paths: StartPaths) -> tuple[str, ...]:
    """Every place inside on which a start mounts something, the kernel's file systems included."""
    # Only destinations are told, so that the path of the init does not matter.
    devices = (device.container_path or device.host_path for device in container.spec.devices)
    own = ("/dev", "/proc", "/sys")
    outside = (path for path in devices if not path.startswith("/dev/"))
    return (*own, *outside, *(mount.destination for mount in mounts(container, paths, "")))


def _bind(mount: BindSpec) -> core.Mount:
    return core.Mount(
        "bind",
        mount.source,
        mount.target,
        is_read_only=mount.read_only,
        propagation=mount.propagation.value.removeprefix("r"),
        is_recursive=not mount.non_recursive,
        is_read_only_below=mount.recursive_read_only,
    )


def _tmpfs(mount: TmpfsSpec) -> core.Mount:
    options = [f"mode={mount.mode:o}"]
    if mount.size_bytes:
        options.append(f"size={mount.size_bytes}")
    if mount.max_inodes:
        options.append(f"nr_inodes={mount.max_inodes}")
    options += [f"{name}={value}" for name, value in (("uid", mount.uid), ("gid", mount.gid)) if value]
    return core.Mount(
        "tmpfs",
        "",
        mount.target,
        is_read_only=mount.read_only,
        data=",".join(options),
        no_exec=not mount.exec,
        no_suid=not mount.suid,
        no_dev=not mount.dev,
    )
