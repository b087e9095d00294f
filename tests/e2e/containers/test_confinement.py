"""Mounts, descriptors, devices, filters and privileges: what stands between a container's process and the host."""

import contextlib
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt.v1.types import container_spec_pb2, mount_pb2, network_pb2, security_pb2
from tests.e2e.containers.steps import (
    HOST_USERS,
    IMAGE,
    INVALID,
    WRONG_STATE,
    create,
    load,
    refused_run,
    started,
    status_of,
    wait,
)
from tests.support import programs, tarball
from tests.support.engine import Engine

DEFAULT_CAPABILITIES = "00000000a80425fb"
PRIVILEGED = security_pb2.SecuritySpec(privileged=True)
UNCONFINED = security_pb2.SeccompProfile(unconfined=True)
HOST = network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_HOST)
NONE = network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_NONE)


def shell(engine: Engine, script: str, image: str = IMAGE, **spec: object) -> tuple[bytes, bytes, int]:
    """stdout, stderr and exit code of a script."""
    out, err, ended = engine.run(image, "sh", "-c", script, **spec)
    return out, err, ended.exit_code


def bind(source: Path, target: str, *, read_only: bool = False) -> mount_pb2.Mount:
    return mount_pb2.Mount(target=target, read_only=read_only, bind=mount_pb2.BindMount(source=str(source)))


def security(**fields: object) -> security_pb2.SecuritySpec:
    return security_pb2.SecuritySpec(**fields)  # type: ignore[arg-type]


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host that must be as it was afterwards: it holds one file."""
    directory = tmp_path / "canary"
    directory.mkdir()
    (directory / "secret").write_text("of the host\n")
    yield directory
    assert [path.name for path in directory.iterdir()] == ["secret"]
    assert (directory / "secret").read_text() == "of the host\n"


@pytest.mark.parametrize(
    "directory",
    [f"/proc/self/fd/{number}" for number in range(3, 21)]
    + ["/proc/self/cwd", "/proc/self/root", "/proc/1/root/etc", "/proc/self/fd/3/new", "/proc/self/exe", "/proc/new"],
)
def test_z04_a_working_directory_by_a_link_of_proc_starts_nothing(engine: Engine, directory: str) -> None:
    status, reason, metadata = refused_run(engine, "ls", working_dir=directory)
    assert (status, reason, metadata["exit_code"]) == (WRONG_STATE, "PROCESS_START_FAILED", "126")
    assert directory in metadata["detail"]


def test_z04_process_one_has_no_descriptor_but_its_three(engine: Engine) -> None:
    out, _, _ = shell(engine, "exec ls /proc/1/fd")
    # `ls` is process 1 and has the directory itself open.
    assert out.split() == [b"0", b"1", b"2", b"3"]
    container = started(engine, "sleep", "100")
    assert sorted(fd.name for fd in Path(f"/proc/{container.host_pid}/fd").iterdir()) == ["0", "1", "2"]


def test_z05_a_mount_below_a_link_to_the_host_is_made_inside(engine: Engine, tmp_path: Path, canary: Path) -> None:
    volume, other = tmp_path / "volume", tmp_path / "other"
    volume.mkdir()
    other.mkdir()
    (other / "inner").write_text("inner\n")
    (volume / "d").symlink_to(canary)
    mounts = [bind(volume, "/v"), bind(other, "/v/d/new")]
    out, _, _ = shell(engine, f"cat /v/d/new/inner {canary}/new/inner; ls {canary}", mounts=mounts)
    assert out == b"inner\ninner\nnew\n"


def test_z05_a_mount_by_a_link_of_the_image_is_made_inside(engine: Engine, tmp_path: Path, canary: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "f").write_text("mine\n")
    image = load(
        engine,
        tarball.symlink("abs", str(canary)),
        tarball.symlink("up", f"../../../../../../..{canary}"),
        tarball.symlink("circle", "circle"),
        tarball.symlink("fd", "/proc/self/fd"),
    )
    for target in ("/abs/new", "/up/new", "/abs"):
        out, _, _ = shell(engine, f"cat {target}/f", image, mounts=[bind(source, target)])
        assert out == b"mine\n", target
    for target in ("/circle/new", "/fd/3/new"):
        refusal = refused_run(engine, "true", image=image, mounts=[bind(source, target)])
        assert refusal[:2] == (WRONG_STATE, "PROCESS_START_FAILED"), target
    hidden = mount_pb2.Mount(target="/abs/in", tmpfs=mount_pb2.TmpfsMount())
    assert shell(engine, f"ls {canary}", image, mounts=[hidden])[0] == b"in\n"


def test_z05_a_bind_of_what_is_not_there_is_refused_and_nothing_is_made(engine: Engine, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    assert refused_run(engine, "true", mounts=[bind(absent, "/v")])[1] == "BIND_SOURCE_NOT_FOUND"
    assert not absent.exists()


def test_t09_a_working_directory_below_a_mount_is_made_in_it(engine: Engine, tmp_path: Path) -> None:
    volume = tmp_path / "v"
    volume.mkdir()
    out, _, _ = shell(engine, "pwd; touch here", mounts=[bind(volume, "/v")], working_dir="/v/sub")
    assert out == b"/v/sub\n"
    assert stat.S_IMODE((volume / "sub").stat().st_mode) == 0o755
    assert (volume / "sub" / "here").exists()


def test_z13_dev_is_fresh_and_its_null_is_the_null_device(engine: Engine) -> None:
    image = load(engine, tarball.symlink("dev/null", "/proc/sys/kernel/core_pattern"), tarball.file("dev/own", "x"))
    out, _, _ = shell(engine, "stat -c '%F %t:%T %a' /dev/null; ls -d /dev/own 2>/dev/null; ls /dev", image)
    lines = out.decode().splitlines()
    assert lines[0] == "character special file 1:3 666"
    assert {"full", "null", "random", "tty", "urandom", "zero", "fd", "stdin", "stdout", "stderr", "shm", "pts"} <= set(
        lines[1:]
    )
    assert "own" not in lines


def test_z13_a_bind_over_dev_with_a_false_null_leaves_masked_paths_masked(engine: Engine, tmp_path: Path) -> None:
    devices = tmp_path / "devices"
    devices.mkdir()
    (devices / "null").symlink_to("/proc/sys/kernel/core_pattern")
    before = Path("/proc/sys/kernel/core_pattern").read_bytes()
    script = "for f in /proc/kcore /proc/keys /proc/timer_list; do [ ! -e $f ] || head -c 1 $f; done; echo done"
    out, err, _ = shell(engine, f"{{ {script}; }} 2>&1; echo x > /dev/null", mounts=[bind(devices, "/dev")])
    assert out == b"done\n"
    assert b"Read-only file system" in err
    assert Path("/proc/sys/kernel/core_pattern").read_bytes() == before


def test_z13_masked_and_read_only_paths_of_the_caller_replace_the_defaults(engine: Engine) -> None:
    chosen = security(
        masked_paths=security_pb2.PathList(paths=["/etc/passwd", "/etc/group", "/home", "/nosuch", "/etc/passwd"]),
        read_only_paths=security_pb2.PathList(paths=["/tmp", "/nosuch"]),
    )
    script = "cat /etc/passwd /etc/group; ls /home; touch /tmp/x || touch /root/x && ls /root"
    out, err, _ = shell(engine, script, security=chosen)
    assert out == b"x\n"
    assert b"Read-only file system" in err
    none = security(masked_paths=security_pb2.PathList(), read_only_paths=security_pb2.PathList())
    script = "echo changed > /proc/sys/kernel/hostname; hostname"
    assert shell(engine, script, security=none, namespaces=HOST_USERS)[0] == b"changed\n"
    for bad in ("etc", "/a/../b"):
        refusal = refused_run(engine, "true", security=security(masked_paths=security_pb2.PathList(paths=[bad])))
        assert refusal[:2] == (INVALID, "FIELD_INVALID")


@pytest.mark.parametrize(
    ("add", "drop", "effective"),
    [
        ([], ["ALL"], "0" * 16),
        (["ALL"], ["ALL"], None),
        (["CAP_NET_ADMIN"], [], "00000000a80435fb"),
        (["net_admin"], ["CHOWN"], "00000000a80435fa"),
        (["CHOWN"], ["CHOWN"], DEFAULT_CAPABILITIES),
        ([], ["SYS_TIME"], DEFAULT_CAPABILITIES),
        (["all"], ["NET_RAW"], None),
    ],
)
def test_t08_capabilities_are_the_default_ones_less_the_dropped_with_the_added(
    engine: Engine, add: list[str], drop: list[str], effective: str | None
) -> None:
    spec = security(add_capabilities=add, drop_capabilities=drop)
    # Of all there are, a container with the host's users has those that the daemon has.
    namespaces = HOST_USERS if effective is None else None
    status = status_of(engine.run(IMAGE, "cat", "/proc/self/status", security=spec, namespaces=namespaces)[0])
    assert {status["CapEff"], status["CapPrm"]} == {status["CapBnd"]}
    if effective is None:
        every = int(status_of(Path("/proc/self/status").read_bytes())["CapBnd"], 16)
        dropped = 1 << 13 if drop == ["NET_RAW"] else 0
        assert int(status["CapEff"], 16) == every & ~dropped
    else:
        assert status["CapEff"] == effective
    assert (status["CapInh"], status["CapAmb"]) == ("0" * 16, "0" * 16)


def test_t08_a_privileged_container_has_all_that_the_engine_has_and_another_user_in_it_nothing(engine: Engine) -> None:
    own = status_of(Path("/proc/self/status").read_bytes())["CapBnd"]
    status = status_of(engine.run(IMAGE, "cat", "/proc/self/status", security=PRIVILEGED)[0])
    assert (status["CapEff"], status["CapInh"], status["Seccomp"]) == (own, "0" * 16, "0")
    status = status_of(engine.run(IMAGE, "cat", "/proc/self/status", security=PRIVILEGED, user="1000")[0])
    assert (status["CapEff"], status["CapPrm"], status["CapBnd"]) == ("0" * 16, "0" * 16, own)


@pytest.mark.parametrize("bad", ["", "NOPE", "CAP_", "CAP_NOPE", "CAP_ALL_", "0", "CHOWN,KILL"])
def test_t08_what_is_no_capability_is_refused(engine: Engine, bad: str) -> None:
    for fields in ({"add_capabilities": [bad]}, {"drop_capabilities": [bad]}):
        assert refused_run(engine, "true", security=security(**fields))[:2] == (INVALID, "FIELD_INVALID")


def test_a_denied_system_call_is_refused_by_the_filter_alone(engine: Engine) -> None:
    # SYS_ADMIN is there in each, so that only the filter can say no to keyctl(2) and open_by_handle_at(2).
    status = status_of(shell(engine, "cat /proc/self/status")[0])
    assert (status["Seccomp"], status["Seccomp_filters"]) == ("2", "1")
    assert shell(engine, "unshare -U true")[1:] == (b"unshare: unshare(0x10000000): Operation not permitted\n", 1)
    assert shell(engine, "unshare -U true", security=security(seccomp=UNCONFINED))[2] == 0
    free = status_of(shell(engine, "cat /proc/self/status", security=security(seccomp=UNCONFINED))[0])
    assert free["Seccomp"] == "0"


def test_no_new_privileges_bars_set_user_id_programs(engine: Engine) -> None:
    image = load(engine, tarball.file("bin/euid", programs.program("euid"), mode=0o4755))
    assert engine.run(image, "euid", user="1000")[2].exit_code == 0
    barred = security(no_new_privileges=True)
    assert engine.run(image, "euid", user="1000", security=barred)[2].exit_code == 1000 % 256


def test_without_a_network_lo_is_up_hosts_name_it_and_nothing_else_is_there(engine: Engine) -> None:
    script = "ls /sys/class/net; grep -c '^127.0.0.1.localhost' /etc/hosts; wc -l < /proc/net/route; "
    script += "ping -c 1 -w 5 127.0.0.1 > /dev/null && echo up"
    assert shell(engine, script, network=NONE)[0].split() == [b"lo", b"1", b"1", b"up"]
    own = socket.if_nameindex()
    assert shell(engine, "ls /sys/class/net", network=HOST)[0].decode().split() == sorted(name for _, name in own)


def test_z12_the_engines_sockets_are_files_that_only_its_group_can_reach(engine: Engine) -> None:
    create(engine, "true")
    container = started(engine, "sleep", "100")
    run_root = engine.root / "run"
    sockets = [path for path in run_root.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)]
    assert {path.parent for path in sockets} >= {run_root, run_root / "containers" / container.id}
    for path in sockets:
        assert stat.S_IMODE(path.lstat().st_mode) in {0o600, 0o660}, path
    assert stat.S_IMODE(run_root.stat().st_mode) in {0o700, 0o710, 0o711, 0o750}
    assert stat.S_IMODE((run_root / "containers").stat().st_mode) in {0o700, 0o711}
    abstract = {line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines()[1:] if " @" in line}
    held: set[str] = set()
    for fd in Path(f"/proc/{engine.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # of another caller, closed meanwhile
            held.add(str(fd.readlink()))
    assert abstract.isdisjoint(link.removeprefix("socket:[").rstrip("]") for link in held)


def test_a_read_only_root_cannot_be_written_anywhere_but_in_its_own_file_systems(engine: Engine) -> None:
    script = "touch /x /etc/x /root/x; mkdir /new; touch /dev/shm/x && echo shm; touch /tmp/x"
    out, err, _ = shell(engine, script, read_only_root=True)
    assert out == b"shm\n"
    assert err.count(b"Read-only file system") == 5
    tmp = mount_pb2.Mount(target="/tmp", tmpfs=mount_pb2.TmpfsMount())
    assert shell(engine, "touch /tmp/x && ls /tmp", read_only_root=True, mounts=[tmp])[0] == b"x\n"


def test_a_read_only_bind_cannot_be_written_and_stays_as_it_was(engine: Engine, canary: Path) -> None:
    out, err, _ = shell(
        engine, "cat /c/secret; echo x > /c/secret; touch /c/x", mounts=[bind(canary, "/c", read_only=True)]
    )
    assert out == b"of the host\n"
    assert err.count(b"Read-only file system") == 2


def test_what_a_container_mounts_and_writes_is_gone_with_it(engine: Engine) -> None:
    log = container_spec_pb2.LogSpec(segment_count=1)
    container = started(engine, "sh", "-c", "mount -t tmpfs t /mnt; mkdir /a; touch /a/b", security=PRIVILEGED, log=log)
    wait(engine, container.id)
    assert str(engine.root) not in Path("/proc/self/mountinfo").read_text()
