"""Databases of packages as images have them: read, bounded, and hostile ones without harm."""

import pytest

from fluytd.builds import packages
from fluytd.builds.packages import Package
from fluytd.errors import LimitExceeded


def test_dpkg_tells_what_is_installed_and_nothing_else() -> None:
    text = (
        b"Package: a\nStatus: install ok installed\nVersion: 1:2~3\nArchitecture: all\nSource: src (4)\n"
        b"Description: x\n continued\n Version: 9\n\n\n"
        b"Package: half\nStatus: install ok half-installed\nVersion: 1\n\n"
        b"Package: removed\nStatus: deinstall ok config-files\nVersion: 1\n\n"
        b"Package: silent\nVersion: 1\n\n"
        b"Version: 1\nStatus: install ok installed\n"
    )
    assert packages.dpkg(text) == [Package("deb", "a", "1:2~3", "all", "src")]
    assert [one.name for one in packages.dpkg(text, needs_status=False)] == ["a", "silent"]


def test_apk_tells_names_versions_and_licences() -> None:
    text = b"C:Q1x=\nP:musl\nV:1.2-r0\nA:aarch64\nL:MIT\no:musl-src\nm:A <a@b>\nF:lib\nR:ld\n\nP:no-version\n"
    assert packages.apk(text) == [Package("apk", "musl", "1.2-r0", "aarch64", "musl-src", "A <a@b>", "MIT")]


@pytest.mark.parametrize(
    ("package", "system", "purl"),
    [
        (Package("deb", "a+b", "1:2", "amd64"), {}, "pkg:deb/debian/a%2Bb@1%3A2?arch=amd64"),
        (
            Package("apk", "a", "1", source="b"),
            {"ID": "wolfi", "VERSION_ID": "2"},
            "pkg:apk/wolfi/a@1?distro=wolfi-2&upstream=b",
        ),
        (Package("deb", "../a?x#y", "1"), {"ID": "a/b"}, "pkg:deb/a%2Fb/..%2Fa%3Fx%23y@1"),
    ],
)
def test_package_urls_keep_their_form_whatever_stands_in_them(
    package: Package, system: dict[str, str], purl: str
) -> None:
    assert package.purl(system) == purl


def test_what_is_no_database_gives_nothing() -> None:
    for data in (b"", b"\n\n\n", b"\xff\xfe\x00", b":\n:x\n", b"Package\nVersion\n", b" Package: a\n Version: 1\n"):
        assert packages.dpkg(data) == packages.apk(data) == []
    long = packages.dpkg(b"Package: " + b"x" * 100_000 + b"\nVersion: 1\nStatus: a b installed\n")
    assert len(long[0].name) == 512
    assert packages.os_release(b"ID=\"debian\"\n#x=1\nA B=2\n=3\nVERSION_ID='12'\n") == {
        "ID": "debian",
        "VERSION_ID": "12",
    }


def test_more_packages_than_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MAX_PACKAGES", 3)
    text = b"".join(b"P:a%d\nV:1\n\n" % number for number in range(4))
    with pytest.raises(LimitExceeded) as caught:
        packages.apk(text)
    assert caught.value.failure.metadata["limit"] == "MAX_PACKAGES"
    assert len(packages.apk(text.replace(b"P:a3", b"p:a3"))) == 3
