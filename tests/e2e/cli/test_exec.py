"""`fluyt exec`: exit codes, streams, and a terminal that is as it was on every way out."""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cli.program import IMAGE, PATIENCE_SECONDS, Program
from tests.e2e.cli.terminal import Terminal, on_terminal
from tests.support.engine import Engine
from tests.support.wait import until_now

#: Keeps a process until /go is there, so that a test decides when it ends.
WAIT_FOR_GO = "while [ ! -e /go ]; do sleep 0.05; done"


@pytest.fixture
def box(fluyt: Program) -> str:
    """A container that runs until the test ends."""
    fluyt.ok("run", "-d", "--name", "box", "-e", "A=container", IMAGE, "sleep", "1000")
    return "box"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "exit 255"], 255),
        (["sh", "-c", "kill -9 $$"], 128 + signal.SIGKILL),
        (["/etc/passwd"], 126),
        (["/absent"], 127),
        (["absent-from-path"], 127),
    ],
)
def test_the_exit_code_is_the_processes(fluyt: Program, box: str, command: list[str], code: int) -> None:
    for flags in ([], ["-i"]):
        ended = fluyt("exec", *flags, box, *command)
        assert ended.code == code, ended
        assert (code in {126, 127}) == ("fluyt:" in ended.err)
    assert on_terminal(fluyt, "exec", "-t", box, *command).code == code


def test_what_the_engine_refuses_ends_with_125(fluyt: Program, box: str, tmp_path: Path) -> None:
    fluyt.ok("create", "--name", "created", IMAGE, "true")
    for arguments, told in (
        (["no-such-box", "true"], "no-such-box"),
        (["created", "true"], "created"),
        (["-w", "relative", box, "true"], "--workdir"),
        (["-u", "nobody-at-all", box, "true"], "nobody-at-all"),
        ([box], "<COMMAND>"),
        (["--detach-keys", "ctrl-1", box, "true"], "ctrl-1"),
        (["-it", box, "true"], "terminal"),
        (["--env-file", str(tmp_path / "absent"), box, "true"], "absent"),
    ):
        ended = fluyt("exec", *arguments)
        assert ended.code == 125, ended
        assert told in ended.err
    absent = Program(tmp_path / "absent.sock")("exec", box, "true")
    assert absent.code == 125
    assert "fluytd" in absent.err


def test_output_and_errors_are_kept_apart_and_nothing_is_read_without_i(fluyt: Program, box: str) -> None:
    ended = fluyt("exec", box, "sh", "-c", "echo out; echo err >&2; cat", stdin=b"not for you")
    assert (ended.out, ended.err) == ("out\n", "err\n")


def test_input_reaches_it_byte_for_byte_and_its_end_is_the_end(fluyt: Program, box: str) -> None:
    data = bytes(range(256)) * 4096
    ended = subprocess.run(
        [fluyt.program, "exec", "-i", box, "sh", "-c", "cat; echo -n after"],
        input=data,
        env=fluyt.environment,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert ended.stdout == data + b"after"


def test_it_ends_with_the_process_though_input_stays_open(fluyt: Program, box: str) -> None:
    with fluyt.spawn("exec", "-i", box, "sh", "-c", "exit 3") as process:
        assert process.wait(PATIENCE_SECONDS) == 3


def test_user_directory_and_environment_are_those_asked_for(fluyt: Program, box: str, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\nA=file\nB=file\nFROM_CALLER\n")
    script = "id -u; id -g; pwd; echo $A $B $FROM_CALLER $C"
    flags = ["-u", "7:8", "-w", "/tmp", "--env-file", str(file), "-e", "B=flag", "-e", "C"]
    out = fluyt.ok("exec", *flags, box, "sh", "-c", script, FROM_CALLER="x", C="y")
    assert out == "7\n8\n/tmp\nfile flag x y\n"
    assert fluyt.ok("exec", "-e", "A", box, "sh", "-c", "echo ${A-removed}") == "removed\n"


def test_privileged_has_every_capability(fluyt: Program, box: str) -> None:
    capabilities = ["grep", "CapEff", "/proc/self/status"]
    plain, privileged = (fluyt.ok("exec", *flags, box, *capabilities) for flags in ([], ["--privileged"]))
    assert int(privileged.split()[1], 16) > int(plain.split()[1], 16)


def test_d_returns_at_once_and_the_process_goes_on(fluyt: Program, box: str) -> None:
    session = fluyt.ok("exec", "-d", box, "sh", "-c", f"{WAIT_FOR_GO}; touch /done")
    assert len(session.split()) == 1
    assert fluyt("exec", box, "ls", "/done").code == 1
    fluyt.ok("exec", box, "touch", "/go")
    until_now(lambda: fluyt("exec", box, "ls", "/done").code == 0, "it has gone on")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1], ids=lambda n: n.name)
def test_without_a_terminal_a_signal_reaches_the_process(fluyt: Program, box: str, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got; exit 9' {name}; echo ready; while :; do sleep 0.05; done"
    with fluyt.spawn("exec", box, "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out, err) == (9, b"got\n", b"")


def test_a_signal_ends_it_though_its_input_is_not_read(fluyt: Program, box: str) -> None:
    with fluyt.spawn("exec", "-i", box, "sh", "-c", "echo ready; exec sleep 1000") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.stdin.write(bytes(64 * 1024))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM


def test_s10_the_first_command_sees_the_size_and_a_new_one_is_told(fluyt: Program, box: str) -> None:
    assert on_terminal_of_size(fluyt, box, "stty", "size") == "37 111\r\n"
    script = "trap 'stty size; exit 4' WINCH; stty size; echo ready; while :; do sleep 0.05; done"
    with Terminal(fluyt, "exec", "-it", box, "sh", "-c", script, reads=True, size=(24, 90)) as terminal:
        terminal.until("24 90\r\nready")
        terminal.resize(50, 200)
        shown = terminal.ended()
    assert (shown.code, shown.text) == (4, "24 90\r\nready\r\n50 200\r\n")


def on_terminal_of_size(fluyt: Program, box: str, *command: str) -> str:
    """What a command shows on a terminal of 37 rows and 111 columns."""
    with Terminal(fluyt, "exec", "-it", box, *command, reads=True, size=(37, 111)) as terminal:
        return terminal.ended().text


def test_keys_are_the_processes_and_the_terminal_is_as_it_was_afterwards(fluyt: Program, box: str) -> None:
    script = "trap 'exit 5' INT; echo ready; while :; do sleep 0.05; done"
    with Terminal(fluyt, "exec", "-it", box, "sh", "-c", script, reads=True) as terminal:
        before = terminal.attributes()
        terminal.until("ready")
        assert terminal.is_raw
        terminal.type("\x03")
        assert terminal.ended().code == 5
        assert terminal.attributes() == before


def test_a_shell_can_be_talked_to(fluyt: Program, box: str) -> None:
    with Terminal(fluyt, "exec", "-it", box, "sh", reads=True) as terminal:
        terminal.until("# ")
        terminal.type("echo $((40 + 2)); test -t 0 && exit 6\r")
        terminal.until("42")
        assert terminal.ended().code == 6


@pytest.mark.parametrize(
    ("flags", "keys"), [([], "\x10\x11"), (["--detach-keys", "ctrl-a,d"], "\x01d")], ids=["default", "chosen"]
)
def test_the_detach_keys_leave_and_the_process_goes_on(fluyt: Program, box: str, flags: list[str], keys: str) -> None:
    script = f"echo ready; {WAIT_FOR_GO}; touch /done"
    with Terminal(fluyt, "exec", "-it", *flags, box, "sh", "-c", script, reads=True) as terminal:
        before = terminal.attributes()
        terminal.until("ready")
        terminal.type(keys[0])
        terminal.type(keys[1])
        shown = terminal.ended()
        assert shown.code == 0, shown
        assert "goes on" in shown.text
        assert terminal.attributes() == before
    fluyt.ok("exec", box, "touch", "/go")
    until_now(lambda: fluyt("exec", box, "ls", "/done").code == 0, "it has gone on")


def test_other_keys_behind_the_first_detach_key_are_input(fluyt: Program, box: str) -> None:
    script = "stty raw -echo; echo ready; head -c 3 | od -An -tx1"
    with Terminal(fluyt, "exec", "-it", box, "sh", "-c", script, reads=True) as terminal:
        terminal.until("ready")
        terminal.type("\x10l\x11")
        assert "10 6c 11" in terminal.ended().text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT], ids=lambda n: n.name)
def test_a_signal_gives_the_terminal_back_and_the_process_a_hangup(
    fluyt: Program, box: str, number: signal.Signals
) -> None:
    script = "trap 'touch /hung; exit' HUP; echo ready; while :; do sleep 0.05; done"
    with Terminal(fluyt, "exec", "-it", box, "sh", "-c", script, reads=True) as terminal:
        before = terminal.attributes()
        terminal.until("ready")
        assert terminal.is_raw
        terminal.process.send_signal(number)
        assert terminal.ended().code == 128 + number
        assert terminal.attributes() == before
    until_now(lambda: fluyt("exec", box, "ls", "/hung").code == 0, "it has got SIGHUP")


def test_the_end_of_the_container_gives_the_terminal_back(fluyt: Program, box: str) -> None:
    with Terminal(fluyt, "exec", "-it", box, "sh", "-c", "echo ready; exec sleep 1000", reads=True) as terminal:
        before = terminal.attributes()
        terminal.until("ready")
        fluyt.ok("kill", box)
        assert terminal.ended().code == 128 + signal.SIGKILL
        assert terminal.attributes() == before


def test_a_reader_that_is_gone_gives_the_terminal_back(fluyt: Program, box: str) -> None:
    command = ["exec", "-it", box, "sh", "-c", "echo ready; exec seq 10000000"]
    with Terminal(fluyt, *command, reads=True, is_piped=True) as terminal:
        before = terminal.attributes()
        out = terminal.process.stdout
        assert out is not None
        assert out.readline() == b"ready\r\n"
        assert terminal.is_raw
        out.close()
        assert terminal.ended().code == 128 + signal.SIGPIPE
        assert terminal.attributes() == before


def test_a_daemon_that_is_gone_gives_the_terminal_back_and_ends_with_125(
    fluyt: Program, box: str, cli_engine: Engine
) -> None:
    with Terminal(fluyt, "exec", "-it", box, "sh", "-c", "echo ready; exec sleep 1000", reads=True) as terminal:
        before = terminal.attributes()
        terminal.until("ready")
        assert terminal.is_raw
        cli_engine.kill()
        try:
            shown = terminal.ended()
        finally:
            cli_engine.start()
        assert shown.code == 125, shown
        assert "fluyt:" in shown.text
        assert terminal.attributes() == before
