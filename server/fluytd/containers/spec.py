"""What a caller asks of a container: immutable values, checked where they came in. It decides nothing."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class NetworkMode(StrEnum):
    """Where a container's network namespace comes from."""

    #: A namespace of its own with a loopback interface only.
    NONE = "none"
    #: The host's.
    HOST = "host"
    #: A namespace of its own, attached to networks.
    BRIDGE = "bridge"
    #: That of another container.
    CONTAINER = "container"


class NamespaceMode(StrEnum):
    """Where another of a container's namespaces comes from."""

    PRIVATE = "private"
    HOST = "host"
    CONTAINER = "container"
    #: Of IPC only: its own, which others may share.
    SHAREABLE = "shareable"
    #: Of IPC only: its own, without /dev/shm.
    NONE = "none"


@dataclass(frozen=True, slots=True)
class NamespaceSpec:
    """One namespace of a container."""

    mode: NamespaceMode = NamespaceMode.PRIVATE
    #: With CONTAINER: the other's name or id as asked, its id once this container is made.
    container: str = ""


class UsersMode(StrEnum):
    """Whose the ids of a container's users are."""

    #: As the engine's setting says.
    DEFAULT = "default"
    #: A range of its own.
    AUTO = "auto"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class UsersSpec:
    """The user namespace of a container."""

    mode: UsersMode = UsersMode.DEFAULT
    #: Number of ids with AUTO; 0 for the engine's setting.
    size: int = 0


@dataclass(frozen=True, slots=True)
class NamespacesSpec:
    """The namespaces of a container besides that of the network."""

    pid: NamespaceSpec = NamespaceSpec()
    ipc: NamespaceSpec = NamespaceSpec()
    uts: NamespaceSpec = NamespaceSpec()
    cgroup: NamespaceSpec = NamespaceSpec()
    user: UsersSpec = UsersSpec()


class PullPolicy(StrEnum):
    """When RunContainer fetches the image first."""

    MISSING = "missing"
    ALWAYS = "always"
    NEVER = "never"


class RestartMode(StrEnum):
    """What happens when a container's process has ended."""

    NO = "no"
    ON_FAILURE = "on_failure"
    ALWAYS = "always"
    UNLESS_STOPPED = "unless_stopped"


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a container is started again by itself."""

    mode: RestartMode = RestartMode.NO
    #: With ON_FAILURE: how many times at most; 0 is without bound.
    max_retry_count: int = 0


class LogDriver(StrEnum):
    """Where a container's output is kept."""

    FILE = "file"
    #: Files, and the host's journal.
    JOURNALD = "journald"
    #: Nowhere.
    NONE = "none"


class HealthAction(StrEnum):
    """What is done with a container that has become unhealthy."""

    NONE = "none"
    RESTART = "restart"
    STOP = "stop"
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How a container's health is found out. As a caller or an image asks: 0 and empty are the default."""

    is_disabled: bool = False
    args: tuple[str, ...] = ()
    #: From the end of one check to the next.
    interval_millis: int = 0
    timeout_millis: int = 0
    #: After the start, in which failures do not count, and the interval in it.
    start_period_millis: int = 0
    start_interval_millis: int = 0
    #: Failures in a row that make it unhealthy.
    retries: int = 0
    action: HealthAction = HealthAction.NONE


@dataclass(frozen=True, slots=True)
class PlatformChoice:
    """The platform to choose from an image; empty fields match the host's."""

    os: str = ""
    architecture: str = ""
    variant: str = ""


@dataclass(frozen=True, slots=True)
class IoDeviceSpec:
    """Bounds on one block device; 0 is none."""

    path: str
    read_bytes_per_second: int = 0
    write_bytes_per_second: int = 0
    read_ops_per_second: int = 0
    write_ops_per_second: int = 0
    #: 10 to 1000.
    weight: int = 0


@dataclass(frozen=True, slots=True)
class HugetlbSpec:
    """A bound on huge pages of one size, `2MB`."""

    page_size: str
    #: -1 is none.
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class ResourcesSpec:
    """Limits as asked; None leaves the kernel's default."""

    #: 0 is unlimited.
    memory_limit_bytes: int | None = None
    #: Memory and swap together; -1 is unlimited swap.
    memory_swap_limit_bytes: int | None = None
    memory_reservation_bytes: int | None = None
    #: -1 is unlimited.
    cpu_quota_micros: int | None = None
    cpu_period_micros: int | None = None
    cpu_shares: int | None = None
    #: CPUs in units of 10^-9.
    nano_cpus: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    #: -1 and 0 are unlimited.
    pids_limit: int | None = None
    #: CPU time that may be saved up.
    cpu_burst_micros: int | None = None
    cpu_real_time_period_micros: int | None = None
    cpu_real_time_runtime_micros: int | None = None
    #: 0 to 100.
    memory_swappiness: int | None = None
    oom_kill_disabled: bool | None = None
    #: 10 to 1000.
    io_weight: int | None = None
    io_devices: tuple[IoDeviceSpec, ...] = ()
    hugetlb: tuple[HugetlbSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A device node of the host, or all below a directory; an empty path inside is that on the host."""

    host_path: str
    container_path: str = ""
    #: Some of `r`, `w`, `m`.
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True)
class RlimitSpec:
    """One limit of setrlimit(2): `nofile`; -1 is unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class SecuritySpec:
    """Privileges and confinement. Capabilities stand in capitals, without `CAP_`."""

    privileged: bool = False
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    #: `default`, `unconfined` or a profile in JSON; None: `default`, or `unconfined` when privileged.
    seccomp_profile: str | None = None
    no_new_privileges: bool = False
    #: None: the engine's list, or none when privileged.
    masked_paths: tuple[str, ...] | None = None
    read_only_paths: tuple[str, ...] | None = None
    #: Empty: none was asked for.
    apparmor_profile: str = ""
    selinux_label: str = ""
    #: `type:x` and the like; see `selinux`.
    selinux_options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AttachmentSpec:
    """One network to be on; empty fields are the engine's to choose."""

    network: str
    aliases: tuple[str, ...] = ()
    ipv4_address: str = ""
    ipv6_address: str = ""
    mac_address: str = ""
    interface_name: str = ""
    gateway_priority: int = 0


@dataclass(frozen=True, slots=True)
class PortSpec:
    """Ports of the container that are reachable on the host."""

    container_port: int
    #: 0: a free one.
    host_port: int = 0
    port_count: int = 1
    #: Empty: the engine's setting, else all of both families.
    host_address: str = ""
    #: `tcp`, `udp` or `sctp`.
    protocol: str = "tcp"
    #: CIDR; empty: all.
    allowed_sources: tuple[str, ...] = ()
    #: Ports of the host from `host_port` on, of which the first that is free is taken; more than 1 for one port alone.
    host_port_count: int = 1


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """Network mode and the files about names that go with it."""

    mode: NetworkMode = NetworkMode.NONE
    #: The caller named no mode; told apart so that the record says what was asked.
    is_default: bool = False
    #: With CONTAINER: as `NamespaceSpec.container`.
    container: str = ""
    #: With BRIDGE: the networks, in the order of their interfaces; none: the default one.
    attachments: tuple[AttachmentSpec, ...] = ()
    #: It was disconnected from the last one: it is on none.
    is_detached: bool = False
    published_ports: tuple[PortSpec, ...] = ()
    publish_all_ports: bool = False
    dns_servers: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    #: `name:address`.
    extra_hosts: tuple[str, ...] = ()
    #: `80/tcp`, besides those of the image.
    exposed_ports: tuple[str, ...] = ()


class Propagation(StrEnum):
    """How mounts that are made later appear on the other side of a bind; what is mounted below it is always meant too.

    A kind without `r` in Docker's words is kept apart only to be shown as it was asked.
    """

    PRIVATE = "private"
    RPRIVATE = "rprivate"
    SHARED = "shared"
    RSHARED = "rshared"
    SLAVE = "slave"
    RSLAVE = "rslave"


class Relabel(StrEnum):
    """Which SELinux label a mount's source is given at each start."""

    #: None; of a volume that the engine keeps itself: OWN.
    NONE = "none"
    #: One that lets all containers use it.
    SHARED = "shared"
    #: The container's own.
    PRIVATE = "private"
    #: As SHARED, of what only containers and the engine write to: once labelled, it stays so.
    OWN = "own"


#: Of a mount that stands in no request's list: it is another container's, or an older engine recorded it.
NO_POSITION: Final = -1


def mount_field(position: int) -> str:
    """The request's field of the mount at this place of its list; of the list where the place is not known."""
    return "spec.mounts" if position == NO_POSITION else f"spec.mounts[{position}]"


@dataclass(frozen=True, slots=True)
class BindSpec:
    """A file or directory of the host to show in the container."""

    target: str
    source: str
    read_only: bool = False
    #: Made as a directory if it is absent.
    create_source: bool = False
    propagation: Propagation = Propagation.RPRIVATE
    #: What is mounted below the source stays away.
    non_recursive: bool = False
    #: With `read_only`: what is mounted below too.
    recursive_read_only: bool = True
    relabel: Relabel = Relabel.NONE
    #: Place in the request's list; says nothing of what is mounted.
    position: int = field(default=NO_POSITION, compare=False)


@dataclass(frozen=True, slots=True)
class TmpfsSpec:
    """A file system in memory, empty at each start."""

    target: str
    read_only: bool = False
    #: 0: half of the memory.
    size_bytes: int = 0
    mode: int = 0o1777
    exec: bool = False
    suid: bool = False
    dev: bool = False
    uid: int = 0
    gid: int = 0
    #: Files, directories and links; 0: half as many as the memory has pages.
    max_inodes: int = 0
    #: Place in the request's list; says nothing of what is mounted.
    position: int = field(default=NO_POSITION, compare=False)


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """A volume to show in the container; without a name an anonymous one."""

    target: str
    name: str = ""
    read_only: bool = False
    #: Beneath the volume's root; empty: all of it.
    sub_path: str = ""
    #: The image's content at the target is not copied into an empty volume.
    no_copy: bool = False
    #: Of a volume that is made here.
    driver: str = ""
    driver_options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    relabel: Relabel = Relabel.NONE
    #: Place in the request's list; says nothing of what is mounted.
    position: int = field(default=NO_POSITION, compare=False)


@dataclass(frozen=True, slots=True)
class ImageMountSpec:
    """The tree of an image to show in the container, read-only."""

    target: str
    image: str
    sub_path: str = ""
    #: Place in the request's list; says nothing of what is mounted.
    position: int = field(default=NO_POSITION, compare=False)


Mounted = BindSpec | TmpfsSpec | VolumeSpec | ImageMountSpec


def cleaned_target(path: str) -> str:
    """The place without what makes no difference: `.`, doubled slashes and one at the end. Its depth, and whether two
    are one, can be told by it alone. What is no place (relative, with `..`) stays as it is, for `checks` to refuse."""
    parts = path.split("/")
    if not path.startswith("/") or ".." in parts:
        return path
    return "/" + "/".join(part for part in parts if part not in ("", "."))


@dataclass(frozen=True, slots=True)
class VolumesFrom:
    """Another container, whose volumes and binds are wanted too."""

    container: str
    #: None: as they are there.
    read_only: bool | None = None


@dataclass(frozen=True, slots=True)
class LogSpec:
    """Where the output goes and how much of it is kept; 0 is the engine's default."""

    segment_size_bytes: int = 0
    segment_count: int = 0
    #: None: the engine's; no record has it (see `create.with_defaults`).
    driver: LogDriver | None = None
    #: Names of labels and variables that the journal and `logs --details` tell.
    detail_labels: tuple[str, ...] = ()
    detail_env: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """Everything a caller may ask of a container that this engine builds; the rest is refused at the API."""

    image: str
    platform: PlatformChoice | None = None
    pull_policy: PullPolicy = PullPolicy.MISSING
    #: None: the image's. Empty: none. Given: used, and the image's command is dropped.
    entrypoint: tuple[str, ...] | None = None
    args: tuple[str, ...] = ()
    #: `NAME=value`; a bare `NAME` removes the image's.
    env: tuple[str, ...] = ()
    user: str = ""
    additional_groups: tuple[str, ...] = ()
    working_dir: str = ""
    hostname: str = ""
    domainname: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    tty: bool = False
    #: Bound of its writable layer in bytes; 0: none.
    storage_size_bytes: int = 0
    #: Columns and rows at the first instruction; 0: 80 and 24.
    tty_width: int = 0
    tty_height: int = 0
    open_stdin: bool = False
    stdin_once: bool = False
    #: As given; empty: the image's, else SIGTERM.
    stop_signal: str = ""
    #: None: `DEFAULT_STOP_TIMEOUT_MILLIS` of `resolve.py`; below 0: for ever.
    stop_timeout_millis: int | None = None
    auto_remove: bool = False
    restart_policy: RestartPolicy = RestartPolicy()
    #: None: the image's.
    health_check: HealthCheck | None = None
    #: A tiny init is process 1, the command its child.
    init: bool = False
    read_only_root: bool = False
    resources: ResourcesSpec = ResourcesSpec()
    rlimits: tuple[RlimitSpec, ...] = ()
    oom_score_adj: int | None = None
    #: 0: 64 MiB.
    shm_size_bytes: int = 0
    security: SecuritySpec = SecuritySpec()
    network: NetworkSpec = NetworkSpec()
    namespaces: NamespacesSpec = NamespacesSpec()
    devices: tuple[DeviceSpec, ...] = ()
    #: `c 1:3 rwm`.
    device_cgroup_rules: tuple[str, ...] = ()
    #: `vendor.com/class=name`.
    cdi_devices: tuple[str, ...] = ()
    #: Empty: the engine's.
    cgroup_parent: str = ""
    binds: tuple[BindSpec, ...] = ()
    tmpfs: tuple[TmpfsSpec, ...] = ()
    volumes: tuple[VolumeSpec, ...] = ()
    image_mounts: tuple[ImageMountSpec, ...] = ()
    volumes_from: tuple[VolumesFrom, ...] = ()
    sysctls: dict[str, str] = field(default_factory=dict)
    log: LogSpec = LogSpec()

    @property
    def mounts(self) -> tuple[Mounted, ...]:
        """All mounts that it asks for itself, in the order asked."""
        found: tuple[Mounted, ...] = (*self.binds, *self.tmpfs, *self.volumes, *self.image_mounts)
        return tuple(sorted(found, key=lambda mount: mount.position))
