"""The packages of an image whose database is rpm's, `rpmdb.sqlite`: a table of header blobs. It gets the bytes.

The database is a stranger's. It is opened from memory, read-only in effect, without trust in its schema, and what it
may have SQLite do is counted.

Source: rpm lib/backend/sqlite.c (the table `Packages`), lib/header.c and https://rpm.org/docs/4.19.x/manual/format_v4.html
(headers); https://www.sqlite.org/security.html for databases of strangers.
"""

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from fluytd.builds.packages import MAX_PACKAGES, Package
from fluytd.errors import LimitExceeded

#: Where it stands in an image.
RPM_SQLITE: Final = ("usr/lib/sysimage/rpm/rpmdb.sqlite", "var/lib/rpm/rpmdb.sqlite")
#: Instructions of SQLite's machine for one database; a table of MAX_PACKAGES takes fewer.
MAX_DATABASE_STEPS: Final = 20_000_000
#: Bytes of one header.
MAX_HEADER_BYTES: Final = 32 * 1024 * 1024
#: Tags of one header.
MAX_HEADER_TAGS: Final = 4_096

_STEPS_AT_ONCE: Final = 100_000
#: Of a database: its own header.
_MIN_BYTES: Final = 100
#: Where a database says how it is written to: 2 is a log beside it, which an image's has not.
_WRITE_VERSION, _READ_VERSION, _LEGACY = 18, 19, 1
_MAX_VALUE_CHARS: Final = 512
# Tags of headers, and their types.
_NAME, _VERSION, _RELEASE, _EPOCH, _VENDOR, _LICENSE, _ARCH, _SOURCE = 1000, 1001, 1002, 1003, 1011, 1014, 1022, 1044
_INT32, _STRING, _I18N = 4, 6, 9
#: A key that rpm checks signatures by; no package.
_KEY: Final = "gpg-pubkey"


def rpm(data: bytes) -> list[Package] | None:
    """The packages of a database, by name; None if it cannot be read.

    Raises LIMIT_EXCEEDED (MAX_PACKAGES, MAX_DATABASE_STEPS).
    """
    if not data.startswith(b"SQLite format 3\0") or len(data) < _MIN_BYTES:
        return None
    plain = bytearray(data)
    plain[_WRITE_VERSION] = plain[_READ_VERSION] = _LEGACY
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += _STEPS_AT_ONCE
        return steps > MAX_DATABASE_STEPS

    found: list[Package] = []
    try:
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(bytes(plain))
            database.set_progress_handler(count, _STEPS_AT_ONCE)
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_HEADER_BYTES)
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("PRAGMA cell_size_check = ON")
            database.execute("PRAGMA query_only = ON")
            kind = database.execute("SELECT type FROM sqlite_schema WHERE name = 'Packages'").fetchone()
            if kind != ("table",):
                return None
            for (blob,) in database.execute("SELECT blob FROM Packages"):
                package = _package(blob) if isinstance(blob, bytes) else None
                if package is not None:
                    found.append(package)
                if len(found) > MAX_PACKAGES:
                    raise _exceeded("MAX_PACKAGES", MAX_PACKAGES, len(found))
    except sqlite3.Error:
        if steps > MAX_DATABASE_STEPS:
            raise _exceeded("MAX_DATABASE_STEPS", MAX_DATABASE_STEPS, steps) from None
        return None
    return sorted(found, key=lambda one: (one.name, one.version, one.architecture))


def _package(blob: bytes) -> Package | None:
    """The package of a header; None for one that is damaged, or a key."""
    fields = {tag: value for tag, value in _values(blob) if value}
    name, version, release = (fields.get(tag, "") for tag in (_NAME, _VERSION, _RELEASE))
    if not name or not version or name == _KEY:
        return None
    return Package(
        "rpm",
        name,
        f"{version}-{release}" if release else version,
        fields.get(_ARCH, ""),
        fields.get(_SOURCE, ""),
        fields.get(_VENDOR, ""),
        fields.get(_LICENSE, ""),
        fields.get(_EPOCH, ""),
    )


def _values(blob: bytes) -> Iterator[tuple[int, str]]:
    """The values of a header that are one number or text."""
    if len(blob) < 8:
        return
    count, size = struct.unpack_from(">II", blob)
    begin = 8 + 16 * count
    if count > MAX_HEADER_TAGS or begin + size != len(blob):
        return
    data = blob[begin:]
    for tag, kind, offset, _ in struct.iter_unpack(">iIiI", blob[8:begin]):
        if not 0 <= offset < size:
            continue
        if kind == _INT32 and offset + 4 <= size:
            yield tag, str(int.from_bytes(data[offset : offset + 4], "big"))
        elif kind in (_STRING, _I18N):
            text = data[offset : offset + 4 * _MAX_VALUE_CHARS].partition(b"\0")[0]
            yield tag, text.decode(errors="replace")[:_MAX_VALUE_CHARS]


def _exceeded(limit: str, limit_value: int, actual: int) -> LimitExceeded:
    return LimitExceeded(limit=limit, limit_value=limit_value, actual=actual, subject="the packages of the image")
