"""The default profile: its text, how it is loaded, and who is under it."""

import subprocess
from pathlib import Path

import pytest

from fluytd.containers.privileges import apparmor_profile
from fluytd.containers.spec import SecuritySpec
from fluytd.containers.start_facts import HostFacts
from fluytd.host import apparmor

HOST = HostFacts((), (), frozenset({0}), frozenset({0}), default_apparmor_profile="fluyt-default")


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        (SecuritySpec(), "fluyt-default"),
        (SecuritySpec(apparmor_profile="unconfined"), ""),
        (SecuritySpec(apparmor_profile="other"), "other"),
        (SecuritySpec(privileged=True), ""),
        (SecuritySpec(privileged=True, apparmor_profile="other"), "other"),
    ],
)
def test_who_asks_for_nothing_is_under_the_default_unless_privileged(security: SecuritySpec, expected: str) -> None:
    assert apparmor_profile(security, HOST) == expected


def test_a_host_without_a_default_has_none() -> None:
    assert apparmor_profile(SecuritySpec(), HostFacts((), (), frozenset({0}), frozenset({0}))) == ""


@pytest.mark.parametrize(
    ("told", "label"),
    [
        ("unconfined\n", "unconfined"),
        ("/usr/bin/fluytd (enforce)\n", "/usr/bin/fluytd"),
        ("one (two) (complain)\0", "one (two)"),
        ("", "unconfined"),
    ],
)
def test_the_label_of_the_engine_is_read_without_its_mode(tmp_path: Path, told: str, label: str) -> None:
    (tmp_path / "current").write_text(told)
    assert apparmor.own_label(tmp_path / "current") == label
    assert apparmor.own_label(tmp_path / "absent") == "unconfined"


def test_signals_come_from_the_engine_and_its_label_adds_no_rule() -> None:
    assert "signal (receive) peer=/usr/bin/fluytd,\n" in apparmor.profile("/usr/bin/fluytd")
    assert apparmor.profile("a,\n  mount,\n") == apparmor.profile("unconfined")


def test_a_profile_is_loaded_if_the_kernel_lists_it_by_its_whole_name(tmp_path: Path) -> None:
    listed = tmp_path / "profiles"
    listed.write_text("fluyt-default-of-somebody (enforce)\n/bin/fluyt-default (enforce)\n")
    assert not apparmor.is_loaded(listed)
    listed.write_text("man_filter (enforce)\nfluyt-default (complain)\n")
    assert apparmor.is_loaded(listed)
    assert not apparmor.is_loaded(tmp_path / "absent")


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "parser"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_the_parser_gets_the_text_and_only_its_own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUYT_SECRET", "x")
    program = script(tmp_path, f"echo $* >{tmp_path}/args; env >{tmp_path}/env; cat >{tmp_path}/text")
    assert apparmor.load("profile x {}\n", program) == ""
    assert (tmp_path / "args").read_text() == "--replace --skip-cache\n"
    assert (tmp_path / "text").read_text() == "profile x {}\n"
    assert "FLUYT_SECRET" not in (tmp_path / "env").read_text()


def test_why_a_profile_was_not_loaded_is_told_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert apparmor.load("", "fluyt-no-such-program") == (
        "fluyt-no-such-program is not installed (on Debian, package apparmor)"
    )
    complaint = apparmor.load("", script(tmp_path, "echo syntax error >&2; head -c 100000 /dev/zero >&2; exit 3"))
    assert "ended with 3: syntax error" in complaint
    assert len(complaint) < apparmor.MAX_COMPLAINT_CHARACTERS + 200
    monkeypatch.setattr(apparmor, "PARSER_SECONDS", 0.2)
    assert "(PARSER_SECONDS)" in apparmor.load("", script(tmp_path, "exec sleep 60"))


@pytest.mark.needs("apparmor_parser")
def test_the_real_parser_takes_the_profile() -> None:
    subprocess.run(
        ["apparmor_parser", "--skip-kernel-load", "--skip-cache"],
        input=apparmor.profile("/usr/bin/fluytd").encode(),
        check=True,
        capture_output=True,
    )
