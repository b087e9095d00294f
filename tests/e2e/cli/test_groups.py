"""`fluyt container …` and its kin: what stands at the top stands in its group too, and does the same."""

from pathlib import Path

import pytest

from tests.e2e.cli.program import IMAGE, Program
from tests.e2e.cli.test_lifecycle import stays

#: Source: docker 28, `docker container --help` and its kin, without what is a swarm's.
DOCKERS = {
    "container": "attach commit cp create diff exec export inspect kill list logs ls pause port prune ps rename remove"
    " restart rm run start stats stop top unpause update wait",
    "image": "build history import inspect list load ls prune pull push remove rm save tag",
    "volume": "create inspect list ls prune remove rm",
    "network": "connect create disconnect inspect list ls prune remove rm",
    "system": "df events info prune",
    "builder": "build prune",
}


@pytest.mark.parametrize("group", DOCKERS)
def test_a_group_has_what_dockers_has(fluyt: Program, group: str) -> None:
    for command in DOCKERS[group].split():
        ended = fluyt(group, command, "--help")
        assert (ended.code, "Usage: fluyt " + group in ended.out) == (0, True), (command, ended)


def test_a_containers_whole_life_goes_by_the_group(fluyt: Program, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        return fluyt.ok("container", *arguments)

    made = run("create", "--name", "one", IMAGE, "sh", "-c", "echo said; touch /made; exec sleep 1000").strip()
    assert run("start", "one") == "one\n"
    assert run("exec", "one", "cat", "/proc/1/comm") == "sleep\n"
    assert (
        run("ls", "-q", "--no-trunc") == run("list", "-q", "--no-trunc") == run("ps", "-q", "--no-trunc") == f"{made}\n"
    )
    assert run("logs", "one") == "said\n"
    assert "sleep 1000" in run("top", "one")
    assert "A /made\n" in run("diff", "one")
    assert "one" in run("stats", "--no-stream", "one")
    assert run("port", "one") == ""
    run("pause", "one")
    assert "Paused" in run("ls")
    run("unpause", "one")
    run("update", "--pids-limit", "50", "one")
    run("rename", "one", "two")
    assert fluyt("container", "inspect", "--format", "json", "two").objects[0]["spec"]["resources"]["pids_limit"] == 50
    run("cp", "two:/made", str(tmp_path / "made"))
    run("export", "-o", str(tmp_path / "two.tar"), "two")
    assert (tmp_path / "made").exists()
    assert (tmp_path / "two.tar").exists()
    run("commit", "two", "committed:1")
    fluyt.ok("image", "rm", "committed:1")
    run("restart", "-t", "0", "two")
    run("kill", "two")
    assert run("wait", "two") == "137\n"
    run("stop", "two")
    assert run("prune", "-f").startswith(f"{made}\n")
    assert run("run", "--rm", IMAGE, "echo", "ran") == "ran\n"


def test_exit_codes_in_the_group_are_those_at_the_top(fluyt: Program) -> None:
    for first in ([], ["container"]):
        assert fluyt(*first, "run", "--rm", IMAGE, "sh", "-c", "exit 3").code == 3
        assert fluyt(*first, "run", "--rm", IMAGE, "/absent").code == 127
        assert fluyt(*first, "exec", "absent", "true").code == 125
        assert fluyt(*first, "rm", "absent").code == 1


def test_inspect_in_the_group_takes_no_image_for_a_container(fluyt: Program) -> None:
    assert fluyt("inspect", IMAGE).code == 0
    ended = fluyt("container", "inspect", IMAGE)
    assert (ended.code, ended.out, "there is no container" in ended.err) == (1, "", True), ended
    stays(fluyt, "one")
    assert fluyt("container", "inspect", "-s", "one").code == 0


def test_an_image_is_built_by_its_group(fluyt: Program) -> None:
    built = fluyt("image", "build", "-q", "-t", "grouped:1", "-", stdin=f"FROM {IMAGE}\nENV A=b\n".encode())
    assert built.code == 0, built
    assert "grouped" in fluyt.ok("image", "list")
    fluyt.ok("image", "remove", "grouped:1")
