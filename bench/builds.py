"""Builds beside BuildKit (the builder in dockerd), podman and buildah, each by its command line, in turn.

    python -m bench.builds [--rounds N] [--sections ten,stages,context,copy] [--only ENGINE[,ENGINE]] [--out FILE]

ten      ten steps on busybox, 2,000 files copied: without a cache, and with every step cached
stages   four independent stages, each of half a second of work, and one that copies from them: without a cache
context  50,000 small files: sent and copied for the first time, and again unchanged
copy     one file of 1 GB, half of it random, new each time

The daemon of Fluyt runs in the host's view of the cgroups, the peers in a private mount namespace with pure v1 and a
network namespace without any way out; no RUN has a network. Without a cache means `--no-cache` over a context that is
there; each round of `context` begins with new content, so that nothing of it is known.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench import namespace
from bench.__main__ import busybox_rootfs
from bench.figures import Figure, table, write
from bench.ours import Ours, start_daemon
from bench.peers import Peers, first_line, quiet_run

BASE: Final = "bench/base:1"
INNER: Final = "FLUYT_BENCH_SOCKET"
_COPIED_BYTES: Final = 1_000_000_000
_MIB: Final = 1 << 20
_CONTEXT_FILES: Final = 50_000

TEN: Final = f"""FROM {BASE}
ENV A=1
WORKDIR /app
COPY src /app/src
RUN echo one > /app/one
RUN find /app/src -name '*.py' > /app/names
RUN cat /app/names /app/one > /app/sum
COPY Dockerfile /app/
RUN busybox cp -r /app/src /app/copy
LABEL x=y
CMD ["/bin/sh"]
"""

STAGES: Final = "".join(
    f"FROM {BASE} AS s{number}\nRUN i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo {number} > /made\n"
    for number in range(4)
) + (f"FROM {BASE}\n" + "".join(f"COPY --from=s{number} /made /made{number}\n" for number in range(4)))

COPY_ALL: Final = "FROM scratch\nCOPY data /data\n"


@dataclass(slots=True)
class Builder:
    """One engine: the command that builds a folder, to which flags are added."""

    name: str
    version: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)

    def build(self, folder: Path, *flags: str) -> float:
        """Seconds of one build. Raises RuntimeError with its output."""
        return quiet_run([*self.command, *flags, str(folder)], self.environment)


def builders(scratch: Path, socket: str, peers: Peers, only: set[str]) -> list[Builder]:
    """Every builder that is installed; the base image is in each of their stores."""
    archive = str(scratch / "rootfs.tar")
    found = [Builder("fluyt", first_line([_cli(), "--version"]), [_cli(), "--host", f"unix://{socket}", "build", "-q"])]
    found[0].command += ["-t", "bench/out:1", "--network", "none"]
    ours = Ours(Path(socket))
    ours.import_rootfs(scratch / "rootfs.tar", BASE)
    ours.close()
    for peer in peers.peers:
        none = ["-q", "-t", "bench/out:1", "--network", "none"]
        if peer.name == "docker":
            docker = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"
            quiet_run([docker, "import", "-c", "ENV PATH=/bin", archive, BASE], peer.environment)
            kit = peer.environment | {"DOCKER_BUILDKIT": "1"}
            found.append(Builder("BuildKit (docker build)", peer.version, [docker, "build", *none], kit))
        if peer.name == "podman":
            quiet_run(["podman", "import", "-c", "ENV PATH=/bin", archive, f"docker.io/{BASE}"], peer.environment)
            limits = ["--layers", "--ulimit", "nofile=20000:20000"]
            podman = ["podman", "build", *limits, *none]
            found.append(Builder("podman build", peer.version, podman, peer.environment))
            if shutil.which("buildah"):
                command = ["buildah", "bud", *limits, *none]
                found.append(Builder("buildah", first_line(["buildah", "--version"]), command, peer.environment))
    return [one for one in found if not only or one.name.split()[0] in only]


def _cli() -> str:
    path = Path(os.environ.get("CARGO_TARGET_DIR", "target"), "release/fluyt").resolve()
    if not path.exists():
        raise SystemExit(f"{path} is missing: cargo build --release -p fluyt-cli")
    return str(path)


def ten(found: list[Builder], folder: Path, rounds: int) -> list[Figure]:
    """Ten steps without a cache, and with."""
    for number in range(2_000):
        place = folder / f"src/d{number // 50}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"f{number}.py").write_text(f"# file {number}\n" * (20 + number % 300))
    (folder / "Dockerfile").write_text(TEN)
    cold = alternating(found, rounds, lambda one: one.build(folder, "--no-cache"))
    cached = alternating(found, 2 * rounds, lambda one: one.build(folder))
    return [*figures("ten steps, no cache", cold), *figures("ten steps, all cached", cached)]


def stages(found: list[Builder], folder: Path, rounds: int) -> list[Figure]:
    """Four independent stages."""
    (folder / "Dockerfile").write_text(STAGES)
    return figures("four stages, no cache", alternating(found, rounds, lambda one: one.build(folder, "--no-cache")))


def context(found: list[Builder], folder: Path, rounds: int) -> list[Figure]:
    """Many small files, new and unchanged."""
    (folder / "Dockerfile").write_text(COPY_ALL)
    first: dict[str, list[float]] = {one.name: [] for one in found}
    again: dict[str, list[float]] = {one.name: [] for one in found}
    for round_number in range(rounds):
        shutil.rmtree(folder / "data", ignore_errors=True)
        for number in range(_CONTEXT_FILES):
            place = folder / f"data/d{number // 500}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"f{number}").write_text(f"{round_number} {number}\n" * 20)
        os.sync()
        for one in found:
            first[one.name].append(one.build(folder))
            again[one.name] += [one.build(folder) for _ in range(2)]
    return [*figures("50,000 files, new", first), *figures("50,000 files, unchanged", again)]


def copy(found: list[Builder], folder: Path, rounds: int) -> list[Figure]:
    """One large file."""
    (folder / "Dockerfile").write_text(COPY_ALL)
    times: dict[str, list[float]] = {one.name: [] for one in found}
    for _ in range(rounds):
        with (folder / "data").open("wb") as file:
            for _ in range(_COPIED_BYTES // (2 * _MIB)):
                file.write(os.urandom(_MIB))
                file.write(os.urandom(64).hex().encode() * (_MIB // 128))
        os.sync()
        for one in found:
            times[one.name].append(one.build(folder))
            os.sync()
    return figures("COPY of 1 GB, new", times)


def alternating(found: list[Builder], rounds: int, work: Callable[[Builder], float]) -> dict[str, list[float]]:
    """Each engine in turn, one round before those that count."""
    times: dict[str, list[float]] = {one.name: [] for one in found}
    for number in range(rounds + 1):
        for one in found:
            seconds = work(one)
            if number:
                times[one.name].append(seconds)
    return times


def figures(section: str, times: dict[str, list[float]]) -> list[Figure]:
    """The series of a section."""
    return [Figure(section, name, "s", tuple(series)) for name, series in times.items()]


SECTIONS: Final = {"ten": ten, "stages": stages, "context": context, "copy": copy}


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """All sections that were asked for; runs inside the private namespaces."""
    scratch: Path = arguments.scratch
    only = set(filter(None, arguments.only.split(",")))
    kinds = {"BuildKit": "docker", "podman": "podman", "buildah": "podman"}
    wanted = {kinds[name] for name in (only or kinds) if name in kinds}
    started = [Peers(scratch, scratch / "rootfs", None, only=name) for name in sorted(wanted)]
    result: list[Figure] = []
    try:
        peers = Peers(scratch, scratch / "rootfs", None, only="none")
        peers.peers = [peer for each in started for peer in each.peers]
        found = builders(scratch, os.environ[INNER], peers, only)
        for one in found:
            print(f"{one.name}: {one.version}")
        for reason in (reason for each in started for reason in each.skipped):
            print(f"skipped {reason}")
        for name in arguments.sections.split(","):
            folder = scratch / f"context-{name}"
            folder.mkdir()
            result += SECTIONS[name](found, folder, arguments.rounds)
            shutil.rmtree(folder)
    finally:
        for each in started:
            each.close()
    return result


def main() -> int:
    """Prints the tables; with --out also writes every value as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--only", default="", metavar="ENGINE[,ENGINE]", help="fluyt, BuildKit, podman, buildah")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    if INNER in os.environ:
        found = measure(arguments)
        load = os.getloadavg()[0]
        print(f"\n{platform.release()}, {os.cpu_count()} processors, load {load:.1f}, {' '.join(sys.argv[1:])}")
        print(table(found))
        if arguments.out:
            write(found, arguments.out)
        return 0

    scratch = Path(tempfile.mkdtemp(prefix="fb-"))  # short: a peer's socket path may have 107 bytes
    run_root = Path("/run") / f"fluyt-bench-{os.getpid()}"
    daemon = start_daemon(scratch / "data", run_root, scratch / "fluytd.log")
    try:
        busybox_rootfs(scratch / "rootfs")
        inside = namespace.inside("bench.builds", [*sys.argv[1:], "--scratch", str(scratch)])
        command = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "bench", *inside]
        environment = os.environ | {INNER: str(run_root / "fluytd.sock")}
        return subprocess.run(command, env=environment, check=False).returncode
    finally:
        daemon.terminate()
        daemon.wait(60)
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(run_root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
