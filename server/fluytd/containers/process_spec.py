"""What a container's process is started with: plain values, ready for the core. It decides nothing."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class IoDevice:
    """Bounds on one block device; 0 is none, and takes one away."""

    #: On the host; the core takes the numbers, which whoever looks at the host fills in.
    path: str
    read_bytes_per_second: int = 0
    write_bytes_per_second: int = 0
    read_ops_per_second: int = 0
    write_ops_per_second: int = 0
    weight: int = 0
    major: int = 0
    minor: int = 0


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A node in the container's /dev."""

    path: str  # inside, below /dev
    is_block: bool
    major: int
    minor: int
    mode: int  # permission bits
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """Devices that may be used; None is any number."""

    is_block: bool
    major: int | None
    minor: int | None
    permissions: str  # some of `r`, `w`, `m`


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """Limits of one container; None leaves the kernel's default in place."""

    memory_limit_bytes: int | None = None
    #: Memory and swap together; -1 is unlimited.
    memory_swap_limit_bytes: int | None = None
    memory_reservation_bytes: int | None = None
    cpu_quota_micros: int | None = None
    cpu_period_micros: int | None = None
    #: 2 to 262144.
    cpu_shares: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    #: -1 is unlimited.
    pids_limit: int | None = None
    cpu_burst_micros: int | None = None
    cpu_real_time_period_micros: int | None = None
    cpu_real_time_runtime_micros: int | None = None
    memory_swappiness: int | None = None
    oom_kill_disabled: bool | None = None
    io_weight: int | None = None
    io_devices: list[IoDevice] = field(default_factory=list)
    #: (size as the kernel writes it, bytes or -1).
    huge_pages: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Rlimit:
    """One setrlimit(2); -1 is RLIM_INFINITY."""

    name: str  # `RLIMIT_NOFILE`
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount below the container's root; sorted by the caller, parents first."""

    kind: str  # `bind`, `tmpfs`, `image` or `file_system`
    source: str  # absolute host path of a bind, source of a file system, else empty
    destination: str  # absolute path inside
    is_read_only: bool = False
    #: Options of a file system: `size=65536k,mode=1777`; empty for a bind.
    data: str = ""
    no_exec: bool = False
    no_suid: bool = False
    no_dev: bool = False
    sub_path: str = ""  # beneath the source, which it cannot leave; empty: all of it
    lower_dirs: list[str] = field(default_factory=list)  # of an image, top-most first, at least two
    file_system: str = ""  # type of a `file_system`
    propagation: str = "private"  # of a bind: `private`, `slave` or `shared`
    is_recursive: bool = True  # what is mounted below a bind's source comes along
    is_read_only_below: bool = True  # a read-only bind is so in all that comes along


@dataclass(frozen=True, slots=True)
class ContainerStart:
    """Everything `SupervisorHost.start` needs; paths are absolute host paths unless said."""

    container_id: str
    run_dir: str  # made by the caller, 0700
    log_dir: str  # made by the caller
    lower_dirs: list[str]  # top-most first, at least one
    upper_dir: str
    work_dir: str
    args: list[str]  # at least one
    env: list[str]  # `NAME=value`, complete but for HOME
    cwd: str  # absolute inside; made if absent
    #: Empty, `uid`, `uid:gid`, `name`, `name:group`; resolved inside the root. HOME is set from it unless in `env`.
    user: str
    additional_groups: list[str]
    hostname: str
    domainname: str
    network_mode: str  # `none`, `host` or `joined:N`, the container at place N of those that are joined
    #: `own`, `host` or `joined:N`.
    pid_mode: str
    ipc_mode: str
    uts_mode: str
    cgroup_mode: str
    shm_mode: str  # `own`, `none` or `joined:N`
    devices: list[DeviceNode]
    #: Besides the default ones.
    device_rules: list[DeviceRule]
    is_root_read_only: bool
    is_privileged: bool
    capabilities: list[str]  # without `CAP_`; bounding, permitted and effective set of root
    seccomp_profile: str  # `default`, `unconfined` or a profile in JSON
    no_new_privileges: bool
    apparmor_profile: str  # one that is loaded on the host; empty for none
    process_label: str  # of SELinux; empty for none, as the next
    mount_label: str  # of its root and of the file systems that are made for it
    rlimits: list[Rlimit]
    masked_paths: list[str]
    read_only_paths: list[str]
    sysctls: list[tuple[str, str]]
    mounts: list[Mount]
    shm_size_bytes: int
    oom_score_adj: int | None
    cgroup_parent: str  # `fluyt`
    cgroup_name: str
    limits: ResourceLimits
    open_stdin: bool
    #: (columns, rows) of a terminal instead of pipes.
    terminal: tuple[int, int] | None
    #: The log is held from its first byte on, until `Supervisor.hold_log` moves or ends that.
    is_held: bool
    #: Size of one log segment and how many are kept.
    log_segment_bytes: int
    log_segment_count: int
    #: Path of the journal's socket if each line goes there too, and what is said of each besides.
    journal_socket: str | None
    journal_fields: list[tuple[str, str]]
    #: First id outside, and number, of the users and groups of a container in a user namespace; None: the host's.
    ids: tuple[int, int] | None = None
    #: The place of the container whose user namespace, with the same ids, is shared.
    ids_joined: int | None = None


@dataclass(frozen=True, slots=True)
class ExecStart:
    """Everything `SupervisorHost.exec` needs of a further process; paths are those inside."""

    id: str  # letters, digits and dashes, 64 at most
    args: list[str]  # at least one
    env: list[str]  # `NAME=value`, complete but for HOME
    cwd: str  # absolute; must be there
    #: As in `ContainerStart`, like all that has the same name there.
    user: str
    additional_groups: list[str]
    capabilities: list[str]
    seccomp_profile: str
    no_new_privileges: bool
    apparmor_profile: str  # one that is loaded on the host; empty for none
    process_label: str  # of SELinux; empty for none
    rlimits: list[Rlimit]
    oom_score_adj: int | None
    open_stdin: bool  # else it reads as empty
    terminal: tuple[int, int] | None
    #: The caller reads its output from the beginning, and it waits where reading is slow.
    is_held: bool
