"""Each flag of `fluyt run`, proved by what the container sees or the engine stored."""

from pathlib import Path

import pytest

from tests.e2e.cli.program import IMAGE, Program

MIB = 1 << 20


@pytest.mark.parametrize(
    ("flags", "script", "expected"),
    [
        (["-e", "A=b c", "--env", "EMPTY="], 'echo "$A|${EMPTY-unset}"', "b c|"),
        (["-w", "/tmp"], "pwd", "/tmp"),
        (["--workdir", "/made/by/run"], "pwd", "/made/by/run"),
        (["-u", "1000:2000"], "echo $(id -u):$(id -g)", "1000:2000"),
        (["--user", "app"], "echo $(id -u):$(id -g)", "1000:1000"),
        (["--hostname", "box"], "hostname", "box"),
        (["--ulimit", "nofile=100:200"], "echo $(ulimit -Sn):$(ulimit -Hn)", "100:200"),
        (["--read-only"], "touch /x 2>/dev/null || echo refused", "refused"),
        (["--network", "none"], "ls /sys/class/net", "lo"),
        (["--cpuset-cpus", "0"], "grep Cpus_allowed_list /proc/self/status | cut -f2", "0"),
        (["--cap-drop", "ALL"], "grep CapEff /proc/self/status | cut -f2", "0000000000000000"),
        (["--cap-drop", "ALL", "--cap-add", "KILL"], "grep CapEff /proc/self/status | cut -f2", "0000000000000020"),
        (["--privileged"], "grep Seccomp: /proc/self/status | cut -f2", "0"),
    ],
)
def test_a_flag_shapes_what_the_container_sees(fluyt: Program, flags: list[str], script: str, expected: str) -> None:
    assert fluyt.run(*flags, script=script) == f"{expected}\n"


def test_the_network_of_the_host_is_the_hosts(fluyt: Program) -> None:
    inside = fluyt.run("--network", "host", script="readlink /proc/self/ns/net")
    assert inside.strip() == str(Path("/proc/self/ns/net").readlink())


def test_t11_a_bare_name_is_taken_from_the_callers_environment_or_left_out(fluyt: Program) -> None:
    script = 'echo "${HERE-unset} ${ABSENT-unset}"'
    assert fluyt.run("-e", "HERE", "-e", "ABSENT", script=script, HERE="mine") == "mine unset\n"


def test_t12_an_env_file_is_literal_and_flags_win_over_it(fluyt: Program, tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text('# a comment\n\nQUOTED="kept"\nSPACED=a b # c\nHERE\nOVER=file\n')
    script = 'echo "$QUOTED|$SPACED|$HERE|$OVER"'
    printed = fluyt.run("--env-file", str(path), "-e", "OVER=flag", script=script, HERE="mine")
    assert printed == '"kept"|a b # c|mine|flag\n'


def test_an_entrypoint_replaces_the_images(fluyt: Program) -> None:
    assert fluyt.ok("run", "--rm", "--entrypoint", "/bin/echo", IMAGE, "a", "-b") == "a -b\n"


def test_limits_and_labels_are_stored_as_they_were_given(fluyt: Program) -> None:
    flags = ["-m", "64m", "--memory-swap", "128m", "--cpus", "0.5", "--cpu-shares", "512", "--pids-limit", "50"]
    flags += ["--stop-signal", "SIGUSR1", "--stop-timeout", "3", "--label", "a=b=c", "--label", "bare"]
    printed = fluyt.ok("run", "-d", "--name", "limits", *flags, IMAGE, "sleep", "100")
    [shown] = fluyt("inspect", "--format", "json", "limits").objects
    assert shown["id"] == printed.strip()
    resources = shown["spec"]["resources"]
    assert resources["memory_limit_bytes"] == 64 * MIB
    assert resources["memory_swap_limit_bytes"] == 128 * MIB
    assert resources["nano_cpus"] == 500_000_000
    assert resources["cpu_shares"] == 512
    assert resources["pids_limit"] == 50
    assert shown["spec"]["labels"] == {"a": "b=c", "bare": ""}
    assert shown["spec"]["stop_signal"] == "SIGUSR1"
    assert shown["spec"]["stop_timeout"] == "3s"


def test_rm_leaves_no_container_and_without_it_one_stays(fluyt: Program) -> None:
    fluyt.ok("run", "--rm", "--name", "gone", IMAGE, "true")
    fluyt.ok("run", "--name", "stays", IMAGE, "true")
    assert [each["name"] for each in fluyt("ps", "-a", "--format", "json").objects] == ["stays"]


def test_pull_never_refuses_an_absent_image_by_name(fluyt: Program) -> None:
    ended = fluyt("run", "--rm", "--pull", "never", "localhost/absent:1", "true")
    assert ended.code == 125
    assert "localhost/absent:1" in ended.err


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["-m", "lots"], "lots"),
        (["--cpus", "1000001"], "0 to 1000000"),
        (["--ulimit", "nofile"], "nofile=1024"),
        (["--pull", "sometimes"], "missing"),
        (["--no-such-flag"], "--no-such-flag"),
        (["--stop-timeout", "soon"], "soon"),
        (["-m", "1k"], "--memory"),
        (["--cap-add", "NO_SUCH"], "NO_SUCH"),
        (["--env-file", "/absent/file"], "/absent/file"),
    ],
)
def test_a_wrong_flag_ends_with_125_and_says_which(fluyt: Program, flags: list[str], named: str) -> None:
    ended = fluyt("run", *flags, IMAGE, "true")
    assert ended.code == 125, ended
    assert named in ended.err
    assert ended.out == ""
