"""Memory that an engine keeps for each idle container beyond the container's own processes."""

import time
from pathlib import Path

from bench.figures import Figure
from bench.ours import Ours
from bench.peers import Peers, quiet_run
from bench.run import remove_all

SETTLE_SECONDS = 1.5


def pss_kib(names: tuple[str, ...]) -> tuple[int, int]:
    """(sum of PSS in KiB, count) of all processes whose comm begins with one of the names."""
    total = count = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if not (process / "comm").read_text().strip().startswith(names):
                continue
            rollup = (process / "smaps_rollup").read_text()
        except OSError:
            continue
        total += int(rollup.split("Pss:", 1)[1].split()[0])
        count += 1
    return total, count


def idle(ours: Ours, reference: str, peers: Peers, count: int) -> list[Figure]:
    """KiB of PSS for each of `count` idle containers."""
    section = f"memory per idle container, {count} of them"
    figures = []
    names = [peers.name() for _ in range(count)]
    for name in names:
        ours.start_sleep(reference, name)
    time.sleep(SETTLE_SECONDS)
    total, found = pss_kib(("fluyt-super",))
    figures.append(Figure(section, "fluyt-supervisor", "KiB PSS", (total / max(found, 1),), f"{found} processes"))
    for name in names:
        ours.remove(name)
    for peer in peers.peers:
        if not peer.helpers:
            continue
        before, _ = pss_kib(peer.helpers)
        names = [peers.name() for _ in range(count)]
        for name in names:
            quiet_run(peer.start(name), peer.environment)
        time.sleep(SETTLE_SECONDS)
        total, found = pss_kib(peer.helpers)
        figures.append(
            Figure(section, f"{peer.name} ({', '.join(peer.helpers)})", "KiB PSS", ((total - before) / count,))
        )
        remove_all(peer, names)
    return figures


def lists(ours: Ours, reference: str, peers: Peers, count: int) -> list[Figure]:
    """ListContainers and GetContainer with `count` containers running."""
    names = [peers.name() for _ in range(count)]
    for name in names:
        ours.start_sleep(reference, name)
    listed = [ours.list_all() for _ in range(20)]
    if listed[0][1] < count:
        raise RuntimeError(f"{listed[0][1]} of {count} containers were listed")
    got = tuple(ours.get(names[number % count]) * 1e3 for number in range(500))
    for name in names:
        ours.remove(name)
    return [
        Figure(f"ListContainers of {count}", "fluyt (gRPC)", "ms", tuple(seconds * 1e3 for seconds, _ in listed)),
        Figure(f"GetContainer, {count} running", "fluyt (gRPC)", "ms", got),
    ]
