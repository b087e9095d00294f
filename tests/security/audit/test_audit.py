"""A default container sees, opens, writes, calls and sends to what was reviewed, and nothing that Docker's cannot.

`default.txt` is a container with users of its own, `host-users.txt` one with the host's; `docker.txt` and `podman.txt`
are what `python -m tests.security.audit.peers` found in theirs, on the same kernel. A new line in one of ours is to be
looked at before it is taken in.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from fluyt.v1.types import network_pb2, security_pb2
from tests.e2e.containers.steps import HOST_USERS, load
from tests.security.audit import audit
from tests.support import tarball
from tests.support.engine import Engine

OWN_USERS = security_pb2.NamespacesSpec(
    user=security_pb2.UserNamespaceSpec(mode=security_pb2.UserNamespaceSpec.MODE_AUTO)
)
#: The first says nothing, unless the run says that containers have the host's users.
SEES = {"default.txt": OWN_USERS if "FLUYT_TEST_USERNS" in os.environ else None, "host-users.txt": HOST_USERS}
NONE = network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_NONE)
#: What a container of docker 20.10's has not, and why that makes none of ours wider.
NARROWER: Mapping[str, str] = {
    "mount /proc/interrupts without ro": "our mask over a file that it shows",
    "mount /proc/interrupts without nodev": "our mask over a file that it shows",
    "mount /proc/interrupts without noexec": "our mask over a file that it shows",
}


def found_in(engine: Engine, **spec: object) -> list[audit.Finding]:
    image = load(engine, tarball.file("probe", audit.program(), mode=0o755))
    out, err, ended = engine.run(image, "/probe", *audit.arguments(), network=NONE, **spec)
    assert (ended.exit_code, err) == (0, b"")
    return audit.parse(out.decode())


def of_this_kernel(name: str) -> bool:
    """Another kernel answers some calls otherwise, and has other files."""
    return os.uname().release == (audit.HERE / name).read_text().splitlines()[0].split()[-1]


def allowed_by_docker_today() -> set[str]:
    """The calls of Docker's present profile that need no right; docker 20.10 is from before some of them."""
    document = json.loads((audit.REPOSITORY / "tests/data/seccomp/default.json").read_text())
    entries = [entry for entry in document["syscalls"] if entry["action"] == "SCMP_ACT_ALLOW" and not entry.get("args")]
    plain = [entry for entry in entries if not (entry.get("includes") or {}).get("caps")]
    return {f"call {name}" for entry in plain for name in entry["names"]}


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("name", SEES)
def test_a_default_container_has_what_was_reviewed_and_no_more(engine: Engine, name: str) -> None:
    found, reviewed = found_in(engine, namespaces=SEES[name]), audit.load(name)
    wider = audit.reach(found) - audit.reach(reviewed)
    if of_this_kernel(name):
        assert audit.reach(found) == audit.reach(reviewed)
    # New calls come with new kernels: the filter has to know them, so that these are refused on all.
    assert not {one for one in wider if not one.startswith("read /proc/")}
    # Something was found at all.
    assert {"call getpid", "socket AF_INET STREAM", "device /dev/null write", "read /proc/cpuinfo"} <= audit.reach(
        found
    )


@pytest.mark.needs("gcc")
def test_a_wider_container_is_noticed(engine: Engine) -> None:
    reviewed = audit.reach(audit.load("default.txt"))
    # Never privileged: among the calls are some that would do something to the host.
    security = security_pb2.SecuritySpec(
        add_capabilities=["ALL"],
        seccomp=security_pb2.SeccompProfile(unconfined=True),
        masked_paths=security_pb2.PathList(),
        read_only_paths=security_pb2.PathList(),
    )
    wider = audit.reach(found_in(engine, security=security, namespaces=OWN_USERS)) - reviewed
    for word in (
        "call mount tmpfs",
        "call unshare CLONE_NEWNS",
        "call keyctl",
        "key add to process",
        "without Seccomp",
        "CapEff 21",
        "read /proc/interrupts",
    ):
        assert word in wider, word
    network = network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_HOST)
    spaces = security_pb2.NamespacesSpec(pid=security_pb2.NamespaceSpec(mode=security_pb2.NamespaceSpec.MODE_HOST))
    image = load(engine, tarball.file("probe", audit.program(), mode=0o755))
    out, _, _ = engine.run(image, "/probe", *audit.arguments(), network=network, namespaces=spaces)
    wider = audit.reach(audit.parse(out.decode())) - reviewed
    assert {"namespace net of the host", "namespace pid of the host", "process 5"} <= wider


@pytest.mark.parametrize("name", SEES)
def test_nothing_is_wider_than_dockers(name: str) -> None:
    ours, docker = audit.reach(audit.load(name)), audit.reach(audit.load("docker.txt"))
    wider = ours - docker - allowed_by_docker_today()
    assert wider == set(NARROWER)
    # It is docker's that was audited, and it has more.
    assert "namespace cgroup of the host" in docker - ours


def test_no_socket_of_the_kernels_ciphers_or_of_virtual_machines_can_be_made(engine: Engine) -> None:
    """CVE-2026-31431: AF_ALG let a default container write into pages of files that it could only read."""
    if shutil.which("gcc"):
        found = audit.reach(found_in(engine, namespaces=OWN_USERS))
    else:
        found = audit.reach(audit.load("default.txt"))
    sockets = {one for one in found if one.startswith("socket ")}
    assert "socket AF_INET STREAM" in sockets
    assert not {one for one in sockets if one.split()[1] in {"AF_ALG", "AF_VSOCK"}}


def test_the_table_of_the_document_is_of_these_audits() -> None:
    document = Path(audit.REPOSITORY, "docs/security.md").read_text()
    for row in audit.table({name: audit.load(f"{name}.txt") for name in ("default", "host-users", "docker", "podman")}):
        assert row in document
