"""Platforms: spelling, what a host runs, and which entry of an index fits best. It fetches nothing."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Source: containerd platforms/database.go, normalizeArch.
_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "i386": "386", "i686": "386", "aarch64": "arm64"}
_ARM_ALIASES = {"armhf": "v7", "armel": "v6", "armv7l": "v7", "armv6l": "v6"}
_DEFAULT_ARM = "v7"
#: The oldest variant of each architecture that others stand above; an entry without a variant is this one.
_BASE_VARIANT = {"amd64": 1, "arm64": 8, "arm": 5}

#: Features of /proc/cpuinfo that make a processor of a level of x86-64. Source: the x86-64 psABI, section 3.1.1.
_X86_LEVELS = (
    ("v2", {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
    ("v3", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    ("v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
)


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system and processor, in Go's words; make it by `normalised`."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    @classmethod
    def normalised(cls, system: str, architecture: str, variant: str = "", os_version: str = "") -> "Platform":
        """One spelling for what is the same: arm64 is arm64/v8, arm is arm/v7, x86_64 is amd64."""
        system, architecture, variant = system.lower(), architecture.lower(), variant.lower()
        if architecture in _ARM_ALIASES:
            architecture, variant = "arm", variant or _ARM_ALIASES[architecture]
        architecture = _ARCHITECTURES.get(architecture, architecture)
        if architecture in _BASE_VARIANT and variant.isdecimal():
            variant = "v" + variant
        if architecture == "arm" and not variant:
            variant = _DEFAULT_ARM
        if (architecture, variant) in {("arm64", "v8"), ("amd64", "v1")}:
            variant = ""
        return cls(system, architecture, variant, os_version)

    @property
    def is_unknown(self) -> bool:
        """True for what BuildKit writes on attestations, which are no images (case R12)."""
        return self.os == "unknown" or self.architecture == "unknown"

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def _level(self) -> int | None:
        base = _BASE_VARIANT.get(self.architecture)
        if base is None:
            return None
        if not self.variant:
            return base
        number = self.variant.removeprefix("v")
        return int(number) if number.isdecimal() and len(number) <= 2 else None

    def fitness(self, offered: "Platform") -> int | None:
        """How well an offered platform serves this wanted one: 0 is best, None not at all.

        Of architectures whose variants stand above each other, a lower one serves too: v6 for arm/v7 (case R11).
        """
        if (self.os, self.architecture) != (offered.os, offered.architecture):
            return None
        if self.os_version and offered.os_version and self.os_version != offered.os_version:
            return None
        if self.variant == offered.variant:
            return 0
        wanted, level = self._level, offered._level
        if wanted is None or level is None or level > wanted:
            return None
        return wanted - level


def best(wanted: Platform, offered: Iterable[Platform | None]) -> int | None:
    """The position of the offer that serves best; the first one on a tie; None if none does."""
    ranked = [
        (fitness, position)
        for position, platform in enumerate(offered)
        if platform is not None and not platform.is_unknown and (fitness := wanted.fitness(platform)) is not None
    ]
    return min(ranked)[1] if ranked else None


def host_platform() -> Platform:
    """What this host runs best. Blocking (reads /proc/cpuinfo once)."""
    name = os.uname()
    variant = ""
    if name.machine == "x86_64":
        variant = _x86_variant(_cpu_flags())
    elif name.machine == "aarch64":
        variant = "v8"
    return Platform.normalised(name.sysname, name.machine, variant)


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(line.partition(":")[2].split())


def _x86_variant(flags: set[str]) -> str:
    found = ""
    for variant, needed in _X86_LEVELS:
        if not needed <= flags:
            break
        found = variant
    return found
