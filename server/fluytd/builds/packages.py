"""The packages of an image, read off the databases of dpkg and apk. Pure: it gets their bytes.

Source: deb-control(5) and dpkg(1) for the status file; https://wiki.alpinelinux.org/wiki/Apk_spec for `installed`;
https://github.com/package-url/purl-spec for purls; os-release(5).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from fluytd.errors import LimitExceeded

#: Where they stand in an image, and how each is read.
DPKG_STATUS: Final = "var/lib/dpkg/status"
#: What images without dpkg itself have: a status file a package.
DPKG_STATUS_FOLDER: Final = "var/lib/dpkg/status.d"
APK_INSTALLED: Final = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
OS_RELEASE: Final = ("etc/os-release", "usr/lib/os-release")
#: Bytes of one database.
MAX_PACKAGE_DATABASE_BYTES: Final = 64 * 1024 * 1024
#: Packages of one image.
MAX_PACKAGES: Final = 50_000
#: Characters of a name, version or maintainer; what is longer is cut.
_MAX_VALUE_CHARS: Final = 512


@dataclass(frozen=True, slots=True)
class Package:
    """One package."""

    #: As purls call it: `deb`, `apk`, `rpm`.
    kind: str
    name: str
    version: str
    architecture: str = ""
    #: What it was built from; empty if that is the package itself.
    source: str = ""
    maintainer: str = ""
    license: str = ""
    #: Of rpm: versions of a higher one are newer.
    epoch: str = ""

    def purl(self, system: Mapping[str, str]) -> str:
        """Its package URL. `system`: the image's os-release."""
        vendor = system.get("ID") or {"deb": "debian", "apk": "alpine", "rpm": "rpm"}[self.kind]
        release = system.get("VERSION_ID", "")
        qualifiers = {
            "arch": self.architecture,
            "epoch": self.epoch,
            "distro": f"{vendor}-{release}" if release else "",
            "upstream": self.source if self.source != self.name else "",
        }
        text = "&".join(f"{name}={quote(value, safe='')}" for name, value in qualifiers.items() if value)
        url = f"pkg:{self.kind}/{quote(vendor, safe='')}/{quote(self.name, safe='')}@{quote(self.version, safe='')}"
        return f"{url}?{text}" if text else url


def dpkg(data: bytes, *, needs_status: bool = True) -> list[Package]:
    """The installed packages of a status file. `needs_status`: False for one of `status.d`, which need not say so.

    Raises LIMIT_EXCEEDED (MAX_PACKAGES).
    """
    found: list[Package] = []
    for fields in _paragraphs(data, ":"):
        state = fields.get("Status", "")
        if not fields.get("Package") or not fields.get("Version"):
            continue
        if state.split()[-1:] != ["installed"] and (needs_status or state):
            continue
        source = fields.get("Source", "").partition(" ")[0]
        found.append(
            Package(
                "deb",
                fields["Package"],
                fields["Version"],
                fields.get("Architecture", ""),
                source,
                fields.get("Maintainer", ""),
            )
        )
        _check(len(found))
    return found


def apk(data: bytes) -> list[Package]:
    """The packages of apk's `installed`. Raises LIMIT_EXCEEDED (MAX_PACKAGES)."""
    found: list[Package] = []
    for fields in _paragraphs(data, ":"):
        if not fields.get("P") or not fields.get("V"):
            continue
        found.append(
            Package(
                "apk",
                fields["P"],
                fields["V"],
                fields.get("A", ""),
                fields.get("o", ""),
                fields.get("m", ""),
                fields.get("L", ""),
            )
        )
        _check(len(found))
    return found


def os_release(data: bytes) -> dict[str, str]:
    """The values of os-release, quotes taken off."""
    found: dict[str, str] = {}
    for line in data.decode(errors="replace").splitlines():
        name, is_set, value = line.strip().partition("=")
        if is_set and name.isidentifier():
            found[name] = value.strip("\"'")[:_MAX_VALUE_CHARS]
    return found


def _paragraphs(data: bytes, mark: str) -> Iterator[dict[str, str]]:
    """Blocks of `name<mark>value` lines; lines that go on with another are left out, and so are repeated names."""
    fields: dict[str, str] = {}
    for line in data.decode(errors="replace").split("\n"):
        if not line.strip():
            if fields:
                yield fields
            fields = {}
        elif not line[0].isspace():
            name, is_field, value = line.partition(mark)
            if is_field and len(name) <= _MAX_VALUE_CHARS:
                fields.setdefault(name, value.strip()[:_MAX_VALUE_CHARS])
    if fields:
        yield fields


def _check(count: int) -> None:
    if count > MAX_PACKAGES:
        raise LimitExceeded(
            limit="MAX_PACKAGES", limit_value=MAX_PACKAGES, actual=count, subject="the packages of the image"
        )
