"""What the probe tells, made the same for every run and host, and what of it reaches further than something else does.

A finding is (kind, subject, answer). `reach` makes of findings what can be had, one word each, so that two audits can
be compared: whatever one has and the other has not is wider.
"""

import functools
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).parent
REPOSITORY: Final = HERE.parents[2]
#: Answers that a filter gives, or a kernel that finds a right missing.
REFUSALS: Final = frozenset({"EPERM", "ENOSYS", "EACCES", "SIGSYS", "EROFS"})
_MOUNT_FLAGS: Final = ("ro", "nosuid", "nodev", "noexec")
#: Files and directories of the host that every engine mounts, on whatever it keeps them.
_HOST_FILES: Final = frozenset({"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv"})


class Finding(NamedTuple):
    """One line of an audit."""

    kind: str
    subject: str
    answer: str


@functools.cache
def program() -> bytes:
    """The probe, static."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "probe")
        flags = ["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-format-truncation"]
        subprocess.run(["gcc", *flags, "-o", str(path), str(HERE / "probe.c")], check=True)
        return path.read_bytes()


def arguments() -> list[str]:
    """Which namespaces are the host's, where their numbers do not tell."""
    return [f"{kind}={Path('/proc/self/ns', kind).stat().st_ino}" for kind in ("mnt", "net")]


def parse(output: str) -> list[Finding]:
    """The findings, sorted, each once. Raises ValueError if the probe did not come to its end."""
    found = [Finding(*line.split("\t")) for line in output.splitlines()]
    if not found or found.pop() != Finding("end", "audit", "ok"):
        raise ValueError("the audit was broken off")
    return sorted({one for finding in found for one in _plain(finding)})


def load(name: str) -> list[Finding]:
    """A reviewed audit."""
    lines = (HERE / name).read_text().splitlines()
    return [Finding(*line.split("\t")) for line in lines if not line.startswith("#")]


def dump(findings: Iterable[Finding]) -> str:
    """The text of an audit's file."""
    return "".join("\t".join(finding) + "\n" for finding in sorted(findings))


def reach(findings: Iterable[Finding]) -> set[str]:
    """What can be had."""
    return {one for finding in findings for one in _reach(finding)}


def _reach(finding: Finding) -> Iterator[str]:
    kind, subject, answer = finding
    if kind in {"read", "write", "list", "key", "netlink"} or kind == "first process":
        if answer == "ok":
            yield f"{kind} {subject}"
    elif kind in {"call", "socket"}:
        # What the kernel itself answers was let through to it.
        if answer not in REFUSALS:
            yield f"{kind} {subject}"
    elif kind == "device":
        yield from (f"device {subject} {word}" for word in re.findall(r"(?:read|write)(?= ok)", answer))
        if answer == "directory, writable":
            yield f"device {subject} write"
    elif kind == "mount":
        kept = answer.split()
        yield from (f"mount {subject} without {flag}" for flag in _MOUNT_FLAGS if flag not in kept)
    elif kind == "status" and subject.startswith("Cap"):
        bits = int(answer, 16)
        yield from (f"{subject} {bit}" for bit in range(64) if bits >> bit & 1)
    elif kind == "status" and subject in {"NoNewPrivs", "Seccomp"}:
        if answer == "0":
            yield f"without {subject}"
    elif kind == "namespace":
        if answer == "the host's":
            yield f"namespace {subject} of the host"
    elif kind in {"descriptor", "interface", "unix socket"}:
        yield f"{kind} {subject}"
    elif kind == "processes":
        yield from (f"process {number}" for number in range(1, int(answer) + 1))


def _plain(finding: Finding) -> Iterator[Finding]:
    kind, subject, answer = finding
    if kind == "mount":
        yield _mount(subject)
    elif kind == "uid map":
        inside, outside, count = subject.split()
        whole = (inside, outside, int(count)) == ("0", "0", 2**32 - 1)
        yield Finding(kind, "the host's" if whole else f"{count} ids of its own", "seen")
    elif kind == "unix socket":
        # The first line is the head of the table.
        fields = subject.split()
        if fields[0] != "Num":
            yield Finding(kind, fields[7] if len(fields) > 7 else "without a name", answer)
    elif kind == "key" and answer == "seen":
        yield Finding(kind, " ".join(subject.split()[7:]).rstrip(":0123456789 "), answer)
    elif kind == "call":
        yield Finding(kind, _call_name(subject), answer)
    elif kind == "socket":
        family, _, rest = subject.partition(" ")
        yield Finding(kind, f"{_families().get(int(family), family)} {rest}" if family.isdigit() else subject, answer)
    elif (kind == "device" and re.fullmatch(r"/dev/pts/\d+", subject)) or (kind == "status" and subject == "Groups"):
        return
    else:
        yield Finding(kind, subject, answer)


def _mount(line: str) -> Finding:
    # Source: proc_pid_mountinfo(5).
    left, _, right = line.partition(" - ")
    place, options = left.split()[4], left.split()[5].split(",")
    kind = right.split()[0]
    if place in _HOST_FILES:
        kind = "of the host"
    # Which controllers have a hierarchy of their own is the host's affair.
    place = re.sub(r"^/sys/fs/cgroup/[^/]+$", "/sys/fs/cgroup/*", place)
    return Finding("mount", place, " ".join([kind, *(flag for flag in _MOUNT_FLAGS if flag in options)]))


@functools.cache
def _families() -> dict[int, str]:
    return {int(number): name for name, number in vars(socket).items() if name.startswith("AF_")}


@functools.cache
def _call_names() -> dict[int, str]:
    folder = REPOSITORY / "rust_core/process/src/seccomp"
    lines = [line for name in ("profile.txt", "calls.txt") for line in (folder / name).read_text().splitlines()]
    fields = [line.split() for line in lines if not line.startswith("#")]
    return {int(number): name for name, number, *_ in fields if number != "-"}


def _call_name(subject: str) -> str:
    return _call_names().get(int(subject), f"number {subject}") if subject.isdigit() else subject


def table(audits: dict[str, list[Finding]]) -> list[str]:
    """Rows of the table in docs/security.md, one column an audit."""
    reached = {name: reach(findings) for name, findings in audits.items()}

    def count(*prefixes: str) -> list[str]:
        return [str(sum(word.startswith(prefixes) for word in words)) for words in reached.values()]

    def named(*words: str, prefix: str = "") -> list[str]:
        return [", ".join(word for word in words if f"{prefix}{word}" in found) or "none" for found in reached.values()]

    def answers(kind: str, subject: str) -> list[str]:
        return [
            next((one.answer for one in findings if one[:2] == (kind, subject)), "") for findings in audits.values()
        ]

    spaces = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts", "time")
    of_host = [[space for space in spaces if f"namespace {space} of the host" in found] for found in reached.values()]
    rows = {
        "namespaces of the host": [", ".join(found) or "none" for found in of_host],
        "capabilities, effective": [f"{answer.lstrip('0')}" for answer in answers("status", "CapEff")],
        "capabilities, inheritable or ambient": count("CapInh", "CapAmb"),
        "system calls that reach the kernel": [
            str(sum(word.startswith("call ") and word.removeprefix("call ") in _all_calls() for word in words))
            for words in reached.values()
        ],
        "namespaces that can be made": named("CLONE_NEWUSER", "CLONE_NEWNS", "CLONE_NEWNET", prefix="call unshare "),
        "further calls": named(
            *("mknod null", "mount tmpfs", "ptrace TRACEME", "syslog read", "getpid of 32 bits", "getpid of x32"),
            prefix="call ",
        ),
        "io_uring": named("io_uring_setup", prefix="call "),
        "keys": named("add to session", "id of session", "request", prefix="key "),
        "kinds of sockets": count("socket "),
        "sockets of virtual machines": named("AF_VSOCK STREAM", prefix="socket "),
        "files of /proc that can be read": count("read /proc/"),
        "files of /proc and /sys open to be written": count("write "),
        "devices open to be written": count("device /dev/"),
        "cgroups writable": named("/sys/fs/cgroup/", prefix="write "),
        "processes seen beside its own": [str(int(one) - 1) for one in count("process ")],
        "descriptors beyond the three": [str(int(one) - 3) for one in count("descriptor ")],
        "sockets of others in /proc/net/unix": count("unix socket "),
    }
    return [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]


@functools.cache
def _all_calls() -> frozenset[str]:
    return frozenset(_call_names().values())


if __name__ == "__main__":
    names = ("default", "host-users", "docker", "podman")
    print(*table({name: load(f"{name}.txt") for name in names}), sep="\n")
