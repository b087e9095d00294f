"""Runs a benchmark where files are made as on a host of its own: `python -m bench.fresh bench --sections parallel`.

Scratch files of all engines go to a new ext4 with a journal, in memory, and /run is a tmpfs, as on hosts with systemd.
An ext4 without a journal, which virtual machines for builds tend to have, looks at each inode that was deleted in the
last minutes before it takes another, so that a start costs more the more containers have just been removed. Both
mounts are private to the run and end with it. Source: Linux fs/ext4/ialloc.c, find_inode_bit and recently_deleted.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.peers import quiet_run
from bench.pull import fresh_file_system

_INSIDE = "--inside"


def main(arguments: list[str]) -> int:
    """The exit code of the benchmark."""
    if not arguments or (arguments[0].startswith("-") and arguments[0] != _INSIDE):
        raise SystemExit("usage: python -m bench.fresh MODULE [ARGUMENT...]")
    if arguments[0] != _INSIDE:
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "bench.fresh", _INSIDE]
        return subprocess.run([*command, *arguments], check=False).returncode
    module, *rest = arguments[1:]
    scratch = Path(tempfile.mkdtemp(prefix="fb-"))
    try:
        with fresh_file_system(scratch) as fresh:
            quiet_run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], {})
            environment = os.environ | {"TMPDIR": str(fresh)}
            return subprocess.run([sys.executable, "-m", module, *rest], env=environment, check=False).returncode
    finally:
        (scratch / "fresh").rmdir()
        scratch.rmdir()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
