"""Namespaces that a container has from the host or from another container, and what happens when that one ends."""

import platform
from pathlib import Path
from typing import Any

import pytest

from fluyt.v1.types import container_pb2, network_pb2, security_pb2
from tests.e2e.containers.sees_steps import shell, sleeper
from tests.e2e.containers.steps import (
    INVALID,
    WRONG_STATE,
    create,
    delete,
    exit_of,
    get,
    refused,
    refused_run,
    start,
    wait,
)
from tests.support.engine import Engine
from tests.support.wait import until_now

RUNNING = container_pb2.Container.STATE_RUNNING
MODE = security_pb2.NamespaceSpec
KINDS = {"pid": "pid", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup"}


def spaces(**kinds: security_pb2.NamespaceSpec) -> security_pb2.NamespacesSpec:
    return security_pb2.NamespacesSpec(**kinds)  # type: ignore[arg-type]


def namespace(mode: int, container: str = "") -> security_pb2.NamespaceSpec:
    return security_pb2.NamespaceSpec(mode=mode, container=container)  # type: ignore[arg-type]


def joining(name: str, *kinds: str) -> security_pb2.NamespacesSpec:
    """These namespaces are those of a container."""
    return spaces(**{kind: namespace(MODE.MODE_CONTAINER, name) for kind in kinds})


def network_of(name: str) -> network_pb2.NetworkSpec:
    return network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_CONTAINER, container=name)


LINKS = "for n in net pid ipc uts cgroup; do readlink /proc/self/ns/$n; done"


def links_of(pid: int | str) -> list[str]:
    return [str(Path(f"/proc/{pid}/ns/{name}").readlink()) for name in ("net", "pid", "ipc", "uts", "cgroup")]


def test_every_namespace_can_be_that_of_the_host(engine: Engine) -> None:
    host = spaces(**{kind: namespace(MODE.MODE_HOST) for kind in KINDS})
    of_host = network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_HOST)
    assert shell(engine, LINKS, namespaces=host, network=of_host).split() == links_of("self")
    told = shell(engine, "hostname; cat /etc/hostname; test $$ -ne 1 && echo other", namespaces=host)
    assert told.split() == [platform.node(), platform.node(), "other"]
    # And none is, unless it is asked for.
    assert not set(shell(engine, LINKS).split()) & set(links_of("self"))


def test_every_namespace_can_be_that_of_another_container(engine: Engine) -> None:
    security = security_pb2.NamespacesSpec(ipc=namespace(MODE.MODE_SHAREABLE))
    other = sleeper(engine, "other", hostname="box", namespaces=security)
    shared: dict[str, Any] = {"namespaces": joining("other", *KINDS), "network": network_of("other")}
    mate = sleeper(engine, "mate", **shared)
    assert links_of(mate.host_pid) == links_of(other.host_pid)
    told = shell(engine, "hostname; cat /etc/hostname; ps -o comm | grep -c sleep", **shared).split()
    assert told == ["box", "box", "2"]
    # They are named by id from then on, so that a rename changes nothing.
    spec = get(engine, "mate").spec
    assert {getattr(spec.namespaces, kind).container for kind in KINDS} | {spec.network.container} == {other.id}
    # Groups, root and limits are its own.
    assert shell(engine, "touch /only-here; ls /proc/1/root/only-here 2>/dev/null; true", **shared) == ""
    # What it starts later is in them too, and its end harms the other one not.
    delete(engine, "mate", force=True)
    assert get(engine, "other").state == RUNNING


def test_shared_memory_is_seen_by_all_who_share_it_and_by_no_one_else(engine: Engine) -> None:
    shareable = security_pb2.NamespacesSpec(ipc=namespace(MODE.MODE_SHAREABLE))
    private = security_pb2.NamespacesSpec(ipc=namespace(MODE.MODE_PRIVATE))
    script = "echo from-one > /dev/shm/x; sleep 1000"
    start(engine, create(engine, "sh", "-c", script, name="one", namespaces=shareable, shm_size_bytes=1 << 20).id)
    look = "cat /dev/shm/x; df -k /dev/shm | awk 'NR==2 {print $2}'"
    joined = joining("one", "ipc")
    until_now(lambda: "from-one" in shell(engine, "cat /dev/shm/x 2>/dev/null; true", namespaces=joined), "it is there")
    assert shell(engine, look, namespaces=joined).split() == ["from-one", "1024"]
    assert shell(engine, "ls /dev/shm", namespaces=private) == ""
    none = security_pb2.NamespacesSpec(ipc=namespace(MODE.MODE_NONE))
    assert shell(engine, "test -e /dev/shm || echo none", namespaces=none) == "none\n"
    sleeper(engine, "two", namespaces=private)
    refusal = refused(lambda: create(engine, "true", namespaces=joining("two", "ipc")))
    assert refusal[:2] == (INVALID, "FIELD_INVALID")
    assert "shareable" in refusal[2]["rule"]


def test_z05_a_link_in_place_of_the_shared_memory_leads_nowhere(engine: Engine) -> None:
    shareable = security_pb2.NamespacesSpec(ipc=namespace(MODE.MODE_SHAREABLE))
    security = security_pb2.SecuritySpec(privileged=True)
    script = "umount /dev/shm && rmdir /dev/shm && ln -s /etc /dev/shm && echo done; sleep 1000"
    start(engine, create(engine, "sh", "-c", script, name="evil", namespaces=shareable, security=security).id)
    until_now(lambda: engine.logs("evil") == b"done\n", "the link stands")
    refusal = refused_run(engine, "true", namespaces=joining("evil", "ipc"))
    assert (*refusal[:2], refusal[2]["step"]) == (WRONG_STATE, "PROCESS_START_FAILED", "namespace")


def test_names_are_those_of_the_container_whose_network_it_is(engine: Engine) -> None:
    network = network_pb2.NetworkSpec(
        mode=network_pb2.NetworkSpec.MODE_NONE, extra_hosts=["db:10.0.0.7"], dns_servers=["192.0.2.1"]
    )
    sleeper(engine, "net", network=network, hostname="netbox")
    sleeper(engine, "hop", network=network_of("net"))
    for name in ("net", "hop"):
        told = shell(engine, "grep db /etc/hosts; cat /etc/resolv.conf; hostname", network=network_of(name))
        assert told.split() == ["10.0.0.7", "db", "nameserver", "192.0.2.1", "netbox"]


@pytest.mark.parametrize("kind", ["pid", "network"])
def test_another_container_must_be_there_and_run(engine: Engine, kind: str) -> None:
    def shared(name: str) -> dict[str, Any]:
        return {"network": network_of(name)} if kind == "network" else {"namespaces": joining(name, kind)}

    assert refused(lambda: create(engine, "true", **shared("nobody")))[1] == "CONTAINER_NOT_FOUND"
    made = create(engine, "sleep", "1000", name="idle")
    mate = create(engine, "sleep", "1000", **shared("idle"))
    refusal = refused(lambda: start(engine, mate.id))
    assert refusal[:2] == (WRONG_STATE, "CONTAINER_WRONG_STATE")
    assert refusal[2]["id"] == made.id
    failed = get(engine, mate.id)
    assert (failed.state, failed.exit_code) == (container_pb2.Container.STATE_CREATED, 125)
    start(engine, made.id)
    assert start(engine, mate.id).state == RUNNING
    # Made anew under its name it is another container.
    delete(engine, "idle", force=True)
    if kind == "pid":
        assert exit_of(wait(engine, mate.id)) == ("signal", 9)
    else:
        assert get(engine, mate.id).state == RUNNING
        delete(engine, mate.id, force=True)
        mate = create(engine, "true")
        delete(engine, mate.id)
        return
    sleeper(engine, "idle")
    assert refused(lambda: start(engine, mate.id))[1] == "CONTAINER_NOT_FOUND"


def test_no_circle_can_be_made(engine: Engine) -> None:
    refusal = refused(lambda: create(engine, "true", name="self", namespaces=joining("self", "pid")))
    assert refusal[1] == "CONTAINER_NOT_FOUND"


def test_what_a_container_leaves_in_the_process_ids_of_others_ends_with_it(engine: Engine) -> None:
    host = security_pb2.NamespacesSpec(pid=namespace(MODE.MODE_HOST))
    script = "sleep 4242.5 </dev/null >/dev/null 2>&1 & echo $!"
    left = int(shell(engine, script, namespaces=host))
    until_now(lambda: not Path(f"/proc/{left}").exists(), "its last process has been killed")


def test_a_daemon_that_comes_back_shares_the_namespaces_of_what_ran_on(engine: Engine) -> None:
    other = sleeper(engine, "kept", hostname="box")
    engine.kill()
    engine.start()
    assert shell(engine, LINKS, namespaces=joining("kept", "uts")).split()[3] == links_of(other.host_pid)[3]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"namespaces": joining("", "pid")}, "spec.namespaces.pid.container"),
        ({"namespaces": security_pb2.NamespacesSpec(pid=namespace(2, "x"))}, "spec.namespaces.pid.container"),
        ({"namespaces": security_pb2.NamespacesSpec(pid=namespace(4))}, "spec.namespaces.pid.mode"),
        ({"namespaces": security_pb2.NamespacesSpec(uts=namespace(5))}, "spec.namespaces.uts.mode"),
        ({"namespaces": joining("x" * 300, "pid")}, "spec.namespaces.pid.container"),
        ({"namespaces": security_pb2.NamespacesSpec(uts=namespace(2)), "hostname": "x"}, "spec.hostname"),
        ({"network": network_of("x"), "hostname": "x"}, "spec.hostname"),
        ({"network": network_of("")}, "spec.network.container"),
        ({"namespaces": security_pb2.NamespacesSpec(ipc=namespace(2)), "shm_size_bytes": 9}, "spec.shm_size_bytes"),
        (
            {"namespaces": security_pb2.NamespacesSpec(ipc=namespace(2)), "sysctls": {"kernel.sem": "1"}},
            "spec.sysctls[kernel.sem]",
        ),
        (
            {"namespaces": joining("x", "ipc"), "sysctls": {"fs.mqueue.msg_max": "1"}},
            "spec.sysctls[fs.mqueue.msg_max]",
        ),
        ({"network": network_of("x"), "sysctls": {"net.ipv4.ip_forward": "1"}}, "spec.sysctls[net.ipv4.ip_forward]"),
    ],
)
def test_z10_what_contradicts_a_shared_namespace_is_refused(engine: Engine, spec: dict[str, Any], field: str) -> None:
    refusal = refused(lambda: create(engine, "true", **spec))
    assert (*refusal[:2], refusal[2]["field"]) == (INVALID, "FIELD_INVALID", field)
