"""Output that is written and followed: a container's 55,000 lines a second, and what the engine takes of one core."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from bench.figures import Figure
from bench.ours import Ours, command_line
from bench.peers import Peers, quiet_run

#: The rate to which shares are reckoned.
LINES_PER_SECOND = 55_000
_BLOCK_LINES = 1_100
_BLOCKS = 500
_DOCKER = ("dockerd", "containerd")
_TICKS = os.sysconf("SC_CLK_TCK")

#: Makes a block of lines of about 100 bytes and writes it 50 times a second.
SCRIPT = f"""
i=0
while [ $i -lt {_BLOCK_LINES} ]; do
    echo "a line of a log as long as they are that programs write for people, who will read few: number $i"
    i=$((i+1))
done > /block
n=0
while [ $n -lt {_BLOCKS} ]; do cat /block; sleep .02; n=$((n+1)); done
"""


def cpu_seconds(is_one: Callable[[str, str], bool]) -> float:
    """Processor time so far of all processes that `is_one` (name, command line) picks, ended children left out."""
    total = 0.0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            stat = (process / "stat").read_text()
            arguments = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        name, _, rest = stat.partition("(")[2].rpartition(")")
        fields = rest.split()
        if is_one(name, arguments):
            total += (int(fields[11]) + int(fields[12])) / _TICKS
    return total


def followed(ours: Ours, reference: str, peers: Peers) -> list[Figure]:
    """Share of one core that each engine takes: its daemon, its process beside the container, and the follower.

    Docker is measured with json-file, where it is installed; the other peers have no daemon that follows. Raises
    RuntimeError if the command line was not built.
    """
    run_root = str(ours.socket.parent)
    figures = _figures(
        "fluyt",
        command_line(),
        {"FLUYT_HOST": f"unix://{ours.socket}"},
        reference,
        lambda name, arguments: name.startswith("fluyt-super") or f"--run-root {run_root}" in arguments,
    )
    for peer in peers.peers:
        if peer.name == "docker" and peers.image is not None:
            figures += _figures(
                "docker, json-file",
                ["docker"],
                peer.environment,
                peers.image,
                lambda name, _: name.startswith(_DOCKER),
            )
    return figures


def _figures(
    subject: str,
    program: list[str],
    environment: dict[str, str],
    image: str,
    is_engine: Callable[[str, str], bool],
) -> list[Figure]:
    name = f"logs-{os.getpid()}"
    quiet_run([*program, "run", "-d", "--name", name, "--network", "none", image, "sh", "-c", SCRIPT], environment)
    before, begin = cpu_seconds(is_engine), time.perf_counter()
    follower = subprocess.Popen([*program, "logs", "-f", name], env=os.environ | environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(follower.pid, 0)
    elapsed = time.perf_counter() - begin
    spent = cpu_seconds(is_engine) - before
    quiet_run([*program, "rm", "-f", name], environment)
    if status != 0:
        raise RuntimeError(f"{subject}: the follower ended with {status}")
    lines = _BLOCK_LINES * _BLOCKS
    share = LINES_PER_SECOND / lines * 100
    section = f"{LINES_PER_SECOND:,} lines a second followed, share of one core"
    note = f"{lines / elapsed:,.0f} lines a second came"
    return [
        Figure(section, f"{subject}: engine", "%", (spent * share,), note),
        Figure(section, f"{subject}: follower", "%", ((usage.ru_utime + usage.ru_stime) * share,), note),
    ]
