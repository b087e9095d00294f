"""Exit codes, signals and streams of `fluyt run`."""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cli.program import IMAGE, PATIENCE_SECONDS, PROGRAM, Program


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "exit 255"], 255),
        (["/etc/passwd"], 126),
        (["/absent"], 127),
        (["absent-from-path"], 127),
    ],
)
@pytest.mark.parametrize("flags", [[], ["-i"]], ids=["plain", "interactive"])
def test_the_exit_code_is_the_containers(fluyt: Program, flags: list[str], command: list[str], code: int) -> None:
    ended = fluyt("run", "--rm", *flags, IMAGE, *command)
    assert ended.code == code, ended
    assert (code in {126, 127}) == ("fluyt:" in ended.err)


def test_a_container_that_a_signal_ended_gives_128_and_the_signal(fluyt: Program) -> None:
    with fluyt.spawn("run", "--name", "victim", IMAGE, "sh", "-c", "echo ready; exec sleep 100") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        fluyt.ok("kill", "victim")
        process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1], ids=lambda n: n.name)
def test_a_signal_to_the_program_reaches_the_container(fluyt: Program, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.1; done"
    with fluyt.spawn("run", "--rm", IMAGE, "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out, err) == (9, f"got {name}\n".encode(), b"")


@pytest.mark.parametrize("flags", [[], ["-i"]], ids=["plain", "interactive"])
def test_run_with_rm_returns_when_the_container_is_gone_and_its_name_is_free(fluyt: Program, flags: list[str]) -> None:
    for number in range(5):
        assert fluyt("run", "--rm", *flags, "--name", "passing", IMAGE, "sh", "-c", f"exit {number}").code == number
        assert fluyt.ok("ps", "-aq") == ""


def test_input_reaches_the_container_and_its_end_is_the_end(fluyt: Program) -> None:
    data = bytes(range(256)) * 1024
    ended = subprocess.run(
        [PROGRAM, "run", "--rm", "-i", IMAGE, "cat"],
        input=data,
        env=fluyt.environment,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert ended.stdout == data


def test_without_i_the_container_reads_nothing(fluyt: Program) -> None:
    assert fluyt.ok("run", "--rm", IMAGE, "cat", stdin=b"not for you") == ""


def test_output_and_errors_are_kept_apart(fluyt: Program) -> None:
    ended = fluyt("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2")
    assert (ended.out, ended.err) == ("out\n", "err\n")


def test_a_closed_pipe_ends_the_program_quietly(fluyt: Program) -> None:
    fluyt.ok("run", "--name", "lines", IMAGE, "seq", "1", "50000")
    with fluyt.spawn("logs", "lines") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"1\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGPIPE


@pytest.mark.parametrize(("command", "code"), [(["run", IMAGE, "true"], 125), (["ps"], 1), (["version"], 1)])
def test_an_absent_daemon_is_told_with_what_to_do(tmp_path: Path, command: list[str], code: int) -> None:
    ended = Program(tmp_path / "absent.sock")(*command)
    assert ended.code == code
    assert "fluytd" in ended.err
    assert "--host" in ended.err


@pytest.mark.parametrize("command", ["stop", "kill", "wait", "rm", "logs", "inspect", "start"])
def test_an_unknown_container_is_named_and_ends_with_1(fluyt: Program, command: str) -> None:
    ended = fluyt(command, "no-such-box")
    assert ended.code == 1, ended
    assert "no-such-box" in ended.err
