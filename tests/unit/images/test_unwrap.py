"""xz and bzip2 are taken off archives within bounds: every stream of them, or an error that says what is wrong."""

import bz2
import hashlib
import lzma
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fluytd.errors import ArchiveInvalid, Cancelled, LimitExceeded
from fluytd.images import unwrap
from fluytd.images.spool import Spool
from fluytd.images.unwrap import PIECE_BYTES, Unwrapper
from fluytd.workers import Workers
from tests.support.fakes.images import Flag

Compress = Callable[[bytes], bytes]
COMPRESSIONS: dict[str, Compress] = {"xz": lzma.compress, "bzip2": bz2.compress}
#: What no compression makes smaller.
NOISE = hashlib.shake_128(b"noise").digest(3 * PIECE_BYTES + 7)


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(1, 1)
    yield made
    made.close()


class Bench:
    """An unwrapper, and archives in files."""

    def __init__(self, root: Path, workers: Workers, max_size_bytes: int = 1 << 24) -> None:
        (root / "ingest").mkdir(exist_ok=True)
        self._archive = root / "archive"
        self._unwrapper = Unwrapper(
            Spool(root, workers, max_size_bytes=1 << 24), workers, max_size_bytes=max_size_bytes
        )

    async def plain(self, data: bytes, cancel: Flag | None = None) -> bytes | None:
        """What is behind the compression; None if there is none."""
        self._archive.write_bytes(data)
        fd = os.open(self._archive, os.O_RDONLY)
        try:
            got = await self._unwrapper.unwrap(
                fd, "load", cancel or Flag(), lambda rule: ArchiveInvalid(entry="", rule=rule)
            )
            assert os.lseek(fd, 0, os.SEEK_CUR) == 0
        finally:
            os.close(fd)
        if got is None:
            return None
        whole = os.pread(got.fd, got.size_bytes + 1, 0)
        assert len(whole) == got.size_bytes
        got.close()
        return whole


@pytest.fixture
def bench(tmp_path: Path, workers: Workers) -> Bench:
    return Bench(tmp_path, workers)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("kind", COMPRESSIONS)
@pytest.mark.parametrize("data", [b"x", b"tar" * 100_000, NOISE], ids=["one byte", "alike", "noise"])
async def test_all_streams_are_one_archive_and_what_is_behind_them_does_not_count(
    bench: Bench, kind: str, data: bytes
) -> None:
    compress = COMPRESSIONS[kind]
    middle = len(data) // 2
    two = compress(data[:middle] or data) + compress(data[middle:] if data[:middle] else b"")
    for archive in (compress(data), two, compress(data) + bytes(8), compress(data) + b"junk", two + bytes(4)):
        assert await bench.plain(archive) == data
    assert await bench.plain(compress(data) + bytes(PIECE_BYTES) + compress(b"end")) == data + b"end"


@pytest.mark.parametrize("data", [b"", b"BZh", b"BZh9 is a name", b"\xfd7zXZ", b"\x1f\x8b\x08", b"tar" * 1000])
async def test_what_is_neither_is_left_as_it_is(bench: Bench, data: bytes) -> None:
    assert await bench.plain(data) is None


@pytest.mark.parametrize("kind", COMPRESSIONS)
async def test_what_is_cut_or_damaged_is_refused_wherever_it_is(bench: Bench, kind: str) -> None:
    whole = COMPRESSIONS[kind](NOISE)
    before = open_files()
    for cut in (20, len(whole) // 2, len(whole) - 1):
        with pytest.raises(ArchiveInvalid, match=r"ends early|damaged"):
            await bench.plain(whole[:cut])
    for at in (15, len(whole) // 2, len(whole) - 3):
        with pytest.raises(ArchiveInvalid, match=r"ends early|damaged"):
            await bench.plain(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
    with pytest.raises(ArchiveInvalid):
        await bench.plain(whole + whole[:-9])
    assert open_files() == before


async def limit_of(bench: Bench, data: bytes) -> LimitExceeded:
    before = open_files()
    with pytest.raises(LimitExceeded) as caught:
        await bench.plain(data)
    assert open_files() == before
    return caught.value


@pytest.mark.parametrize("kind", COMPRESSIONS)
async def test_the_size_and_the_ratio_are_bounded(
    tmp_path: Path, workers: Workers, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compress = COMPRESSIONS[kind]
    small = Bench(tmp_path, workers, max_size_bytes=len(NOISE))
    assert await small.plain(compress(NOISE)) == NOISE
    found = await limit_of(small, compress(NOISE + b"x"))
    assert (found.metadata["limit"], found.metadata["limit_value"]) == ("load_max_bytes", str(len(NOISE)))

    zeros = bytes(4_000_000)
    monkeypatch.setattr(unwrap, "EXPANSION_FLOOR_BYTES", 4_000_000)
    bench = Bench(tmp_path, workers)
    assert await bench.plain(compress(zeros)) == zeros
    found = await limit_of(bench, compress(zeros + b"\0"))
    assert (found.metadata["limit"], found.metadata["limit_value"]) == ("expansion_ratio", "200")


async def test_an_xz_stream_that_looks_back_too_far_is_refused(bench: Bench) -> None:
    def looking_back(size_bytes: int) -> bytes:
        return lzma.compress(NOISE, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": size_bytes}])

    assert await bench.plain(looking_back(64 * 1024 * 1024)) == NOISE
    found = await limit_of(bench, looking_back(256 * 1024 * 1024))
    assert found.metadata["limit"] == "xz_memory_bytes"
    assert found.metadata["limit_value"] == str(unwrap.XZ_MAX_MEMORY_BYTES)


@pytest.mark.parametrize("kind", COMPRESSIONS)
async def test_it_ends_once_cancelled(bench: Bench, kind: str) -> None:
    cancel = Flag()
    cancel.cancel()
    with pytest.raises(Cancelled):
        await bench.plain(COMPRESSIONS[kind](NOISE), cancel)


class LateFlag(Flag):
    """A cancel token that is cancelled when somebody looks at it for the third time."""

    def __init__(self) -> None:
        self._looks = 0

    @property
    def is_cancelled(self) -> bool:
        self._looks += 1
        return self._looks >= 3

    @is_cancelled.setter
    def is_cancelled(self, value: bool) -> None:
        raise AssertionError(value)


async def test_it_ends_once_cancelled_also_within_padding(bench: Bench) -> None:
    with pytest.raises(Cancelled):
        await bench.plain(lzma.compress(b"x") + bytes(20 * PIECE_BYTES), LateFlag())
