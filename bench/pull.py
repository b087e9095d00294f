"""Pull and unpack from a local registry, each time into a file system made for it.

ext4 creates files up to ten times slower for minutes after many were deleted, so a store that was used before would
measure its own past. The file system lies in a file in memory, so that no disk is measured, and is mounted in the
private mount namespace of the benchmark only.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.figures import Figure
from bench.ours import Ours, start_daemon
from bench.peers import Peers, quiet_run

FILE_SYSTEM_BYTES = 6 << 30
#: Enough for the layers of very many entries that `bench.layouts` makes.
INODES = 1_200_000


@contextmanager
def fresh_file_system(scratch: Path) -> Iterator[Path]:
    """A new ext4, mounted; gone afterwards."""
    image, target = Path(f"/dev/shm/fluyt-bench-{os.getpid()}.img"), scratch / "fresh"
    target.mkdir(exist_ok=True)
    with image.open("wb") as file:
        file.truncate(FILE_SYSTEM_BYTES)
    options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    quiet_run(["mkfs.ext4", "-q", "-F", "-N", str(INODES), "-E", options, str(image)], {})
    quiet_run(["mount", "-o", "loop", str(image), str(target)], {})
    try:
        yield target
    finally:
        for _ in range(50):
            if subprocess.run(["umount", str(target)], stderr=subprocess.DEVNULL, check=False).returncode == 0:
                break
            time.sleep(0.1)
        else:
            subprocess.run(["umount", "-l", str(target)], check=False)
        image.unlink()


def fresh(scratch: Path, reference: str, skip: set[str], rounds: int) -> list[Figure]:
    """Seconds of a pull until the image can be run, for each engine; the sync afterwards is told in the note.

    An engine that cannot pull the image (docker before 23 knows no zstd) is left out, and it is said why.
    """
    section = f"pull {reference.rsplit('/', 1)[1]} on a fresh ext4"
    peaks: dict[str, list[int]] = {}
    engines: dict[str, Callable[[Path], float]] = {}
    for store in ("erofs", "directory"):
        kept = peaks.setdefault(f"fluyt ({store})", [])
        engines[f"fluyt ({store})"] = lambda root, store=store, kept=kept: _ours(root, reference, store, kept)  # type: ignore[misc]
    for name in ("podman", "containerd", "docker"):
        if name not in skip:
            engines[name] = lambda root, name=name: _peer(root, reference, name)  # type: ignore[misc]
    if shutil.which("skopeo"):
        engines["skopeo (OCI layout, no unpacking)"] = lambda root: quiet_run(
            ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{reference}", f"oci:{root}/layout:x"], {}
        )
    times: dict[str, list[float]] = {name: [] for name in engines}
    syncs: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, pull in list(engines.items()):
            with fresh_file_system(scratch) as root:
                try:
                    times[name].append(pull(root))
                except RuntimeError as error:
                    if name in peaks:
                        raise
                    print(f"{section}: {name} is left out, since it cannot: {error}", file=sys.stderr)
                    del engines[name], times[name]
                    continue
                begin = time.perf_counter()
                os.sync()
                syncs[name].append(time.perf_counter() - begin)
    figures = []
    for name, series in times.items():
        note = f"sync after: {sorted(syncs[name])[len(series) // 2]:.2f} s"
        if name in peaks:
            note += f", peak memory of the daemon: {max(peaks[name]) / 1024:.0f} MiB"
        figures.append(Figure(section, name, "s", tuple(series), note))
    return figures


def _ours(root: Path, reference: str, store: str, peaks_kib: list[int]) -> float:
    daemon = start_daemon(root / "data", root / "run", root / "fluytd.log", "--layer-store", store)
    client = Ours(root / "run" / "fluytd.sock")
    try:
        seconds = client.pull(reference)
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        peaks_kib.append(int(status.split("VmHWM:", 1)[1].split()[0]))
        return seconds
    finally:
        client.close()
        daemon.terminate()
        daemon.wait(30)


def _peer(root: Path, reference: str, name: str) -> float:
    peers = Peers(root, root / "none", None, only=name)
    try:
        if not peers.peers:
            raise RuntimeError("; ".join(peers.skipped))
        (peer,) = peers.peers
        assert peer.pull is not None
        return quiet_run(peer.pull(reference), peer.environment)
    finally:
        peers.close()
