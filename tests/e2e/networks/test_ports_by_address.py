"""Ports of certain addresses of the host: where they answer, who has them, which numbers are chosen (more of N02, N04,
N05)."""

import concurrent.futures
from contextlib import closing

import pytest

from tests.e2e.containers.steps import EXISTS, refused
from tests.e2e.networks.steps import (
    TCP,
    UDP,
    Datagrams,
    Listener,
    ask_udp,
    create,
    delete,
    fetch,
    get,
    inside,
    is_refused,
    make_network,
    on,
    port,
    served,
    start,
)
from tests.support.namespaces import Machine, NetworkEngine

pytestmark = pytest.mark.needs("root", "busybox", "nft", "ip")
OUTSIDE, OUTSIDE_6 = "192.0.2.1", "2001:db8::1"


def test_n05_a_port_of_an_outer_address_answers_there_and_not_at_loopback(
    engine: NetworkEngine, other_machine: Machine
) -> None:
    served(engine, "web", published_ports=[port(80, 8401, host_address=OUTSIDE)])
    assert fetch(other_machine, OUTSIDE, 8401) == fetch(engine.host, OUTSIDE, 8401) == "web"
    assert is_refused(engine.host, "127.0.0.1", 8401)
    assert is_refused(engine.host, "::1", 8401)


def test_n05_one_number_of_two_addresses_leads_to_two_containers(engine: NetworkEngine, other_machine: Machine) -> None:
    served(engine, "near", published_ports=[port(80, 8402, host_address="127.0.0.1")])
    served(engine, "far", published_ports=[port(80, 8402, host_address=OUTSIDE)])
    served(engine, "other", published_ports=[port(80, 8402, host_address="127.0.0.2")])
    assert fetch(engine.host, "127.0.0.1", 8402) == "near"
    assert fetch(engine.host, "127.0.0.2", 8402) == "other"
    assert fetch(other_machine, OUTSIDE, 8402) == "far"
    create(engine, "all", "true", published_ports=[port(80, 8402)])
    assert refused(lambda: start(engine, "all"))[1] == "PORT_IN_USE"


def test_n05_datagrams_come_to_the_address_alone(engine: NetworkEngine, other_machine: Machine) -> None:
    create(engine, "dns", "sleep", "1000", published_ports=[port(53, 8403, host_address="127.0.0.1", protocol=UDP)])
    with closing(Datagrams(inside(start(engine, "dns")), 53, "datagram")):
        assert ask_udp(engine.host, "127.0.0.1", 8403) == "datagram"
        for machine, address in ((engine.host, OUTSIDE), (other_machine, OUTSIDE)):
            with pytest.raises(AssertionError, match="no answer"):
                ask_udp(machine, address, 8403)


def test_n05_an_address_of_ipv6_answers_there_alone(engine: NetworkEngine, other_machine: Machine) -> None:
    make_network(engine, "six", enable_ipv6=True)
    served(engine, "web", attachments=on("six"), published_ports=[port(80, 8404, host_address=OUTSIDE_6)])
    assert fetch(other_machine, OUTSIDE_6, 8404) == fetch(engine.host, OUTSIDE_6, 8404) == "web"
    for machine, address in ((other_machine, OUTSIDE), (engine.host, "127.0.0.1"), (engine.host, "::1")):
        assert is_refused(machine, address, 8404), address


@pytest.mark.parametrize(
    ("address", "reached", "refusing"),
    [("0.0.0.0", OUTSIDE, OUTSIDE_6), ("::", OUTSIDE_6, OUTSIDE)],  # noqa: S104 - what was asked
)
def test_n02_all_addresses_of_one_family_are_not_those_of_the_other(
    engine: NetworkEngine, other_machine: Machine, address: str, reached: str, refusing: str
) -> None:
    make_network(engine, "six", enable_ipv6=True)
    served(engine, "web", attachments=on("six"), published_ports=[port(80, 8405, host_address=address)])
    assert fetch(other_machine, reached, 8405) == "web"
    assert is_refused(other_machine, refusing, 8405)
    # The number of the other family is somebody else's to have.
    other = "::" if address == "0.0.0.0" else "0.0.0.0"  # noqa: S104
    served(engine, "two", attachments=on("six"), published_ports=[port(80, 8405, host_address=other)])
    assert fetch(other_machine, refusing, 8405) == "two"


def test_the_holder_that_is_named_is_the_one_of_that_address(engine: NetworkEngine, other_machine: Machine) -> None:
    near = served(engine, "near", published_ports=[port(80, 8406, host_address="127.0.0.1")])
    with closing(Listener(engine.host, OUTSIDE, 8406)):
        for address, holder in ((OUTSIDE, "process "), ("127.0.0.1", f"container {near.id[:12]}")):
            create(engine, "late", "true", published_ports=[port(80, 8406, host_address=address)])
            code, reason, facts = refused(lambda: start(engine, "late"))
            assert (code, reason, facts["address"]) == (EXISTS, "PORT_IN_USE", address)
            assert facts["holder"].startswith(holder), facts
            delete(engine, "late")
    # What one call asks for twice is held by that call.
    for asked in ([port(80, 8407), port(80, 8407)], [port(80, 8407), port(81, 8407, host_address="127.0.0.1")]):
        create(engine, "twice", "true", published_ports=asked)
        code, reason, facts = refused(lambda: start(engine, "twice"))
        assert (code, reason, facts["holder"]) == (EXISTS, "PORT_IN_USE", "another port of the same container")
        delete(engine, "twice")
    served(engine, "free", published_ports=[port(80, 8407)])


def test_n02_fifty_that_come_at_once_get_fifty_numbers_for_both_families(engine: NetworkEngine) -> None:
    make_network(engine, "both", enable_ipv6=True)

    def make(number: int) -> list[int]:
        asked = {"published_ports": [port(80), port(80, protocol=UDP)], "attachments": on("both")}
        create(engine, f"many-{number}", "sleep", "1000", **asked)
        return [one.host_port for one in start(engine, f"many-{number}").published_ports]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = [*pool.map(make, range(50))]
    for which in range(2):
        assert len({numbers[which] for numbers in found}) == 50
    for family in ("4", "6"):
        shown = engine.host.run("nft", "list", "map", "inet", "fluyt", f"publish_any_{family}")
        for tcp, udp in found:
            assert f"tcp . {tcp} : " in shown
            assert f"udp . {udp} : " in shown


@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1", ""),
        ("", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", ""),
        ("::1", "127.0.0.1"),
        ("0.0.0.0", "::"),  # noqa: S104 - what was asked
        ("", ""),
    ],
)
def test_n04_random_ports_never_meet_whatever_the_addresses(
    engine: NetworkEngine, addresses: tuple[str, str], protocol: int
) -> None:
    for number in range(6):
        asked = [port(80 + index, host_address=one, protocol=protocol) for index, one in enumerate(addresses)]
        create(engine, f"c{number}", "sleep", "1000", published_ports=asked)
        first, second = start(engine, f"c{number}").published_ports
        assert first.host_port
        assert second.host_port
        if "" in addresses or addresses[0] == addresses[1]:
            assert first.host_port != second.host_port
    everything = [one for number in range(6) for one in get(engine, f"c{number}").published_ports]
    keys = {(one.host_address, one.host_port) for one in everything}
    assert len(keys) == len(everything)
