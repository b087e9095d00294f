"""`python -m bench.thousand`: a thousand containers that run at once under one daemon.

Starts by eight callers (crun's before, in the same run, in a view of pure cgroup v1), ListContainers, GetContainer,
WatchStats of all at 1 Hz, memory of the daemon, a restart of the daemon with re-adoption of all, and `fluyt stop --all`
of processes that do not end by TERM. Whatever happens, containers, processes and control groups are gone afterwards.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bench import namespace
from bench.__main__ import REFERENCE, busybox_rootfs
from bench.figures import Figure, table, write
from bench.ours import NativeClient, Ours, command_line, end_daemon, start_daemon
from bench.peers import Peers, quiet_run
from bench.run import eight_starts
from bench.sweep import ended_by_signals, run_inner
from fluyt.v1 import containers_pb2, containers_pb2_grpc
from fluyt.v1.types import container_filter_pb2, container_pb2

CALLERS: Final = 8
NAME: Final = "of"
#: The grace of a container whose spec names none, which sleepers use up: they do not end by TERM.
GRACE_SECONDS: Final = 10
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_MIB: Final = 1024 * 1024

#: Subject -> budget, in the unit of the figure. Source: issue 5, "A thousand".
BUDGETS: Final = {
    "list": 15.0,
    "get": 0.8,
    "stats": 10.0,
    "memory": 250.0,
    "restart": 5.0,
    "stop": 15.0,
}


def processor_seconds(pid: int) -> float:
    """Processor time that a process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:", 1)[1].split()[0]) * 1024


def running(ours: Ours) -> int:
    """Containers that run, a count."""
    stub = containers_pb2_grpc.ContainerServiceStub(ours.channel)
    chosen = container_filter_pb2.ContainerFilter(states=[container_pb2.Container.STATE_RUNNING])
    count, token = 0, ""
    while True:
        page = stub.ListContainers(
            containers_pb2.ListContainersRequest(filter=chosen, page_size=1000, page_token=token)
        )
        count += len(page.containers)
        token = page.next_page_token
        if not token:
            return count


def expect(count: int, found: int, what: str) -> None:
    """Raises RuntimeError unless all were found: a figure of fewer is none."""
    if found != count:
        raise RuntimeError(f"{found} of {count} containers {what}")


def watched(ours: Ours, pid: int, count: int, seconds: int) -> Figure:
    """Share of one core that the daemon takes while one caller watches all at 1 Hz."""
    stub = containers_pb2_grpc.ContainerServiceStub(ours.channel)
    request = containers_pb2.WatchStatsRequest()
    request.interval.seconds = 1
    rounds = told = 0
    begin = spent = 0.0
    watch = stub.WatchStats(request)
    for answer in watch:
        told += len(answer.round.stats)
        if told < count:
            continue  # a round of so many comes in several messages
        expect(count, told, "were in a round")
        told = 0
        if rounds == 1:  # the first comes at once
            begin, spent = time.perf_counter(), processor_seconds(pid)
        rounds += 1
        if rounds == seconds + 2:
            break
    watch.cancel()
    share = (processor_seconds(pid) - spent) / (time.perf_counter() - begin) * 100
    return Figure(f"WatchStats of {count} at 1 Hz, share of one core", "fluyt", "%", (share,), _budget("stats", share))


def _budget(name: str, value: float) -> str:
    return f"budget {BUDGETS[name]:g}: {'kept' if value <= BUDGETS[name] else 'missed'}"


class Thousand:
    """One daemon and its containers, from the first to the last figure."""

    def __init__(self, scratch: Path, run_root: Path, count: int) -> None:
        """The daemon serves."""
        self._scratch, self._run_root, self._count = scratch, run_root, count
        self.figures: list[Figure] = []
        self.daemon = self._started()
        self.ours = Ours(run_root / "fluytd.sock")

    def _started(self) -> "subprocess.Popen[bytes]":
        return start_daemon(self._scratch / "data", self._run_root, self._scratch / "fluytd.log")

    def _add(self, section: str, unit: str, values: tuple[float, ...], budget: str = "") -> None:
        figure = Figure(section, "fluyt", unit, values)
        note = _budget(budget, figure.value) if budget else ""
        self.figures.append(Figure(section, "fluyt", unit, values, note))

    def measure(self, seconds: int) -> None:
        """All figures in turn; each needs what the one before left."""
        self.ours.import_rootfs(self._scratch / "rootfs.tar", REFERENCE)
        self.starts()
        self.looks()
        self.figures.append(watched(self.ours, self.daemon.pid, self._count, seconds))
        self._add(
            f"resident memory of the daemon, {self._count} running",
            "MiB",
            (resident_bytes(self.daemon.pid) / _MIB,),
            "memory",
        )
        self.restart()
        self.stop()

    def starts(self) -> None:
        """Containers that stay, by eight callers of a client in Rust."""
        native = NativeClient(self.ours.socket, REFERENCE)
        took = native.start(NAME, self._count, CALLERS)
        native.close()
        expect(self._count, running(self.ours), "run")
        self._add(f"starts of {self._count}, eight callers", "1/s", (self._count / took,))

    def looks(self) -> None:
        """Lists and look-ups by a client in Python."""
        listed = [self.ours.list_all() for _ in range(20)]
        expect(self._count, listed[0][1], "were listed")
        self._add(f"ListContainers of {self._count}", "ms", tuple(took * 1e3 for took, _ in listed), "list")
        got = tuple(self.ours.get(f"{NAME}-{number % self._count}") * 1e3 for number in range(1000))
        self._add(f"GetContainer, {self._count} running", "ms", got, "get")

    def restart(self) -> None:
        """The daemon ends in order, and the next one serves once it watches all again."""
        begin = time.perf_counter()
        self.daemon.terminate()
        self.daemon.wait(60)
        ended = time.perf_counter()
        self.daemon = self._started()
        served = time.perf_counter()
        expect(self._count, running(self.ours), "run after the daemon's restart")
        self._add(f"the daemon restarted, {self._count} adopted", "s", (served - begin,), "restart")
        self._add("... of it until the old one had gone", "s", (ended - begin,))

    def stop(self) -> None:
        """One command ends all; each has its grace first, since process 1 without a handler does not see TERM."""
        environment = {"FLUYT_HOST": f"unix://{self.ours.socket}"}
        took = quiet_run([*command_line(), "stop", "--all"], environment)
        expect(0, running(self.ours), "run after `fluyt stop --all`")
        self._add(f"`fluyt stop --all` of {self._count}, {GRACE_SECONDS} s of grace among it", "s", (took,), "stop")

    def close(self) -> None:
        """The daemon has ended and nothing of it is left on the host."""
        self.ours.close()
        end_daemon(self.daemon, self._scratch, self._run_root)


def crun_beside(scratch: Path, count: int) -> list[Figure]:
    """Crun's starts by eight callers, measured by this module inside the view of pure v1; none where it is missing."""
    told = scratch / "crun.json"
    arguments = ["--crun", "--count", str(count), "--scratch", str(scratch), "--out", str(told)]
    if run_inner(namespace.inside("bench.thousand", arguments)) != 0:
        raise RuntimeError("crun could not be measured")
    records = [json.loads(line) for line in told.read_text().splitlines()]
    return [Figure(one["section"], one["subject"], one["unit"], tuple(one["values"]), one["note"]) for one in records]


def inner_crun(scratch: Path, count: int, out: Path) -> int:
    """Runs inside the view: the figures go into a file."""
    peers = Peers(scratch, scratch / "rootfs", None, "crun")
    for reason in peers.skipped:
        print(f"skipped {reason}")
    try:
        section = f"starts of {count}, eight callers"
        write([Figure(section, one.name, "1/s", (eight_starts(one, peers, count),)) for one in peers.peers], out)
    finally:
        peers.close()
    return 0


def main() -> int:
    """Prints the table; with --out also every value as JSON lines."""
    parser = argparse.ArgumentParser(prog="python -m bench.thousand")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=10, help="rounds of WatchStats")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--crun", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    ended_by_signals()
    if arguments.crun:
        return inner_crun(arguments.scratch, arguments.count, arguments.out)
    scratch = Path(tempfile.mkdtemp(prefix="fb-"))
    run_root = Path("/run") / f"fluyt-bench-{os.getpid()}"
    load = os.getloadavg()[0]
    figures: list[Figure] = []
    try:
        busybox_rootfs(scratch / "rootfs")
        figures += crun_beside(scratch, arguments.count)
        thousand = Thousand(scratch, run_root, arguments.count)
        try:
            thousand.measure(arguments.seconds)
        finally:
            figures += thousand.figures
            thousand.close()
    finally:
        if figures:
            print(f"\n{platform.release()}, {os.cpu_count()} processors, load {load:.1f} before, {sys.argv[1:]}")
            print(table(figures))
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(run_root, ignore_errors=True)
    if arguments.out:
        write(figures, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
