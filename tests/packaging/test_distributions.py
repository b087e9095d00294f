"""What README tells to install works by itself: a daemon, its supervisor and the command line from three wheels."""

import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli.program import Program
from tests.packaging.environment import DISTRIBUTIONS, Environment, build_wheel
from tests.support import images
from tests.support.engine import REPOSITORY, Engine

#: Source: elf(5): type of the program header that names a dynamic linker.
PT_INTERP = 3

pytestmark = [pytest.mark.needs("root", "busybox", "cargo"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """A bare environment with the three distributions of this checkout."""
    root = tmp_path_factory.mktemp("installed")
    # Building leaves files beside pure Python sources, which a copy keeps out of the checkout.
    shutil.copytree(
        REPOSITORY / "clients" / "python", root / "client", ignore=shutil.ignore_patterns("build", "*.egg-info")
    )
    for folder in DISTRIBUTIONS:
        build_wheel(root / "client" if folder == "clients/python" else REPOSITORY / folder, root / "wheels")
    environment = Environment(root / "environment")
    environment.install(root / "wheels")
    yield environment
    shutil.rmtree(root)


def _is_static(program: Path) -> bool:
    # Source: elf(5): e_phoff at 32, e_phentsize and e_phnum at 54 of a 64-bit header.
    data = program.read_bytes()
    assert data[:5] == b"\x7fELF\x02"
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    return all(struct.unpack_from("<I", data, offset + size * number)[0] != PT_INTERP for number in range(count))


def test_the_installed_programs_tell_their_versions(installed: Environment) -> None:
    for program in ("fluyt", "fluytd"):
        ended = subprocess.run([installed.bin / program, "--version"], capture_output=True, text=True, check=True)
        assert ended.stdout.startswith(f"{program} ")


def test_the_installed_supervisor_is_executable_and_static(installed: Environment) -> None:
    supervisor = installed.site / "fluytd" / "libexec" / "fluyt-supervisor"
    assert supervisor.stat().st_mode & 0o555 == 0o555
    assert _is_static(supervisor)
    assert not _is_static(installed.bin / "fluyt")  # the check can tell


def test_the_installed_daemon_runs_a_container_for_the_installed_command_line(
    installed: Environment, tmp_path: Path
) -> None:
    rootfs = tmp_path / "rootfs.tar"
    rootfs.write_bytes(images.busybox_layer("none").tar)
    with Engine(tmp_path, program=installed.bin / "fluytd") as engine:
        lines = Path(f"/proc/{engine.process.pid}/maps").read_text().splitlines()
        loaded = {line.split()[-1] for line in lines if "/fluytd/" in line}
        assert loaded == {str(installed.site / "fluytd" / "_core.abi3.so")}
        fluyt = Program(engine.root / "run" / "fluytd.sock", installed.bin / "fluyt")
        fluyt.ok("version")
        fluyt.ok("import", str(rootfs), "first:1")
        ended = fluyt("run", "--rm", "first:1", "sh", "-c", "echo from a wheel; exit 7")
        assert (ended.code, ended.out) == (7, "from a wheel\n")
        assert engine.left_on_host() == []
