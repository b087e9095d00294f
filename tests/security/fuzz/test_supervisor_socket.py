"""Bytes that are no message, on the socket of a running container's supervisor: it and the daemon serve on."""

import array
import contextlib
import os
import random
import socket
import time
from pathlib import Path

from tests.e2e.containers.steps import get, started
from tests.e2e.execs import steps as execs
from tests.support.engine import Engine
from tests.support.wait import until_now

SEED = 1
PACKETS = 400
#: Longer than what the supervisor takes of one message. Source: rust_core/control, MAX_MESSAGE_BYTES.
LONG_BYTES = 64 * 1024


def packets() -> list[bytes]:
    """Of all lengths, each beginning with each tag that a message may have."""
    number = random.Random(SEED)  # noqa: S311 - to be the same everywhere
    found = [b"", b"\0", b"\xff" * 16, b"\x80" * 20, b"\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"x" * LONG_BYTES]
    for _ in range(PACKETS):
        tag = bytes([number.randrange(16)])
        found.append(tag + number.randbytes(number.choice((0, 1, 2, 5, 9, 33, 200, 5_000))))
    return found


def opened(path: str) -> socket.socket:
    """A connection as the daemon's."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.setblocking(False)
    until = time.monotonic() + 10
    while made.connect_ex(path) != 0:
        assert time.monotonic() < until, "the supervisor takes connections"
        time.sleep(0.002)
    return made


def test_a_supervisor_outlives_what_is_no_message(engine: Engine) -> None:
    container = started(engine, "sleep", "1000")
    folder = os.open(engine.root / "run" / "containers" / container.id, os.O_PATH)
    # The whole path may be longer than an address holds.
    path = f"/proc/self/fd/{folder}/socket"
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, folder)
        pipe = os.pipe()
        for fd in pipe:
            stack.callback(os.close, fd)
        descriptors = array.array("i", [pipe[0]] * 20)
        for count, packet in enumerate(packets()):
            with opened(path) as connection, contextlib.suppress(OSError):
                beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)] if count % 3 == 0 else []
                connection.sendmsg([packet], beside)
                # Some are answered, others end the connection; none is waited for.
                connection.setblocking(False)
                connection.recv(LONG_BYTES)
    assert get(engine, container.id).state == container.state
    assert execs.run(engine, container.id, "echo", "fine").out == b"fine\n"
    # Descriptors that came along are closed: the pipe has no reader any more.
    supervisor = supervisor_of(container.host_pid)
    until_now(lambda: len(list(Path(f"/proc/{supervisor}/fd").iterdir())) < 40, "descriptors are closed")


def supervisor_of(pid: int) -> int:
    """The parent of a container's first process. Source: proc_pid_stat(5), the fourth field."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
