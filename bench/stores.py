"""The two layer stores beside each other: pull, start, a walk over the tree, a read of it, removal of the image.

    python -m bench.stores --layout DIR [--rounds N]

`DIR` is an OCI layout with one image that has `true`, `find` and `cat`. Each round makes a new ext4 in memory for each
store, starts a daemon on it, pulls the image from docker-registry, and times by gRPC: the pull; `/bin/true` for the
first time and once more; `find` over the whole tree; all its regular files read by `cat`, from the page cache as the
pull left it; the deletion of the image.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

from bench.figures import Figure, table
from bench.ours import Ours, start_daemon
from bench.peers import quiet_run
from bench.pull import fresh_file_system
from tests.support.registry import RealRegistry

STORES = ("erofs", "directory")
FIND = "find / -xdev >/dev/null"
READ = "find / -xdev -type f -exec cat {} + >/dev/null"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fluyt-bench-stores-") as scratch:
        print(table(measure(Path(scratch), options.layout, options.rounds)))


def measure(scratch: Path, layout: Path, rounds: int) -> list[Figure]:
    """Seconds of each step for each store; the rounds alternate between the stores."""
    times: dict[tuple[str, str], list[float]] = {}
    with RealRegistry(scratch / "registry") as registry:
        reference = f"{registry.address}/bench:1"
        copy = ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}", f"docker://{reference}"]
        quiet_run(copy, {})
        for _ in range(rounds):
            for store in STORES:
                with fresh_file_system(scratch) as root:
                    for step, seconds in _round(root, reference, store).items():
                        times.setdefault((step, store), []).append(seconds)
    return [Figure(step, f"fluyt ({store})", "s", tuple(series)) for (step, store), series in times.items()]


def _round(root: Path, reference: str, store: str) -> dict[str, float]:
    daemon = start_daemon(root / "data", root / "run", root / "fluytd.log", "--layer-store", store)
    client = Ours(root / "run" / "fluytd.sock")
    try:
        steps = {"pull": client.pull(reference)}
        subprocess.run(["sync"], check=True)
        steps["first start of true"] = client.run(reference, "/bin/true")
        steps["start of true"] = client.run(reference, "/bin/true")
        steps["find over the tree"] = client.run(reference, "/bin/sh", "-c", FIND)
        steps["read of all files"] = client.run(reference, "/bin/sh", "-c", READ)
        begin = time.perf_counter()
        client.delete_image(reference)
        steps["deletion of the image"] = time.perf_counter() - begin
        return steps
    finally:
        client.close()
        daemon.terminate()
        daemon.wait(30)


if __name__ == "__main__":
    main()
