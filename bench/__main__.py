"""`python -m bench`: every figure of the foundation, this engine beside the peers that are installed, in one run.

    python -m bench                          all sections, small rounds
    python -m bench --sections run,memory    some of run, parallel, exec, stop (and removal), stats, read (of a log),
                                             logs (followed at a rate), memory, list
    python -m bench --pull IMAGE[,IMAGE]     also pulls these images on fresh file systems: references of a loopback
                                             registry, or OCI layouts, which go into a registry of the run

The daemon runs in the host's own view of the cgroups; the peers run in a private mount namespace that shows pure v1,
since crun refuses the hybrid layout. The parent starts the daemon, then this module again inside the namespace.
"""

import argparse
import contextlib
import os
import platform
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import execs, life, logs, memory, namespace, pull, run
from bench.figures import Figure, table, write
from bench.ours import Ours, end_daemon, start_daemon
from bench.peers import Peers, quiet_run
from bench.sweep import ended_by_signals, run_inner

REFERENCE = "bench/busybox:1"
INNER = "FLUYT_BENCH_SOCKET"


def busybox_rootfs(folder: Path) -> Path:
    """A root file system of Debian's static busybox, as a folder and as `folder`.tar; returns the tar."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("busybox is missing: apt-get install busybox-static")
    for name in ("bin", "etc", "dev", "proc", "sys", "tmp", "root"):
        (folder / name).mkdir(parents=True)
    shutil.copy2(busybox, folder / "bin/busybox")
    for tool in ("sh", "true", "sleep", "cat", "echo", "ls", "find"):
        (folder / "bin" / tool).symlink_to("busybox")
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\n")
    archive = folder.with_suffix(".tar")
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, arcname=".")
    return archive


@contextlib.contextmanager
def registry_with(scratch: Path, rootfs_tar: Path) -> Iterator[str | None]:
    """Debian's docker-registry holding a busybox image; yields its reference, None where a tool is missing."""
    if not all(map(shutil.which, ("docker-registry", "skopeo", "umoci"))):
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    (scratch / "registry.yml").write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {scratch}/registry}}}}\nhttp: {{addr: '{address}'}}\n"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(scratch / "registry.yml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1])), 1).close()
                break
            time.sleep(0.05)
        layout = f"{scratch}/layout"
        quiet_run(["umoci", "init", "--layout", layout], {})
        quiet_run(["umoci", "new", "--image", f"{layout}:1"], {})
        add = ["umoci", "raw", "add-layer", "--image", f"{layout}:1", str(rootfs_tar)]
        quiet_run(add, {})
        reference = f"{address}/bench/busybox:1"
        copy = ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}:1", f"docker://{reference}"]
        quiet_run(copy, {})
        yield reference
    finally:
        process.terminate()
        process.wait(10)


#: In the order in which they are taken.
SECTIONS = ("run", "parallel", "exec", "stop", "stats", "read", "logs", "memory", "list")


def _section(name: str, ours: Ours, peers: Peers, arguments: argparse.Namespace) -> list[Figure]:
    rounds, count = arguments.rounds, arguments.count
    sections: dict[str, Callable[[], list[Figure]]] = {
        "run": lambda: [
            *run.spaced(ours, REFERENCE, peers, rounds),
            *run.back_to_back(ours, REFERENCE, peers, rounds),
        ],
        "parallel": lambda: run.eight_callers(ours, REFERENCE, peers, count),
        "exec": lambda: execs.spaced(ours, REFERENCE, peers, rounds),
        "stop": lambda: life.stopped_and_removed(ours, REFERENCE, peers, rounds),
        "stats": lambda: life.looked_at(ours, REFERENCE, peers, rounds),
        "read": lambda: life.read(ours, REFERENCE, peers, rounds),
        "logs": lambda: logs.followed(ours, REFERENCE, peers),
        "memory": lambda: memory.idle(ours, REFERENCE, peers, 50),
        "list": lambda: memory.lists(ours, REFERENCE, peers, count),
    }
    return sections[name]()


def measure(arguments: argparse.Namespace, scratch: Path) -> list[Figure]:
    """All sections that were asked for; runs inside the private mount namespace."""
    sections = set(arguments.sections.split(","))
    rootfs = scratch / "rootfs"
    figures: list[Figure] = []
    ours = Ours(Path(os.environ[INNER]))
    with registry_with(scratch, scratch / "rootfs.tar") as image:
        peers = Peers(scratch, rootfs, image, arguments.only)
        try:
            for peer in peers.peers:
                print(f"peer {peer.name}: {peer.version}")
            for reason in peers.skipped:
                print(f"skipped {reason}")
            ours.import_rootfs(scratch / "rootfs.tar", REFERENCE)
            for name in SECTIONS:
                if name in sections:
                    figures += _section(name, ours, peers, arguments)
        finally:
            peers.close()
            ours.close()
        for pulled in filter(None, arguments.pull.split(",")):
            reference = pulled
            if Path(pulled).is_dir():
                if image is None:
                    raise SystemExit("a layout is pulled from docker-registry, which skopeo fills: install both")
                reference = f"{image.split('/', 1)[0]}/bench/{Path(pulled).name}:1"
                copy = ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{pulled}"]
                quiet_run([*copy, f"docker://{reference}"], {})
            figures += pull.fresh(scratch, reference, set(), arguments.pull_rounds)
    return figures


def main() -> int:
    """Prints the tables; with --out also writes every value as JSON lines."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--sections", default="run,parallel,exec,stop,stats,read,memory,list")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--count", type=int, default=100, help="containers in the sections parallel and list")
    parser.add_argument("--pull", default="", metavar="IMAGE")
    parser.add_argument("--pull-rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="", metavar="PEER", help="one peer instead of all")
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    ended_by_signals()

    if INNER in os.environ:
        figures = measure(arguments, arguments.scratch)
        print(f"\n{platform.release()}, {os.cpu_count()} processors, {' '.join(sys.argv[1:])}")
        print(table(figures))
        if arguments.out:
            write(figures, arguments.out)
        return 0

    scratch = Path(tempfile.mkdtemp(prefix="fb-"))  # short: a peer's socket path may have 107 bytes
    run_root = Path("/run") / f"fluyt-bench-{os.getpid()}"
    daemon = start_daemon(scratch / "data", run_root, scratch / "fluytd.log")
    try:
        busybox_rootfs(scratch / "rootfs")
        command = namespace.inside("bench", [*sys.argv[1:], "--scratch", str(scratch)])
        environment = os.environ | {INNER: str(run_root / "fluytd.sock")}
        return run_inner(command, environment)
    finally:
        end_daemon(daemon, scratch, run_root)
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(run_root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
