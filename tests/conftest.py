"""What tests need of the host, decided in one place, and told at the end of a run.

A test says `@pytest.mark.needs("root", "skopeo")`; where the host lacks one of these it is skipped with the need as the
reason, and the run ends with the list of skipped tests by need. An unknown need is an error, not a skip.
"""

import functools
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from fluyt import context_memory
from fluytd._core import host
from fluytd._core.layer import LayerStore
from fluytd.host import probe
from tests.e2e.selinux import policy as selinux_policy
from tests.support.nfs_server import has_nfs
from tests.support.quota_disks import has_project_quota
from tests.support.reflink_disks import has_reflinks

REPOSITORY: Final = Path(__file__).resolve().parents[1]
_SKIP_PREFIX: Final = "needs "


def _program(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


@functools.cache
def _features() -> frozenset[str]:
    with tempfile.TemporaryDirectory() as directory:
        return frozenset(feature.name for feature in host.probe(directory) if feature.is_available)


def _kernel(feature: str) -> Callable[[], bool]:
    return lambda: feature in _features()


def _keeps_layers_as_erofs() -> bool:
    with tempfile.TemporaryDirectory() as directory:
        return LayerStore(directory, "auto").kind == "erofs"


def _mounted(kind: str, option: str = "") -> bool:
    # Source: proc_pid_mountinfo(5): the type stands right after the dash, the superblock's options last.
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        described = line.partition(" - ")[2].split()
        if described and described[0] == kind and (not option or option in described[-1].split(",")):
            return True
    return False


def _has_unified_memory() -> bool:
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    return controllers.exists() and "memory" in controllers.read_text().split()


def _runs_systemd() -> bool:
    # Source: sd_booted(3).
    return Path("/run/systemd/system").is_dir() and _has_unified_memory() and find_spec("jeepney") is not None


#: Each need with the probe that decides it.
NEEDS: Final[dict[str, Callable[[], bool]]] = {
    "root": lambda: os.geteuid() == 0,
    "cgroup-v1": lambda: _mounted("cgroup", "memory"),
    "cgroup-v1-swap": lambda: Path("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists(),
    "cgroup-v2": _has_unified_memory,
    "systemd": _runs_systemd,
    "overlay": _kernel("overlay"),
    "erofs": _keeps_layers_as_erofs,
    "userns": _kernel("user_namespaces"),
    "own-users": _kernel("idmapped_mounts"),
    "quota-ext4": lambda: has_project_quota("ext4"),
    "quota-xfs": lambda: has_project_quota("xfs"),
    "reflink-btrfs": lambda: has_reflinks("btrfs"),
    "reflink-xfs": lambda: has_reflinks("xfs"),
    "nfs": has_nfs,
    "fuse": lambda: os.geteuid() == 0 and Path("/dev/fuse").exists(),
    "apparmor": probe.has_apparmor,
    "selinux-machine": selinux_policy.is_ours,
    "cni-plugins": Path("/usr/lib/cni/bridge").exists,
    "sshd": lambda: Path("/usr/sbin/sshd").exists() and _program("ssh-agent")(),
    "busybox": lambda: Path("/bin/busybox").exists(),
    "command-line": (REPOSITORY / "target" / "release" / "fluyt").exists,
    **{
        name: _program(name)
        for name in (
            "buildah",
            "apparmor_parser",
            "cargo",
            "checkpolicy",
            "dbus-daemon",
            "docker-registry",
            "dockerd",
            "firewalld",
            "gcc",
            "git",
            "ip",
            "iptables",
            "losetup",
            "nft",
            "openssl",
            "podman",
            "rpmbuild",
            "runc",
            "skopeo",
            "ufw",
            "umoci",
        )
    },
}


@pytest.fixture(scope="session", autouse=True)
def _memories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the Python client remembers of folders is the run's own, and goes with it."""
    directory = tmp_path_factory.mktemp("memories")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context_memory, "cache_directory", lambda: directory)
        yield


@functools.cache
def _is_met(need: str) -> bool:
    return NEEDS[need]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever drives a daemon needs root; a need that nobody can decide is an error of the test."""
    for item in items:
        if {REPOSITORY / "tests" / "e2e", REPOSITORY / "tests" / "security"} & {*item.path.parents}:
            item.add_marker(pytest.mark.needs("root", "busybox"))
        unknown = {str(need) for mark in item.iter_markers("needs") for need in mark.args} - NEEDS.keys()
        if unknown:
            raise pytest.UsageError(f"{item.nodeid} needs {sorted(unknown)}, which tests/conftest.py cannot decide")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test before any of its fixtures is made, naming the first need that is not met."""
    for mark in item.iter_markers("needs"):
        for need in mark.args:
            if not _is_met(need):
                pytest.skip(f"{_SKIP_PREFIX}{need}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the skipped tests by the need that was not met, with counts."""
    by_need: dict[str, Counter[str]] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        need = reason.removeprefix("Skipped: ")
        need = need.removeprefix(_SKIP_PREFIX) if need.startswith(_SKIP_PREFIX) else f"other: {need}"
        by_need.setdefault(need, Counter())[report.nodeid.partition("[")[0]] += 1
    if by_need:
        terminalreporter.section("skipped, by what the host lacks")
    for need, tests in sorted(by_need.items()):
        terminalreporter.write_line(f"{need}: {tests.total()} tests")
        for test, count in sorted(tests.items()):
            terminalreporter.write_line(f"    {test}" + (f" ({count} cases)" if count > 1 else ""))
