"""Makes an OCI layout whose image is one large layer, of files of this host.

    python -m bench.layouts DIR [--bytes N]

DIR must not exist. The layer holds a static busybox (`true`, `find`, `cat`, `sh`) and copies of this host's files below
/usr/lib until N bytes (1 GB unless given), gzip as umoci writes it.
"""

import argparse
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.__main__ import busybox_rootfs
from bench.peers import quiet_run

SOURCE = Path("/usr/lib")


def main() -> None:
    """Makes the layout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("layout", type=Path)
    parser.add_argument("--bytes", type=int, default=10**9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fluyt-bench-layout-") as scratch:
        rootfs = busybox_rootfs(Path(scratch) / "rootfs")
        with tarfile.open(rootfs, "a") as tar:
            for path in _files(options.bytes):
                tar.add(path, arcname=f".{path}", recursive=False)
        quiet_run(["umoci", "init", "--layout", str(options.layout)], {})
        quiet_run(["umoci", "new", "--image", f"{options.layout}:1"], {})
        quiet_run(["umoci", "raw", "add-layer", "--image", f"{options.layout}:1", str(rootfs)], {})


def _files(limit_bytes: int) -> Iterator[Path]:
    """Regular files in a fixed order until they have so many bytes."""
    left = limit_bytes
    for folder, names, files in os.walk(SOURCE):
        names.sort()
        for name in sorted(files):
            path = Path(folder, name)
            if path.is_symlink() or not path.is_file():
                continue
            left -= path.stat().st_size
            if left < 0:
                return
            yield path


if __name__ == "__main__":
    main()
