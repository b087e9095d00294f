"""Files and directories of the host that are to be mounted: looked at, and made where that was asked. Blocking."""

import errno
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from fluytd.containers.spec import BindSpec, Propagation, mount_field
from fluytd.errors import BindSourceNotFound, FieldInvalid, IoFailed

#: Mode of a directory that is made for a bind. Source: moby `volume/mounts`, Setup; case M04.
MADE_MODE: Final = 0o755
_SHARED: Final = frozenset({Propagation.SHARED, Propagation.RSHARED})
_SLAVE: Final = frozenset({Propagation.SLAVE, Propagation.RSLAVE})
#: What stands for a blank, a tab, a line's end or a backslash in a place. Source: linux `fs/proc_namespace.c`, mangle.
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


def check(binds: Iterable[BindSpec]) -> None:
    """Every source is there, made as a directory of root's where that was asked, and can spread mounts as asked.

    Raises BIND_SOURCE_NOT_FOUND, FIELD_INVALID (propagation), IO_FAILED.
    """
    for bind in binds:
        try:
            _check_source(bind)
        except OSError as error:
            raise IoFailed(operation="stat", path=bind.source, errno=error.errno) from error
        if bind.propagation in _SHARED | _SLAVE:
            _check_propagation(bind)


def _check_source(bind: BindSpec) -> None:
    path = Path(bind.source)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if not bind.create_source:
            raise BindSourceNotFound(field=f"{mount_field(bind.position)}.bind.source", path=bind.source) from None
        _make(path)


def _make(path: Path) -> None:
    missing = [one for one in (path, *path.parents) if not one.exists()]
    for one in reversed(missing):
        try:
            one.mkdir(MADE_MODE)
        except FileExistsError as error:
            if not one.exists():  # a link that leads nowhere
                raise IoFailed(operation="mkdir", path=str(one), errno=errno.EEXIST) from error
            continue  # somebody was quicker
        except OSError as error:
            raise IoFailed(operation="mkdir", path=str(one), errno=error.errno or errno.EIO) from error
        one.chmod(MADE_MODE)  # whatever the daemon's umask is


def _check_propagation(bind: BindSpec) -> None:
    # Source: moby `daemon/oci_linux.go`, ensureShared and ensureSharedOrSlave.
    place, fields = mount_of(bind.source)
    is_shared = any(field.startswith("shared:") for field in fields)
    is_slave = any(field.startswith("master:") for field in fields)
    if is_shared or (is_slave and bind.propagation in _SLAVE):
        return
    needed = "shared" if bind.propagation in _SHARED else "shared or slave"
    rule = (
        f"{bind.propagation.value} needs a {needed} mount on the host, and {bind.source} is on {place}, which is none"
    )
    raise FieldInvalid(field=f"{mount_field(bind.position)}.bind.propagation", rule=rule)


def mount_of(path: str) -> tuple[str, list[str]]:
    """(mount point, optional fields) of the mount that holds the path. Source: proc_pid_mountinfo(5)."""
    real = os.path.realpath(path)
    best: tuple[str, list[str]] = ("", [])
    for place, optional in _mounts():
        is_above = real == place or real.startswith(place.rstrip("/") + "/")
        # Of several on one place the last covers the others.
        if is_above and len(place) >= len(best[0]):
            best = (place, optional)
    return best


def _mounts() -> Iterator[tuple[str, list[str]]]:
    with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        for line in lines:
            fields = line.split(" ")
            place = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), fields[4])
            yield place, fields[6 : fields.index("-")]
