"""What git is told, and what it is never told."""

import pytest

from fluytd.builds.git_step import SSH_COMMAND, clone_step, host_key_complaint, without
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


@pytest.mark.parametrize(
    ("remote", "host"),
    [
        ("git@example.com:a/b.git", "example.com"),
        ("git@example.com:~/b", "example.com"),
        ("ssh://example.com/a.git", "example.com"),
        ("ssh://me@example.com:2222/srv/a.git", "example.com"),
        ("ssh://me@[::1]:22/a.git", "::1"),
    ],
)
def test_an_address_of_ssh_is_given_to_git_as_it_is(remote: str, host: str) -> None:
    found = step(remote, GIT_AUTH_TOKEN=b"x")
    assert (found.arguments[0], found.shown, found.ssh_host) == (remote, remote, host)
    assert '[protocol "ssh"]\n\tallow = "always"' in found.config
    assert "extraHeader" not in found.config


def test_ssh_is_allowed_only_where_the_repository_itself_is_reached_by_it() -> None:
    for remote in ("https://example.com/a.git", "git://example.com/a.git", "file:///srv/a.git"):
        assert 'protocol "ssh"' not in step(remote).config, remote
    assert 'protocol "file"' not in step("git@example.com:a.git").config


@pytest.mark.parametrize(
    "remote",
    [
        "git@-oProxyCommand=x:a.git",
        "-oProxyCommand=x@example.com:a.git",
        "git@example.com:-a.git",
        "git@example.com:",
        "ssh://-oProxyCommand=x/a.git",
        "ssh://git@-oProxyCommand=x/a.git",
        "ssh://-lx@example.com/a.git",
        "ssh://git:word@example.com/a.git",
        "ssh://git@example.com:port/a.git",
        "ssh://git@example.com/-a",
        "ssh://git@example.com",
    ],
)
def test_an_address_of_ssh_that_could_be_an_option_is_refused(remote: str) -> None:
    with pytest.raises(EngineError) as caught:
        step(remote)
    assert caught.value.reason == "FIELD_INVALID"
    assert "word" not in str(caught.value).replace("password", "")


def test_ssh_takes_known_keys_alone_and_nothing_of_the_host() -> None:
    for part in ("-F /dev/null", "StrictHostKeyChecking=yes", "BatchMode=yes", "GlobalKnownHostsFile=/dev/null", "-a"):
        assert part in SSH_COMMAND


def test_what_ssh_says_of_host_keys_is_told_apart() -> None:
    assert host_key_complaint("Permission denied (publickey).") == ""
    unknown = (
        "No ED25519 host key is known for [h]:1 and you have requested strict checking.\nHost key verification failed."
    )
    assert host_key_complaint(unknown) == "no key of the host is known"
    changed = f"@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n{unknown}"
    assert host_key_complaint(changed) == "the host has another key than the known one"
