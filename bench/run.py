"""Starts: RunContainer of /bin/true beside `run` of each peer, back to back and with gaps, one caller and eight."""

import time
from concurrent.futures import ThreadPoolExecutor

from bench.figures import Figure
from bench.ours import Ours
from bench.peers import Peer, Peers, quiet_run

GAP_SECONDS = 0.12


def spaced(ours: Ours, reference: str, peers: Peers, rounds: int) -> list[Figure]:
    """Each engine in turn, with a gap before each start, so that drift of the machine hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in ("fluyt (gRPC)", *(peer.name for peer in peers.peers))}
    for round_number in range(rounds + 2):
        time.sleep(GAP_SECONDS)
        values = {"fluyt (gRPC)": ours.run_true(reference)}
        for peer in peers.peers:
            time.sleep(GAP_SECONDS)
            values[peer.name] = quiet_run(peer.run(), peer.environment)
        if round_number >= 2:  # the first two warm caches
            for name, value in values.items():
                times[name].append(value * 1e3)
    return [Figure("run /bin/true, 120 ms apart", name, "ms", tuple(series)) for name, series in times.items()]


def back_to_back(ours: Ours, reference: str, peers: Peers, rounds: int) -> list[Figure]:
    """Each engine by itself, without gaps."""
    figures = []
    ours.run_true(reference)
    series = tuple(ours.run_true(reference) * 1e3 for _ in range(rounds))
    figures.append(Figure("run /bin/true, back to back", "fluyt (gRPC)", "ms", series))
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
    figures.append(
        Figure(
            "starts, eight callers", "fluyt (gRPC)", "1/s", (measure(names, lambda n: ours.start_sleep(reference, n)),)
        )
    )
    with ThreadPoolExecutor(8) as callers:
        list(callers.map(ours.remove, names))
    for peer in peers.peers:
        names = [peers.name() for _ in range(count)]
        rate = measure(names, lambda name, peer=peer: quiet_run(peer.start(name), peer.environment))
        figures.append(Figure("starts, eight callers", peer.name, "1/s", (rate,)))
        remove_all(peer, names)
    return figures


def remove_all(peer: Peer, names: list[str]) -> None:
    """Containers of a peer are gone, four at a time."""

    def remove(name: str) -> None:
        for command in peer.remove(name):
            quiet_run(command, peer.environment)

    with ThreadPoolExecutor(4) as callers:
        list(callers.map(remove, names))
