"""Mounts over /proc, /sys, /dev and /etc: refused, or confined to the container, as Docker has them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt.v1.types import security_pb2
from tests.e2e.containers import steps as containers
from tests.e2e.containers.steps import HOST_USERS, IMAGE, WRONG_STATE, refused_run
from tests.e2e.volumes.steps import bind, create, delete, get, image, output, tmpfs, volume
from tests.support import tarball
from tests.support.engine import Engine

PRIVILEGED = security_pb2.SecuritySpec(privileged=True)
#: What of the host a container could change if one of these places led there.
WATCHED = (
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/hostname",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/hosts",
)


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    """The host's files are as they were."""

    def state() -> dict[str, bytes]:
        return {path: Path(path).read_bytes() for path in WATCHED if os.path.exists(path)}  # noqa: PTH110 - some may lack

    before, devices = state(), sorted(os.listdir("/dev"))  # noqa: PTH208 - names alone
    yield
    assert state() == before
    assert sorted(os.listdir("/dev")) == devices  # noqa: PTH208


@pytest.mark.parametrize("spaces", [security_pb2.NamespacesSpec(), HOST_USERS], ids=["own", "host"])
@pytest.mark.parametrize("target", ["/proc", "/proc/sys", "/proc/sys/kernel", "/proc/1", "/proc/self/fd", "/proc/acpi"])
def test_nothing_lies_on_proc_whoever_the_users_are(
    engine: Engine, tmp_path: Path, target: str, spaces: security_pb2.NamespacesSpec
) -> None:
    for mount in (tmpfs(target), volume(target), bind(target, tmp_path), image(target, IMAGE)):
        for security in (security_pb2.SecuritySpec(), PRIVILEGED):
            code, reason, _ = refused_run(engine, "true", mounts=[mount], namespaces=spaces, security=security)
            assert (code, reason) == (WRONG_STATE, "PROCESS_START_FAILED"), mount


def test_files_of_proc_that_can_be_covered_only_tell(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "false").write_text("false\n")
    for name in ("cpuinfo", "meminfo", "uptime", "loadavg", "stat"):
        mounts = [bind(f"/proc/{name}", tmp_path / "false")]
        assert output(engine, IMAGE, f"cat /proc/{name}", mounts=mounts) == "false"
    for name in ("sysrq-trigger", "kcore", "self/environ", "1/cmdline", "sys/kernel/core_pattern", "keys"):
        reason = refused_run(engine, "true", mounts=[bind(f"/proc/{name}", tmp_path / "false")])[1]
        assert reason == "PROCESS_START_FAILED", name


def test_what_lies_on_sys_hides_it_and_unmasks_nothing(engine: Engine) -> None:
    script = "ls -A /sys; cat /proc/kcore /proc/keys 2>/dev/null | wc -c; echo x 2>/dev/null >/proc/sys/kernel/hostname"
    script += " || echo held"
    assert output(engine, IMAGE, script, mounts=[tmpfs("/sys")]).split() == ["0", "held"]
    firmware = "ls -A /sys/firmware | wc -l; touch /sys/kernel/x 2>&1 | grep -c Read-only"
    assert output(engine, IMAGE, firmware, mounts=[tmpfs("/sys/fs")]).split() == ["0", "1"]


def test_the_hosts_sys_and_proc_at_another_place_are_what_the_caller_asked_for_and_no_more(engine: Engine) -> None:
    mounts = [bind("/host/sys", "/sys", read_only=True), bind("/host/proc", "/proc", read_only=True)]
    script = "test -d /host/sys/kernel && test -r /host/proc/uptime && echo shown; ls -A /sys/firmware | wc -l"
    script += "; echo x 2>/dev/null >/host/proc/sys/kernel/hostname || echo refused"
    assert output(engine, IMAGE, script, mounts=mounts, namespaces=HOST_USERS).split() == ["shown", "0", "refused"]
    # With users of its own a container cannot have these, and is told what would.
    _, reason, facts = refused_run(engine, "true", mounts=[bind("/host/sys", "/sys")])
    if reason == "PROCESS_START_FAILED":
        assert "--userns host" in facts["detail"]


def test_a_volume_on_dev_is_the_containers_alone(engine: Engine) -> None:
    create(engine, "dev")
    (Path(get(engine, "dev").mountpoint) / "null").symlink_to("/proc/sys/kernel/core_pattern")
    script = "ls /dev; cat /proc/kcore /proc/keys 2>/dev/null | wc -c; echo '|/x' > /dev/null; echo $?"
    found = output(engine, IMAGE, script, mounts=[volume("/dev", "dev")]).split()
    assert found[0] == "null"
    # What is masked stays so, and the false null leads to what is read-only.
    assert (found[-2], found[-1] != "0") == ("0", True)
    delete(engine, "dev")


@pytest.mark.parametrize("target", ["/dev/sub", "/dev/shm", "/dev/shm/sub", "/dev/sub/deep"])
def test_places_in_dev_are_made_in_the_containers_own(engine: Engine, tmp_path: Path, target: str) -> None:
    for mount in (tmpfs(target), volume(target), bind(target, tmp_path)):
        script = f"touch {target}/x && ls -d {target}; stat -c %t:%T /dev/null"
        assert output(engine, IMAGE, script, mounts=[mount]).split() == [target, "1:3"]


def test_a_bind_over_a_node_of_dev_is_what_is_seen_there_and_the_hosts_stays(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("mine\n")
    mounts = [bind("/dev/random", tmp_path / "f"), bind("/dev/log", tmp_path / "f")]
    assert output(engine, IMAGE, "cat /dev/random /dev/log", mounts=mounts) == "mine\nmine"


def test_on_etc_the_engines_three_files_lie_above(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
    script = "cat /etc/passwd; for f in hosts hostname resolv.conf; do test -s /etc/$f && echo $f; done; hostname"
    for mount in (bind("/etc", tmp_path / "etc"), volume("/etc", "etc")):
        found = output(engine, IMAGE, script, mounts=[mount]).splitlines()
        assert found[0].startswith("root:x:0:0:")
        assert found[-4:-1] == ["hosts", "hostname", "resolv.conf"]
    # The places are made in what lies there; what is written to them is the container's.
    assert [(tmp_path / "etc" / name).read_bytes() for name in ("hosts", "hostname")] == [b"", b""]
    delete(engine, "etc")


def test_an_etc_that_leads_elsewhere_is_not_followed_out(engine: Engine, canary: Path) -> None:
    made = containers.load(engine, tarball.directory("tree"), tarball.symlink("tree/etc", str(canary)))
    for target in ("/tree/etc/hosts", "/tree/etc/sub"):
        assert output(engine, made, "echo started", mounts=[tmpfs(target)]) == "started"
    create(engine, "linked")
    root = Path(get(engine, "linked").mountpoint)
    for name in ("hosts", "hostname", "resolv.conf"):
        (root / name).symlink_to(canary / "secret")
    out = output(engine, IMAGE, "cat /etc/hosts 2>/dev/null; echo started", mounts=[volume("/etc", "linked")])
    assert "host's" not in out
    assert sorted(path.name for path in canary.iterdir()) == ["secret"]
    assert (canary / "secret").read_text() == "host's\n"
    delete(engine, "linked")
