"""Pause, restart, rename, update, prune, stats and top, as a person calls them."""

import json
import re
import time

import pytest

from tests.e2e.cli.program import IMAGE, PATIENCE_SECONDS, Program
from tests.support.wait import until_now

STAY = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"


def stays(fluyt: Program, name: str, *flags: str) -> str:
    """The id of a container that runs until it is told to end."""
    return fluyt.ok("run", "-d", "--name", name, *flags, IMAGE, "sh", "-c", STAY).strip()


def inspected(fluyt: Program, name: str) -> dict[str, object]:
    """What inspect tells."""
    found: dict[str, object] = json.loads(fluyt.ok("inspect", "--format", "json", name))
    return found


def test_pause_and_unpause_show_in_ps(fluyt: Program) -> None:
    stays(fluyt, "one")
    stays(fluyt, "two")
    assert fluyt.ok("pause", "one", "two") == "one\ntwo\n"
    assert "(Paused)" in fluyt.ok("ps", "--filter", "name=one")
    assert len(fluyt.ok("ps", "-q", "--filter", "status=paused").splitlines()) == 2
    assert fluyt.ok("unpause", "one") == "one\n"
    assert len(fluyt.ok("ps", "-q", "--filter", "status=paused").splitlines()) == 1
    ended = fluyt("pause", "nosuch", "one")
    assert (ended.code, ended.out) == (1, "one\n")
    assert "there is no container nosuch" in ended.err


def test_a_forced_removal_takes_what_is_not_there_for_removed(fluyt: Program) -> None:
    stays(fluyt, "one")
    for kind, names in ((), ["nosuch", "one"]), (("network",), ["nosuch"]):
        ended = fluyt(*kind, "rm", "--force", *names)
        assert (ended.code, ended.out) == (0, "one\n" if "one" in names else "")
        assert "nosuch" in ended.err
        assert fluyt(*kind, "rm", "nosuch").code == 1


def test_restart_starts_it_anew(fluyt: Program) -> None:
    stays(fluyt, "one")
    before = inspected(fluyt, "one")["host_pid"]
    assert fluyt.ok("restart", "-t", "0", "one") == "one\n"
    after = inspected(fluyt, "one")
    assert (after["state"], after["host_pid"] != before) == ("STATE_RUNNING", True)


def test_rename_moves_the_name(fluyt: Program) -> None:
    stays(fluyt, "one")
    assert fluyt.ok("rename", "one", "other") == ""
    assert fluyt.ok("ps", "-q", "--filter", "name=other") != ""
    stays(fluyt, "one")
    ended = fluyt("rename", "one", "other")
    assert (ended.code, "is held by container" in ended.err) == (1, True)


def test_update_changes_what_it_is_told_and_nothing_else(fluyt: Program) -> None:
    stays(fluyt, "one", "-m", "64m", "--pids-limit", "50")
    assert fluyt.ok("update", "--pids-limit", "60", "--restart", "on-failure:4", "one") == "one\n"
    spec = inspected(fluyt, "one")["spec"]
    assert isinstance(spec, dict)
    limits = spec["resources"]
    assert (limits["pids_limit"], limits["memory_limit_bytes"]) == (60, 64 << 20)
    assert spec["restart_policy"] == {"mode": "MODE_ON_FAILURE", "max_retry_count": 4}
    assert fluyt("update", "one").code != 0
    assert fluyt("update", "--restart", "sometimes", "one").code != 0


def test_run_takes_a_restart_policy(fluyt: Program) -> None:
    fluyt.ok("run", "-d", "--name", "fails", "--restart", "on-failure:2", IMAGE, "sh", "-c", "echo run; exit 1")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while fluyt.ok("logs", "fails") != "run\n" * 3 or "Exited (1)" not in fluyt.ok("ps", "-a"):
        assert time.monotonic() < deadline
    assert inspected(fluyt, "fails")["restart_count"] == 2
    ended = fluyt("run", "--rm", "--restart", "always", IMAGE, "true")
    assert (ended.code, "auto_remove" in ended.err) == (125, True)


def test_prune_deletes_what_does_not_run_and_asks_first(fluyt: Program) -> None:
    stays(fluyt, "up")
    for name, label in (("old", "role=job"), ("new", "role=web")):
        fluyt.ok("run", "--name", name, "--label", label, IMAGE, "true")
    refused = fluyt("container", "prune")
    assert (refused.code, "--force" in refused.err) == (1, True)
    would = fluyt.ok("container", "prune", "--dry-run").splitlines()
    assert (len(would), would[-1].startswith("Would free")) == (3, True)
    assert len(fluyt.ok("container", "prune", "-f", "--filter", "label=role=job").splitlines()) == 2
    assert fluyt.ok("container", "prune", "-f", "--filter", "until=1h") == "Freed 0B\n"
    [answer] = fluyt("container", "prune", "-f", "--format", "json").objects
    assert len(answer["deleted"]) == 1
    assert len(fluyt.ok("ps", "-aq").splitlines()) == 1


def test_stats_print_a_table_or_objects(fluyt: Program) -> None:
    found = stays(fluyt, "one", "-m", "64m")
    header, row = fluyt.ok("stats", "--no-stream").splitlines()
    assert re.split(r"\s{3,}", header) == [
        "CONTAINER ID",
        "NAME",
        "CPU %",
        "MEM USAGE / LIMIT",
        "MEM %",
        "NET I/O",
        "BLOCK I/O",
        "PIDS",
    ]
    cells = re.split(r"\s{3,}", row)
    assert cells[:2] == [found[:12], "one"]
    assert re.fullmatch(r"\d+\.\d\d%", cells[2])
    assert cells[3].endswith("/ 67.1MB")
    [stats] = fluyt("stats", "--no-stream", "--format", "json", "one").objects
    assert (stats["container_id"], stats["memory_limit_bytes"]) == (found, 64 << 20)
    assert fluyt("stats", "--no-stream", "nosuch").code == 1


def test_stats_follow_until_the_container_ends(fluyt: Program) -> None:
    fluyt.ok("run", "-d", "--name", "short", IMAGE, "sleep", "1")
    out = fluyt.ok("stats", "--interval", "100ms", "short")
    assert out.count("CONTAINER ID") >= 3
    assert "\x1b" not in out


def test_top_shows_processes_inside_and_outside(fluyt: Program) -> None:
    fluyt.ok("run", "-d", "--name", "one", "-u", "1000", IMAGE, "sh", "-c", "sleep 1000 & wait")
    header, *rows = fluyt.ok("top", "one").splitlines()
    assert header.split() == ["UID", "PID", "PPID", "INSIDE", "STATE", "TIME", "MEMORY", "COMMAND"]
    first = rows[0].split()
    assert (first[0], first[1], first[3]) == ("1000", str(inspected(fluyt, "one")["host_pid"]), "1")
    fluyt.ok("kill", "one")
    fluyt.ok("wait", "one")
    assert fluyt("top", "one").code == 1


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["status=exited"], ["ended"]),
        (["status=exited", "status=paused"], ["ended", "frozen"]),
        (["label=tier=b"], ["ended"]),
        (["exited=7"], ["ended"]),
        (["ancestor=busybox:1", "name=n"], ["ended", "frozen", "running"]),
        (["since=frozen"], ["ended", "running"]),
        (["before=running"], ["frozen"]),
        (["network=host"], ["frozen"]),
        (["volume=/scratch"], ["running"]),
    ],
    ids=str,
)
def test_ps_filters(fluyt: Program, filters: list[str], names: list[str]) -> None:
    stays(fluyt, "frozen", "--network", "host")
    fluyt.ok("pause", "frozen")
    stays(fluyt, "running", "--tmpfs", "/scratch")
    fluyt("run", "--name", "ended", "--label", "tier=b", IMAGE, "sh", "-c", "exit 7")
    flags = [flag for text in filters for flag in ("--filter", text)]
    assert {each["name"] for each in fluyt("ps", "-a", "--format", "json", *flags).objects} == set(names)


def test_ps_bounds_and_widths(fluyt: Program) -> None:
    ids = [fluyt.ok("create", "--name", f"n{number}", IMAGE, "true").strip() for number in range(3)]
    assert fluyt.ok("ps", "-lq", "--no-trunc") == f"{ids[2]}\n"
    assert fluyt.ok("ps", "-n", "2", "-q") == f"{ids[2][:12]}\n{ids[1][:12]}\n"
    assert "SIZE" in fluyt.ok("ps", "-as").splitlines()[0]


def test_run_takes_an_init(fluyt: Program) -> None:
    assert fluyt.run("--init", script="cat /proc/1/comm") == "fluyt-init\n"
    assert fluyt("run", "--rm", "--init", IMAGE, "nosuch").code == 127


def until_health(fluyt: Program, state: str, *names: str) -> None:
    """These alone have this health."""
    ids = {str(inspected(fluyt, name)["id"])[:12] for name in names}
    until_now(lambda: set(fluyt.ok("ps", "-q", "--filter", f"health={state}").split()) == ids, f"{names} are {state}")


def test_health_flags_are_carried_out_and_told(fluyt: Program) -> None:
    flags = ["--health-interval", "50ms", "--health-timeout", "20s", "--health-retries", "2"]
    stays(fluyt, "good", "--health-cmd", 'test -n "$PATH"', *flags)
    stays(fluyt, "bad", "--health-cmd", "false", *flags)
    grace = ["--health-start-period", "1h", "--health-start-interval", "60ms"]
    stays(fluyt, "young", "--health-cmd", "false", *flags, *grace)
    stays(fluyt, "none", "--no-healthcheck")
    until_health(fluyt, "healthy", "good")
    until_health(fluyt, "unhealthy", "bad")
    until_health(fluyt, "starting", "young")
    found = inspected(fluyt, "bad")["health"]
    assert isinstance(found, dict)
    assert (found["state"], found["last_exit_code"]) == ("STATE_UNHEALTHY", 1)
    assert "health" not in inspected(fluyt, "none")


def test_an_unhealthy_container_is_stopped_where_the_flag_says_so(fluyt: Program) -> None:
    flags = ["--health-cmd", "false", "--health-interval", "50ms", "--health-retries", "1"]
    # In the start period it gets ready to be told.
    stays(fluyt, "one", *flags, "--health-start-period", "1s", "--health-on-failure", "stop")
    assert fluyt.ok("wait", "one") == "3\n"


def test_a_health_flag_without_a_command_is_refused_by_name(fluyt: Program) -> None:
    ended = fluyt("run", "--rm", "--health-retries", "2", IMAGE, "true")
    assert (ended.code, "spec.health_check.args" in ended.err) == (125, True)


def test_stop_all_ends_what_runs_and_what_waits_for_its_restart(fluyt: Program) -> None:
    stays(fluyt, "one")
    stays(fluyt, "two")
    fluyt.ok("pause", "two")
    fluyt.ok("run", "-d", "--name", "again", "--restart", "always", IMAGE, "false")
    fluyt.ok("run", "--name", "over", IMAGE, "true")
    fluyt.ok("create", "--name", "new", IMAGE, "true")
    told = fluyt.ok("stop", "--all", "-t", "20").split()
    ids = {name: inspected(fluyt, name)["id"] for name in ("one", "two", "again")}
    assert sorted(told) == sorted(map(str, ids.values()))
    assert fluyt.ok("ps", "-q") == ""
    restarts = inspected(fluyt, "again")["restart_count"]
    time.sleep(1)
    assert (inspected(fluyt, "again")["restart_count"], fluyt.ok("ps", "-q")) == (restarts, "")
    assert "CREATED" in str(inspected(fluyt, "new")["state"])


@pytest.mark.parametrize("arguments", [(), ("--all", "one")])
def test_stop_takes_names_or_all(fluyt: Program, arguments: tuple[str, ...]) -> None:
    assert fluyt("stop", *arguments).code == 125


def test_ps_chooses_by_ports(fluyt: Program) -> None:
    fluyt.ok("create", "--name", "published", "-p", "127.0.0.1::80", IMAGE, "true")
    fluyt.ok("create", "--name", "exposed", "--expose", "53/udp", IMAGE, "true")
    fluyt.ok("create", "--name", "neither", IMAGE, "true")

    def names(*filters: str) -> list[str]:
        flags = [part for one in filters for part in ("--filter", one)]
        return [each["name"] for each in fluyt("ps", "-a", *flags, "--format", "json").objects]

    assert names("publish=80") == ["published"]
    assert names("publish=53/udp") == []
    assert names("expose=53/udp") == ["exposed"]
    assert names("expose=80", "expose=53/udp") == ["exposed", "published"]
    wrong = fluyt("ps", "--filter", "publish=web")
    assert (wrong.code, "filter.published_ports[0]" in wrong.err) == (1, True), wrong.err


def test_stop_asks_for_more_containers_than_one_connection_takes(fluyt: Program) -> None:
    stays(fluyt, "last")
    ended = fluyt("stop", *(f"absent-{number}" for number in range(600)), "last")
    assert (ended.code, ended.out, ended.err.count("there is no container")) == (1, "last\n", 600)
