"""Debian's firewalls on a machine of a test's own: their settings are copies, their bus and their rules are its."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.namespaces import Machine
from tests.support.wait import until_now

_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={path}</listen>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/>
<allow user="*"/></policy></busconfig>
"""


class _OnMachine:
    """Programs that run in the machine's network and a mount namespace of their own."""

    def __init__(self, machine: Machine, root: Path, mounts: str, environment: dict[str, str]) -> None:
        self._log = root / "log"
        self._environment = os.environ | environment
        self._holder = subprocess.Popen(
            ["nsenter", f"--net=/proc/{machine.pid}/ns/net", "unshare", "--mount", "--propagation", "private"]
            + ["sh", "-ec", f"{mounts}\necho ready; exec sleep 100000"],
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        self._started: list[subprocess.Popen[bytes]] = []

    def _entered(self, *command: str) -> list[str]:
        return ["nsenter", "--net", "--mount", f"--target={self._holder.pid}", *command]

    def _start(self, *command: str) -> None:
        with self._log.open("ab") as log:
            started = subprocess.Popen(
                self._entered(*command), env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._started.append(started)

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._entered(*command), env=self._environment, capture_output=True, text=True, timeout=60, check=False
        )

    def run(self, *command: str) -> str:
        """What the command prints; it must succeed."""
        done = self._run(*command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def close(self) -> None:
        """What was started has ended."""
        for process in reversed([self._holder, *self._started]):
            process.terminate()
            process.wait()
        if self._holder.stdout is not None:
            self._holder.stdout.close()


class Firewalld(_OnMachine):
    """firewalld with a bus of its own."""

    def __init__(self, machine: Machine, root: Path) -> None:
        """It runs, with the settings that Debian gives."""
        root.mkdir()
        bus = root / "bus"
        (root / "bus.conf").write_text(_BUS.format(path=bus))
        shutil.copytree("/etc/firewalld", root / "etc")
        super().__init__(machine, root, "true", {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={bus}"})
        try:
            self._start("dbus-daemon", f"--config-file={root / 'bus.conf'}", "--nofork", "--nopidfile")
            until_now(bus.exists, "the bus is there")
            self._start("firewalld", "--nofork", "--nopid", "--system-config", str(root / "etc"))
            until_now(lambda: self._run("firewall-cmd", "--state").returncode == 0, "firewalld runs")
        except BaseException:
            self.close()
            raise


class Ufw(_OnMachine):
    """ufw with a copy of its settings."""

    def __init__(self, machine: Machine, root: Path) -> None:
        """It is enabled, with the settings that Debian gives."""
        root.mkdir()
        shutil.copytree("/etc/ufw", root / "ufw")
        shutil.copy("/etc/default/ufw", root / "default")
        (root / "run").mkdir()
        mounts = (("ufw", "/etc/ufw"), ("default", "/etc/default/ufw"), ("run", "/run"))
        super().__init__(machine, root, "\n".join(f"mount --bind {root}/{name} {path}" for name, path in mounts), {})
        try:
            self.run("ufw", "--force", "enable")
        except BaseException:
            self.close()
            raise
