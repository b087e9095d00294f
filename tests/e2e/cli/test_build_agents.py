"""`fluyt build --ssh` against a live daemon, with real agents and a real sshd."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.builds.steps import context
from tests.e2e.cli.program import IMAGE, Program
from tests.support import agents, repositories
from tests.support.engine import Engine
from tests.support.played_engine import Message, Response, played

pytestmark = pytest.mark.needs("sshd", "git")


@pytest.fixture(autouse=True)
def _clean(fluyt: Program) -> Iterator[None]:
    yield
    fluyt("rmi", "-f", "cli:1")
    fluyt("builder", "prune", "-f", "-a")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A context with perl and a step that asks the agents `default` and `k` for their identities."""
    folder = tmp_path / "folder"
    agents.folder_of_programs(folder)
    asks = [f"RUN --mount=type=ssh,id={name} {agents.ASK}" for name in ("default", "k")]
    lines = [f"FROM {IMAGE}", "COPY . /", *asks]
    return context(folder, {"Dockerfile": "\n".join(lines) + "\n"})


def answers(err: str) -> list[str]:
    """Length and type of what agents answered: 0c is a list of identities."""
    return [word for word in err.split() if len(word) == 10 and word.startswith("0000") and word.endswith("0c")]


def test_agents_are_those_of_the_variable_of_a_socket_and_of_keys(fluyt: Program, folder: Path, tmp_path: Path) -> None:
    private = tmp_path / "run"
    private.mkdir()
    with agents.agent(tmp_path / "one") as one, agents.agent(tmp_path / "none", has_key=False) as none:
        sockets = (f"--ssh=k={none.socket}", "--ssh=default")
        built = fluyt("build", "--no-cache", *sockets, str(folder), SSH_AUTH_SOCK=str(one.socket))
        assert built.code == 0, built.err
        # A list of no identity has five bytes.
        assert [word == "000000050c" for word in answers(built.err)] == [False, True], built.err
        keys = (f"--ssh=k={one.private_key}", f"--ssh=default={none.socket}")
        built = fluyt("build", "--no-cache", *keys, str(folder), XDG_RUNTIME_DIR=str(private))
        assert [word == "000000050c" for word in answers(built.err)] == [True, False], built.err
    # The agent of the key has ended, and its folder has gone.
    assert list(private.iterdir()) == []


def test_what_is_no_agent_is_refused_before_the_build(fluyt: Program, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no key")
    (tmp_path / "text").chmod(0o600)
    private = tmp_path / "run"
    private.mkdir()
    for flag, told in (
        ("default", "SSH_AUTH_SOCK is not set"),
        ("=x", "write default"),
        (f"k={tmp_path}/absent", "No such file"),
        (f"k={tmp_path}/text", "ssh-add does not take"),
    ):
        built = fluyt("build", f"--ssh={flag}", str(folder), SSH_AUTH_SOCK="", XDG_RUNTIME_DIR=str(private))
        assert built.code != 0
        assert told in built.err, flag
    with agents.agent(tmp_path / "one") as one:
        built = fluyt("build", f"--ssh=k={one.socket}", f"--ssh=k={one.socket}", str(folder))
        assert "twice" in built.err
    assert list(private.iterdir()) == []


def test_a_repository_comes_by_ssh(fluyt: Program, cli_engine: Engine, tmp_path: Path) -> None:
    repositories.make(
        tmp_path / "work", {"Dockerfile": f'FROM {IMAGE}\nCOPY who /who\nCMD ["cat", "/who"]\n', "who": "by ssh\n"}
    )
    bare = repositories.bare(tmp_path / "work.git", tmp_path / "work")
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    with agents.agent(tmp_path / "agent") as agent, agents.server(tmp_path / "sshd", agent.public_key) as server:
        url = f"ssh://root@127.0.0.1:{server.port}{bare}#main"
        given: dict[str, Any] = {"SSH_AUTH_SOCK": str(agent.socket), "HOME": str(home)}
        refused = fluyt("build", "-t", "cli:1", url, **given)
        assert "ssh-keyscan 127.0.0.1" in refused.err
        (home / ".ssh" / "known_hosts").write_text(server.known_hosts)
        fluyt.ok("build", "-q", "-t", "cli:1", url, **given)
        assert fluyt.ok("run", "--rm", "cli:1") == "by ssh\n"
        (home / ".ssh" / "known_hosts").rename(tmp_path / "hosts")
        fluyt.ok("build", "-q", "--no-cache", "--ssh-known-hosts", str(tmp_path / "hosts"), url, **given)
        (tmp_path / "hosts").write_bytes(b"#" * (256 * 1024 + 1))
        refused = fluyt("build", "--ssh-known-hosts", str(tmp_path / "hosts"), url, **given)
        assert "--ssh-known-hosts" in refused.err
        assert refused.code != 0


def test_an_engine_that_asks_more_before_its_answer_has_no_agents_any_more(tmp_path: Path) -> None:
    with played(tmp_path / "engine") as engine, socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "agent"))
        silent.listen(1)
        folder = context(tmp_path / "folder", {"Dockerfile": f"FROM {IMAGE}\n"})
        building = Program(tmp_path / "engine").spawn("build", f"--ssh=a={tmp_path}/agent", str(folder))
        assert list(engine.heard.get(timeout=10).offer.ids) == ["a"]
        # It serves: what may not be asked is refused without the agent.
        assert engine.ask(1, b"\x13").answer == Message(connection=1, data=b"\x05")
        assert not engine.over.is_set()
        # One is with the agent, which is silent, one waits, one is too many.
        for _ in range(3):
            engine.asks.put(Response(ask=Message(connection=1, id="a", data=b"\x0b")))
        _, err = building.communicate(timeout=40)
        assert (engine.was_over_first, building.returncode) == (True, 1), err
        assert b"no build is wanted" in err
