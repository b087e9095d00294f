"""Makes an OCI layout whose image is one large layer, of files of this host, or layers of very many entries.

    python -m bench.layouts DIR [--bytes N | --entries N [--shape SHAPE] [--layers N]]

DIR must not exist. The first layer holds a static busybox (`true`, `find`, `cat`, `sh`) and copies of this host's files
below /usr/lib until N bytes (1 GB unless given); with --entries, so many of one shape instead (empty files, 1,000 to a
directory, unless given), spread over the layers. All gzip as umoci writes it.
"""

import argparse
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.__main__ import busybox_rootfs
from bench.peers import quiet_run

SOURCE = Path("/usr/lib")


def _entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", xattr: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    if xattr:
        entry.pax_headers = {"SCHILY.xattr.user.number": xattr}
    return entry


#: What the entry of a number is.
SHAPES: dict[str, Callable[[int], tarfile.TarInfo]] = {
    "files": lambda n: _entry(f"{n // 1000}/file-of-an-application-{n}"),
    "one-directory": lambda n: _entry(f"file-of-an-application-{n}"),
    "directories": lambda n: _entry(f"{n // 1000}/directory-of-an-app-{n}", tarfile.DIRTYPE),
    "links": lambda n: _entry(f"{n // 1000}/link-of-an-application-{n}", tarfile.LNKTYPE, "bin/busybox"),
    "symlinks": lambda n: _entry(f"{n // 1000}/link-of-an-application-{n}", tarfile.SYMTYPE, "../../bin/busybox"),
    "whiteouts": lambda n: _entry(f"{n // 1000}/.wh.file-of-an-app-{n}"),
    "xattrs": lambda n: _entry(f"{n // 1000}/file-of-an-application-{n}", xattr=str(n)),
}


def main() -> None:
    """Makes the layout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("layout", type=Path)
    parser.add_argument("--bytes", type=int, default=10**9)
    parser.add_argument("--entries", type=int, default=0)
    parser.add_argument("--shape", choices=SHAPES, default="files")
    parser.add_argument("--layers", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fluyt-bench-layout-") as scratch:
        rootfs = busybox_rootfs(Path(scratch) / "rootfs")
        quiet_run(["umoci", "init", "--layout", str(options.layout)], {})
        quiet_run(["umoci", "new", "--image", f"{options.layout}:1"], {})
        for number in range(options.layers):
            layer = rootfs if number == 0 else Path(scratch) / "layer"
            with tarfile.open(layer, "a" if number == 0 else "w") as tar:
                if options.entries:
                    _add(tar, number, SHAPES[options.shape], options.entries // options.layers)
                else:
                    for path in _files(options.bytes):
                        tar.add(path, arcname=f".{path}", recursive=False)
            quiet_run(["umoci", "raw", "add-layer", "--image", f"{options.layout}:1", str(layer)], {})


def _add(tar: tarfile.TarFile, layer: int, shape: Callable[[int], tarfile.TarInfo], count: int) -> None:
    for number in range(count):
        entry = shape(number)
        entry.name = f"many/{layer}/{entry.name}"
        tar.addfile(entry)


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
