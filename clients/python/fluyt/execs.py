"""Further processes in running containers: run to the end, streamed, looked at, joined again."""

import queue
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import grpc

from fluyt.errors import FluytError, iterate, translated
from fluyt.streams import Input, actions
from fluyt.v1 import execs_pb2, execs_pb2_grpc

#: Most bytes of each output that `run` keeps unless told otherwise.
MAX_RUN_OUTPUT_BYTES: Final = 64 * 1024 * 1024
#: Added to the number of the signal that ended a process, as shells do.
_SIGNAL_BASE: Final = 128


@dataclass(frozen=True, slots=True)
class Finished:
    """What a process wrote and how it ended."""

    stdout: bytes
    stderr: bytes
    #: 0 to 255; of a signal that ended it 128 and its number.
    exit_code: int
    #: All the engine knows about it.
    session: execs_pb2.ExecSession


class OutputTooLong(Exception):
    """A process of `run` wrote more than `max_output_bytes`; `stream` has no such bound."""


def spec(*argv: str) -> execs_pb2.ExecSpec:
    """The least that a process needs: program and arguments. Set further fields on it."""
    return execs_pb2.ExecSpec(args=argv)


def terminal(*argv: str, size: tuple[int, int] | None = None) -> execs_pb2.ExecSpec:
    """A process on a terminal that reads what is typed. `size`: columns and rows at its first instruction."""
    wanted = execs_pb2.ExecSpec(args=argv, tty=True, open_stdin=True)
    if size is not None:
        wanted.terminal_size.width, wanted.terminal_size.height = size
    return wanted


def run(
    connection: grpc.Channel,
    container: str,
    argv: Sequence[str],
    *,
    stdin: bytes | None = None,
    env: Sequence[str] = (),
    user: str = "",
    working_dir: str = "",
    privileged: bool = False,
    max_output_bytes: int = MAX_RUN_OUTPUT_BYTES,
) -> Finished:
    """Runs a process to its end, which is data whatever its exit code. Blocks as long as that takes.

    Args:
        connection: see `fluyt.connect`.
        container: its id, a unique prefix of it, or its name.
        argv: program and arguments.
        stdin: its whole input; None: it reads as empty.
        env: `NAME=value`, over the container's; a bare NAME removes one.
        user: as of a container; empty: the container's.
        working_dir: absolute; empty: the container's.
        privileged: all capabilities, no filter.
        max_output_bytes: most bytes of stdout and of stderr.

    Raises:
        FluytError: it could not be started; reason PROCESS_START_FAILED has `exit_code` 126 or 127 in `metadata`.
        OutputTooLong: and the process has got SIGHUP.
    """
    wanted = execs_pb2.ExecSpec(
        args=argv, env=env, user=user, working_dir=working_dir, privileged=privileged, open_stdin=stdin is not None
    )
    kept = {"stdout": bytearray(), "stderr": bytearray()}
    for event in stream(connection, container, wanted, stdin=() if stdin is None else (stdin,)):
        kind = event.WhichOneof("event")
        if kind == "exited":
            session = event.exited
            return Finished(bytes(kept["stdout"]), bytes(kept["stderr"]), shell_exit_code(session), session)
        if kind in kept:
            kept[kind] += getattr(event, kind).data
            if len(kept[kind]) > max_output_bytes:
                raise OutputTooLong(f"{kind} is longer than max_output_bytes, {max_output_bytes}")
    raise FluytError(grpc.StatusCode.UNKNOWN, "the engine closed the stream before it said how the process ended")


def stream(
    connection: grpc.Channel,
    container: str,
    wanted: execs_pb2.ExecSpec,
    *,
    stdin: Iterable[Input] = (),
    request_id: str = "",
) -> Iterator[execs_pb2.ExecResponse]:
    """Yields `started`, `stdout`, `stderr` as they come, then `exited`; of a `detach` only `started`.

    `stdin`: what is said to it, iterated on another thread: input where `wanted.open_stdin`, closed at the end, and
    `Resize` and `Signal`. `DETACH`, or the detach keys in the input, end the stream with `detached`. A slow reader
    slows the process. Giving the iteration up leaves the process to `wanted.disconnect_policy`, SIGHUP by default.
    `request_id`: a repeated call joins the first one's process.
    """
    over: queue.SimpleQueue[None] = queue.SimpleQueue()

    def said() -> Iterator[execs_pb2.ExecRequest]:
        start = execs_pb2.ExecStart(container=container, spec=wanted, request_id=request_id)
        yield execs_pb2.ExecRequest(start=start)
        for fields in actions(stdin, closes=wanted.open_stdin):
            yield execs_pb2.ExecRequest(**fields)
        over.get()

    try:
        yield from iterate(execs_pb2_grpc.ExecServiceStub(connection).Exec(said()))
    finally:
        over.put(None)


def attach(
    connection: grpc.Channel,
    session_id: str,
    *,
    offset_bytes: int = 0,
    stdin: Iterable[Input] = (),
    detach_keys: str = "",
    size: tuple[int, int] | None = None,
) -> Iterator[execs_pb2.AttachExecResponse]:
    """Yields `attached`, then output from an offset on (`offset_bytes` of the last event seen), then `exited` or
    `detached`.

    `stdin`: as of `stream`, but that its end closes nothing. `detach_keys`: as Docker writes them, `none` for none;
    empty: the session's. `size`: columns and rows of the caller's terminal.
    """
    over: queue.SimpleQueue[None] = queue.SimpleQueue()

    def said() -> Iterator[execs_pb2.AttachExecRequest]:
        options = execs_pb2.AttachExecOptions(id=session_id, offset_bytes=offset_bytes, detach_keys=detach_keys)
        if size is not None:
            options.terminal_size.width, options.terminal_size.height = size
        yield execs_pb2.AttachExecRequest(open=options)
        for fields in actions(stdin, closes=False):
            yield execs_pb2.AttachExecRequest(**fields)
        over.get()

    try:
        yield from iterate(execs_pb2_grpc.ExecServiceStub(connection).AttachExec(said()))
    finally:
        over.put(None)


def get(connection: grpc.Channel, session_id: str) -> execs_pb2.ExecSession:
    """Where a session stands. Raises NotFound."""
    with translated():
        response: execs_pb2.GetExecResponse = execs_pb2_grpc.ExecServiceStub(connection).GetExec(
            execs_pb2.GetExecRequest(id=session_id)
        )
    return response.exec


def list_all(connection: grpc.Channel, container: str = "") -> Iterator[execs_pb2.ExecSession]:
    """The sessions of a container, or of all, newest first, fetched page by page."""
    stub = execs_pb2_grpc.ExecServiceStub(connection)
    token = ""
    while True:
        request = execs_pb2.ListExecsRequest(container=container, page_token=token)
        with translated():
            page = stub.ListExecs(request)
        yield from page.execs
        token = page.next_page_token
        if not token:
            return


def shell_exit_code(session: execs_pb2.ExecSession) -> int:
    """How it ended as one number: its exit code, or 128 and the number of the signal."""
    return _SIGNAL_BASE + session.signal if session.HasField("signal") else session.exit_code
