"""What a container cannot reach: the host's files, kernel settings, programs, sockets and system calls."""

import hashlib
from pathlib import Path

import grpc
import pytest

from fluyt.v1.types import network_pb2, security_pb2
from tests.e2e.containers.steps import IMAGE, INVALID, WRONG_STATE, load, refusal, refused_run, status_of
from tests.support import tarball
from tests.support.engine import REPOSITORY, Engine


def shell(engine: Engine, script: str, image: str = IMAGE, **spec: object) -> bytes:
    return engine.run(image, "sh", "-c", script, **spec)[0]


def test_z01_files_of_an_image_never_land_on_the_host(engine: Engine, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    for members in (
        [tarball.symlink("e", str(canary)), tarball.file("e/pwn", "x")],
        [tarball.symlink("b", str(canary)), tarball.symlink("a", "b"), tarball.file("a/pwn", "x")],
        [tarball.file(f"../../../../../../..{canary}/pwn", "x")],
        [tarball.symlink("e", str(canary.parent)), tarball.hardlink("b", "e/canary")],
    ):
        try:
            load(engine, *members)
        except grpc.RpcError as error:
            told = refusal(error)[0]
            assert told is INVALID
        assert list(canary.iterdir()) == []


@pytest.mark.parametrize("number", [3, 4, 5, 7, 8, 10, 15, 20])
def test_z04_a_working_directory_by_a_descriptor_never_leads_to_the_host(engine: Engine, number: int) -> None:
    try:
        out = shell(engine, "ls ../../../../", working_dir=f"/proc/self/fd/{number}")
    except grpc.RpcError as error:
        told = refusal(error)[0]
        assert told in {INVALID, WRONG_STATE}
    else:
        assert set(out.split()) == set(shell(engine, "ls /").split())


def test_z11_the_supervisor_cannot_be_executed_or_written_by_a_container(engine: Engine) -> None:
    program = REPOSITORY / "server" / "fluytd" / "libexec" / "fluyt-supervisor"
    before = hashlib.sha256(program.read_bytes()).digest()
    image = load(engine, tarball.symlink("x", "/proc/self/exe"), entrypoint=["/x"])
    assert refused_run(engine, image=image)[1] == "PROCESS_START_FAILED"
    shell(engine, "for p in /proc/[0-9]*; do echo x 2>/dev/null >$p/exe; done")
    assert hashlib.sha256(program.read_bytes()).digest() == before


def test_z12_with_the_hosts_network_no_abstract_socket_of_the_engine_is_there(engine: Engine) -> None:
    host = network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_HOST)
    sockets = shell(engine, "cat /proc/net/unix", network=host)
    assert str(engine.root).encode() in sockets
    assert not [line for line in sockets.splitlines() if b"@" in line and b"fluyt" in line]


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"])
def test_z13_a_masked_file_reads_as_empty(engine: Engine, path: str) -> None:
    assert shell(engine, f"if [ -e {path} ]; then head -c 1 {path} | wc -c; else echo 0; fi").strip() == b"0"


@pytest.mark.parametrize("path", ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity"])
def test_z13_kernel_settings_cannot_be_written(engine: Engine, path: str) -> None:
    _, err, ended = engine.run(IMAGE, "sh", "-c", f"echo 1 > {path}")
    assert ended.exit_code == 1
    assert b"Read-only file system" in err or b"nonexistent directory" in err


def test_capabilities_are_dropped_added_and_refused(engine: Engine) -> None:
    def effective(**security: object) -> str:
        spec = security_pb2.SecuritySpec(**security)  # type: ignore[arg-type]
        return status_of(engine.run(IMAGE, "cat", "/proc/self/status", security=spec)[0])["CapEff"]

    assert effective(drop_capabilities=["ALL"]) == "0" * 16
    assert effective(drop_capabilities=["ALL"], add_capabilities=["CAP_CHOWN"]) == f"{1:016x}"
    assert int(effective(privileged=True), 16) & (1 << 21)
    bad = security_pb2.SecuritySpec(add_capabilities=["NOPE"])
    assert refused_run(engine, "true", security=bad)[:2] == (INVALID, "FIELD_INVALID")


def test_system_calls_are_filtered_and_privileges_can_be_barred(engine: Engine) -> None:
    status = status_of(shell(engine, "cat /proc/self/status"))
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "0")
    assert engine.run(IMAGE, "unshare", "-U", "true")[2].exit_code != 0
    barred = security_pb2.SecuritySpec(no_new_privileges=True)
    assert status_of(shell(engine, "cat /proc/self/status", security=barred))["NoNewPrivs"] == "1"


def test_a_read_only_root_cannot_be_written(engine: Engine) -> None:
    assert shell(engine, "touch /x 2>/dev/null || echo kept; touch /dev/shm/x && echo shm", read_only_root=True) == (
        b"kept\nshm\n"
    )


def test_without_a_network_there_is_only_loopback_and_it_is_up(engine: Engine) -> None:
    none = network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_NONE)
    script = "ls /sys/class/net; ping -c 1 -w 5 127.0.0.1 >/dev/null && echo up"
    assert shell(engine, script, network=none) == b"lo\nup\n"
