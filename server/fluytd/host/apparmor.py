"""The AppArmor profile of containers that ask for none, and how it comes into the kernel.

It forbids what a default container cannot do anyway, so that a container which was given more (capabilities, paths that
are not masked) still cannot mount, or set what the whole host has.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

#: Its name, which is the record of it: each daemon loads it anew, so that one which died at that leaves nothing else.
#: Administrators may load one of their own by it, where the engine cannot.
DEFAULT_PROFILE: Final = "fluyt-default"
#: How long the program that translates it may take.
PARSER_SECONDS: Final = 60
#: What is told of that program's complaint.
MAX_COMPLAINT_CHARACTERS: Final = 300
_PATH: Final = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_LABEL: Final = re.compile(r"[A-Za-z0-9/_.:-]{1,255}")

#: Later rules do not take back what an earlier one forbids. `[^s]*` and its like stand for "begins otherwise": no rule
#: can say "but for". Source: apparmor.d(5); what is forbidden is what Docker's profile forbids (moby,
#: profiles/apparmor/template.go), and no less.
_PROFILE: Final = """\
profile {name} flags=(attach_disconnected,mediate_deleted) {{
  capability,
  file,
  network,
  unix,
  umount,
  signal (receive) peer={engine},
  signal (send, receive) peer={name},
  ptrace (trace, read, tracedby, readby) peer={name},

  # Nothing is mounted, moved or made another root.
  deny mount,

  # Of /proc only what belongs to processes is written, and settings of the container's own IPC.
  deny /proc/* wkl,
  deny /proc/{{[^0-9s]*,s[^y]*,sy[^s]*,sys[^/]*}}/** wkl,
  deny /proc/sys/[^k]** wkl,
  deny /proc/sys/k[^e]** wkl,
  deny /proc/sys/kernel/{{[^s]*,s[^h]*,sh[^m]*}} wkl,
  deny /proc/sys/kernel/*/** wkl,
  deny /proc/{{sysrq-trigger,kcore}} rwkl,

  # Of /sys only control groups are written, which the container may have of its own.
  deny /sys/[^f]*/** wkl,
  deny /sys/f[^s]*/** wkl,
  deny /sys/fs/[^c]*/** wkl,
  deny /sys/fs/c[^g]*/** wkl,
  deny /sys/fs/cg[^r]*/** wkl,
  deny /sys/firmware/** rwkl,
  deny /sys/devices/virtual/powercap/** rwkl,
  deny /sys/kernel/security/** rwkl,
}}
"""


def profile(engine: str) -> str:
    """The profile's text. Pure.

    Args:
        engine: label of the engine's own processes, which send signals to those of containers.
    """
    return _PROFILE.format(name=DEFAULT_PROFILE, engine=engine if _LABEL.fullmatch(engine) else "unconfined")


def own_label(attribute: Path = Path("/proc/self/attr/current")) -> str:
    """The label of this process without its mode; `unconfined` if it has none. Blocking (one file)."""
    try:
        told = attribute.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unconfined"
    return told.rstrip("\0\n").rpartition(" (")[0] or "unconfined"


def is_loaded(profiles: Path = Path("/sys/kernel/security/apparmor/profiles")) -> bool:
    """Whether the kernel has a profile by this name, whoever loaded it. Blocking (one file)."""
    try:
        lines = profiles.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(line.rpartition(" (")[0] == DEFAULT_PROFILE for line in lines)


def load(text: str, parser: str) -> str:
    """The profile is in the kernel, in place of one by its name, for processes under that as well; returns nothing
    then, else why not. `parser`: the program's name or path. Blocking, at most `PARSER_SECONDS`."""
    program = shutil.which(parser, path=_PATH)
    if program is None:
        return f"{parser} is not installed (on Debian, package apparmor)"
    try:
        ended = subprocess.run(
            [program, "--replace", "--skip-cache"],
            input=text.encode(),
            env={"PATH": _PATH, "LC_ALL": "C"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=PARSER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{parser} took longer than {PARSER_SECONDS} s (PARSER_SECONDS)"
    except OSError as error:
        return f"{parser} could not be executed: {error.strerror}"
    if ended.returncode == 0:
        return ""
    complaint = ended.stderr.decode(errors="replace").strip()[:MAX_COMPLAINT_CHARACTERS]
    return f"{parser} ended with {ended.returncode}: {complaint}"
