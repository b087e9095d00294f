"""What git is told, and what it is never told."""

import pytest

from fluytd.builds.git_step import clone_step, without
from fluytd.errors import EngineError


def step(remote: str, ref: str = "", **secrets: bytes):  # type: ignore[no-untyped-def]
    return clone_step(remote, ref, secrets, keeps_git_dir=False, with_submodules=True)


def test_no_credential_stands_among_the_arguments() -> None:
    found = step("https://me:p%40ss@example.com:8443/a.git?x=1", "main")
    assert found.arguments == ("https://example.com:8443/a.git", "main", "drop", "with")
    assert found.shown == "https://example.com:8443/a.git"
    # me:p@ss
    assert "Authorization: basic bWU6cEBzcw==" in found.config
    assert without("fatal: bWU6cEBzcw== refused", found.hidden) == "fatal: *** refused"


def test_a_token_of_the_host_goes_before_a_general_one() -> None:
    secrets = {"GIT_AUTH_TOKEN": b"general", "GIT_AUTH_TOKEN.example.com": b"own\n"}
    own = clone_step("https://example.com/a.git", "", secrets, keeps_git_dir=True, with_submodules=False)
    other = clone_step("https://other.com/a.git", "", secrets, keeps_git_dir=True, with_submodules=False)
    assert own.config != other.config
    assert '[http "https://example.com/a.git"]' in own.config
    assert own.arguments[1:] == ("HEAD", "keep", "without")
    assert "GIT_AUTH" not in own.config
    assert "extraHeader" not in step("git://example.com/a.git", GIT_AUTH_TOKEN=b"x").config


def test_a_header_of_one_word_is_hidden_and_nothing_else_is() -> None:
    found = step("https://example.com/a.git", GIT_AUTH_HEADER=b"word")
    assert found.hidden == ("word",)
    assert without("fatal: word refused", found.hidden) == "fatal: *** refused"


def test_a_redirect_is_followed_only_where_no_header_could_go_with_it() -> None:
    assert 'followRedirects = "initial"' in step("https://example.com/a.git").config
    assert 'followRedirects = "false"' in step("https://example.com/a.git", GIT_AUTH_TOKEN=b"x").config
    assert 'followRedirects = "false"' in step("https://me:p@example.com/a.git").config


def test_only_its_own_protocol_is_allowed() -> None:
    here, there = step("file:///srv/a"), step("https://example.com/a.git")
    assert (here.host_path, here.arguments[0]) == ("/srv/a", "file:///fluyt/repository")
    assert '[protocol "file"]' in here.config
    assert '[protocol "https"]' not in here.config
    assert '[protocol "file"]' not in there.config


@pytest.mark.parametrize(
    "ref", ["-x", "+main", "a b", "a:b", "a..b", "^a", "a~1", "a*", "a\nb", "a@{1}", "a\\b", "x" * 8_193]
)
def test_refs_that_git_would_read_as_something_else_are_refused(ref: str) -> None:
    with pytest.raises(EngineError) as caught:
        step("https://example.com/a.git", ref)
    assert caught.value.failure.reason == "FIELD_INVALID"


@pytest.mark.parametrize(
    "remote", ["https:///a.git", "ext::sh", "https://[bad/a.git", "https://a/b c", "ftp://a/b.git"]
)
def test_remotes_that_are_none_are_refused(remote: str) -> None:
    with pytest.raises(EngineError):
        step(remote)


def test_a_token_cannot_add_a_line_of_configuration() -> None:
    with pytest.raises(EngineError) as caught:
        step("https://example.com/a.git", GIT_AUTH_HEADER=b'x\n[core]\n\taskPass = "/bin/evil"')
    assert caught.value.failure.reason == "FIELD_INVALID"
