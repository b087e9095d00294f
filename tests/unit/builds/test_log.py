"""The output of builds: bounded, found again from any position."""

import asyncio

from fluytd.builds.log import (
    JOINED_BYTES,
    JOINED_NANOS,
    MAX_LOG_BYTES,
    MAX_LOG_PIECES,
    MAX_LOGS,
    MAX_PIECE_BYTES,
    BuildLog,
    BuildLogs,
    frame,
)


async def _all(log: BuildLog, position: int = 0) -> list[tuple[int, bytes]]:
    return [(piece.step, piece.data) async for piece in log.follow(position)]


async def test_followers_get_what_was_written_before_and_after_they_came() -> None:
    log = BuildLog()
    log.write(1, "stdout", 5, b"early")
    following = asyncio.ensure_future(_all(log))
    late = asyncio.ensure_future(_all(log, 7))
    await asyncio.sleep(0)
    log.write(2, "stderr", 6, b"later")
    log.end()
    assert await following == [(1, b"early"), (2, b"later")]
    assert await late == [(2, b"ter")]


async def test_the_oldest_output_goes_beyond_the_bound() -> None:
    log = BuildLog()
    for number in range(MAX_LOG_BYTES // MAX_PIECE_BYTES + 2):
        log.write(number, "stdout", 0, bytes(MAX_PIECE_BYTES))
    log.end()
    found = await _all(log)
    assert sum(len(data) for _, data in found) == MAX_LOG_BYTES
    assert found[0][0] == 2


async def test_what_is_written_byte_by_byte_is_kept_in_few_pieces() -> None:
    log, on_disk = BuildLog(), bytearray()
    log.tee = lambda piece: on_disk.extend(frame(piece))
    for number in range(3 * JOINED_BYTES):
        log.write(1, "stdout", number, b"x")
    log.write(1, "stderr", 0, b"e")
    log.write(2, "stderr", JOINED_NANOS, b"o")
    log.write(2, "stderr", 2 * JOINED_NANOS + 1, b"later")
    log.end()
    kept = [(piece.step, piece.stream, len(piece.data)) for piece in log.pieces]
    assert kept == [(1, "stdout", JOINED_BYTES)] * 3 + [(1, "stderr", 1), (2, "stderr", 1), (2, "stderr", 5)]
    assert BuildLog.read(bytes(on_disk)).pieces == log.pieces


async def test_followers_get_each_byte_of_pieces_that_grow_once() -> None:
    log = BuildLog()
    following = asyncio.ensure_future(_all(log))
    for letter in (b"a", b"b", b"c"):
        log.write(1, "stdout", 0, letter)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    log.end()
    assert len(log.pieces) == 1
    assert await following == [(1, b"a"), (1, b"b"), (1, b"c")]
    assert await _all(log, 1) == [(1, b"bc")]


def test_pieces_are_bounded_by_number_too() -> None:
    log = BuildLog()
    for number in range(MAX_LOG_PIECES + 10):
        log.write(1, ("stdout", "stderr")[number % 2], 0, b"x")
    assert len(log.pieces) == MAX_LOG_PIECES
    assert log.end_bytes == MAX_LOG_PIECES + 10


def test_logs_of_ended_builds_are_kept_up_to_a_number() -> None:
    logs = BuildLogs()
    running = logs.begin("running")
    for number in range(MAX_LOGS + 5):
        logs.begin(str(number)).end()
    assert logs.get("running") is running
    assert logs.get("0") is None
    assert logs.get(str(MAX_LOGS + 4)) is not None
