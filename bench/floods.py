"""`python -m bench.floods`: how long another caller waits for GetContainer while one container or caller floods.

Each flood runs for some seconds, callers that flood in a process of their own; the asking one has its own connection.
"""

import argparse
import asyncio
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from bench.__main__ import REFERENCE, busybox_rootfs
from bench.ours import Ours, end_daemon, start_daemon
from bench.sweep import ended_by_signals
from fluyt.v1 import containers_pb2, containers_pb2_grpc, events_pb2, events_pb2_grpc
from fluyt.v1.types import container_pb2, container_spec_pb2, network_pb2, resources_pb2

MIB = 1024 * 1024
STREAMS = 10_000
#: Script and limits of each container that floods.
CONTAINERS = {
    "fork bomb, 64 processes": (
        "bomb() { bomb | bomb & }; (while :; do bomb; done) & exec sleep 1000",
        resources_pb2.Resources(pids_limit=64),
    ),
    "memory bombs, 32 MiB": (
        "while :; do (exec cat /dev/zero | tail); done",
        resources_pb2.Resources(memory_limit_bytes=32 * MIB),
    ),
    "log flood": ("yes xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", resources_pb2.Resources()),
    "log flood, half a processor": (
        "yes xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        resources_pb2.Resources(nano_cpus=500_000_000),
    ),
    "flood of files": (
        "i=0; mkdir /d; while :; do i=$((i+1)); mkdir /d/$i; : > /d/$i/f; done",
        resources_pb2.Resources(),
    ),
    "flood of bytes, 256 MiB again and again": (
        "while :; do dd if=/dev/zero of=/f bs=1M count=256 2>/dev/null; rm /f; done",
        resources_pb2.Resources(),
    ),
    "flood of descriptors, 1000 at a time": (
        'while :; do (i=3; while [ $i -lt 1003 ]; do eval "exec $i</dev/null"; i=$((i+1)); done); done',
        resources_pb2.Resources(),
    ),
}


@contextmanager
def flooding_container(ours: Ours, script: str, limits: resources_pb2.Resources) -> Iterator[None]:
    """A container runs the script, which must not end by itself."""
    containers = containers_pb2_grpc.ContainerServiceStub(ours.channel)
    spec = container_spec_pb2.ContainerSpec(
        image=REFERENCE,
        args=["/bin/busybox", "sh", "-c", f"export PATH=/bin; /bin/busybox --install -s /bin 2>/dev/null; {script}"],
        resources=limits,
        network=network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_NONE),
    )
    for _ in containers.RunContainer(containers_pb2.RunContainerRequest(spec=spec, name="flood", detach=True)):
        pass
    try:
        yield
        flooded = containers.GetContainer(containers_pb2.GetContainerRequest(container="flood")).container
        if flooded.state != container_pb2.Container.STATE_RUNNING:
            raise RuntimeError(f"the flood ended by itself: {flooded}")
    finally:
        ours.remove("flood")


@contextmanager
def flooding_caller(kind: str, socket: Path) -> Iterator[None]:
    """A process that floods as a caller."""
    caller = subprocess.Popen([sys.executable, "-m", "bench.floods", "--flood", kind, "--socket", str(socket)])
    try:
        yield
    finally:
        caller.kill()
        caller.wait()


async def _open_streams(socket: Path) -> None:
    channels = [
        grpc.aio.insecure_channel(f"unix://{socket}", [("grpc.use_local_subchannel_pool", 1)]) for _ in range(4)
    ]
    calls = []
    for number in range(STREAMS):
        stub = events_pb2_grpc.EventServiceStub(channels[number % len(channels)])
        calls.append(stub.WatchEvents(events_pb2.WatchEventsRequest()))
    await asyncio.gather(*(call.read() for call in calls))
    await asyncio.sleep(1000)


def flood(kind: str, socket: Path) -> None:
    """Floods until it is killed."""
    if kind == "streams":
        asyncio.run(_open_streams(socket))
    ours = Ours(socket)
    while True:
        ours.exec_true("stays")


def measure(ours: Ours, seconds: float) -> list[float]:
    """Seconds of each GetContainer, one after the other, every 5 ms."""
    found = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found.append(ours.get("stays"))
        time.sleep(0.005)
    return sorted(found)


def told(name: str, times: list[float]) -> None:
    """One line."""
    at = [1000 * times[min(len(times) - 1, int(part * len(times)))] for part in (0.5, 0.99, 1)]
    print(f"{name}: p50 {at[0]:.1f} ms, p99 {at[1]:.1f} ms, longest {at[2]:.1f} ms of {len(times)}", flush=True)


def main() -> int:
    """Prints a line a flood."""
    parser = argparse.ArgumentParser(prog="python -m bench.floods")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--only", default="", metavar="WORD", help="floods whose name has this word")
    parser.add_argument("--flood", help=argparse.SUPPRESS)
    parser.add_argument("--socket", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    ended_by_signals()
    if arguments.flood:
        flood(arguments.flood, arguments.socket)
    scratch = Path(tempfile.mkdtemp(prefix="fb-"))
    daemon = start_daemon(scratch / "data", scratch / "run", scratch / "fluytd.log")
    ours = Ours(scratch / "run" / "fluytd.sock")
    print(f"{platform.release()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    try:
        ours.import_rootfs(busybox_rootfs(scratch / "rootfs"), REFERENCE)
        ours.start_sleep(REFERENCE, "stays")
        told("nothing else", measure(ours, arguments.seconds))
        for name, (script, limits) in CONTAINERS.items():
            if arguments.only not in name:
                continue
            with flooding_container(ours, script, limits):
                told(name, measure(ours, arguments.seconds))
        for kind in ("execs", "streams"):
            if arguments.only not in kind:
                continue
            with flooding_caller(kind, ours.socket):
                told(f"{kind} of one caller", measure(ours, arguments.seconds))
        ours.remove("stays")
    finally:
        ours.close()
        end_daemon(daemon, scratch)
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
