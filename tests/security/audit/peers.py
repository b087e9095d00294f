"""`python -m tests.security.audit.peers`: writes the audits of docker and podman beside ours, and prints what differs.

Each is run as it comes, without a network, in a private mount and network namespace; crun refuses a hybrid layout of
control groups, so the namespace shows pure v1 (bench.namespace). By hand: the files are kept, so that the test needs
neither.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.__main__ import busybox_rootfs
from bench.namespace import inside
from tests.security.audit import audit

INNER: Final = "FLUYT_AUDIT_SCRATCH"
START_SECONDS: Final = 40


def rootfs(scratch: Path) -> Path:
    """A tar of busybox and the probe."""
    archive = busybox_rootfs(scratch / "rootfs")
    (scratch / "probe").write_bytes(audit.program())
    (scratch / "probe").chmod(0o755)
    with tarfile.open(archive, "a") as tar:
        tar.add(scratch / "probe", arcname="./probe")
    return archive


def _run(*command: str, **environment: str) -> str:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ | environment, text=True)
    return done.stdout


def docker(scratch: Path, archive: Path) -> tuple[str, str]:
    """Version, and what the probe tells."""
    where = {"DOCKER_HOST": f"unix://{scratch}/s"}
    command = ["dockerd", "--data-root", f"{scratch}/d", "--exec-root", f"{scratch}/x", "--pidfile", f"{scratch}/pid"]
    command += ["--host", where["DOCKER_HOST"], "--bridge", "none", "--iptables=false", "--ip6tables=false"]
    command += ["--exec-opt", "native.cgroupdriver=cgroupfs", "--config-file", f"{scratch}/none"]
    (scratch / "none").write_text("{}")
    with (scratch / "log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as daemon:
        try:
            for _ in range(START_SECONDS * 10):
                asked = subprocess.run(["docker", "version"], check=False, env=os.environ | where, capture_output=True)
                if asked.returncode == 0:
                    break
                time.sleep(0.1)
            _run("docker", "import", str(archive), "audit:1", **where)
            run = ("docker", "run", "--rm", "--network", "none", "audit:1", "/probe", *audit.arguments())
            return _run("docker", "version", "-f", "{{.Server.Version}}", **where).strip(), _run(*run, **where)
        finally:
            daemon.terminate()
            daemon.wait(START_SECONDS)


def podman(scratch: Path, archive: Path) -> tuple[str, str]:
    """Version, and what the probe tells."""
    (scratch / "containers.conf").write_text(
        '[containers]\ndefault_ulimits=["nofile=20000:20000","nproc=4096:4096"]\n'
        '[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\nruntime="crun"\n'
    )
    (scratch / "storage.conf").write_text(
        f'[storage]\ndriver="overlay"\ngraphroot="{scratch}/pr"\nrunroot="{scratch}/prr"\n'
    )
    where = {
        "CONTAINERS_CONF": str(scratch / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(scratch / "storage.conf"),
        "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
    }
    _run("podman", "import", "-q", str(archive), "audit:1", **where)
    run = ("podman", "run", "--rm", "--network", "none", "localhost/audit:1", "/probe", *audit.arguments())
    return _run("podman", "version", "-f", "{{.Client.Version}}", **where).strip(), _run(*run, **where)


def main() -> int:
    """Both audits are written."""
    if INNER not in os.environ:
        with tempfile.TemporaryDirectory(prefix="fa-") as scratch:
            command = ["unshare", "--net", *inside("tests.security.audit.peers", [])]
            return subprocess.run(command, env=os.environ | {INNER: scratch}, check=False).returncode
    place = Path(os.environ[INNER])
    archive = rootfs(place)
    ours = audit.reach(audit.load("default.txt"))
    for name, work in (("docker", docker), ("podman", podman)):
        version, output = work(place, archive)
        found = audit.parse(output)
        (audit.HERE / f"{name}.txt").write_text(f"# {name} {version}, Linux {os.uname().release}\n{audit.dump(found)}")
        theirs = audit.reach(found)
        print(f"ours and not {name} {version}'s:", *sorted(ours - theirs), sep="\n  ")
        print(f"{name} {version}'s and not ours:", *sorted(theirs - ours), sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
