"""Looks the host up: by the core, /proc, os-release and statvfs. It judges nothing; `model.py` says what is needed."""

import os
import platform
from pathlib import Path
from typing import Final

from fluytd._core import cgroup, host
from fluytd.errors import EngineError
from fluytd.host import apparmor
from fluytd.host.model import HostFacts, Storage, judge

#: Python's names of processors -> Go's. Source: go/src/internal/platform, uname(2).
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "ppc64le": "ppc64le"}


def architecture() -> str:
    """The processor in Go's words."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def probe(data_root: Path) -> HostFacts:
    """Everything about the host; each capability tried, nothing left behind. Blocking (some milliseconds)."""
    capabilities = tuple(
        judge(feature.name, feature.is_available, feature.detail) for feature in host.probe(str(data_root))
    )
    modules = {"apparmor": has_apparmor(), "selinux": has_selinux()}
    details = {"apparmor": _apparmor_detail() if modules["apparmor"] else ""}
    capabilities += tuple(judge(name, is_there, details.get(name, "")) for name, is_there in modules.items())
    mode, controllers = _cgroups()
    return HostFacts(
        hostname=platform.node(),
        os_name=_os_name(),
        kernel_release=host.kernel_release(),
        architecture=architecture(),
        cpu_count=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cgroup_mode=mode,
        cgroup_controllers=controllers,
        capabilities=capabilities,
    )


def storage(data_root: Path) -> Storage:
    """The file system below the data root. Raises OSError if the root is gone. Blocking (reads mountinfo)."""
    found = os.statvfs(data_root)
    return Storage(
        filesystem=_filesystem(data_root),
        total_bytes=found.f_blocks * found.f_frsize,
        available_bytes=found.f_bavail * found.f_frsize,
    )


def _cgroups() -> tuple[str, tuple[str, ...]]:
    try:
        layout = cgroup.layout()
    except EngineError:  # a host without cgroups: the report says so, and a container with limits is refused
        return "", ()
    return layout.mode, tuple(layout.controllers)


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def _filesystem(path: Path) -> str:
    """The type of the mount that holds `path`. Source: proc_pid_mountinfo(5)."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    found = ""
    # Not by `splitlines`, which knows more ends of lines than the kernel.
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").rstrip("\n").split("\n"):
        fields = line.split(" ")
        if fields[2] == wanted:
            found = fields[fields.index("-") + 1]
    return found


def has_apparmor(module: Path = Path("/sys/module/apparmor")) -> bool:
    """Whether AppArmor is there and switched on. Blocking (one file)."""
    try:
        return (module / "parameters" / "enabled").read_text(encoding="ascii").strip() == "Y"
    except OSError:
        return False


def _apparmor_detail() -> str:
    loaded = "loaded" if apparmor.is_loaded() else "not loaded: containers have no profile unasked"
    return f"{apparmor.DEFAULT_PROFILE} is {loaded}"


def has_selinux(filesystem: Path = Path("/sys/fs/selinux/enforce")) -> bool:
    """Whether SELinux is there and loaded. Blocking (one look)."""
    return filesystem.exists()


def selinux_labels(config_dir: Path) -> dict[str, str]:
    """What the policy that is configured says of containers: `process`, `file`, `ro_file` and others, or nothing.
    Blocking (two files). Source: selinux_lxc_contexts_path(3), selinux_config(5)."""
    policy = _assignments(config_dir / "config").get("SELINUXTYPE", "")
    return _assignments(config_dir / policy / "contexts" / "lxc_contexts") if policy else {}


def knows_selinux_label(filesystem: Path, label: str) -> bool:
    """Whether the policy that is loaded has the label. Blocking. Source: security/selinux/selinuxfs.c, `context`."""
    try:
        with (filesystem / "context").open("r+b", buffering=0) as context:
            context.write(label.encode() + b"\0")
    except OSError:
        return False
    return True


def _assignments(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip().strip('"') for name, _, value in pairs}


def online(kind: str, directory: Path = Path("/sys/devices/system")) -> frozenset[int]:
    """Numbers of the online `cpu`s or `node`s (of memory); only 0 where the host does not tell. Blocking (one file).

    Source: Documentation/admin-guide/cputopology.rst, list format.
    """
    try:
        text = (directory / kind / "online").read_text(encoding="ascii")
    except OSError:
        return frozenset({0})
    numbers: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)
