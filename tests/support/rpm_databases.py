"""Databases of rpm as an image has them."""

import sqlite3
import struct
from pathlib import Path


def header(values: dict[int, str]) -> bytes:
    """A header of these texts by their tags."""
    index, data = b"", b""
    for tag, value in values.items():
        index += struct.pack(">iIiI", tag, 6, len(data), 1)
        data += value.encode() + b"\0"
    return struct.pack(">II", len(values), len(data)) + index + data


def database(path: Path, *statements: str, blobs: list[bytes] | None = None) -> bytes:
    """A database of these statements, else a table of packages, with these headers."""
    opened = sqlite3.connect(path)
    for statement in statements or ("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)",):
        opened.execute(statement)
    if blobs:
        opened.executemany("INSERT INTO Packages (blob) VALUES (?)", [(blob,) for blob in blobs])
    opened.commit()
    opened.close()
    return path.read_bytes()
