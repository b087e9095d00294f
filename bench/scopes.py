"""`python -m bench.scopes`: what a start costs where systemd makes the groups, beside the engine making them itself.

It needs a systemd as the host's first process and control groups v2 alone. Where there is none, an emulated machine has
them: `make bench-systemd`; it is some 30 times slower, so that the ratio alone says something.
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
from bench.figures import Figure, table
from bench.ours import Ours, cgroup_parent, end_daemon, start_daemon
from fluyt.v1 import containers_pb2, containers_pb2_grpc
from fluyt.v1.types import container_spec_pb2, network_pb2

#: The first rounds warm caches.
WARMING: Final = 2
#: Options of each daemon.
DRIVERS: Final = {
    "cgroupfs": ["--cgroup-driver", "cgroupfs"],
    "systemd": ["--cgroup-driver", "systemd", "--cgroup-parent", f"{cgroup_parent().replace('-', '')}.slice"],
}


def started_and_stopped(ours: dict[str, Ours], rounds: int) -> list[Figure]:
    """StartContainer of a container that exists, its end by DeleteContainer, and RunContainer of true, in ms."""
    network = network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_NONE)
    spec = container_spec_pb2.ContainerSpec(image=REFERENCE, args=["/bin/sleep", "100000"], network=network)
    values: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + WARMING):
        # Which is first changes with each round, as what was done before tells upon what comes after.
        for driver in DRIVERS if number % 2 else reversed(DRIVERS):
            containers = containers_pb2_grpc.ContainerServiceStub(ours[driver].channel)
            made = containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec)).container.id
            at = [time.perf_counter()]
            containers.StartContainer(containers_pb2.StartContainerRequest(container=made))
            at.append(time.perf_counter())
            containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=made, force=True))
            at.append(time.perf_counter())
            run = ours[driver].run_true(REFERENCE)
            if number >= WARMING:
                for what, seconds in (("start", at[1] - at[0]), ("removal", at[2] - at[1]), ("run of true", run)):
                    values.setdefault((what, driver), []).append(seconds * 1e3)
    return [
        Figure(what, driver, "ms", tuple(values[what, driver]))
        for what in ("start", "removal", "run of true")
        for driver in DRIVERS
    ]


def main() -> int:
    """Prints the table, as ratios to the driver cgroupfs."""
    parser = argparse.ArgumentParser(prog="python -m bench.scopes")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="fb-"))
    busybox_rootfs(scratch / "rootfs")
    roots = {driver: Path("/run") / f"fluyt-bench-{os.getpid()}-{driver}" for driver in DRIVERS}
    daemons = {}
    ours = {}
    try:
        for driver, options in DRIVERS.items():
            daemons[driver] = start_daemon(scratch / driver, roots[driver], scratch / f"{driver}.log", *options)
            ours[driver] = Ours(roots[driver] / "fluytd.sock")
            ours[driver].import_rootfs(scratch / "rootfs.tar", REFERENCE)
        figures = started_and_stopped(ours, arguments.rounds)
    finally:
        for client in ours.values():
            client.close()
        for driver, daemon in daemons.items():
            end_daemon(daemon, scratch / driver, roots[driver])
        for place in (scratch, *roots.values()):
            shutil.rmtree(place, ignore_errors=True)
    print(f"{platform.release()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    print(table(figures, "cgroupfs"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
