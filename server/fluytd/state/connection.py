"""Opening the file: options, migrations, and what SQLite's failures mean in the engine's catalogue."""

import errno
import sqlite3
from pathlib import Path

from fluytd.errors import DataCorruptOnDisk, DataRootInUse, IoFailed, StorageFull, VersionMismatch
from fluytd.state import schema

#: WAL pages (of 4 KiB) at which a write folds the WAL back itself, as a bound when the thread is never idle.
_CHECKPOINT_PAGES = 8_192

_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
#: The low byte of an extended result code is the primary one. Source: https://www.sqlite.org/rescode.html
_PRIMARY_CODE = 0xFF


def connect(path: Path) -> sqlite3.Connection:
    """The one connection, with the file locked for this process and at this engine's version. Blocking.

    Raises sqlite3.Error (see `translate`), VERSION_MISMATCH for a file that a newer engine wrote.
    """
    connection = sqlite3.connect(path, isolation_level=None, timeout=0, cached_statements=256)
    try:
        # Exclusive: no second engine can open the file, and the WAL's index lives in memory instead of a shared file.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}").fetchall()
        # The lock is taken by the first access, so that a second engine fails here and not later.
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > schema.VERSION:
        raise VersionMismatch(expected=f"records of version {schema.VERSION} or older", actual=version)
    for number in range(version, schema.VERSION):
        # executescript cannot run inside an outer transaction, so that each step carries its own.
        connection.executescript(
            f"BEGIN IMMEDIATE; {schema.MIGRATIONS[number]} PRAGMA user_version={number + 1}; COMMIT;"
        )


def translate(error: BaseException, path: Path) -> BaseException:
    """The catalogue's error for one of SQLite's; any other is returned as it is."""
    if not isinstance(error, sqlite3.Error):
        return error
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
    translated: Exception
    if code == sqlite3.SQLITE_BUSY:
        translated = DataRootInUse(path=path.parent)
    elif code == sqlite3.SQLITE_FULL:
        translated = StorageFull(operation="write", path=path, errno=errno.ENOSPC)
    elif code in _CORRUPT:
        translated = DataCorruptOnDisk(path=path, detail=str(error))
    elif code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}:
        translated = IoFailed(operation="sqlite", path=path, errno=errno.EIO)
    else:
        return error
    translated.__cause__ = error
    return translated
