"""Starts: RunContainer of /bin/true beside `run` of each peer, back to back and with gaps, one caller and eight."""

import time
from concurrent.futures import ThreadPoolExecutor

from bench.figures import Figure
from bench.ours import NativeClient, Ours
from bench.peers import Peer, Peers, quiet_run

GAP_SECONDS = 0.12
NATIVE = "fluyt (gRPC, client in Rust)"
PYTHON = "fluyt (gRPC, client in Python)"


def spaced(ours: Ours, reference: str, peers: Peers, rounds: int) -> list[Figure]:
    """Each engine in turn, with a gap before each start, so that drift of the machine hits all alike."""
    native = NativeClient(ours.socket, reference)
    times: dict[str, list[float]] = {name: [] for name in (NATIVE, PYTHON, *(peer.name for peer in peers.peers))}
    for round_number in range(rounds + 2):
        time.sleep(GAP_SECONDS)
        values = {NATIVE: native.run_true()}
        time.sleep(GAP_SECONDS)
        values[PYTHON] = ours.run_true(reference)
        for peer in peers.peers:
            time.sleep(GAP_SECONDS)
            values[peer.name] = quiet_run(peer.run(), peer.environment)
        if round_number >= 2:  # the first two warm caches
            for name, value in values.items():
                times[name].append(value * 1e3)
    native.close()
    return [Figure("run /bin/true, 120 ms apart", name, "ms", tuple(series)) for name, series in times.items()]


def back_to_back(ours: Ours, reference: str, peers: Peers, rounds: int) -> list[Figure]:
    """Each engine by itself, without gaps."""
    figures = []
    native = NativeClient(ours.socket, reference)
    for name, run_true in ((NATIVE, native.run_true), (PYTHON, lambda: ours.run_true(reference))):
        run_true()
        series = tuple(run_true() * 1e3 for _ in range(rounds))
        figures.append(Figure("run /bin/true, back to back", name, "ms", series))
    native.close()
    for peer in peers.peers:
        quiet_run(peer.run(), peer.environment)
        series = tuple(quiet_run(peer.run(), peer.environment) * 1e3 for _ in range(rounds))
        figures.append(Figure("run /bin/true, back to back", peer.name, "ms", series))
    return figures


def eight_callers(ours: Ours, reference: str, peers: Peers, count: int) -> list[Figure]:
    """Containers that stay, started by eight callers; starts a second."""
    figures = []

    def measure(start: "list[str]", work: object) -> float:
        begin = time.perf_counter()
        with ThreadPoolExecutor(8) as callers:
            list(callers.map(work, start))  # type: ignore[arg-type] # work takes a name
        return count / (time.perf_counter() - begin)

    names = [peers.name() for _ in range(count)]
    rate = measure(names, lambda name: ours.start_sleep(reference, name))
    figures.append(Figure("starts, eight callers", PYTHON, "1/s", (rate,)))
    with ThreadPoolExecutor(8) as callers:
        list(callers.map(ours.remove, names))
    native, name = NativeClient(ours.socket, reference), peers.name()
    figures.append(Figure("starts, eight callers", NATIVE, "1/s", (count / native.start(name, count, 8),)))
    native.close()
    with ThreadPoolExecutor(8) as callers:
        list(callers.map(ours.remove, (f"{name}-{number}" for number in range(count))))
    for peer in peers.peers:
        figures.append(Figure("starts, eight callers", peer.name, "1/s", (eight_starts(peer, peers, count),)))
    return figures


def eight_starts(peer: Peer, peers: Peers, count: int) -> float:
    """Starts a second of a peer by eight callers; its containers are gone again, also where one failed."""
    names = [peers.name() for _ in range(count)]
    started: list[str] = []

    def start(name: str) -> None:
        quiet_run(peer.start(name), peer.environment)
        started.append(name)

    try:
        begin = time.perf_counter()
        with ThreadPoolExecutor(8) as callers:
            list(callers.map(start, names))
        return count / (time.perf_counter() - begin)
    finally:
        remove_all(peer, started)


def remove_all(peer: Peer, names: list[str]) -> None:
    """Containers of a peer are gone, four at a time."""

    def remove(name: str) -> None:
        for command in peer.remove(name):
            quiet_run(command, peer.environment)

    with ThreadPoolExecutor(4) as callers:
        list(callers.map(remove, names))
