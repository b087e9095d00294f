"""Networks themselves, and containers that come to them and leave them."""

import ipaddress
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from fluyt.v1 import networks_pb2
from fluyt.v1.types import network_pb2, security_pb2
from tests.e2e.containers.steps import EXISTS, HOST_USERS, INVALID, NOT_FOUND, WRONG_STATE, load, refused
from tests.e2e.networks.steps import (
    BRIDGE,
    IMAGE,
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
    networks,
    on,
    port,
    served,
    shell,
    start,
    stop,
)
from tests.support import programs, tarball
from tests.support.namespaces import Machine, NetworkEngine, is_waiting
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("root", "busybox", "nft", "ip")
Subnet = networks_pb2.Subnet
OWN_USERS = security_pb2.NamespacesSpec(
    user=security_pb2.UserNamespaceSpec(mode=security_pb2.UserNamespaceSpec.MODE_AUTO)
)


def connect(engine: NetworkEngine, name: str, network: str, **fields: object) -> network_pb2.NetworkEndpoint:
    """ConnectContainer's answer."""
    attachment = network_pb2.NetworkAttachment(network=network, **fields)  # type: ignore[arg-type]
    request = networks_pb2.ConnectContainerRequest(container=name, attachment=attachment)
    return engine.networks.ConnectContainer(request).endpoint  # type: ignore[no-any-return]


def disconnect(engine: NetworkEngine, name: str, network: str) -> list[str]:
    """DisconnectContainer's answer."""
    request = networks_pb2.DisconnectContainerRequest(container=name, network=network)
    return [*engine.networks.DisconnectContainer(request).network_ids]


def test_the_engines_own_network_is_there_before_its_bridge_and_stays(engine: NetworkEngine) -> None:
    (default,) = networks(engine)
    assert (default.name, default.bridge_name, default.driver) == ("bridge", "fluyt0", "bridge")
    (subnet,) = default.subnets
    assert ipaddress.ip_network(subnet.cidr).subnet_of(ipaddress.ip_network("10.208.0.0/12"))  # type: ignore[arg-type]
    request = networks_pb2.DeleteNetworkRequest(network="fluyt0")
    assert refused(lambda: engine.networks.DeleteNetwork(request))[1] == "NETWORK_IN_USE"
    assert not engine.networks.PruneNetworks(networks_pb2.PruneNetworksRequest()).deleted


def test_a_container_gets_an_address_a_gateway_names_and_a_way_out(
    engine: NetworkEngine, other_machine: Machine
) -> None:
    script = "ip -o address; ip route; cat /etc/hosts"
    out, code = shell(engine, script)
    assert code == 0
    (default,) = networks(engine)
    gateway = default.subnets[0].gateway
    assert f"default via {gateway} dev eth0" in out
    address = next(line.split()[3] for line in out.splitlines() if " eth0 " in line and "inet " in line)
    assert ipaddress.ip_interface(address).network == ipaddress.ip_network(default.subnets[0].cidr)
    assert any(line.startswith(address.partition("/")[0]) for line in out.splitlines())
    # Another machine sees the host in its place.
    other_machine.run("ip", "route", "del", "default")
    try:
        assert shell(engine, "ping -c 1 -W 5 192.0.2.2")[1] == 0
    finally:
        other_machine.run("ip", "route", "add", "default", "via", "192.0.2.1")


def test_containers_of_one_network_reach_each_other_and_no_other_network(engine: NetworkEngine) -> None:
    names = ("red", "blue")
    for name in names:
        make_network(engine, name, enable_ipv6=True)
    running = {
        f"{network}-{number}": served(engine, f"{network}-{number}", attachments=on(network))
        for network in names
        for number in range(5)
    }
    assert len({ipv4(one) for one in running.values()}) == len(running)
    for network in names:
        asker = inside(running[f"{network}-0"])
        for name, one in running.items():
            for address in (ipv4(one), ipv6(one)):
                if name.startswith(network):
                    assert fetch(asker, address, 80) == name
                elif name.endswith("1"):
                    assert is_refused(asker, address, 80, patience=0.2), (network, name)


def test_networks_that_are_not_isolated_reach_each_other(engine: NetworkEngine) -> None:
    for name in ("red", "blue"):
        make_network(engine, name, driver_options={"isolation": "false"})
    make_network(engine, "closed")
    red = served(engine, "red-web", attachments=on("red"))
    closed = served(engine, "closed-web", attachments=on("closed"))
    asker = inside(served(engine, "blue-web", attachments=on("blue")))
    assert fetch(asker, ipv4(red), 80) == "red-web"
    assert is_refused(asker, ipv4(closed), 80)


def test_an_internal_network_has_no_way_out_and_none_in(engine: NetworkEngine, other_machine: Machine) -> None:
    network = make_network(engine, "inner", internal=True)
    assert network.is_internal
    web = served(engine, "web", attachments=on("inner"), published_ports=[port(80, 8090)])
    assert not web.published_ports
    assert is_refused(other_machine, "192.0.2.1", 8090)
    out, _ = shell(engine, f"ip route; wget -q -O - http://{ipv4(web)}/", mode=BRIDGE, attachments=on("inner"))
    assert "default" not in out
    assert out.endswith("web\n")
    routed = f"ip route add default via {network.subnets[0].gateway}; ping -c 1 -W 1 192.0.2.2"
    _, _, ended = engine.run(
        "busybox:1", "sh", "-c", routed, network={"attachments": on("inner")}, security={"privileged": True}
    )
    assert ended.exit_code == 1


def test_ipv6_is_served_to_the_host_to_neighbours_and_to_another_machine(
    engine: NetworkEngine, other_machine: Machine
) -> None:
    network = make_network(engine, "six", enable_ipv6=True)
    assert network.has_ipv6
    assert ipaddress.ip_network(network.subnets[1].cidr).is_private
    web = served(engine, "web", attachments=on("six"), published_ports=[port(80, 8091)])
    assert fetch(engine.host, ipv6(web), 80) == "web"
    assert fetch(engine.host, "2001:db8::1", 8091) == "web"
    assert fetch(other_machine, "2001:db8::1", 8091) == "web"
    script = f"wget -q -O - http://[{ipv6(web)}]/ && ping -c 1 -W 5 2001:db8::2"
    out, code = shell(engine, script, mode=BRIDGE, attachments=on("six"))
    assert (out.splitlines()[0], code) == ("web", 0)


def test_subnets_gateways_and_addresses_are_as_asked(engine: NetworkEngine) -> None:
    subnets = [Subnet(cidr="10.77.0.0/24", gateway="10.77.0.254", allocation_range="10.77.0.128/28")]
    make_network(engine, "own", subnets=subnets, mtu=1400, labels={"tier": "back"})
    fixed = on("own", ipv4_address="10.77.0.5", mac_address="02:00:00:00:00:05", interface_name="web0")
    create(engine, "fixed", "sleep", "1000", attachments=fixed)
    running = start(engine, "fixed")
    (endpoint,) = running.networks
    assert (endpoint.ipv4_address, endpoint.ipv4_gateway, endpoint.interface_name) == (
        "10.77.0.5/24",
        "10.77.0.254",
        "web0",
    )
    link = exec_in(engine, running, "ip", "link", "show", "web0")
    assert "02:00:00:00:00:05" in link
    assert "mtu 1400" in link
    create(engine, "same", "sleep", "1000", attachments=fixed)
    code, reason, facts = refused(lambda: start(engine, "same"))
    assert (code, reason, facts["holder"]) == (EXISTS, "ADDRESS_IN_USE", "container fixed")
    create(engine, "any", "sleep", "1000", attachments=on("own"))
    assert ipaddress.ip_address(ipv4(start(engine, "any"))) in ipaddress.ip_network("10.77.0.128/28")
    stop(engine, "fixed")
    start(engine, "same")
    wanted = networks_pb2.NetworkFilter(labels=["tier=back"])
    found = engine.networks.ListNetworks(networks_pb2.ListNetworksRequest(filter=wanted)).networks
    assert [one.name for one in found] == ["own"]
    assert sorted(found[0].container_ids) == sorted(get(engine, name).id for name in ("fixed", "same", "any"))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": "a b"}, "FIELD_INVALID"),
        ({"name": "host"}, "FIELD_INVALID"),
        ({"name": "n" * 129}, "FIELD_INVALID"),
        ({"subnets": [Subnet(cidr="10.1.2.3/24")]}, "FIELD_INVALID"),
        ({"subnets": [Subnet(cidr="10.1.2.0/31")]}, "FIELD_INVALID"),
        ({"subnets": [Subnet(cidr="127.0.0.0/16")]}, "FIELD_INVALID"),
        ({"subnets": [Subnet(cidr="10.1.0.0/16"), Subnet(cidr="10.2.0.0/16")]}, "FIELD_INVALID"),
        ({"subnets": [Subnet(cidr="10.1.0.0/16", gateway="10.2.0.1")]}, "FIELD_INVALID"),
        ({"subnets": [Subnet(cidr="10.1.0.0/16", gateway="10.1.255.255")]}, "FIELD_INVALID"),
        ({"subnets": [Subnet(cidr="10.1.0.0/16", allocation_range="10.2.0.0/24")]}, "FIELD_INVALID"),
        ({"subnets": [Subnet(cidr="192.0.2.0/25")]}, "SUBNET_IN_USE"),
        ({"mtu": 10}, "FIELD_INVALID"),
        ({"mtu": 1000, "enable_ipv6": True}, "FIELD_INVALID"),
        ({"driver": "overlay"}, "FIELD_INVALID"),
        ({"driver": "cni"}, "FIELD_INVALID"),
        ({"driver_options": {"color": "red"}}, "FIELD_INVALID"),
        ({"labels": {f"label-{number}": "" for number in range(257)}}, "LIMIT_EXCEEDED"),
    ],
)
def test_what_no_network_can_be_is_refused(
    engine: NetworkEngine, other_machine: Machine, fields: dict[str, object], reason: str
) -> None:
    assert refused(lambda: make_network(engine, **({"name": "n"} | fields)))[1] == reason  # type: ignore[arg-type]
    assert [one.name for one in networks(engine)] == ["bridge"]


def test_names_and_subnets_are_taken_once_and_networks_in_use_stay(engine: NetworkEngine) -> None:
    first = make_network(engine, "one", subnets=[Subnet(cidr="10.78.0.0/24")])
    assert refused(lambda: make_network(engine, "one"))[:2] == (EXISTS, "NETWORK_EXISTS")
    overlapping = [Subnet(cidr="10.78.0.0/16")]
    code, reason, facts = refused(lambda: make_network(engine, "two", subnets=overlapping))
    assert (code, reason, facts["holder"]) == (EXISTS, "SUBNET_IN_USE", "network one")
    create(engine, "user", "true", attachments=on("one"))
    request = networks_pb2.DeleteNetworkRequest(network=first.id[:12])
    assert refused(lambda: engine.networks.DeleteNetwork(request))[:2] == (WRONG_STATE, "NETWORK_IN_USE")
    assert not engine.networks.PruneNetworks(networks_pb2.PruneNetworksRequest()).deleted
    delete(engine, "user")
    assert engine.networks.PruneNetworks(networks_pb2.PruneNetworksRequest(dry_run=True)).deleted == [first.id]
    assert engine.networks.DeleteNetwork(request).id == first.id
    assert refused(lambda: engine.networks.DeleteNetwork(request))[:2] == (NOT_FOUND, "NETWORK_NOT_FOUND")
    missing = on("one")
    assert refused(lambda: create(engine, "user", "true", attachments=missing))[:2] == (NOT_FOUND, "NETWORK_NOT_FOUND")


def test_a_running_container_is_connected_and_disconnected(engine: NetworkEngine) -> None:
    make_network(engine, "second", enable_ipv6=True)
    neighbour = served(engine, "neighbour", attachments=on("second"))
    running = served(engine, "moving")
    own = inside(running)
    assert is_refused(own, ipv4(neighbour), 80, patience=0.2)
    endpoint = connect(engine, "moving", "second", aliases=["also"])
    assert endpoint.interface_name == "eth1"
    assert connect(engine, "moving", "second") == endpoint
    assert fetch(own, ipv4(neighbour), 80) == fetch(own, ipv6(neighbour), 80) == "neighbour"
    assert [one.network_name for one in get(engine, "moving").networks] == ["bridge", "second"]
    # The way out was the first one's: the second takes it over.
    assert len(disconnect(engine, "moving", "bridge")) == 1
    gateway = get(engine, "moving").networks[0].ipv4_gateway
    assert f"default via {gateway} dev eth1" in exec_in(engine, running, "ip", "route")
    assert disconnect(engine, "moving", "second") == []
    assert "eth" not in exec_in(engine, running, "ip", "-o", "link")
    assert disconnect(engine, "moving", "second") == []
    # It stays so for the next run.
    stop(engine, "moving")
    assert not start(engine, "moving").networks
    connect(engine, "moving", "second")
    stop(engine, "moving")
    assert [one.network_name for one in start(engine, "moving").networks] == ["second"]


def test_only_containers_with_networks_of_the_engine_are_connected(engine: NetworkEngine) -> None:
    create(engine, "alone", "true", mode=network_pb2.NetworkSpec.MODE_NONE)
    assert refused(lambda: connect(engine, "alone", "bridge"))[:2] == (WRONG_STATE, "NOT_ATTACHED")
    assert refused(lambda: connect(engine, "nobody", "bridge"))[:2] == (NOT_FOUND, "CONTAINER_NOT_FOUND")
    for fields in ({"attachments": on("bridge")}, {"published_ports": [port(80)]}, {"publish_all_ports": True}):
        wanted = {"mode": network_pb2.NetworkSpec.MODE_NONE} | fields
        assert refused(lambda wanted=wanted: create(engine, "xx", "true", **wanted))[:2] == (INVALID, "FIELD_INVALID")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("attachment", "field"),
    [
        ({"network": ""}, "network"),
        ({"ipv4_address": "fd00::1"}, "ipv4_address"),
        ({"ipv6_address": "fd00::1"}, "ipv6_address"),
        ({"ipv6_address": "x"}, "ipv6_address"),
        ({"mac_address": "01:00:00:00:00:01"}, "mac_address"),
        ({"mac_address": "02-00-00-00-00-01"}, "mac_address"),
        ({"interface_name": "lo"}, "interface_name"),
        ({"interface_name": "sixteen-letters-"}, "interface_name"),
        ({"aliases": ["a b"]}, "aliases[0]"),
        ({"aliases": ["a" * 254]}, "aliases[0]"),
    ],
)
def test_what_no_attachment_can_be_is_refused(engine: NetworkEngine, attachment: dict[str, object], field: str) -> None:
    fields = {"network": "bridge"} | attachment
    wanted = [network_pb2.NetworkAttachment(**fields)]  # type: ignore[arg-type]
    code, reason, facts = refused(lambda: create(engine, "xx", "true", attachments=wanted))
    assert (code, reason, facts["field"]) == (INVALID, "FIELD_INVALID", f"spec.network.attachments[0].{field}")


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (port(0), "FIELD_INVALID"),
        (port(65536), "FIELD_INVALID"),
        (port(80, 70000), "FIELD_INVALID"),
        (port(65535, port_count=2), "FIELD_INVALID"),
        (port(1, port_count=4097), "LIMIT_EXCEEDED"),
        (port(80, host_port_count=2), "FIELD_INVALID"),
        (port(80, 65535, host_port_count=2), "FIELD_INVALID"),
        (port(80, 8000, port_count=2, host_port_count=2), "FIELD_INVALID"),
        (port(80, 8000, host_port_count=4097), "LIMIT_EXCEEDED"),
        (port(80, host_address="localhost"), "FIELD_INVALID"),
        (port(80, protocol=9), "FIELD_INVALID"),
        (port(80, allowed_sources=["x"]), "FIELD_INVALID"),
        (port(80, allowed_sources=["10.0.0.0/8"] * 65), "LIMIT_EXCEEDED"),
    ],
)
def test_what_no_published_port_can_be_is_refused(
    engine: NetworkEngine, wanted: network_pb2.PublishedPort, reason: str
) -> None:
    assert refused(lambda: create(engine, "xx", "true", published_ports=[wanted]))[:2][1] == reason


def test_an_address_that_the_host_has_not_is_refused_at_the_start(engine: NetworkEngine) -> None:
    create(engine, "xx", "true", published_ports=[port(80, 8095, host_address="203.0.113.9")])
    code, reason, facts = refused(lambda: start(engine, "xx"))
    assert (code, reason, facts["field"]) == (INVALID, "FIELD_INVALID", "host_address")


def test_n06_a_container_is_told_of_resolvers_that_it_can_reach(engine: NetworkEngine) -> None:
    hosts_file = engine.root / "resolv.conf"
    behind = Path("/run/systemd/resolve/resolv.conf")
    before = hosts_file.read_text()

    def told(**network: object) -> list[str]:
        return shell(engine, "cat /etc/resolv.conf", **network)[0].splitlines()

    for mode in (BRIDGE, network_pb2.NetworkSpec.MODE_NONE):
        lines = told(mode=mode)
        assert {"options edns0", "search lan"} <= set(lines)
        assert not [line for line in lines if "127." in line]
        if not behind.exists():
            assert "nameserver 192.0.2.53" in lines
    assert sorted(told(mode=network_pb2.NetworkSpec.MODE_HOST)) == sorted(before.splitlines())
    hosts_file.write_text("nameserver 127.0.0.1\nnameserver 192.0.2.7\n")
    try:
        assert told(mode=BRIDGE) == ["nameserver 192.0.2.7"]
        given = {"dns_servers": ["192.0.2.9"], "dns_search": ["a"], "dns_options": ["ndots:2"]}
        assert told(mode=BRIDGE, **given) == ["nameserver 192.0.2.9", "search a", "options ndots:2"]
    finally:
        hosts_file.write_text(before)


def test_names_of_hosts_are_told(engine: NetworkEngine) -> None:
    hosts = ["db:192.0.2.8", "gate:host-gateway", "six:2001:db8::8"]
    out, _ = shell(engine, "cat /etc/hosts; hostname", mode=BRIDGE, extra_hosts=hosts)
    lines = out.splitlines()
    gateway = networks(engine)[0].subnets[0].gateway
    assert {"192.0.2.8\tdb", f"{gateway}\tgate", "2001:db8::8\tsix"} <= set(lines)
    assert any(line.startswith("10.208.") and line.endswith(f"\t{lines[-1]}") for line in lines)


def test_n07_without_a_network_only_lo_is_there_and_up(engine: NetworkEngine) -> None:
    script = "ls /sys/class/net; ip -o link; ping -c 1 -W 5 127.0.0.1 > /dev/null && echo answers; cat /etc/hosts"
    out, code = shell(engine, script, mode=network_pb2.NetworkSpec.MODE_NONE)
    lines = out.splitlines()
    assert (lines[0], code) == ("lo", 0)
    assert "UP" in lines[1]
    assert lines[2] == "answers"
    assert "127.0.0.1\tlocalhost" in lines


def test_the_hosts_network_is_the_hosts(engine: NetworkEngine) -> None:
    out, _ = shell(engine, "ip -o link", mode=network_pb2.NetworkSpec.MODE_HOST)
    names = {line.split(": ")[1].partition("@")[0] for line in out.splitlines()}
    assert {name for name in names if not is_waiting(name)} == engine.host.links()


def test_interfaces_of_containers_go_with_them(engine: NetworkEngine) -> None:
    make_network(engine, "second")
    create(engine, "both", "sleep", "1000", attachments=on("bridge", "second"))
    running = start(engine, "both")
    assert [one.interface_name for one in running.networks] == ["eth0", "eth1"]
    assert len(engine.host.links() - {"lo", "wire", "fluyt0"}) == 3
    delete(engine, "both")
    bridge = next(one.bridge_name for one in networks(engine) if one.name == "second")
    until_now(lambda: engine.host.links() <= {"lo", "wire", "fluyt0", bridge}, "its interfaces go")


def test_neighbours_cannot_teach_a_container_routes_and_low_ports_and_pings_are_for_all(engine: NetworkEngine) -> None:
    make_network(engine, "six", enable_ipv6=True)
    script = "cat /proc/sys/net/ipv6/conf/eth0/accept_ra /proc/sys/net/ipv4/ip_unprivileged_port_start"
    out, _ = shell(engine, script, mode=BRIDGE, attachments=on("six"))
    assert out.split() == ["0", "0"]
    image = load(engine, tarball.file("ping", programs.program("ping"), mode=0o755))
    nothing = security_pb2.SecuritySpec(drop_capabilities=["ALL"])
    for mode in (network_pb2.NetworkSpec.MODE_NONE, BRIDGE):
        for spaces in (HOST_USERS, OWN_USERS):
            network = network_pb2.NetworkSpec(mode=mode)
            given = {"network": network, "namespaces": spaces, "security": nothing, "user": "1000:1000"}
            assert engine.run(image, "/ping", **given)[2].exit_code == 0, given


@pytest.mark.parametrize("spaces", [HOST_USERS, OWN_USERS], ids=["host", "own"])
def test_a_network_of_ones_own_begins_alike_whether_it_was_made_ahead_or_not(
    engine: NetworkEngine, spaces: security_pb2.NamespacesSpec
) -> None:
    """CVE-2024-32473: an interface of a network without IPv6 had an address of it."""
    script = "cd /proc/sys/net; cat ipv4/ip_unprivileged_port_start ipv6/conf/default/accept_ra"
    script += " ipv6/conf/default/addr_gen_mode; ip -6 -o address show dev eth0 2>/dev/null | wc -l"
    found = set()
    for mode in (network_pb2.NetworkSpec.MODE_NONE, BRIDGE):
        network = network_pb2.NetworkSpec(mode=mode)
        # One made ahead is of one kind of users; what has others, and who comes while another takes it, finds none.
        with ThreadPoolExecutor(3) as pool:
            run = partial(engine.run, IMAGE, "sh", "-c", script, network=network, namespaces=spaces)
            runs = [pool.submit(run) for _ in range(3)]
            found |= {b" ".join(run.result()[0].split()) for run in runs}
    assert found == {b"0 0 1 0"}
