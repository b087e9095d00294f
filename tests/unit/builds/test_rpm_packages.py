"""Databases of rpm: one that rpm itself wrote, and ones of strangers."""

import struct
import subprocess
from pathlib import Path

import pytest

from fluytd.builds import rpm_packages
from fluytd.builds.packages import Package
from fluytd.errors import LimitExceeded
from tests.support.rpm_databases import database, header

SPEC = """
Name: judged
Version: 1.2
Release: 3
Epoch: 4
Summary: A package
License: MIT
Vendor: Nobody
BuildArch: noarch
%description
A package.
%files
"""


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")


@pytest.mark.needs("rpmbuild")
def test_what_rpm_wrote_is_read(tmp_path: Path) -> None:
    spec = tmp_path / "judged.spec"
    spec.write_text(SPEC)
    top = ("--define", f"_topdir {tmp_path}/top")
    _run("rpmbuild", "-bb", *top, spec)
    (package,) = (tmp_path / "top").rglob("*.rpm")
    _run(
        "rpm",
        "--root",
        tmp_path / "root",
        "--dbpath",
        "/db",
        "--define",
        "_db_backend sqlite",
        "-i",
        "--nodeps",
        package,
    )
    found = rpm_packages.rpm((tmp_path / "root" / "db" / "rpmdb.sqlite").read_bytes())
    wanted = Package("rpm", "judged", "1.2-3", "noarch", "judged-1.2-3.src.rpm", "Nobody", "MIT", "4")
    assert found == [wanted]
    assert wanted.purl({"ID": "fedora", "VERSION_ID": "40"}) == (
        "pkg:rpm/fedora/judged@1.2-3?arch=noarch&epoch=4&distro=fedora-40&upstream=judged-1.2-3.src.rpm"
    )


def test_headers_that_are_damaged_are_left_out(tmp_path: Path) -> None:
    good = header({1000: "good", 1001: "1", 1002: "2"})
    blobs = [
        good,
        good[:-1],
        good[:20],
        b"",
        struct.pack(">II", 2**32 - 1, 2**32 - 1),
        good[:8] + struct.pack(">iIiI", 1000, 6, -5, 1) + good[24:],
        good[:8] + struct.pack(">iIiI", 1000, 6, 2**31 - 1, 1) + good[24:],
        header({1000: "gpg-pubkey", 1001: "1", 1002: "2"}),
        header({1000: "", 1001: "1"}),
    ]
    found = rpm_packages.rpm(database(tmp_path / "a", blobs=blobs))
    assert found == [Package("rpm", "good", "1-2")]


def test_a_database_that_is_none_or_is_more_than_one_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rpm_packages.rpm(b"") is None
    assert rpm_packages.rpm(b"SQLite format 3\0") is None
    whole = database(tmp_path / "b", blobs=[header({1000: "a", 1001: "1"})] * 50)
    assert rpm_packages.rpm(whole[: len(whole) // 2]) in (None, [])
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS hnum, x AS blob FROM n"
    assert rpm_packages.rpm(database(tmp_path / "c", f"CREATE VIEW Packages AS {endless}")) is None
    for limit, value in (("MAX_PACKAGES", 10), ("MAX_DATABASE_STEPS", 10)):
        with monkeypatch.context() as patched:
            patched.setattr(rpm_packages, limit, value)
            patched.setattr(rpm_packages, "_STEPS_AT_ONCE", 20)
            with pytest.raises(LimitExceeded, match=limit):
                rpm_packages.rpm(whole)


def test_a_header_above_the_bound_makes_the_database_one_that_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = header({1000: "a", 1001: "1", 1014: "x" * 4_000})
    whole = database(tmp_path / "d", blobs=[one])
    assert [found.name for found in rpm_packages.rpm(whole) or ()] == ["a"]
    monkeypatch.setattr(rpm_packages, "MAX_HEADER_BYTES", 2_000)
    assert rpm_packages.rpm(whole) is None
