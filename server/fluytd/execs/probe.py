"""Commands of health checks as further processes of their containers."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from fluytd.containers.model import Container
from fluytd.containers.process_ports import ProbeResult
from fluytd.execs.service import ExecService
from fluytd.execs.session import JoinedExec

#: The last of what a command writes is kept.
MAX_PROBE_OUTPUT_BYTES: Final = 64 * 1024
#: How long the end of a killed command is waited for; one that the kernel holds longer ends unseen.
KILL_WAIT_SECONDS: Final = 5.0
#: Exit code of a probe that was broken off. Source: moby `daemon/health.go`.
_NO_EXIT_CODE: Final = -1


class ExecProbe:
    """Implements `containers.ports.Probe` by further processes."""

    def __init__(self, execs: ExecService) -> None:
        """Runs commands by `execs`."""
        self._execs = execs

    async def run(self, container: Container, args: Sequence[str], timeout_millis: int) -> ProbeResult:
        """See `Probe.run`. Cancelled, the command is killed."""
        exec_ = await self._execs.begin_probe(container.id, args)
        reader = object()
        output = bytearray()
        try:
            try:
                async with asyncio.timeout(timeout_millis / 1000):
                    await exec_.started()
                    await _collect(exec_, reader, output)
            finally:
                exec_.leave(reader)
                # Also what a command that has ended left behind, where the host lets us know it.
                exec_.process.kill()
        except TimeoutError:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(exec_.ended(), KILL_WAIT_SECONDS)
            # Last, as what is kept of an answer is its end.
            output += f"the check was killed after its timeout of {timeout_millis} ms\n".encode()
            return ProbeResult(_NO_EXIT_CODE, bytes(output), self._execs.clock.now_unix_nanos())
        finally:
            self._execs.forget(exec_)
        status = exec_.session.exit
        end = exec_.session.exit_time_unix_nanos or self._execs.clock.now_unix_nanos()
        return ProbeResult(_NO_EXIT_CODE if status is None else status.shell_code, bytes(output), end)


async def _collect(exec_: JoinedExec, reader: object, output: bytearray) -> None:
    """The process has ended, and `output` has the last of what it wrote."""
    async for batch in exec_.output(reader, asyncio.Event()):
        for chunk in batch.chunks:
            output += chunk.data
        del output[:-MAX_PROBE_OUTPUT_BYTES]
