"""Images whose /dev, /proc, /sys and console are links to elsewhere, and processes that watch others come in."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.e2e.containers.steps import WRONG_STATE, load, refused_run, started
from tests.e2e.execs import steps as execs
from tests.security.canary import Canary
from tests.support import tarball
from tests.support.engine import Engine

#: What links of a supervisor's process lead to.
HOSTS = ("supervisor", "socket:", "anon_inode", "memfd")


def targets(canary: Canary) -> list[str]:
    """Where such a link may lead: to the host, by each spelling."""
    return [
        str(canary.path),
        f"../../../../../../../../..{canary.path}",
        f"/proc/1/root{canary.path}",
        "/proc/self/cwd",
    ]


@pytest.mark.parametrize(
    "place", ["dev", "dev/pts", "dev/shm", "dev/mqueue", "etc", "etc/mtab", "etc/crypto-policies/back-ends", "run"]
)
def test_a_place_of_the_engines_that_is_a_link_touches_nothing_outside(
    engine: Engine, canary: Canary, place: str
) -> None:
    """CVE-2026-41579, CVE-2026-47766: what is made in /dev was made where a link of the image led.

    CVE-2024-5154: so was what is made in /etc; CVE-2024-9341: and what an image gets that asks for FIPS.
    """
    for target in targets(canary):
        image = load(engine, tarball.file("usr/share/system-fips", "1"), tarball.symlink(place, target))
        script = (
            f"cat {canary.path}/secret /{place}/secret 2>/dev/null; stat -c '%t:%T' /dev/null; : > /dev/null && echo ok"
        )
        try:
            out, _, ended = engine.run(image, "/bin/busybox", "sh", "-c", script)
        except Exception:  # noqa: BLE001 - told apart below
            assert refused_run(engine, "true", image=image)[:2] == (WRONG_STATE, "PROCESS_START_FAILED"), target
            continue
        assert (out, ended.exit_code) == (b"1:3\nok\n", 0), target
        assert canary.changes() == [], target


@pytest.mark.parametrize("place", ["proc", "sys"])
def test_proc_and_sys_that_are_links_start_nothing(engine: Engine, canary: Canary, place: str) -> None:
    """CVE-2019-19921: masks lay where the image had its false /proc."""
    for target in targets(canary):
        image = load(engine, tarball.symlink(place, target))
        assert refused_run(engine, "true", image=image)[:2] == (WRONG_STATE, "PROCESS_START_FAILED"), target


def test_a_console_that_is_a_link_is_not_followed(engine: Engine, canary: Canary) -> None:
    """CVE-2025-52565: the terminal was mounted where /dev/console led, before the masks lay."""
    for target in (f"{canary.path}/f", "/proc/sysrq-trigger", "/proc/self/attr/exec"):
        image = load(engine, tarball.symlink("dev/console", target), tarball.symlink("dev/ptmx", target))
        script = "readlink /dev/console; readlink /dev/ptmx; stat -c %t /dev/console; "
        script += "cat /proc/keys /proc/timer_list 2>/dev/null | wc -c"
        out = engine.run(image, "sh", "-c", script, tty=True)[0].split()
        # No link, but the terminal itself; and /proc/kcore is masked.
        assert out == [b"pts/ptmx", b"88", b"0"], target


def test_a_process_on_its_way_in_cannot_be_looked_at(engine: Engine, canary: Canary) -> None:
    """CVE-2016-9962: what joins a container is seen by it, and held descriptors of the host until it executed."""
    each = "[ $p = /proc/1 ] || ls -l $p/fd $p/root $p/cwd $p/exe"
    watch = f"while :; do for p in /proc/[0-9]*; do {each}; done; done"
    container = started(
        engine, "sh", "-c", f"{{ {watch}; }} 2>/dev/null | grep -vE 'busybox|pipe:|/dev/null|: *$|/proc'"
    )
    for _ in range(60):
        assert execs.run(engine, container.id, "true").exit == ("exit_code", 0)
    assert canary.changes() == []
    seen = engine.logs(container.id).decode()
    # A program that is none of the container's, or a descriptor that only the supervisor has.
    assert not [line for line in seen.splitlines() if "->" in line and any(word in line for word in HOSTS)], seen


def test_the_engine_listens_to_files_alone_and_only_its_group_opens_them(engine: Engine) -> None:
    """CVE-2025-9074: containers reached the engine's API by TCP. CVE-2024-25621: others of the host its directories."""
    running = started(engine, "sleep", "1000")
    status = Path(f"/proc/{running.host_pid}/status").read_text()
    (supervisor,) = re.findall(r"^PPid:\s+(\d+)$", status, re.MULTILINE)
    for pid in (engine.process.pid, int(supervisor)):
        opened = {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
        own = {name.removeprefix("socket:[").rstrip("]") for name in opened if name.startswith("socket:")}
        for family in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet"):
            for line in Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]:
                assert not own & set(line.split()), (family, line)
    data, run = engine.root / "data", engine.root / "run"
    for path in (data, run / "containers", data / "containers" / running.id, run / "containers" / running.id):
        assert path.stat().st_mode & 0o007 == 0, path
    assert (run / "fluytd.sock").stat().st_mode & 0o007 == 0
    as_nobody = f"ls {data} || ls {data}/containers/{running.id}/upper || ls {run}/containers"
    told = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", "sh", "-c", as_nobody], check=False, capture_output=True
    )
    assert (told.returncode != 0, told.stdout) == (True, b"")
