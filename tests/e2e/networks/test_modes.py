"""Networks that are another's, the host's or none; addresses as asked of both families, what is left of a range."""

import ipaddress
import socket
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from fluyt import execs
from fluyt.v1 import networks_pb2
from fluyt.v1.types import network_pb2, security_pb2
from tests.e2e.containers.steps import EXISTS, HOST_USERS, INVALID, WRONG_STATE, refused
from tests.e2e.networks.steps import (
    BRIDGE,
    SERVE,
    create,
    delete,
    exec_in,
    fetch,
    get,
    inside,
    ipv4,
    ipv6,
    is_refused,
    make_network,
    on,
    port,
    served,
    shell,
    start,
    stop,
)
from tests.e2e.networks.test_networks import connect, disconnect
from tests.support.dns import ask
from tests.support.namespaces import Machine, NetworkEngine
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("root", "busybox", "nft", "ip")
Subnet = networks_pb2.Subnet
OF_CONTAINER = network_pb2.NetworkSpec.MODE_CONTAINER
HOST, NONE = network_pb2.NetworkSpec.MODE_HOST, network_pb2.NetworkSpec.MODE_NONE


def said(engine: NetworkEngine, container: str, script: str) -> str:
    """What a script prints in a running container, however it ends."""
    return execs.run(engine.channel, container, ["sh", "-c", script]).stdout.decode().strip()


def test_who_has_anothers_network_is_reached_by_its_ports_and_its_loopback(
    engine: NetworkEngine, other_machine: Machine
) -> None:
    make_network(engine, "front")
    create(engine, "owner", "sleep", "1000", attachments=on("front"), published_ports=[port(80, 8701)])
    owner = start(engine, "owner")
    served(engine, "guest", mode=OF_CONTAINER, container="owner")
    assert fetch(other_machine, "192.0.2.1", 8701) == fetch(engine.host, "127.0.0.1", 8701) == "guest"
    assert said(engine, "owner", "wget -qO- http://127.0.0.1/") == "guest"
    assert shell(engine, "wget -qO- http://owner/", attachments=on("front")) == ("guest\n", 0)
    # It resolves what the owner resolves, has its names, and no address of its own.
    served(engine, "neighbour", attachments=on("front"))
    assert said(engine, "guest", "wget -qO- http://neighbour/; cat /etc/hosts | grep -c owner") == "neighbour\n0"
    assert said(engine, "guest", "hostname") == said(engine, "owner", "hostname") == owner.id[:12]
    assert not get(engine, "guest").networks
    # It comes to a network with the owner, and not by itself.
    make_network(engine, "back")
    assert refused(lambda: connect(engine, "guest", "back"))[:2] == (WRONG_STATE, "NOT_ATTACHED")
    connect(engine, "owner", "back")
    assert "eth1" in said(engine, "guest", "ls /sys/class/net")


def test_a_guest_is_started_anew_with_its_owner(engine: NetworkEngine) -> None:
    create(engine, "owner", "sleep", "1000", published_ports=[port(80, 8702)])
    start(engine, "owner")
    served(engine, "guest", mode=OF_CONTAINER, container="owner")
    stop(engine, "owner")
    # The port goes with the owner, though the namespace has somebody in it.
    assert is_refused(engine.host, "127.0.0.1", 8702)
    stop(engine, "guest")
    assert refused(lambda: start(engine, "guest"))[:2] == (WRONG_STATE, "CONTAINER_WRONG_STATE")
    start(engine, "owner")
    start(engine, "guest")
    until_now(lambda: not is_refused(engine.host, "127.0.0.1", 8702), "it listens")
    until_now(lambda: said(engine, "guest", "wget -qO- http://127.0.0.1/") == "guest", "it answers")
    assert fetch(engine.host, "127.0.0.1", 8702) == "guest"


def test_the_hosts_network_has_the_hosts_addresses_ports_and_names(
    engine: NetworkEngine, other_machine: Machine
) -> None:
    script = SERVE.replace("[::]:80", "[::]:8703")
    served(engine, "web", script, mode=HOST)
    assert fetch(other_machine, "192.0.2.1", 8703) == fetch(engine.host, "::1", 8703) == "web"
    assert said(engine, "web", "hostname") == socket.gethostname()
    assert said(engine, "web", "cat /etc/hosts") == Path("/etc/hosts").read_text().strip()
    own = said(engine, "web", "readlink /proc/self/ns/net")
    assert own == engine.host.inside(lambda: str(Path("/proc/thread-self/ns/net").readlink()))
    # Nobody on a bridge is kept from it, as from any program of the host.
    gateway = next(one.subnets[0].gateway for one in _networks(engine) if one.name == "bridge")
    assert shell(engine, f"wget -qO- http://{gateway}:8703/", mode=BRIDGE) == ("web\n", 0)


def _networks(engine: NetworkEngine) -> list[networks_pb2.Network]:
    return [*engine.networks.ListNetworks(networks_pb2.ListNetworksRequest()).networks]


@pytest.mark.parametrize("spaces", [security_pb2.NamespacesSpec(), HOST_USERS], ids=["own", "host"])
def test_n07_without_a_network_both_loopback_addresses_work_and_nothing_is_beyond(
    engine: NetworkEngine, spaces: security_pb2.NamespacesSpec
) -> None:
    script = (
        "ls /sys/class/net; cat /sys/class/net/lo/operstate; grep -c localhost /etc/hosts;"
        " ping -c 1 -W 5 127.0.0.1 >/dev/null && echo four; ping -c 1 -W 5 ::1 >/dev/null && echo six;"
        " ip route; ip -6 route show default"
    )
    network = network_pb2.NetworkSpec(mode=NONE)
    out, err, _ = engine.run("busybox:1", "sh", "-c", script, network=network, namespaces=spaces)
    assert out.decode().split() == ["lo", "unknown", "2", "four", "six"], err


def test_addresses_gateways_and_part_of_a_range_are_as_asked_by_ipv6_too(engine: NetworkEngine) -> None:
    subnets = [
        Subnet(cidr="10.77.1.0/24", gateway="10.77.1.77"),
        Subnet(cidr="fd77::/64", gateway="fd77::77", allocation_range="fd77::ab00/120"),
    ]
    network = make_network(engine, "own", subnets=subnets, mtu=1280, enable_ipv6=True)
    assert [one.gateway for one in network.subnets] == ["10.77.1.77", "fd77::77"]
    web = served(engine, "web", attachments=on("own", ipv4_address="10.77.1.5", ipv6_address="fd77::5"))
    (endpoint,) = web.networks
    assert (endpoint.ipv6_address, endpoint.ipv6_gateway, endpoint.ipv4_gateway) == (
        "fd77::5/64",
        "fd77::77",
        "10.77.1.77",
    )
    assert "default via fd77::77 dev eth0" in exec_in(engine, web, "ip", "-6", "route")
    assert "mtu 1280" in exec_in(engine, web, "ip", "link", "show", "eth0")
    assert fetch(engine.host, "fd77::5", 80) == fetch(engine.host, "10.77.1.5", 80) == "web"
    other = served(engine, "other", attachments=on("own"))
    assert ipaddress.ip_address(ipv6(other)) in ipaddress.ip_network("fd77::ab00/120")
    for fields, holder in (
        ({"ipv6_address": "fd77::5"}, "container web"),
        ({"ipv6_address": "fd77::77"}, "the gateway"),
        ({"ipv4_address": "10.77.1.77"}, "the gateway"),
    ):
        create(engine, "late", "true", attachments=on("own", **fields))
        code, reason, facts = refused(lambda: start(engine, "late"))
        assert (code, reason, facts["holder"]) == (EXISTS, "ADDRESS_IN_USE", holder)
        delete(engine, "late")
    # A later daemon knows who has which, and gives nobody's to another.
    engine.kill()
    engine.start()
    create(engine, "late", "true", attachments=on("own", ipv6_address="fd77::5"))
    assert refused(lambda: start(engine, "late"))[2]["holder"] == "container web"
    assert get(engine, "web").networks == web.networks


def test_a_range_that_is_used_up_says_so_and_has_room_again(engine: NetworkEngine) -> None:
    make_network(engine, "tiny", subnets=[Subnet(cidr="10.77.2.0/29")])
    names = [f"c{number}" for number in range(6)]
    for name in names[:5]:
        create(engine, name, "sleep", "1000", attachments=on("tiny"))
        start(engine, name)
    create(engine, names[5], "sleep", "1000", attachments=on("tiny"))
    _, reason, facts = refused(lambda: start(engine, names[5]))
    assert reason == "ADDRESSES_EXHAUSTED", facts
    assert "10.77.2.0/29" in str(facts)
    gone = ipv4(get(engine, names[2]))
    stop(engine, names[2])
    assert ipv4(start(engine, names[5])) == gone


def test_what_leaves_has_the_hosts_address_or_its_own(engine: NetworkEngine, other_machine: Machine) -> None:
    make_network(engine, "behind")
    network = make_network(engine, "open", driver_options={"masquerade": "false"})
    other_machine.run("ip", "route", "replace", network.subnets[0].cidr, "via", "192.0.2.1")

    def seen(name: str) -> tuple[str, str]:
        """Whom another machine sees, and who it was."""
        listening = other_machine.inside(lambda: socket.create_server(("192.0.2.2", 8704)))
        with closing(listening):
            listening.settimeout(20)
            create(engine, f"from-{name}", "sleep", "1000", attachments=on(name))
            container = start(engine, f"from-{name}")
            calling = inside(container).inside(lambda: socket.create_connection(("192.0.2.2", 8704), 10))
            with closing(calling):
                accepted, (address, _) = listening.accept()
                accepted.close()
        return address, ipv4(container)

    address, own = seen("behind")
    assert (address, address == own) == ("192.0.2.1", False)
    address, own = seen("open")
    assert address == own


def test_the_way_out_is_by_the_network_of_the_highest_priority(engine: NetworkEngine) -> None:
    for name in ("one", "two", "three"):
        make_network(engine, name)
    wanted = [
        network_pb2.NetworkAttachment(network=name, gateway_priority=priority)
        for name, priority in (("one", 0), ("two", 7), ("three", -1))
    ]
    web = served(engine, "web", attachments=wanted, published_ports=[port(80, 8705)])

    def is_by(name: str) -> bool:
        """Whether it is, ports of the host lead there, and so it is after the daemon was killed."""
        endpoint = next(one for one in get(engine, "web").networks if one.network_name == name)
        way = f"default via {endpoint.ipv4_gateway} dev {endpoint.interface_name}"
        assert fetch(engine.host, "127.0.0.1", 8705) == fetch(engine.host, "::1", 8705) == "web"
        shown = engine.host.run("nft", "list", "map", "inet", "fluyt", "publish_any_4")
        return way in exec_in(engine, web, "ip", "route") and f"8705 : {ipv4_of(endpoint)} . 80" in shown

    assert is_by("two")
    connect(engine, "web", "bridge", gateway_priority=7)
    assert is_by("two"), "the first of several"
    disconnect(engine, "web", "bridge")
    connect(engine, "web", "bridge", gateway_priority=9)
    assert is_by("bridge")
    engine.kill()
    engine.start()
    assert is_by("bridge")
    disconnect(engine, "web", "bridge")
    assert is_by("two")
    disconnect(engine, "web", "two")
    assert is_by("one")
    stop(engine, "web")
    connect(engine, "web", "two", gateway_priority=3)
    start(engine, "web")
    web = get(engine, "web")
    assert f"default via {web.networks[2].ipv4_gateway} dev eth2" in exec_in(engine, web, "ip", "route")


def ipv4_of(endpoint: network_pb2.NetworkEndpoint) -> str:
    """Its address."""
    return endpoint.ipv4_address.partition("/")[0]


def test_names_of_an_internal_network_resolve_and_ipv6_has_no_way_out_of_it(
    engine: NetworkEngine, other_machine: Machine
) -> None:
    make_network(engine, "inner", internal=True, enable_ipv6=True)
    web = served(engine, "web", attachments=on("inner", aliases=["www"]))
    here = inside(served(engine, "asks", attachments=on("inner")))
    assert ask(here, "www").values == (ipv4(web),)
    assert fetch(here, ipv6(web), 80) == "web"
    assert is_refused(here, "2001:db8::2", 80)
    assert "default" not in exec_in(engine, web, "ip", "-6", "route")
    assert other_machine.run("ip", "-6", "route", "show", "default") != ""


def test_options_of_a_bridge_have_dockers_names_too(engine: NetworkEngine) -> None:
    dockers = "com.docker.network."
    network = make_network(
        engine,
        "named",
        driver_options={
            f"{dockers}driver.mtu": "1400",
            f"{dockers}bridge.enable_ip_masquerade": "False",
            f"{dockers}bridge.enable_icc": "true",
            "isolation": "false",
        },
    )
    assert (network.mtu, dict(network.driver_options)) == (1400, {"masquerade": "false", "isolation": "false"})
    create(engine, "web", "sleep", "1000", attachments=on("named"))
    assert "mtu 1400" in exec_in(engine, start(engine, "web"), "ip", "link", "show", "eth0")
    for option, value, mtu in (
        ("driver.mtu", "many", 0),
        ("driver.mtu", "10", 0),
        ("driver.mtu", "1400", 1300),
        ("bridge.enable_ip_masquerade", "maybe", 0),
        ("bridge.enable_icc", "false", 0),
        ("bridge.name", "br9", 0),
    ):
        asked = partial(make_network, engine, "odd", driver_options={dockers + option: value}, mtu=mtu)
        assert refused(asked)[:2] == (INVALID, "FIELD_INVALID"), (option, value)
