"""What a start must know besides the container's record."""

import dataclasses
from dataclasses import dataclass
from typing import Final

from fluytd.containers.selinux import SelinuxHost

#: Source: systemd, "Native Journal Protocol".
JOURNAL_SOCKET: Final = "/run/systemd/journal/socket"


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
