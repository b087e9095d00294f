"""`python -m bench.networks`: what a network adds to the start and the stop of a container, all in one run; with
`--crowd N` containers on one network, with `--throughput` bytes between two.

The daemon, its bridges and its table live in a network namespace of the run's own; the host's network has no part.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.__main__ import REFERENCE, busybox_rootfs
from bench.crowd import crowd, throughput
from bench.figures import Figure, table, write
from bench.ours import Ours, end_daemon, start_daemon
from bench.sweep import ended_by_signals, run_inner
from fluyt.v1 import containers_pb2, containers_pb2_grpc, networks_pb2, networks_pb2_grpc
from fluyt.v1.types import container_spec_pb2, network_pb2

INNER: Final = "FLUYT_BENCH_NETNS"
NETWORK: Final = "front"
GAP_SECONDS: Final = 0.06
#: The first rounds make bridges and warm caches.
WARMING: Final = 3

_Spec = network_pb2.NetworkSpec
_PORTS: Final = (network_pb2.PublishedPort(container_port=80),)
KINDS: Final = {
    "none": _Spec(mode=_Spec.MODE_NONE),
    "the engine's own network": _Spec(mode=_Spec.MODE_BRIDGE),
    "with a published port": _Spec(mode=_Spec.MODE_BRIDGE, published_ports=_PORTS),
    "a network with names, published port": _Spec(
        attachments=[network_pb2.NetworkAttachment(network=NETWORK)], published_ports=_PORTS
    ),
}


def started_and_stopped(ours: Ours, rounds: int) -> list[Figure]:
    """StartContainer of a container that exists, and StopContainer (by SIGKILL), in milliseconds."""
    containers = containers_pb2_grpc.ContainerServiceStub(ours.channel)
    networks_pb2_grpc.NetworkServiceStub(ours.channel).CreateNetwork(networks_pb2.CreateNetworkRequest(name=NETWORK))
    starts: dict[str, list[float]] = {kind: [] for kind in KINDS}
    stops: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for round_number in range(rounds + WARMING):
        for kind, network in KINDS.items():
            spec = container_spec_pb2.ContainerSpec(image=REFERENCE, args=["/bin/sleep", "100000"], network=network)
            made = containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec)).container.id
            stop = containers_pb2.StopContainerRequest(container=made)
            stop.timeout.seconds = 0
            time.sleep(GAP_SECONDS)
            begin = time.perf_counter()
            containers.StartContainer(containers_pb2.StartContainerRequest(container=made))
            started = time.perf_counter()
            time.sleep(GAP_SECONDS)
            stopping = time.perf_counter()
            containers.StopContainer(stop)
            if round_number >= WARMING:
                starts[kind].append((started - begin) * 1e3)
                stops[kind].append((time.perf_counter() - stopping) * 1e3)
            containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=made))
    return [
        *(Figure("start of a container, by its network", kind, "ms", tuple(series)) for kind, series in starts.items()),
        *(Figure("stop of a container, by its network", kind, "ms", tuple(series)) for kind, series in stops.items()),
    ]


def main() -> int:
    """Prints the tables, as ratios to a container without a network; with --out also every value as JSON lines."""
    parser = argparse.ArgumentParser(prog="python -m bench.networks")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--crowd", type=int, default=0, help="start so many containers on one network instead")
    parser.add_argument("--throughput", action="store_true", help="send between two containers instead, podman beside")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    ended_by_signals()
    if INNER not in os.environ:
        command = ["unshare", "--net", "--", sys.executable, "-m", "bench.networks", *sys.argv[1:]]
        return run_inner(command, os.environ | {INNER: "1"})
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    scratch = Path(tempfile.mkdtemp(prefix="fb-"))
    run_root = Path("/run") / f"fluyt-bench-{os.getpid()}"
    daemon = start_daemon(scratch / "data", run_root, scratch / "fluytd.log")
    try:
        busybox_rootfs(scratch / "rootfs")
        ours = Ours(run_root / "fluytd.sock")
        ours.import_rootfs(scratch / "rootfs.tar", REFERENCE)
        if arguments.crowd:
            figures = crowd(ours, arguments.crowd)
        elif arguments.throughput:
            figures = throughput(ours, scratch, arguments.rounds)
        else:
            figures = started_and_stopped(ours, arguments.rounds)
        ours.close()
    finally:
        end_daemon(daemon, scratch, run_root)
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(run_root, ignore_errors=True)
    print(f"{platform.release()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    print(table(figures, "fluyt" if arguments.throughput else "none"))
    if arguments.out:
        write(figures, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
