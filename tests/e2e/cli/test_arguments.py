"""Arguments as Docker's users write them, of every command: flags with a value, values that begin with a minus; and
what is refused is named as it was typed."""

import re

import pytest

from tests.e2e.cli.program import IMAGE, Program
from tests.e2e.cli.test_lifecycle import inspected, stays


def test_a_flag_takes_a_value_as_in_docker(fluyt: Program) -> None:
    fluyt.ok("run", "--rm=true", "--tty=false", "-i=false", IMAGE, "true")
    assert fluyt.ok("ps", "-aq") == ""
    fluyt.ok("create", "--name", "one", "--rm=false", "-it=0", "--read-only=T", "--init=FALSE", IMAGE, "true")
    spec = inspected(fluyt, "one")["spec"]
    assert isinstance(spec, dict)
    names = ("auto_remove", "open_stdin", "tty", "read_only_root", "init")
    assert [bool(spec[name]) for name in names] == [False, True, False, True, False]
    assert fluyt.ok("ps", "--all=false", "-q") == ""
    assert len(fluyt.ok("ps", "-a=1", "--quiet").splitlines()) == 1
    # The last one counts.
    fluyt.ok("create", "--name", "two", "-t", "-t=false", IMAGE, "true")
    assert not inspected(fluyt, "two")["spec"]["tty"]  # type: ignore[index]


def test_a_flag_of_a_build_takes_a_value(fluyt: Program) -> None:
    dockerfile = f"FROM {IMAGE}\nRUN date +%s%N > /when\n".encode()

    def built(*flags: str) -> str:
        ended = fluyt("build", "-q=true", *flags, "-", stdin=dockerfile)
        assert ended.code == 0, ended
        return ended.out

    first = built()
    assert built("--no-cache=false", "--pull=false") == first
    assert built("--no-cache=true") != first
    for image in fluyt.ok("images", "-q", "--filter", "dangling=true").split():
        fluyt.ok("rmi", "-f", image)


def test_what_is_no_truth_is_refused_by_the_flags_name(fluyt: Program) -> None:
    for command, flag in (
        (["run", "--tty=maybe", IMAGE], "--tty"),
        (["run", "-t=maybe", IMAGE], "--tty"),
        (["run", "-it=2", IMAGE], "--tty"),
        (["run", "--sig-proxy=x", IMAGE], "--sig-proxy"),
        (["ps", "--all=yes"], "--all"),
        (["container", "ls", "--all="], "--all"),
        (["build", "--no-cache=on", "."], "--no-cache"),
        (["commit", "--pause=no", "one"], "--pause"),
        (["system", "prune", "--force=y"], "--force"),
        (["network", "create", "--internal=n", "front"], "--internal"),
    ):
        ended = fluyt(*command)
        assert (ended.code, ended.out) == (125, ""), ended
        assert re.search(rf"for '{flag}\[=<BOOL>\]': write true or false", ended.err), ended


def test_help_shows_flags_without_values(fluyt: Program) -> None:
    for command in (["run"], ["container", "run"], ["build"], ["system", "prune"]):
        for word in ("--help", "-h"):
            shown = fluyt.ok(*command, word)
            assert re.search(r"-[a-z], --[a-z-]+\n? ", shown), shown
            assert set(re.findall(r"(\S+)\[=<BOOL>\]", shown)) <= {"--sig-proxy", "--sbom", "--pause"}, shown


def test_what_a_flag_excludes_goes_where_it_is_false(fluyt: Program) -> None:
    stays(fluyt, "one")
    assert fluyt.ok("run", "--rm", "--detach=false", "-a", "stdout", IMAGE, "echo", "heard").endswith("heard\n")
    assert fluyt("run", "-d", "-a", "stdout", IMAGE, "true").code == 125
    assert fluyt("stop", "--all", "one").code == 125
    assert fluyt("stop", "--all=false").code == 125
    assert fluyt.ok("stop", "--all=false", "-t", "0", "one") == "one\n"
    health = ["--no-healthcheck=false", "--health-cmd", "true"]
    fluyt.ok("create", *health, IMAGE, "true")
    assert fluyt("create", "--no-healthcheck", "--health-cmd", "true", IMAGE).code == 125


@pytest.mark.parametrize("join", [" ", "="])
def test_a_number_may_be_negative(fluyt: Program, join: str) -> None:
    def flags(*pairs: str) -> list[str]:
        return [word for pair in pairs for word in pair.split("=" if join == " " else "\n", 1)]

    limits = flags("--memory-swap=-1", "--pids-limit=-1", "--cpu-quota=-1", "--memory-swappiness=-1")
    fluyt.ok("create", "--name", "one", "-m", "64m", *limits, *flags("--stop-timeout=-1"), IMAGE, "true")
    spec = inspected(fluyt, "one")["spec"]
    assert isinstance(spec, dict)
    names = ("memory_swap_limit_bytes", "pids_limit", "cpu_quota_micros", "memory_swappiness")
    assert [spec["resources"].get(name) for name in names] == [-1, -1, -1, None]
    fluyt.ok("create", "--name", "two", *flags("--oom-score-adj=500"), IMAGE, "true")
    fluyt.ok("update", *flags("--pids-limit=-1", "--cpu-quota=-1"), "one")
    assert len(fluyt.ok("ps", "-aq", *flags("--last=-1")).splitlines()) == 2
    fluyt.ok("run", "--name", "talk", IMAGE, "sh", "-c", "echo a; echo b")
    assert fluyt.ok("logs", *flags("--tail=-1"), "talk") == "a\nb\n"
    refused = fluyt("network", "connect", *flags("--gw-priority=-5"), "absent", "one")
    assert (refused.code, "absent" in refused.err or "no network" in refused.err) == (1, True), refused


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        (["create", "--oom-score-adj", "-5000", IMAGE], "--oom-score-adj"),
        (["create", "--memory", "-5m", IMAGE], "--memory"),
        (["create", "--cpus", "-0.5", IMAGE], "--cpus"),
        (["create", "--cpu-shares", "-1", IMAGE], "--cpu-shares"),
        (["create", "--cpu-period", "-1", IMAGE], "--cpu-period"),
        (["create", "--pids-limit", "-2", IMAGE], "--pids-limit"),
        (["create", "--shm-size", "-1", IMAGE], "--shm-size"),
        (["create", "--storage-size", "-1g", IMAGE], "--storage-size"),
        (["create", "--restart", "-1", IMAGE], "--restart"),
        (["create", "--health-retries", "-1", IMAGE], "--health-retries"),
        (["create", "--health-interval", "-1s", IMAGE], "--health-interval"),
        (["create", "--stop-timeout", "-2", IMAGE], "--stop-timeout"),
        (["create", "--blkio-weight", "-1", IMAGE], "--blkio-weight"),
        (["create", "--cpuset-cpus", "-1", IMAGE], "--cpuset-cpus"),
        (["create", "--memory-swappiness", "-2", IMAGE], "--memory-swappiness"),
        (["create", "--cpu-rt-runtime", "-1", IMAGE], "--cpu-rt-runtime"),
        (["create", "-p", "-1:80", IMAGE], "--publish"),
        (["stop", "--time", "-2", "one"], "--timeout"),
        (["stats", "--interval", "-1s"], "--interval"),
        (["network", "create", "--mtu", "-1", "front"], "--mtu"),
        (["volume", "create", "--limit", "-1g", "data"], "--limit"),
        (["builder", "prune", "-f", "--keep-storage", "-1g"], "--keep-storage"),
        (["search", "--limit", "-1", "x"], "--limit"),
    ],
)
def test_a_negative_value_that_means_nothing_is_refused_by_its_flag(
    fluyt: Program, command: list[str], flag: str
) -> None:
    ended = fluyt(*command)
    assert ended.code in (1, 125), ended
    assert flag in ended.err.splitlines()[0], ended
    assert "unexpected argument" not in ended.err, ended


def test_what_is_refused_is_named_as_it_was_typed(fluyt: Program) -> None:
    stays(fluyt, "one")
    fluyt.ok("volume", "create", "cli-five")
    for command, begins in (
        (["rename", "one", "bad name"], "fluyt: <NAME>: must have"),
        (["container", "rename", "one", "bad name"], "fluyt: <NAME>: must have"),
        (["create", "--name", "bad name", IMAGE], "fluyt: --name: must have"),
        (["network", "create", "bad name"], "fluyt: <NAME>: must have"),
        (["volume", "create", "bad name"], "fluyt: <NAME>: must have"),
        (["volume", "rename", "cli-five", "bad name"], "fluyt: <NAME>: must have"),
        (["kill", "-s", "NONE", "one"], "fluyt: --signal: "),
        (["create", "-v", "/a:/", IMAGE], "fluyt: --mount, --volume or --tmpfs: spec.mounts[0].target: "),
    ):
        ended = fluyt(*command)
        assert ended.code in (1, 125), ended
        assert ended.err.startswith(begins), ended
    fluyt.ok("volume", "rm", "cli-five")


def test_which_of_several_mounts_is_wrong_is_told(fluyt: Program) -> None:
    mounts = ["--tmpfs", "/a", "-v", "/tmp:/b", "--mount", "type=tmpfs,dst=/a"]
    ended = fluyt("create", *mounts, IMAGE, "true")
    assert re.search(r"spec\.mounts\[[12]\]\.target: /a is given twice", ended.err), ended
