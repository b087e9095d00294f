"""The later life of containers: stop, removal, one look at figures, and a log that is read, beside each peer."""

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from bench.figures import Figure
from bench.ours import Ours, command_line
from bench.peers import Peer, Peers, quiet_run
from bench.run import GAP_SECONDS, PYTHON, remove_all
from fluyt.v1 import containers_pb2, containers_pb2_grpc

COMMAND_LINE: Final = "fluyt (the command line)"
#: Ends as soon as it is told to.
ENDS_BY_TERM: Final = "trap 'exit 0' TERM; sleep 100000 & wait"
#: Containers that are looked at.
WATCHED: Final = 20
LINES: Final = 200_000
WRITES: Final = (
    f"i=0; while [ $i -lt {LINES} ]; do echo a line of a log as long as programs write them, $i; i=$((i+1)); done"
)
WRITTEN_SECONDS: Final = 120.0
ENDED_SECONDS: Final = 10.0


class Side:
    """One engine as it is driven here."""

    def __init__(
        self,
        start: Callable[[str, str], object],
        stop: Callable[[str], float],
        remove: Callable[[str], float],
        force: Callable[[str], object],
    ) -> None:
        """Start (name, script), stop and remove what has ended (seconds), and remove whatever it does."""
        self.start, self.stop, self.remove, self.force = start, stop, remove, force


def _ours(ours: Ours, reference: str) -> dict[str, Side]:
    stub = containers_pb2_grpc.ContainerServiceStub(ours.channel)
    environment = {"FLUYT_HOST": f"unix://{ours.socket}"}

    def start(name: str, script: str) -> None:
        quiet_run([*command_line(), "run", "-d", "--name", name, reference, "sh", "-c", script], environment)

    def timed(call: Callable[[], object]) -> float:
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin

    def force(name: str) -> None:
        quiet_run([*command_line(), "rm", "-f", name], environment)

    by_grpc = Side(
        start,
        lambda name: timed(lambda: stub.StopContainer(containers_pb2.StopContainerRequest(container=name))),
        lambda name: timed(lambda: stub.DeleteContainer(containers_pb2.DeleteContainerRequest(container=name))),
        force,
    )
    by_command = Side(
        start,
        lambda name: quiet_run([*command_line(), "stop", name], environment),
        lambda name: quiet_run([*command_line(), "rm", name], environment),
        force,
    )
    return {PYTHON: by_grpc, COMMAND_LINE: by_command}


def _theirs(peer: Peer) -> Side:
    def all_of(commands: list[list[str]]) -> float:
        return sum(quiet_run(command, peer.environment) for command in commands)

    def stop(name: str) -> float:
        if peer.pid is None:
            return all_of(peer.stop(name))
        process = os.pidfd_open(peer.pid(name))
        try:
            begin = time.perf_counter()
            all_of(peer.stop(name))
            if not select.select([process], [], [], ENDED_SECONDS)[0]:
                raise RuntimeError("it does not end")
            return time.perf_counter() - begin
        finally:
            os.close(process)

    return Side(
        lambda name, script: quiet_run(peer.script(name, script), peer.environment),
        stop,
        lambda name: all_of(peer.remove_ended(name)),
        lambda name: remove_all(peer, [name]),
    )


def stopped_and_removed(ours: Ours, reference: str, peers: Peers, rounds: int) -> list[Figure]:
    """Each engine in turn: a container that ends by TERM is stopped, then removed; gaps before both."""
    sides = _ours(ours, reference) | {peer.name: _theirs(peer) for peer in peers.peers}
    stops: dict[str, list[float]] = {name: [] for name in sides}
    removals: dict[str, list[float]] = {name: [] for name in sides}
    for round_number in range(rounds + 1):
        for subject, side in list(sides.items()):
            name = peers.name()
            try:
                side.start(name, ENDS_BY_TERM)
                time.sleep(GAP_SECONDS)
                stopped = side.stop(name)
                time.sleep(GAP_SECONDS)
                removed = side.remove(name)
            except RuntimeError as error:
                with suppress(RuntimeError):
                    side.force(name)
                if subject in {PYTHON, COMMAND_LINE}:
                    raise
                print(f"skipped stop of {subject}, which fails here: {error}")
                del sides[subject], stops[subject], removals[subject]
                continue
            if round_number:  # the first warms caches
                stops[subject].append(stopped * 1e3)
                removals[subject].append(removed * 1e3)
    return [
        *(Figure("stop of a container that ends by TERM", one, "ms", tuple(all_)) for one, all_ in stops.items()),
        *(Figure("removal of one that has ended", one, "ms", tuple(all_)) for one, all_ in removals.items()),
    ]


def looked_at(ours: Ours, reference: str, peers: Peers, rounds: int) -> list[Figure]:
    """One look at the figures of all that run."""
    section = f"figures of {WATCHED} containers, one look"
    stub = containers_pb2_grpc.ContainerServiceStub(ours.channel)
    environment = {"FLUYT_HOST": f"unix://{ours.socket}"}
    names = [peers.name() for _ in range(WATCHED)]
    figures: list[Figure] = []
    try:
        for name in names:
            ours.start_sleep(reference, name)
        series = []
        for _ in range(rounds):
            time.sleep(GAP_SECONDS)
            begin = time.perf_counter()
            answers = [*stub.WatchStats(containers_pb2.WatchStatsRequest(once=True))]
            series.append((time.perf_counter() - begin) * 1e3)
            if sum(len(answer.round.stats) for answer in answers) != WATCHED:
                raise RuntimeError("not all were looked at")
        figures.append(Figure(section, PYTHON, "ms", tuple(series)))
        looks = tuple(quiet_run([*command_line(), "stats", "--no-stream"], environment) * 1e3 for _ in range(rounds))
        figures.append(Figure(section, COMMAND_LINE, "ms", looks, "shares of the processor by two looks"))
    finally:
        for name in names:
            with suppress(Exception):  # one that was not started
                ours.remove(name)
    for peer in peers.peers:
        if peer.stats is None:
            continue
        try:
            for name in names:
                quiet_run(peer.start(name), peer.environment)
            looks = tuple(quiet_run(peer.stats, peer.environment) * 1e3 for _ in range(min(rounds, 5)))
            figures.append(Figure(section, peer.name, "ms", looks))
        finally:
            with suppress(RuntimeError):
                remove_all(peer, names)
    return figures


def read(ours: Ours, reference: str, peers: Peers, rounds: int) -> list[Figure]:
    """The whole log of a container that has ended."""
    section = f"a log of {LINES:,} lines read by the command line"
    environment = {"FLUYT_HOST": f"unix://{ours.socket}"}
    sides = {COMMAND_LINE: (_ours(ours, reference)[COMMAND_LINE], [*command_line(), "logs"], environment)}
    for peer in peers.peers:
        if peer.logs is not None:
            sides[peer.name] = (_theirs(peer), peer.logs("")[:-1], peer.environment)
    figures = []
    for subject, (side, command, variables) in sides.items():
        name = peers.name()
        try:
            side.start(name, WRITES)
            deadline = time.monotonic() + WRITTEN_SECONDS
            while True:
                begin = time.monotonic()
                quiet_run([*command, "--tail", "1", "-f", name], variables)  # until it has ended
                if time.monotonic() - begin < 1 or time.monotonic() > deadline:
                    break
            series = tuple(quiet_run([*command, name], variables) * 1e3 for _ in range(min(rounds, 5)))
            figures.append(Figure(section, subject, "ms", series))
        finally:
            with suppress(RuntimeError):
                side.force(name)
    return figures
