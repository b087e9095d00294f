"""`fluyt run -t`, `create -t`, `start -ai` and `attach` on a pseudo-terminal: size, keys, leaving, exit codes."""

import os
import signal

import pytest

from tests.e2e.cli.program import IMAGE, PATIENCE_SECONDS, Program
from tests.e2e.cli.terminal import Terminal
from tests.support.engine import Engine

#: Answers each line, and ends with 9 at `end`.
ANSWER = "echo ready; while read x; do echo got $x; test $x = end && exit 9; done; exit 4"
SIGNALS = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT]


def run_on(fluyt: Program, *arguments: str, size: tuple[int, int] = (37, 111)) -> Terminal:
    """`run -it` of a shell's script on a terminal of this size."""
    flags, script = arguments[:-1], arguments[-1]
    return Terminal(fluyt, "run", "-it", *flags, IMAGE, "sh", "-c", script, reads=True, size=size)


def is_running(fluyt: Program, name: str) -> bool:
    """Whether the container runs."""
    return name in fluyt.ok("ps")


@pytest.fixture
def answering(fluyt: Program) -> str:
    """A container with a terminal that answers each line."""
    fluyt.ok("run", "-dit", "--name", "answering", IMAGE, "sh", "-c", ANSWER)
    return "answering"


def test_s10_the_first_command_sees_the_size_and_a_new_one_is_told(fluyt: Program) -> None:
    with run_on(fluyt, "--rm", "stty size") as terminal:
        assert terminal.ended().text == "37 111\r\n"
    script = "trap 'stty size; exit 4' WINCH; stty size; echo ready; while :; do sleep 0.05; done"
    for flags in (["-it"], ["-t"]):
        command = ["run", "--rm", *flags, IMAGE, "sh", "-c", script]
        with Terminal(fluyt, *command, reads=True, size=(24, 90)) as terminal:
            terminal.until("ready")
            terminal.resize(50, 200)
            shown = terminal.ended()
        # Without a keyboard the caller's terminal is not raw, and ends lines once more.
        lines = shown.text.replace("\r\r\n", "\r\n")
        assert (shown.code, lines) == (4, "24 90\r\nready\r\n50 200\r\n")


def test_keys_are_the_containers_and_the_terminal_is_as_it_was_afterwards(fluyt: Program) -> None:
    with run_on(fluyt, "--rm", "trap 'exit 5' INT; echo ready; while :; do sleep 0.05; done") as terminal:
        before = terminal.attributes()
        terminal.until("ready")
        assert terminal.is_raw
        terminal.type("\x03")
        assert terminal.ended().code == 5
        assert terminal.attributes() == before
    assert fluyt.ok("ps", "-aq") == ""


def test_a_shell_can_be_talked_to_and_ctrl_d_ends_it(fluyt: Program) -> None:
    with Terminal(fluyt, "run", "--rm", "-it", IMAGE, "sh", reads=True) as terminal:
        terminal.until("# ")
        terminal.type("echo $((40 + 2)); tty\r")
        terminal.until("42\r\n/dev/pts/0\r\n/ # ")
        terminal.type("\x04")
        assert terminal.ended().code == 0


@pytest.mark.parametrize(
    ("command", "code"),
    [(["sh", "-c", "exit 7"], 7), (["sh", "-c", "kill -9 $$"], 0), (["/absent"], 127), (["/etc/passwd"], 126)],
)
def test_the_exit_code_is_the_containers_and_the_terminal_as_it_was(
    fluyt: Program, command: list[str], code: int
) -> None:
    with Terminal(fluyt, "run", "--rm", "-it", IMAGE, *command, reads=True) as terminal:
        before = terminal.attributes()
        shown = terminal.ended()
        assert (shown.code, terminal.attributes()) == (code, before)
    assert ("fluyt:" in shown.text) == (code in {126, 127})
    assert fluyt.ok("ps", "-aq") == ""


def test_128_and_the_signal_is_the_code_of_a_killed_one(fluyt: Program) -> None:
    with run_on(fluyt, "--name", "victim", "echo ready; exec sleep 1000") as terminal:
        before = terminal.attributes()
        terminal.until("ready")
        fluyt.ok("kill", "victim")
        assert terminal.ended().code == 128 + signal.SIGKILL
        assert terminal.attributes() == before


def test_125_is_the_code_of_a_flag_or_an_engine_at_fault(fluyt: Program) -> None:
    for flags, told in ((["--memory", "1"], "--memory"), (["--detach-keys", "nokey"], "--detach-keys")):
        with Terminal(fluyt, "run", "--rm", "-it", *flags, IMAGE, "true", reads=True) as terminal:
            before = terminal.attributes()
            shown = terminal.ended()
            assert (shown.code, terminal.attributes()) == (125, before)
        assert told in shown.text


@pytest.mark.parametrize(
    ("flags", "keys"), [([], "\x10\x11"), (["--detach-keys", "ctrl-a,d"], "\x01d")], ids=["default", "chosen"]
)
def test_the_detach_keys_leave_it_running_and_attach_comes_back(fluyt: Program, flags: list[str], keys: str) -> None:
    with run_on(fluyt, "--name", "left", *flags, ANSWER) as terminal:
        before = terminal.attributes()
        terminal.until("ready")
        for key in keys:
            terminal.type(key)
        shown = terminal.ended()
        assert (shown.code, terminal.attributes()) == (0, before)
        assert "goes on" in shown.text
    assert is_running(fluyt, "left")
    with Terminal(fluyt, "attach", *flags, "left", reads=True, size=(20, 100)) as terminal:
        terminal.type("one\r")
        terminal.until("got one")
        assert terminal.is_raw
        for key in keys:
            terminal.type(key)
        assert terminal.ended().code == 0
    with Terminal(fluyt, "attach", "--detach-keys", "", "left", reads=True) as terminal:
        terminal.type("end\r")
        assert terminal.ended().code == 9


def test_attach_has_a_full_screen_program_draw_anew_at_its_size(fluyt: Program) -> None:
    script = "trap 'echo size $(stty size)' WINCH; echo ready; while :; do sleep 0.05; done"
    fluyt.ok("run", "-dit", "--name", "drawing", IMAGE, "sh", "-c", script)
    for _ in range(2):
        with Terminal(fluyt, "attach", "drawing", reads=True, size=(33, 99)) as terminal:
            terminal.until("size 33 99")
            terminal.type("\x10\x11")
            assert terminal.ended().code == 0


@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: n.name)
def test_a_signal_to_attach_ends_it_alone_and_gives_the_terminal_back(
    fluyt: Program, answering: str, number: signal.Signals
) -> None:
    with Terminal(fluyt, "attach", answering, reads=True) as terminal:
        before = terminal.attributes()
        terminal.type("one\r")
        terminal.until("got one")
        terminal.process.send_signal(number)
        assert terminal.ended().code == 128 + number
        assert terminal.attributes() == before
    assert is_running(fluyt, answering)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda n: n.name)
def test_a_signal_to_run_reaches_the_container_unless_told_otherwise(fluyt: Program, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.05; done"
    with run_on(fluyt, "--rm", script) as terminal:
        terminal.until("ready")
        terminal.process.send_signal(number)
        shown = terminal.ended()
        assert (shown.code, f"got {name}" in shown.text) == (9, True)
    with run_on(fluyt, "--name", "stays", "--sig-proxy=false", script) as terminal:
        before = terminal.attributes()
        terminal.until("ready")
        terminal.process.send_signal(number)
        assert terminal.ended().code == 128 + number
        assert terminal.attributes() == before
    assert is_running(fluyt, "stays")


def test_without_a_terminal_sig_proxy_false_leaves_the_container_too(fluyt: Program) -> None:
    command = ("run", "--sig-proxy=false", "--name", "stays", IMAGE, "sh", "-c", "echo ready; exec sleep 1000")
    with fluyt.spawn(*command) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
    assert is_running(fluyt, "stays")


def test_a_terminal_that_is_gone_leaves_an_attached_container_running(fluyt: Program, answering: str) -> None:
    terminal = Terminal(fluyt, "attach", answering, reads=True)
    terminal.type("one\r")
    terminal.until("got one")
    os.close(terminal._ours)
    terminal.process.send_signal(signal.SIGHUP)
    assert terminal.process.wait(PATIENCE_SECONDS) == 128 + signal.SIGHUP
    ended = fluyt("exec", answering, "true")
    assert ended.code == 0, ended
    assert is_running(fluyt, answering)


def test_a_daemon_that_is_gone_gives_the_terminal_back_and_the_container_is_found_again(
    fluyt: Program, cli_engine: Engine
) -> None:
    with run_on(fluyt, "--name", "orphan", ANSWER) as terminal:
        before = terminal.attributes()
        terminal.until("ready")
        cli_engine.kill()
        try:
            shown = terminal.ended()
        finally:
            cli_engine.start()
        assert (shown.code, terminal.attributes()) == (125, before)
        assert "fluyt:" in shown.text
    with Terminal(fluyt, "attach", "orphan", reads=True) as terminal:
        terminal.type("end\r")
        assert terminal.ended().code == 9


def test_a_reader_that_is_gone_gives_the_terminal_back(fluyt: Program) -> None:
    command = ["run", "--name", "long", "-it", IMAGE, "sh", "-c", "echo ready; exec seq 10000000"]
    with Terminal(fluyt, *command, reads=True, is_piped=True) as terminal:
        before = terminal.attributes()
        out = terminal.process.stdout
        assert out is not None
        assert out.readline() == b"ready\r\n"
        out.close()
        assert terminal.ended().code == 128 + signal.SIGPIPE
        assert terminal.attributes() == before


def test_start_joins_what_was_made_and_what_has_ended(fluyt: Program) -> None:
    script = "stty size; echo again; read x; echo got $x; exit 8"
    fluyt.ok("create", "-it", "--name", "job", IMAGE, "sh", "-c", script)
    for _ in range(2):
        with Terminal(fluyt, "start", "-ai", "job", reads=True, size=(30, 77)) as terminal:
            before = terminal.attributes()
            terminal.until("30 77\r\nagain\r\n")
            terminal.type("one\r")
            shown = terminal.ended()
            assert (shown.code, shown.text) == (8, "30 77\r\nagain\r\none\r\ngot one\r\n")
            assert terminal.attributes() == before
    with Terminal(fluyt, "start", "-ai", "--detach-keys", "x", "job", reads=True) as terminal:
        terminal.until("again")
        terminal.type("x")
        assert terminal.ended().code == 0
    assert is_running(fluyt, "job")


def test_start_without_a_terminal_gives_output_input_and_code(fluyt: Program) -> None:
    fluyt.ok("create", "-i", "--name", "job", IMAGE, "sh", "-c", "cat; echo err >&2; exit 6")
    for data in (b"one\n", b"two\n"):
        ended = fluyt("start", "-ai", "job", stdin=data)
        assert (ended.code, ended.out, ended.err) == (6, data.decode(), "err\n")
    fluyt.ok("create", "--name", "other", IMAGE, "sh", "-c", "echo out; exit 5")
    ended = fluyt("start", "-a", "other")
    assert (ended.code, ended.out) == (5, "out\n")
    ended = fluyt("start", "-a", "job", "other")
    assert ended.code == 1
    assert "one container" in ended.err


def test_keys_from_what_is_no_terminal_are_refused_and_make_nothing(fluyt: Program, answering: str) -> None:
    for command in (["run", "-it", IMAGE, "sh"], ["attach", answering], ["exec", "-it", answering, "sh"]):
        ended = fluyt(*command, stdin=b"ls\n")
        assert ended.code == 125, ended
        assert "terminal" in ended.err
    assert fluyt.ok("ps", "-aq").split() == fluyt.ok("ps", "-q").split()
    # Without input it needs none, and what it shows may go to a pipe.
    assert fluyt("run", "--rm", "-t", IMAGE, "echo", "on").out == "on\r\n"


def test_a_detached_one_has_its_terminal_and_its_output_is_in_the_log(fluyt: Program) -> None:
    fluyt.ok("run", "-dt", "--name", "quiet", IMAGE, "sh", "-c", "tty; stty size; exit 3")
    assert fluyt.ok("wait", "quiet") == "3\n"
    assert fluyt.ok("logs", "quiet") == "/dev/pts/0\r\n24 80\r\n"


def test_chosen_streams_alone_are_joined(fluyt: Program) -> None:
    script = "echo out; echo err >&2; exit 3"
    for flags, out, err in ((["-a", "stdout"], "out\n", ""), (["-a", "stderr"], "", "err\n")):
        ended = fluyt("run", "--rm", *flags, IMAGE, "sh", "-c", script)
        assert (ended.code, ended.out, ended.err) == (3, out, err)
    ended = fluyt("run", "--rm", "-i", "-a", "stdout", IMAGE, "sh", "-c", "echo on", stdin=b"not read")
    assert (ended.code, ended.out) == (0, "on\n")
    ended = fluyt("run", "-i", "-a", "stdin", "--name", "fed", IMAGE, "sh", "-c", "cat; exit 4", stdin=b"fed\n")
    assert ended.code == 4
    assert fluyt.ok("logs", "fed") == "fed\n"
    assert ended.out.strip() in fluyt.ok("inspect", "fed")
    for wrong in (["-a", "stdfoo"], ["-d", "-a", "stdout"]):
        assert fluyt("run", *wrong, IMAGE, "true").code == 125
