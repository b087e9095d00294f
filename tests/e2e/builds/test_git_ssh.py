"""Git over ssh: a real sshd on loopback, a repository that only it serves, a key that only the caller's agent has."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fluyt.v1.builds_pb2 import BuildSource
from tests.e2e.builds.steps import build, context, refused, shell
from tests.support import agents, repositories
from tests.support.engine import Engine

pytestmark = pytest.mark.needs("sshd", "git")


@dataclass(frozen=True)
class Served:
    """A repository behind an sshd."""

    url: str
    server: agents.Server
    agent: agents.Agent
    commit: str

    @property
    def given(self) -> dict[str, Any]:
        """What a build is given for it."""
        return {"agents": {"default": self.agent.socket}, "known_hosts": self.server.known_hosts.encode()}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The repository; the key's file is gone."""
    root = tmp_path_factory.mktemp("git-ssh")
    commit = repositories.make(
        root / "work", {"Dockerfile": "FROM busybox:1\nCOPY . /app\n", "who": "by ssh\n", "sub/who": "below\n"}
    )
    repositories.git(root / "work", "tag", "v1")
    repositories.bare(root / "work.git", root / "work")
    with agents.agent(root / "agent") as agent:
        agent.private_key.unlink()
        with agents.server(root / "sshd", agent.public_key) as server:
            yield Served(f"ssh://root@127.0.0.1:{server.port}{root}/work.git", server, agent, commit)


def test_a_repository_is_a_context_and_what_add_copies(engine: Engine, served: Served, tmp_path: Path) -> None:
    built = build(engine, BuildSource(git_url=f"{served.url}#v1"), no_cache=True, **served.given)
    assert shell(engine, built, "cat /app/who; test ! -e /app/.git") == "by ssh\n"
    dockerfile = (
        f"FROM busybox:1\nADD {served.url}#v1:sub /sub/\n"
        f"ADD --keep-git-dir=true --checksum={served.commit} {served.url} /kept\n"
    )
    built = build(engine, context(tmp_path, {}), dockerfile, no_cache=True, **served.given)
    assert shell(engine, built, "cat /sub/who /kept/.git/HEAD").splitlines() == ["below", served.commit]
    # Neither the agent nor the place of the known hosts is in what stays of the clone.
    assert shell(engine, built, "grep -rlE 'fluyt|ssh-ed25519' /kept || true") == ""
    assert list((engine.root / "run" / "builds").iterdir()) == []


def test_a_host_that_is_not_known_or_another_one_is_refused(engine: Engine, served: Served, tmp_path: Path) -> None:
    source = BuildSource(git_url=served.url)
    given: dict[str, Any] = {"agents": {"default": served.agent.socket}}
    before = served.server.log.read_text().count("Accepted")
    failure = refused(engine, source, **given)
    assert (failure.reason, failure.metadata["host"]) == ("BUILD_HOST_KEY_UNKNOWN", "127.0.0.1")
    assert "ssh-keyscan 127.0.0.1" in failure.next_step
    other = agents.new_key(tmp_path / "other").with_suffix(".pub").read_text()
    known = f"[127.0.0.1]:{served.server.port} {other}".encode()
    failure = refused(engine, source, known_hosts=known, **given)
    assert (failure.reason, failure.metadata["detail"]) == (
        "BUILD_HOST_KEY_UNKNOWN", "the host has another key than the known one",
    )  # fmt: skip
    assert served.server.log.read_text().count("Accepted") == before


def test_without_the_right_agent_nothing_is_cloned(engine: Engine, served: Served, tmp_path: Path) -> None:
    source, known = BuildSource(git_url=served.url), served.server.known_hosts.encode()
    failure = refused(engine, source, known_hosts=known)
    assert (failure.reason, failure.metadata["id"]) == ("BUILD_AGENT_MISSING", "default")
    with agents.agent(tmp_path / "stranger") as stranger:
        failure = refused(engine, source, known_hosts=known, agents={"default": stranger.socket})
        assert failure.reason == "BUILD_SOURCE_UNAVAILABLE"
        assert "Permission denied (publickey" in str(failure)
        assert stranger.public_key.split()[1] not in str(failure)


def test_more_known_hosts_than_the_bound_are_refused(engine: Engine, served: Served) -> None:
    failure = refused(engine, BuildSource(git_url=served.url), known_hosts=b"#" * (256 * 1024 + 1))
    assert (failure.reason, failure.metadata["limit"]) == ("LIMIT_EXCEEDED", "MAX_KNOWN_HOSTS_BYTES")


def test_an_engine_without_ssh_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    git = shutil.which("git")
    assert git is not None
    (programs / "git").symlink_to(git)
    monkeypatch.setenv("PATH", str(programs))
    with Engine(tmp_path) as engine:
        failure = refused(engine, BuildSource(git_url="git@example.com:a.git"))
        assert (failure.reason, failure.metadata["program"]) == ("PROGRAM_MISSING", "ssh")
