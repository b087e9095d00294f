"""The kernel's own NFS server, version 4 alone, on the loopback device for the length of a test."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_CONTROL: Final = Path("/proc/fs/nfsd")
#: The client's own list of the exports that it has mounted. Source: fs/nfs/client.c, nfs_volume_list_fops.
_MOUNTED: Final = Path("/proc/fs/nfsfs/volumes")
PORT: Final = 2049


class NfsServer:
    """Exports one directory as `/`. Takes and gives up the port as often as wanted."""

    def __init__(self, exported: Path) -> None:
        """`exported` stands on a file system that can be exported."""
        self.exported = exported

    def start(self) -> None:
        """It answers at once, without the 90 seconds in which clients of an earlier one might come back."""
        subprocess.run(["rpc.nfsd", "-N", "3", "-V", "4", "2"], check=True, capture_output=True)
        # Where there was nobody to wait for the kernel refuses to be told so again.
        with suppress(OSError):
            (_CONTROL / "v4_end_grace").write_text("Y\n")

    def stop(self) -> None:
        """Nobody listens any more."""
        subprocess.run(["rpc.nfsd", "0"], check=True, capture_output=True)


@contextmanager
def nfs_server(exported: Path) -> Iterator[NfsServer]:
    """A server that runs. Raises CalledProcessError, OSError where the host cannot have one."""
    is_mounted = _CONTROL.joinpath("threads").exists()
    if not is_mounted:
        subprocess.run(["mount", "-t", "nfsd", "nfsd", str(_CONTROL)], check=True, capture_output=True)
    export = f"127.0.0.1:{exported}"
    server = NfsServer(exported)
    try:
        subprocess.run(
            ["exportfs", "-o", "rw,fsid=0,no_root_squash,no_subtree_check,insecure", export],
            check=True,
            capture_output=True,
        )
        # The kernel asks it who may mount what.
        answering = subprocess.Popen(
            ["rpc.mountd", "-F", "-N", "3"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            server.start()
            yield server
            server.stop()
        finally:
            answering.kill()
            answering.wait()
            subprocess.run(["exportfs", "-u", export], check=True, capture_output=True)
    finally:
        if not is_mounted:
            subprocess.run(["umount", str(_CONTROL)], check=True)


def mounted_exports() -> list[str]:
    """Lines of the exports that this kernel has mounted, wherever."""
    return _MOUNTED.read_text().splitlines()[1:] if _MOUNTED.exists() else []


def has_nfs() -> bool:
    """Whether this host has a client, and a server that nobody uses; tried."""
    systems = Path("/proc/filesystems").read_text().split()
    if os.geteuid() != 0 or not {"nfs4", "nfsd"} <= {*systems} or shutil.which("rpc.nfsd") is None:
        return False
    threads = _CONTROL / "threads"
    if threads.exists() and threads.read_text().strip() != "0":
        return False
    with tempfile.TemporaryDirectory() as directory:
        try:
            with (
                nfs_server(Path(directory)),
                socket.create_connection(("127.0.0.1", PORT), timeout=10),
            ):
                return True
        except (subprocess.CalledProcessError, OSError):
            return False
