"""What a container cannot reach: the host's files, kernel settings, programs, sockets and system calls."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fluyt.v1.types import network_pb2
from tests.e2e.containers.steps import IMAGE, INVALID, WRONG_STATE, exit_of, load, refusal, refused_run, started
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
            told = refusal(error)[:2]
            assert told == (INVALID, "LAYER_REJECTED")
        assert list(canary.iterdir()) == []


PROGRAM = REPOSITORY / "server" / "fluytd" / "libexec" / "fluyt-supervisor"


@pytest.fixture
def unchanged_program() -> Iterator[None]:
    """The program that starts containers is the same afterwards."""
    before = hashlib.sha256(PROGRAM.read_bytes()).digest()
    yield
    assert hashlib.sha256(PROGRAM.read_bytes()).digest() == before


@pytest.mark.usefixtures("unchanged_program")
@pytest.mark.parametrize("target", ["/proc/self/exe", "/proc/1/exe", "/proc/thread-self/exe", "/proc/self/fd/3"])
def test_z11_a_command_that_leads_to_an_open_program_is_not_executed(engine: Engine, target: str) -> None:
    image = load(engine, tarball.symlink("x", target), entrypoint=["/x"])
    assert refused_run(engine, image=image)[:2] == (WRONG_STATE, "PROCESS_START_FAILED")
    assert refused_run(engine, target)[:2] == (WRONG_STATE, "PROCESS_START_FAILED")


@pytest.mark.usefixtures("unchanged_program")
@pytest.mark.parametrize("target", ["/proc/self/exe", "/proc/1/exe"])
def test_z11_an_interpreter_that_leads_to_the_program_that_starts_containers_gives_nothing(
    engine: Engine, target: str
) -> None:
    image = load(engine, tarball.file("x", f"#!{target}\n", mode=0o755))
    out, err, ended = engine.run(image, "/x")
    assert (out, err, exit_of(ended)) == (b"", b"", ("exit_code", 1))


def test_z11_the_supervisors_program_cannot_be_written_by_way_of_a_process_that_runs_it(engine: Engine) -> None:
    started(engine, "sleep", "100")
    threads = Path(f"/proc/{engine.process.pid}/task").iterdir()
    children = [pid for thread in threads for pid in (thread / "children").read_text().split()]
    names = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    supervisors = [pid for pid, name in names.items() if name.startswith(b"fluyt-supervisor")]
    assert supervisors
    for pid in supervisors:
        # While it runs the kernel refuses to write to it anyhow; after that the mount still does.
        assert os.statvfs(f"/proc/{pid}/exe").f_flag & os.ST_RDONLY


@pytest.mark.usefixtures("unchanged_program")
def test_z11_no_program_that_a_container_sees_running_can_be_written(engine: Engine) -> None:
    out, err, _ = engine.run(IMAGE, "sh", "-c", "for p in /proc/[0-9]*; do echo x > $p/exe; done; echo done")
    assert out == b"done\n"
    assert b"Text file busy" in err


def test_z12_with_the_hosts_network_no_abstract_socket_of_the_engine_is_there(engine: Engine) -> None:
    host = network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_HOST)
    sockets = shell(engine, "cat /proc/net/unix", network=host)
    assert str(engine.root).encode() in sockets
    assert not [line for line in sockets.splitlines() if b"@" in line and b"fluyt" in line]


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"])
def test_z13_a_masked_file_reads_as_empty(engine: Engine, path: str) -> None:
    assert shell(engine, f"if [ -e {path} ]; then head -c 1 {path} | wc -c; else echo 0; fi").strip() == b"0"


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in ("/proc/sys/kernel/hostname", "/proc/sys/vm/swappiness", "/proc/irq/default_smp_affinity")
        + ("/proc/sysrq-trigger", "/sys/kernel/new", "/sys/fs/cgroup/new")
        if Path(path).parent.is_dir() and (path.endswith("/new") or Path(path).exists())
    ],
)
def test_z13_kernel_settings_cannot_be_written(engine: Engine, path: str) -> None:
    _, err, ended = engine.run(IMAGE, "sh", "-c", f"echo 1 > {path}")
    assert ended.exit_code == 1
    assert b"Read-only file system" in err
