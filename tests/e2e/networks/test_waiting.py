"""Interfaces that are made ahead: taken by the containers that they fit, and never anybody else's."""

import json
import os
import signal
from pathlib import Path

import pytest

from fluyt.v1.types import container_pb2, network_pb2
from fluytd.containers.waiting import MAX_WAITING
from tests.e2e.networks.steps import (
    BRIDGE,
    exec_in,
    fetch,
    get,
    make_network,
    on,
    port,
    served,
    shell,
)
from tests.support.namespaces import NetworkEngine, is_waiting
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("root", "busybox", "nft", "ip")


def waiting(engine: NetworkEngine) -> set[str]:
    """The host's ends of those that wait."""
    return {name for name in engine.host.all_links() if is_waiting(name)}


def ready(engine: NetworkEngine) -> set[int]:
    """The numbers of those that wait, once there are as many as may be."""
    shell(engine, "true", mode=BRIDGE)
    until_now(lambda: len(waiting(engine)) == MAX_WAITING, "interfaces wait")
    shown = json.loads(engine.host.run("ip", "-j", "link"))
    return {one["ifindex"] for one in shown if is_waiting(one["ifname"])}


def peers(engine: NetworkEngine, container: container_pb2.Container) -> list[int]:
    """The numbers of the host's ends of a container's interfaces, in the order of the interfaces' names."""
    shown = json.loads(exec_in(engine, container, "ip", "-j", "link", "show", "type", "veth"))
    return [one["link_index"] for one in sorted(shown, key=lambda one: str(one["ifname"]))]


def test_a_container_takes_one_that_waits_for_its_first_network(engine: NetworkEngine) -> None:
    numbers = ready(engine)
    make_network(engine, "second", mtu=1400, enable_ipv6=True)
    web = served(engine, "web", attachments=on("second", "bridge"), published_ports=[port(80, 8171)])
    first, further = peers(engine, web)
    assert first in numbers
    assert further not in numbers
    shown = json.loads(exec_in(engine, web, "ip", "-j", "link", "show", "eth0"))[0]
    assert (shown["mtu"], shown["address"]) == (1400, web.networks[0].mac_address)
    assert fetch(engine.host, "127.0.0.1", 8171) == "web"
    # Names are answered, by sockets that were opened before anybody asked for them.
    out, _ = shell(engine, "wget -qO- http://web/", attachments=on("second"))
    assert out.strip() == "web"


def test_an_interface_that_waits_gets_the_name_that_is_asked_for(engine: NetworkEngine) -> None:
    numbers = ready(engine)
    web = served(engine, "web", attachments=on("bridge", interface_name="lan7"), published_ports=[port(80, 8172)])
    assert peers(engine, web)[0] in numbers
    assert [one.interface_name for one in get(engine, "web").networks] == ["lan7"]
    assert fetch(engine.host, "127.0.0.1", 8172) == "web"


def test_a_container_without_a_network_never_gets_one(engine: NetworkEngine) -> None:
    ready(engine)
    for _ in range(MAX_WAITING + 1):
        out, _ = shell(engine, "ls /sys/class/net", mode=network_pb2.NetworkSpec.MODE_NONE)
        assert out.split() == ["lo"]
    assert len(waiting(engine)) == MAX_WAITING


def test_one_that_somebody_removed_or_whose_supervisor_was_killed_is_not_missed(engine: NetworkEngine) -> None:
    ready(engine)
    for name in waiting(engine):
        engine.host.run("ip", "link", "delete", name)
    served(engine, "web", published_ports=[port(80, 8173)])
    assert fetch(engine.host, "127.0.0.1", 8173) == "web"
    until_now(lambda: waiting(engine), "another waits")
    for pid in children(engine.process.pid):
        if b"----" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    served(engine, "other", published_ports=[port(80, 8174)])
    assert fetch(engine.host, "127.0.0.1", 8174) == "other"


def children(pid: int) -> list[int]:
    """The processes that a process is the parent of."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(one) for task in tasks for one in (task / "children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["asked", "killed"])
def test_none_waits_any_more_when_the_daemon_has_ended(engine: NetworkEngine, number: int) -> None:
    ready(engine)
    engine.channel.close()
    engine.process.send_signal(number)
    engine.process.wait(30)
    until_now(lambda: not waiting(engine), "they go with the daemon")
    engine.start()
    assert not waiting(engine)
