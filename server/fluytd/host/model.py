"""The host's facts, and for each capability how much the engine needs it and how to get it. It looks nothing up."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Need(StrEnum):
    """How much the engine needs a capability."""

    #: Containers cannot be run without it.
    REQUIRED = "REQUIRED"
    #: Something is lost or slower without it.
    RECOMMENDED = "RECOMMENDED"
    #: Only some callers want it.
    OPTIONAL = "OPTIONAL"


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that a host may or may not be able to do."""

    name: str
    is_available: bool
    #: Why not, or what limits it; empty if there is nothing to say.
    detail: str
    need: Need
    #: What an operator can do to get it; empty if it is there.
    next_step: str


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The machine, as it was when the daemon began."""

    hostname: str
    os_name: str
    kernel_release: str
    #: In Go's words.
    architecture: str
    cpu_count: int
    memory_bytes: int
    #: `v2`, `v1`, `hybrid`; empty without cgroups.
    cgroup_mode: str
    cgroup_controllers: tuple[str, ...]
    capabilities: tuple[Capability, ...]


@dataclass(frozen=True, slots=True)
class Storage:
    """The file system of the data root."""

    filesystem: str
    total_bytes: int
    available_bytes: int


#: Capability -> how much it is needed, and how to get it. Kernel options are those of the kernel's Kconfig.
ADVICE: Final[dict[str, tuple[Need, str]]] = {
    "overlay": (Need.REQUIRED, "load the overlay module, or use a kernel with CONFIG_OVERLAY_FS"),
    "pidfd": (Need.REQUIRED, "use Linux 5.3 or later"),
    "openat2": (Need.REQUIRED, "use Linux 5.6 or later, and let no outer seccomp filter forbid openat2"),
    "seccomp": (Need.RECOMMENDED, "use a kernel with CONFIG_SECCOMP_FILTER; until then run with seccomp unconfined"),
    "new_mount_api": (Need.RECOMMENDED, "use Linux 6.6 or later for more than 127 layers and mounts nobody sees"),
    "user_namespaces": (Need.RECOMMENDED, "raise user.max_user_namespaces, and allow them in the kernel's settings"),
    "idmapped_mounts": (Need.RECOMMENDED, "use Linux 5.19 or later with a file system that can map ids"),
    "cgroup_v2": (Need.RECOMMENDED, "boot with cgroup_no_v1=all or systemd.unified_cgroup_hierarchy=1"),
    "clone_into_cgroup": (Need.OPTIONAL, "use Linux 5.7 or later with cgroup v2"),
    "cgroup_kill": (Need.OPTIONAL, "use Linux 5.14 or later with cgroup v2"),
    "erofs_file_mount": (Need.OPTIONAL, "use Linux 6.15 or later with CONFIG_EROFS_FS_BACKED_BY_FILE"),
    "project_quota": (
        Need.OPTIONAL,
        "mount the data root's file system with prjquota (ext4, xfs), see docs/volumes.md",
    ),
    "cap_sys_resource": (Need.OPTIONAL, "give the daemon CAP_SYS_RESOURCE, so that hard limits can be raised"),
    "landlock": (Need.OPTIONAL, "use Linux 5.19 or later with landlock among the security modules (lsm=)"),
    "apparmor": (Need.OPTIONAL, "use a kernel with AppArmor and boot with apparmor=1 for --security-opt apparmor="),
    "selinux": (Need.OPTIONAL, "load an SELinux policy; see docs/confinement.md"),
}

#: For a capability that the core reports and this table does not know.
UNKNOWN_ADVICE: Final = (Need.OPTIONAL, "see the host's kernel configuration")


def judge(name: str, is_available: bool, detail: str) -> Capability:
    """A capability with what the engine makes of it."""
    need, next_step = ADVICE.get(name, UNKNOWN_ADVICE)
    return Capability(name, is_available, detail, need, "" if is_available else next_step)
