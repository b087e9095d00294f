"""Whose programs this host runs: its own processor's, and those that binfmt_misc hands to an emulator."""

from pathlib import Path
from typing import Final

from fluytd.images.platforms import Platform

_BINFMT: Final = Path("/proc/sys/fs/binfmt_misc")
#: What qemu calls architectures. Source: qemu scripts/qemu-binfmt-conf.sh.
_QEMU: Final = {
    "386": "i386",
    "amd64": "x86_64",
    "arm": "arm",
    "arm64": "aarch64",
    "loong64": "loongarch64",
    "mips64le": "mips64el",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}


def can_run(here: Platform, wanted: Platform, binfmt: Path = _BINFMT) -> bool:
    """Whether programs of `wanted` run in a container here. Blocking: it reads a file of /proc.

    An emulator counts where the kernel keeps it open (flag F): by its path no container would find it.
    """
    if here.fitness(wanted) is not None or (here.architecture, wanted.architecture) == ("amd64", "386"):
        return True
    name = _QEMU.get(wanted.architecture)
    if name is None or here.os != wanted.os:
        return False
    for path in (binfmt / f"qemu-{name}", binfmt / f"qemu-{name}-static"):
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue  # no such emulator is known
        flags = next((line.partition(":")[2] for line in lines if line.startswith("flags:")), "")
        if lines[:1] == ["enabled"] and "F" in flags:
            return True
    return False
