"""What a person who knows docker types and reads: states as `docker ps` words them, and values that mean none."""

from tests.e2e.cli.program import IMAGE, Program
from tests.e2e.cli.test_lifecycle import inspected, stays
from tests.support.wait import until_now


def test_ps_shows_health_and_what_waits_for_its_restart(fluyt: Program) -> None:
    fluyt.ok("run", "-d", "--name", "crashing", "--restart", "always", IMAGE, "false")
    stays(fluyt, "good", "--health-cmd", "true", "--health-interval", "50ms")
    stays(fluyt, "plain")
    fluyt("run", "--name", "ended", IMAGE, "false")
    until_now(lambda: "Restarting (1)" in fluyt.ok("ps"), "it is told, though it does not run")
    until_now(lambda: "(healthy)" in fluyt.ok("ps", "--filter", "name=^good$"), "it is healthy")
    until_now(lambda: names(fluyt, "status=restarting") == {"crashing"}, "it is found")
    assert names(fluyt, "health=none", "status=running") == {"plain"}
    assert names(fluyt, "name=^goo", "name=in$") == {"good", "plain"}
    assert names(fluyt, "status=removing") == set()
    fluyt.ok("stop", "crashing")
    assert "Restarting" not in fluyt.ok("ps", "-a")


def names(fluyt: Program, *filters: str) -> set[str]:
    """Names of the containers that fit."""
    flags = [flag for text in filters for flag in ("--filter", text)]
    return {each["name"] for each in fluyt("ps", "--format", "json", *flags).objects}


def test_a_stop_waits_for_ever_where_its_time_is_minus_one(fluyt: Program) -> None:
    stays(fluyt, "patient", "--stop-timeout", "-1")
    spec = inspected(fluyt, "patient")["spec"]
    assert isinstance(spec, dict)
    assert spec["stop_timeout"] == "-1s"
    until_now(lambda: fluyt.ok("logs", "patient") == "ready\n", "it has set its trap")
    assert fluyt.ok("restart", "-t", "-1", "patient") == "patient\n"
    until_now(lambda: fluyt.ok("logs", "patient") == "ready\n" * 2, "it runs anew")
    assert fluyt.ok("stop", "-t", "-1", "patient") == "patient\n"
    assert fluyt("wait", "patient").out == "3\n"
    assert fluyt("stop", "-t", "-2", "patient").code == 125


def test_a_bound_of_processors_is_lifted_by_zero(fluyt: Program) -> None:
    stays(fluyt, "one", "--cpus", "0.5")
    fluyt.ok("update", "--cpus", "0", "one")
    spec = inspected(fluyt, "one")["spec"]
    assert isinstance(spec, dict)
    assert not int(spec["resources"].get("nano_cpus", 0))
    ended = fluyt("update", "--cpus", "100000", "one")
    assert (ended.code, ended.err.partition(":")[2].strip().partition(":")[0]) == (1, "--cpus")
