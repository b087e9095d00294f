"""What stands in the engine's own nftables table: an element a publish, and nothing that grows in any other way."""

import json
import re
from typing import Any

import pytest

from fluyt.v1 import networks_pb2
from tests.e2e.networks.steps import (
    UDP,
    create,
    delete,
    fetch,
    make_network,
    networks,
    on,
    port,
    served,
    start,
)
from tests.e2e.networks.test_publishing import publish
from tests.support.namespaces import Machine, NetworkEngine

pytestmark = pytest.mark.needs("root", "busybox", "nft", "ip")


def ruleset(engine: NetworkEngine) -> list[dict[str, dict[str, Any]]]:
    """All tables, as nft tells them."""
    found: list[dict[str, dict[str, Any]]] = json.loads(engine.host.run("nft", "-j", "list", "ruleset"))["nftables"]
    return found


def rules(engine: NetworkEngine) -> list[str]:
    """The rules of every chain, in order, without what counts."""
    return [json.dumps(one["rule"].get("expr")) for one in ruleset(engine) if "rule" in one]


def elements(engine: NetworkEngine) -> int:
    """How many elements the maps have that lead from ports of the host to containers."""
    maps = [one["map"] for one in ruleset(engine) if "map" in one and str(one["map"]["name"]).startswith("publish_")]
    assert {one["table"] for one in maps} == {"fluyt"}
    return sum(len(one.get("elem", [])) for one in maps)


def test_a_publish_is_an_element_and_no_rule(engine: NetworkEngine) -> None:
    served(engine, "first", published_ports=[port(80, 8601)])
    before, count = rules(engine), elements(engine)
    create(engine, "second", "sleep", "1000", published_ports=[port(80, 8602)])
    start(engine, "second")
    assert elements(engine) - count == 1
    publish(engine, "second", [port(80, 8603), port(53, 8603, protocol=UDP)])
    assert elements(engine) - count == 3
    create(engine, "many", "sleep", "1000", published_ports=[port(1000, 9100, port_count=50)])
    start(engine, "many")
    assert elements(engine) - count == 53
    assert rules(engine) == before
    for name in ("many", "second"):
        delete(engine, name)
    assert (elements(engine), rules(engine)) == (count, before)


def test_both_families_are_an_element_each(engine: NetworkEngine) -> None:
    make_network(engine, "six", enable_ipv6=True)
    create(engine, "web", "sleep", "1000", attachments=on("six"))
    start(engine, "web")
    count = elements(engine)
    publish(engine, "web", [port(80, 8604)])
    assert elements(engine) - count == 2
    for family in ("4", "6"):
        assert " . 8604 : " in engine.host.run("nft", "list", "map", "inet", "fluyt", f"publish_any_{family}")


def test_one_table_is_all_and_what_others_have_stays_as_it_was(engine: NetworkEngine) -> None:
    engine.host.run("nft", "add", "table", "ip", "theirs")
    engine.host.run("nft", "add", "chain", "ip", "theirs", "c", "{ type filter hook input priority 0; policy accept; }")
    engine.host.run("nft", "add", "rule", "ip", "theirs", "c", "tcp", "dport", "9", "counter", "accept")
    theirs = engine.host.run("nft", "list", "table", "ip", "theirs")
    try:
        served(engine, "web", published_ports=[port(80, 8605)])
        assert engine.host.run("nft", "list", "tables").splitlines() == ["table inet fluyt", "table ip theirs"]
        engine.kill()
        engine.start()
        delete(engine, "web")
        assert engine.host.run("nft", "list", "table", "ip", "theirs") == theirs
    finally:
        engine.host.run("nft", "delete", "table", "ip", "theirs")


def test_the_chain_of_the_operator_is_documented_where_it_stands_and_is_asked_first(
    engine: NetworkEngine, other_machine: Machine
) -> None:
    served(engine, "web", published_ports=[port(80, 8606)])
    assert fetch(other_machine, "192.0.2.1", 8606) == "web"
    shown = engine.host.run("nft", "list", "chain", "inet", "fluyt", "operator")
    assert not re.search(r"type \w+ hook", shown), "it is jumped to, and hooks nowhere itself"
    chains = engine.host.run("nft", "list", "table", "inet", "fluyt")
    forward = re.findall(r"chain forward {\n\s+type filter hook forward[^\n]*\n([^}]*)}", chains)
    assert {line.strip().partition(" goto ")[2] for line in forward[0].strip().splitlines()} == {"concerned"}
    assert re.search(r"chain concerned {\n\s+jump operator\n", chains), chains


def test_a_table_that_somebody_flushed_is_made_whole_by_the_next_daemon(
    engine: NetworkEngine, other_machine: Machine
) -> None:
    served(engine, "web", published_ports=[port(80, 8607)])
    engine.host.run("nft", "delete", "table", "inet", "fluyt")
    engine.kill()
    engine.start()
    assert fetch(other_machine, "192.0.2.1", 8607) == fetch(engine.host, "127.0.0.1", 8607) == "web"


def test_what_is_dangling_can_be_deleted(engine: NetworkEngine) -> None:
    def listed(is_dangling: bool) -> list[str]:
        wanted = networks_pb2.NetworkFilter(is_dangling=is_dangling)
        found = engine.networks.ListNetworks(networks_pb2.ListNetworksRequest(filter=wanted)).networks
        return [one.name for one in found]

    for name in ("unused", "used"):
        make_network(engine, name)
    create(engine, "user", "true", attachments=on("used"))
    assert (listed(is_dangling=True), listed(is_dangling=False)) == (["unused"], ["bridge", "used"])
    for name in listed(is_dangling=True):
        engine.networks.DeleteNetwork(networks_pb2.DeleteNetworkRequest(network=name))
    delete(engine, "user")
    assert len(engine.networks.PruneNetworks(networks_pb2.PruneNetworksRequest()).deleted) == 1
    assert [one.name for one in networks(engine)] == ["bridge"]
