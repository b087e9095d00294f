"""Real ssh: agents with keys of their own, and servers on loopback."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support import tarball, wait
from tests.support.images import Layer, layer

#: What an agent is talked to with in a step.
PERL = "/usr/bin/perl"
PROGRAMS = ("/usr/bin/ssh-add", PERL)
#: Sends the agent what is in hexadecimal and prints the first five bytes that come, or that it was closed.
SAY = (
    "perl -MSocket -e '"
    "socket(S,AF_UNIX,SOCK_STREAM,0)||die; connect(S,sockaddr_un($ENV{SSH_AUTH_SOCK}))||die qq(refused: $!\\n);"
    "syswrite(S,pack(qq(H*),shift)); sysread(S,$b,5) ? print(unpack(qq(H*),$b),qq(\\n)) : print(qq(closed\\n))' "
)
#: Lists the identities.
ASK = f"{SAY} 000000010b"


@dataclass(frozen=True)
class Agent:
    """An ssh-agent that runs, with one key."""

    socket: Path
    public_key: str
    private_key: Path


@contextmanager
def agent(folder: Path, *, has_key: bool = True) -> Iterator[Agent]:
    """A block in which an agent runs that alone can use the key once the block has begun: its file is `private_key`,
    which the caller may remove."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "key"
    if not key.exists():
        new_key(key)
    # A socket's address has 108 bytes at most.
    place = Path(tempfile.mkdtemp(prefix="agent-"))
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(place / "s")], stdout=subprocess.DEVNULL)
    try:
        wait.until_now((place / "s").exists)
        if has_key:
            env = os.environ | {"SSH_AUTH_SOCK": str(place / "s")}
            subprocess.run(["ssh-add", "-q", str(key)], env=env, check=True, capture_output=True)
        yield Agent(place / "s", key.with_suffix(".pub").read_text(), key)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(place)


def new_key(path: Path) -> Path:
    """A private key without a passphrase; its public half is beside it."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)
    return path


@dataclass(frozen=True)
class Server:
    """An sshd on loopback that lets root in with certain keys."""

    port: int
    #: A line of known_hosts.
    known_hosts: str
    #: What it says of who comes.
    log: Path


@contextmanager
def server(folder: Path, public_keys: str) -> Iterator[Server]:
    """A block in which an sshd runs."""
    folder.mkdir(parents=True, exist_ok=True)
    host_key = new_key(folder / "host_key")
    (folder / "authorized").write_text(public_keys)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {host_key}",
        f"AuthorizedKeysFile {folder / 'authorized'}",
        "PidFile none",
        "UsePAM no",
        "StrictModes no",
        "PasswordAuthentication no",
        "PermitRootLogin prohibit-password",
        "LogLevel VERBOSE",
    ]
    (folder / "sshd_config").write_text("\n".join(lines) + "\n")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    log = folder / "sshd.log"
    process = subprocess.Popen(
        ["/usr/sbin/sshd", "-D", "-f", str(folder / "sshd_config"), "-E", str(log)], stdin=subprocess.DEVNULL
    )
    try:
        wait.until_now(lambda: _answers(port))
        public = host_key.with_suffix(".pub").read_text()
        yield Server(port, f"[127.0.0.1]:{port} {public}", log)
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def layer_of_programs() -> Layer:
    """ssh-add, perl and what they need of this host, as a layer over busybox."""
    return layer(*(tarball.file(path.lstrip("/"), Path(path).read_bytes(), mode=0o755) for path in _needed(PROGRAMS)))


def folder_of_programs(folder: Path) -> None:
    """perl and what it needs, as a context; the same bytes and times each time."""
    for path in _needed((PERL,)):
        place = folder / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(Path(path).read_bytes())
        place.chmod(0o755)
        os.utime(place, (1_000_000_000, 1_000_000_000))


def _needed(programs: Sequence[str]) -> list[str]:
    (perl_base,) = Path("/usr/lib").glob("*/perl-base")
    paths = set(programs)
    for program in (*programs, *map(str, perl_base.rglob("*.so"))):
        told = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
        paths |= {word for line in told.splitlines() for word in line.split() if word.startswith("/")}
    return sorted(paths | {str(path) for path in perl_base.rglob("*") if path.is_file()})
