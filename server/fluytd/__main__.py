"""The command `fluytd`: arguments -> settings -> bootstrap -> serve -> drain. Containers run on when it ends.

Exit codes: 0 drained after a signal; 1 could not start or failed; 2 wrong arguments or settings; 130 a second signal.
"""

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

# gRPC's fork handlers cost every start and nothing here forks. It reads this when it is imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import uvloop

from fluytd import __version__, config, journal, notify
from fluytd.errors import EngineError, FieldInvalid

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_FORCED: Final = 130

#: Descriptors wanted: a supervisor socket and some more for each of thousands of containers.
WANTED_DESCRIPTORS: Final = 1 << 20

_log = logging.getLogger("fluytd")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the daemon until a signal asks for its end; the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if list(given) == ["--version"]:
        sys.stdout.write(f"fluytd {__version__}\n")
        return EXIT_OK
    try:
        settings = config.load(given)
    except FieldInvalid as error:
        sys.stderr.write(f"fluytd: {error.message}\n")
        return EXIT_USAGE
    journal.configure(settings.log_level, settings.log_format)
    _raise_descriptor_limit()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings))
    except EngineError as error:
        _log.critical("cannot serve: %s", error.message, exc_info=error if error.reason == "UNEXPECTED" else None)
        return EXIT_USAGE if isinstance(error, FieldInvalid) else EXIT_FAILED
    return EXIT_OK


async def _serve(settings: config.Config) -> None:
    from fluytd.bootstrap import Engine  # noqa: PLC0415 - what it brings in is not needed to refuse wrong settings

    asked_to_end = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if asked_to_end.is_set():
            os._exit(EXIT_FORCED)
        _log.info("%s: draining; containers run on", signal.Signals(number).name)
        asked_to_end.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    engine = Engine(settings)
    try:
        await engine.start()
        # What is there now stays; the collector need not look at it again on every full pass.
        gc.collect()
        gc.freeze()
        _log.info("fluytd %s serves on %s", __version__, settings.socket_path)
        notify.ready()
        await asked_to_end.wait()
        notify.stopping()
    finally:
        await engine.stop()
    _log.info("drained")


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, WANTED_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # a host that forbids it: the limit stays, opens beyond it fail by name
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
