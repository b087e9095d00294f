"""`fluyt attach`: output from now on, input, signals, leaving."""

import select
import signal
import subprocess

import pytest

from fluyt import containers
from tests.e2e.cli.program import IMAGE, PATIENCE_SECONDS, Program
from tests.support.engine import Engine
from tests.support.wait import until_now

#: Says what it reads and each signal it gets, and ends with 9 at `end`.
ECHO = "trap 'echo term' TERM; while read x; do echo got $x; test $x = end && exit 9; done; exit 4"
#: Ticks until it is told to end by SIGTERM.
TICK = "trap 'echo term; exit 9' TERM; while :; do echo tick; sleep 0.05; done"


@pytest.fixture
def ticking(fluyt: Program) -> str:
    """A container that writes until it gets SIGTERM."""
    fluyt.ok("run", "-d", "--name", "ticking", IMAGE, "sh", "-c", TICK)
    return "ticking"


@pytest.fixture
def reading(fluyt: Program, cli_engine: Engine) -> str:
    """A container that answers each line of its input, which stays open when a caller leaves."""
    wanted = containers.spec(IMAGE, "sh", "-c", ECHO)
    wanted.open_stdin = True
    containers.create(cli_engine.channel, wanted, name="reading")
    fluyt.ok("start", "reading")
    return "reading"


def is_running(fluyt: Program, name: str) -> bool:
    """Whether the container runs."""
    return name in fluyt.ok("ps")


def attached(fluyt: Program, *arguments: str) -> "subprocess.Popen[bytes]":
    """The command, started."""
    return fluyt.spawn("attach", *arguments)


def line(process: "subprocess.Popen[bytes]") -> bytes:
    """The next line it writes."""
    assert process.stdout is not None
    return process.stdout.readline()


def write(process: "subprocess.Popen[bytes]", data: bytes) -> None:
    """Input of the command, at once."""
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()


def answers(speaker: "subprocess.Popen[bytes]", listener: "subprocess.Popen[bytes]") -> bool:
    """Whether what the container answers to a line of the speaker is something that the listener can read, soon."""
    write(speaker, b"other\n")
    assert line(speaker) == b"got other\n"
    assert listener.stdout is not None
    return bool(select.select([listener.stdout], [], [], 0.1)[0])


def test_a_signal_reaches_the_container_and_its_exit_code_is_the_commands(fluyt: Program, ticking: str) -> None:
    with attached(fluyt, ticking) as process:
        assert line(process) == b"tick\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out.splitlines()[-1], err) == (9, b"term", b"")


def test_without_sig_proxy_a_signal_ends_the_command_alone(fluyt: Program, ticking: str) -> None:
    with attached(fluyt, "--sig-proxy=false", ticking) as process:
        assert line(process) == b"tick\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
    assert is_running(fluyt, ticking)


def test_a_container_that_is_killed_gives_128_and_the_signal(fluyt: Program, ticking: str) -> None:
    with attached(fluyt, ticking) as process:
        assert line(process) == b"tick\n"
        fluyt.ok("kill", ticking)
        process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 128 + signal.SIGKILL


def test_input_reaches_the_container_and_output_the_command(fluyt: Program, reading: str) -> None:
    with attached(fluyt, reading) as process:
        write(process, b"one\n")
        assert line(process) == b"got one\n"
        write(process, b"end\n")
        assert line(process) == b"got end\n"
        assert process.wait(PATIENCE_SECONDS) == 9


def test_the_end_of_input_is_the_containers(fluyt: Program, reading: str) -> None:
    ended = fluyt("attach", reading, stdin=b"one\n")
    assert (ended.code, ended.out) == (4, "got one\n")


def test_without_input_nothing_is_read_and_the_container_goes_on(fluyt: Program, reading: str) -> None:
    with attached(fluyt, "--no-stdin", reading) as process:
        write(process, b"end\n")
        assert process.stdin is not None
        process.stdin.close()
        with attached(fluyt, reading) as other:
            # Output is from now on, and nothing else tells when "now" was for the first command.
            until_now(lambda: answers(other, process), "the first command is attached")
            assert line(process) == b"got other\n"
            write(other, b"end\n")
            assert other.wait(PATIENCE_SECONDS) == 9
        assert process.wait(PATIENCE_SECONDS) == 9


def test_the_detach_keys_leave_the_container_and_its_input_open(fluyt: Program, reading: str) -> None:
    with attached(fluyt, "--detach-keys", "ctrl-p,ctrl-q", reading) as process:
        write(process, b"one\n\x10")
        assert line(process) == b"got one\n"
        write(process, b"\x11")
        assert process.wait(PATIENCE_SECONDS) == 0
        assert process.stderr is not None
        assert b"goes on" in process.stderr.read()
    assert is_running(fluyt, reading)
    ended = fluyt("attach", reading, stdin=b"end\n")
    assert (ended.code, ended.out) == (9, "got end\n")


def test_what_cannot_be_joined_is_refused_with_125(fluyt: Program, ticking: str) -> None:
    fluyt.ok("kill", ticking)
    until_now(lambda: not is_running(fluyt, ticking), "it has ended")
    for name in (ticking, "no-such-box"):
        ended = fluyt("attach", name)
        assert ended.code == 125, ended
        assert name in ended.err or "exited" in ended.err
