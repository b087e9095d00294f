"""The output of builds: bounded, found again from any position."""

import asyncio

from fluytd.builds.log import MAX_LOG_BYTES, MAX_LOGS, MAX_PIECE_BYTES, BuildLog, BuildLogs


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


def test_logs_of_ended_builds_are_kept_up_to_a_number() -> None:
    logs = BuildLogs()
    running = logs.begin("running")
    for number in range(MAX_LOGS + 5):
        logs.begin(str(number)).end()
    assert logs.get("running") is running
    assert logs.get("0") is None
    assert logs.get(str(MAX_LOGS + 4)) is not None
