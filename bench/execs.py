"""Further processes: `true` in a container that runs, by gRPC and by the command line, beside `exec` of each peer."""

import time
from collections.abc import Callable

from bench.figures import Figure
from bench.ours import Ours, command_line
from bench.peers import Peers, quiet_run
from bench.run import GAP_SECONDS, PYTHON, remove_all

COMMAND_LINE = "fluyt exec (the command line)"
#: Rounds at the beginning that warm caches and are not counted.
WARM_ROUNDS = 2


def spaced(ours: Ours, reference: str, peers: Peers, rounds: int) -> list[Figure]:
    """Each engine in turn, with a gap before each process, so that drift of the machine hits all alike.

    A peer that cannot do it on this host is skipped by name, with its own words. Raises RuntimeError if
    the command line was not built, or one of our processes fails.
    """
    box = peers.name()
    ours.start_sleep(reference, box)
    environment = {"FLUYT_HOST": f"unix://{ours.socket}"}
    command = [*command_line(), "exec", box, "/bin/true"]
    kinds: dict[str, Callable[[], float]] = {
        PYTHON: lambda: ours.exec_true(box),
        COMMAND_LINE: lambda: quiet_run(command, environment),
    }
    started = []
    try:
        for peer in peers.peers:
            quiet_run(peer.start(box), peer.environment)
            started.append(peer)
            try:
                quiet_run(peer.exec_true(box), peer.environment)
            except RuntimeError as error:
                print(f"skipped exec of {peer.name}, which fails here: {error}")
                continue
            kinds[peer.name] = lambda peer=peer: quiet_run(peer.exec_true(box), peer.environment)  # type: ignore[misc]
        times: dict[str, list[float]] = {name: [] for name in kinds}
        for round_number in range(rounds + WARM_ROUNDS):
            for name, exec_true in kinds.items():
                time.sleep(GAP_SECONDS)
                took = exec_true()
                if round_number >= WARM_ROUNDS:
                    times[name].append(took * 1e3)
    finally:
        ours.remove(box)
        for peer in started:
            remove_all(peer, [box])
    return [Figure("exec /bin/true, 120 ms apart", name, "ms", tuple(series)) for name, series in times.items()]
