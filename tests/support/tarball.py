"""Writes tar streams with control over every header field, and compresses them in each way that layers use.

It does not read archives, and it checks nothing: what it writes may lie, as tests need it to.
Source: pax(1) of POSIX.1-2017, and tar's manual, sections "Basic Tar Format" and "Storing Sparse Files".
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

BLOCK_BYTES = 512
DEFAULT_MTIME = 1_000_000_000

Format = Literal["pax", "gnu", "ustar", "v7"]
Compression = Literal["none", "gzip", "zstd"]

FILE, HARDLINK, SYMLINK, CHAR, BLOCK, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
PAX_RECORDS, PAX_GLOBAL, GNU_LONG_NAME, GNU_LONG_LINK, GNU_SPARSE = b"x", b"g", b"L", b"K", b"S"

# Offset and length of each header field.
_FIELDS: dict[str, tuple[int, int]] = {
    "name": (0, 100),
    "mode": (100, 8),
    "uid": (108, 8),
    "gid": (116, 8),
    "size": (124, 12),
    "mtime": (136, 12),
    "checksum": (148, 8),
    "typeflag": (156, 1),
    "linkname": (157, 100),
    "magic": (257, 8),
    "uname": (265, 32),
    "gname": (297, 32),
    "devmajor": (329, 8),
    "devminor": (337, 8),
    "prefix": (345, 155),
}


@dataclass(frozen=True)
class Entry:
    """One member of a tar.

    Attributes:
        name: the path as written; nothing is normalised, so `../x` and `/x` are possible.
        typeflag: one byte, see the constants above.
        data: the bytes behind the header, padded to a block by the writer.
        declared_size: the size told by the header if it shall differ from `len(data)`.
        pax: further PAX records; a key given here wins over one the writer would make.
        header: raw bytes for header fields (keys as in `_FIELDS`), padded with NUL; the checksum is made after them
            unless `checksum` itself is among them.
    """

    name: str
    typeflag: bytes = FILE
    data: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = DEFAULT_MTIME
    link: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    declared_size: int | None = None
    pax: Mapping[str, str | bytes] = field(default_factory=dict)
    header: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Verbatim:
    """Bytes put into the stream as they are, without padding."""

    data: bytes


Member = Entry | Verbatim


def file(name: str, data: bytes | str = b"", mode: int = 0o644, uid: int = 0, gid: int = 0) -> Entry:
    """A regular file."""
    content = data.encode() if isinstance(data, str) else data
    return Entry(name, FILE, content, mode, uid, gid)


def directory(name: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Entry:
    """A directory; its name is written with a trailing slash."""
    return Entry(name.rstrip("/") + "/", DIRECTORY, b"", mode, uid, gid)


def symlink(name: str, target: str) -> Entry:
    """A symbolic link to `target`, which is written as it is."""
    return Entry(name, SYMLINK, link=target, mode=0o777)


def hardlink(name: str, target: str) -> Entry:
    """A hard link to the member named `target`."""
    return Entry(name, HARDLINK, link=target)


def device(name: str, kind: Literal["char", "block"], major: int, minor: int, mode: int = 0o600) -> Entry:
    """A device node."""
    return Entry(name, CHAR if kind == "char" else BLOCK, device=(major, minor), mode=mode)


def fifo(name: str, mode: int = 0o600) -> Entry:
    """A named pipe."""
    return Entry(name, FIFO, mode=mode)


def whiteout(path: str) -> Entry:
    """The marker that hides `path` of lower layers. Source: image-spec layer.md, Whiteouts."""
    parent, _, base = path.rpartition("/")
    return file(f"{parent}/.wh.{base}" if parent else f".wh.{base}")


def opaque(path: str) -> Entry:
    """The marker that hides all that lower layers have below the directory `path` (empty: the root)."""
    return file(f"{path}/.wh..wh..opq" if path else ".wh..wh..opq")


def pax_global(records: Mapping[str, str | bytes]) -> Verbatim:
    """A PAX global header."""
    return Verbatim(_plain(Entry("pax_global_header", PAX_GLOBAL, pax_records(records)), "pax"))


def sparse(
    name: str,
    size: int,
    regions: Sequence[tuple[int, bytes]],
    version: Literal["1.0", "0.1", "0.0", "gnu"] = "1.0",
) -> Entry | Verbatim:
    """A sparse file of `size` bytes with data at each (offset, bytes) of `regions`, in GNU tar's named format.

    Regions are filled up with zeros to whole blocks, and an empty one marks the end, both as GNU tar does. Version 0.0
    and `gnu` come as ready bytes, since they repeat keys or extend the header; `gnu` takes at most three regions here.
    """
    regions = [*((offset, _padded(content)) for offset, content in regions), (size, b"")]
    data = b"".join(content for _, content in regions)
    if version == "1.0":
        numbers = [len(regions), *(n for offset, content in regions for n in (offset, len(content)))]
        sparse_map = "".join(f"{number}\n" for number in numbers).encode()
        records = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": name,
            "GNU.sparse.realsize": str(size),
        }
        return replace(file(f"GNUSparseFile.0/{name}", _padded(sparse_map) + data), pax=records)
    if version == "0.1":
        records = {
            "GNU.sparse.size": str(size),
            "GNU.sparse.numblocks": str(len(regions)),
            "GNU.sparse.map": ",".join(f"{offset},{len(content)}" for offset, content in regions),
            "GNU.sparse.name": name,
        }
        return replace(file(f"GNUSparseFile.0/{name}", data), pax=records)
    if version == "0.0":
        pairs = [("GNU.sparse.size", str(size)), ("GNU.sparse.numblocks", str(len(regions)))]
        for offset, content in regions:
            pairs += [("GNU.sparse.offset", str(offset)), ("GNU.sparse.numbytes", str(len(content)))]
        extended = Entry("PaxHeaders.0/x", PAX_RECORDS, b"".join(_record(key, value) for key, value in pairs))
        return Verbatim(_plain(extended, "pax") + _plain(file(name, data), "pax"))
    if len(regions) > 4:
        raise ValueError("the first header of the old GNU format holds four regions, one of them the end")
    table = b"".join(b"%011o\0%011o\0" % (offset, len(content)) for offset, content in regions)
    header = {"prefix": b"\0" * 41 + table.ljust(96, b"\0") + b"\0" + b"%011o\0" % size}
    return Verbatim(_plain(replace(file(name, data), typeflag=GNU_SPARSE, header=header), "gnu"))


def pax_records(records: Mapping[str, str | bytes]) -> bytes:
    """The data of a PAX header: `LENGTH KEY=VALUE\\n` for each record, the length counting itself."""
    return b"".join(_record(key, value) for key, value in records.items())


def write_tar(
    members: Iterable[Member], *, format: Format = "pax", end_blocks: int = 2, trailing: bytes = b""
) -> bytes:
    """The stream of `members` in order.

    Args:
        format: how names above 100 bytes, great numbers and xattrs are written. `ustar` and `v7` raise ValueError for
            what they cannot hold.
        end_blocks: number of zero blocks at the end; the standard asks for two, 0 leaves the archive without an end.
        trailing: bytes after them.
    """
    parts: list[bytes] = []
    for member in members:
        parts.append(member.data if isinstance(member, Verbatim) else _member(member, format))
    return b"".join(parts) + bytes(BLOCK_BYTES * end_blocks) + trailing


def gzip_bytes(data: bytes, level: int = 1) -> bytes:
    """One gzip member, the same for the same input at every time."""
    return gzip.compress(data, level, mtime=0)


def zstd_bytes(data: bytes) -> bytes:
    """One zstd frame of uncompressed blocks: valid for every decoder, though not smaller, and needs no library.

    Source: RFC 8878, sections 3.1.1.1 (a frame with an 8-byte content size) and 3.1.1.2 (raw blocks).
    """
    block_limit = 128 * 1024
    blocks = [data[start : start + block_limit] for start in range(0, len(data), block_limit)] or [b""]
    frame = struct.pack("<IB", 0xFD2FB528, 0b1110_0000) + struct.pack("<Q", len(data))
    for index, block in enumerate(blocks):
        last = index == len(blocks) - 1
        frame += struct.pack("<I", len(block) << 3 | int(last))[:3] + block
    return frame


def zstd_skippable(data: bytes) -> bytes:
    """A skippable frame, which decoders pass over. Source: RFC 8878, section 3.1.2."""
    return struct.pack("<II", 0x184D2A50, len(data)) + data


def compress(data: bytes, compression: Compression) -> bytes:
    """`data` as one stream of the named compression."""
    if compression == "gzip":
        return gzip_bytes(data)
    return zstd_bytes(data) if compression == "zstd" else data


def _record(key: str, value: str | bytes) -> bytes:
    body = b" " + key.encode() + b"=" + (value.encode() if isinstance(value, str) else value) + b"\n"
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK_BYTES)


def _octal(value: int, width: int) -> bytes | None:
    digits = b"%o" % value if value >= 0 else b""
    return digits.rjust(width - 1, b"0") + b"\0" if 0 < len(digits) < width else None


def _number(value: int, width: int, format: Format) -> bytes:
    octal = _octal(value, width)
    if octal is not None:
        return octal
    if format == "gnu":
        return bytes([0x80 if value >= 0 else 0xFF]) + value.to_bytes(width - 1, "big", signed=value < 0)
    if format == "pax":
        return b"0" * (width - 1) + b"\0"
    raise ValueError(f"{value} does not fit a field of {width} bytes in the {format} format")


def _member(entry: Entry, format: Format) -> bytes:
    records: dict[str, str | bytes] = {}
    name, link = entry.name.encode(), entry.link.encode()
    before = b""
    prefix = b""
    if format == "gnu":
        for value, flag in ((name, GNU_LONG_NAME), (link, GNU_LONG_LINK)):
            if len(value) > 100:
                before += _plain(Entry("././@LongLink", flag, value + b"\0", mtime=0), "gnu")
    elif format == "pax":
        if len(name) > 100:
            records["path"] = name
        if len(link) > 100:
            records["linkpath"] = link
        numbers = {"uid": entry.uid, "gid": entry.gid, "mtime": entry.mtime, "size": len(entry.data)}
        for key, number in numbers.items():
            if _octal(number, _FIELDS[key][1]) is None:
                records[key] = str(number)
    elif len(name) > 100 or len(link) > 100:
        cut = name.rfind(b"/", 0, 156)
        if format == "v7" or len(link) > 100 or cut < 0 or len(name) - cut - 1 > 100:
            raise ValueError(f"{entry.name} does not fit the {format} format")
        prefix, name = name[:cut], name[cut + 1 :]
    records |= {f"SCHILY.xattr.{key}": value for key, value in entry.xattrs.items()}
    records |= entry.pax
    if records:
        extended = Entry("PaxHeaders.0/x", PAX_RECORDS, pax_records(records), mtime=0)
        before += _plain(extended, "pax")
    return before + _plain(entry, format, name=name, link=link, prefix=prefix)


def _plain(
    entry: Entry, format: Format, *, name: bytes | None = None, link: bytes | None = None, prefix: bytes = b""
) -> bytes:
    """One header and its data, without the extra members that long values need."""
    size = len(entry.data) if entry.declared_size is None else entry.declared_size
    fields = {
        "name": (entry.name.encode() if name is None else name)[:100],
        "mode": _number(entry.mode, 8, format),
        "uid": _number(entry.uid, 8, format),
        "gid": _number(entry.gid, 8, format),
        "size": _number(size, 12, format),
        "mtime": _number(entry.mtime, 12, format),
        "typeflag": entry.typeflag,
        "linkname": (entry.link.encode() if link is None else link)[:100],
        "magic": {"gnu": b"ustar  \0", "v7": b""}.get(format, b"ustar\00000"),
        "prefix": prefix,
    }
    if entry.typeflag in (CHAR, BLOCK):
        fields["devmajor"] = _number(entry.device[0], 8, format)
        fields["devminor"] = _number(entry.device[1], 8, format)
    block = bytearray(BLOCK_BYTES)
    for key, value in {**fields, **entry.header}.items():
        offset, length = _FIELDS[key]
        block[offset : offset + length] = value.ljust(length, b"\0")[:length]
    if "checksum" not in entry.header:
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + _padded(entry.data)
