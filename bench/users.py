"""`python -m bench.users`: what users of a container's own cost, beside the host's, both in turn in one run.

Two daemons, as what one makes ahead of a start fits the users that most of its containers have.
"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.__main__ import REFERENCE, busybox_rootfs
from bench.figures import Figure, table, write
from bench.ours import Ours, start_daemon
from fluyt.v1 import containers_pb2, containers_pb2_grpc
from fluyt.v1.types import container_spec_pb2, network_pb2

GAP_SECONDS: Final = 0.12
#: The first rounds warm caches.
WARMING: Final = 3
KINDS: Final = ("host", "auto")


def started_and_run(ours: dict[str, Ours], rounds: int) -> list[Figure]:
    """StartContainer of a container that exists, and RunContainer of true until it is removed, in milliseconds."""
    network = network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_NONE)
    spec = container_spec_pb2.ContainerSpec(image=REFERENCE, args=["/bin/sleep", "100000"], network=network)
    starts: dict[str, list[float]] = {kind: [] for kind in KINDS}
    runs: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(rounds + WARMING):
        # Which is first changes with each round, as what was done before tells upon what comes after.
        for kind in KINDS if number % 2 else reversed(KINDS):
            containers = containers_pb2_grpc.ContainerServiceStub(ours[kind].channel)
            made = containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec)).container.id
            time.sleep(GAP_SECONDS)
            begin = time.perf_counter()
            containers.StartContainer(containers_pb2.StartContainerRequest(container=made))
            started = time.perf_counter() - begin
            containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=made, force=True))
            time.sleep(GAP_SECONDS)
            run = ours[kind].run_true(REFERENCE)
            if number >= WARMING:
                starts[kind].append(started * 1e3)
                runs[kind].append(run * 1e3)
    return [
        *(Figure("start of a container, by its users", kind, "ms", tuple(series)) for kind, series in starts.items()),
        *(Figure("run of true, by its users", kind, "ms", tuple(series)) for kind, series in runs.items()),
    ]


def main() -> int:
    """Prints the tables, as ratios to the host's users, and the differences; with --out also every value."""
    parser = argparse.ArgumentParser(prog="python -m bench.users")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="fb-"))
    busybox_rootfs(scratch / "rootfs")
    roots = {kind: Path("/run") / f"fluyt-bench-{os.getpid()}-{kind}" for kind in KINDS}
    daemons = []
    try:
        ours = {}
        for kind, run_root in roots.items():
            option = ["--default-userns", kind]
            daemons.append(start_daemon(scratch / kind, run_root, scratch / f"{kind}.log", *option))
            ours[kind] = Ours(run_root / "fluytd.sock")
            ours[kind].import_rootfs(scratch / "rootfs.tar", REFERENCE)
        figures = started_and_run(ours, arguments.rounds)
        for client in ours.values():
            client.close()
    finally:
        for daemon in daemons:
            daemon.terminate()
            daemon.wait(30)
        for place in (scratch, *roots.values()):
            shutil.rmtree(place, ignore_errors=True)
    print(f"{platform.release()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    print(table(figures, "host"))
    for host, auto in ((figures[0], figures[1]), (figures[2], figures[3])):
        differences = sorted(own - other for own, other in zip(auto.values, host.values, strict=True))
        middle = differences[len(differences) // 2]
        print(f"{host.section}: auto needs {middle:+.2f} ms, median of {len(differences)} pairs")
    if arguments.out:
        write(figures, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
