"""Ports of the host that lead to containers, with real traffic: from the host, other containers and another machine."""

import concurrent.futures
import socket
from contextlib import closing

import pytest

from fluyt.v1 import containers_pb2
from tests.e2e.containers import steps
from tests.e2e.containers.steps import EXISTS, refused
from tests.e2e.networks.steps import (
    BRIDGE,
    SERVE,
    UDP,
    Datagrams,
    Listener,
    ask_udp,
    create,
    delete,
    fetch,
    get,
    inside,
    ipv4,
    is_refused,
    make_network,
    on,
    port,
    served,
    shell,
    start,
    stop,
)
from tests.support.namespaces import Machine, NetworkEngine
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("root", "busybox", "nft", "ip")
ALL = "0.0.0.0"  # noqa: S104 - it stands for what others try to take


def test_a_published_port_answers_the_host_other_containers_itself_and_another_machine(
    engine: NetworkEngine, other_machine: Machine
) -> None:
    web = served(engine, "web", published_ports=[port(80, 8080)])
    assert [(one.host_port, one.container_port) for one in web.published_ports] == [(8080, 80)]
    gateway = web.networks[0].ipv4_gateway
    for machine, address in (
        (engine.host, "127.0.0.1"),
        (engine.host, "192.0.2.1"),
        (engine.host, ipv4(web)),
        (other_machine, "192.0.2.1"),
    ):
        number = 80 if address == ipv4(web) else 8080
        assert fetch(machine, address, number) == "web", address
    wget = f"wget -q -O - http://{gateway}:8080/"
    assert shell(engine, wget, mode=BRIDGE) == ("web\n", 0)
    # By its own port, too: the answer comes back to where the question came from.
    assert fetch(inside(web), gateway, 8080) == "web"
    # What was not published is not reached from outside, though a route leads there.
    other_machine.run("ip", "route", "replace", f"{ipv4(web)}/32", "via", "192.0.2.1")
    assert is_refused(other_machine, ipv4(web), 80)


def test_n01_a_port_is_free_as_soon_as_stop_or_delete_returns(engine: NetworkEngine) -> None:
    create(engine, "web", "sh", "-c", SERVE.format(text="web"), published_ports=[port(80, 18080)])
    for _ in range(10):
        start(engine, "web")
        stop(engine, "web")
        with closing(Listener(engine.host, ALL, 18080)):
            pass
    delete(engine, "web")
    for number in range(10):
        name = f"web-{number}"
        create(engine, name, "sleep", "1000", published_ports=[port(80, 18080)])
        start(engine, name)
        delete(engine, name)


def test_n01_a_port_is_free_after_a_start_that_failed(engine: NetworkEngine) -> None:
    create(engine, "bad", "/no/such/command", published_ports=[port(80, 18080)])
    assert refused(lambda: start(engine, "bad"))[1] == "PROCESS_START_FAILED"
    served(engine, "good", published_ports=[port(80, 18080)])
    assert fetch(engine.host, "127.0.0.1", 18080) == "good"
    assert refused(lambda: start(engine, "bad"))[1] == "PORT_IN_USE"


def test_n02_a_random_port_has_one_number_for_both_families_and_none_comes_twice(engine: NetworkEngine) -> None:
    make_network(engine, "both", enable_ipv6=True)

    def make(number: int) -> tuple[str, int]:
        name = f"web-{number}"
        running = served(engine, name, attachments=on("both"), published_ports=[port(80)])
        (published,) = running.published_ports
        return name, published.host_port

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = dict(pool.map(make, range(12)))
    assert len(set(found.values())) == len(found)
    for name, number in found.items():
        assert number > 0
        address = next(iter(get(engine, name).networks)).ipv6_gateway
        assert (fetch(engine.host, "127.0.0.1", number), fetch(engine.host, address, number)) == (name, name)


def test_n03_tcp_and_udp_of_one_number_are_two_ports(engine: NetworkEngine, other_machine: Machine) -> None:
    stream = served(engine, "stream", published_ports=[port(80, 5353), port(53, 5353, protocol=UDP)])
    with closing(Datagrams(inside(stream), 53, "datagram")):
        for machine, address in ((engine.host, "127.0.0.1"), (other_machine, "192.0.2.1")):
            assert fetch(machine, address, 5353) == "stream"
            assert ask_udp(machine, address, 5353) == "datagram"


def test_n03_a_client_that_goes_on_to_send_reaches_the_next_container_that_has_the_port(
    engine: NetworkEngine, other_machine: Machine
) -> None:
    """One socket, so one connection for the kernel, which would lead it to the first container's address."""
    asking = other_machine.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with closing(asking):
        asking.settimeout(0.2)
        asking.connect(("192.0.2.1", 5354))
        for name in ("one", "two"):
            create(engine, name, "sleep", "1000", published_ports=[port(53, 5354, protocol=UDP)])
            with closing(Datagrams(inside(start(engine, name)), 53, name)):
                _until_answered(asking, name)
            stop(engine, name)


def _until_answered(asking: socket.socket, text: str) -> None:
    until_now(lambda: _answer(asking) == text.encode(), f"{text} is reached")


def _answer(asking: socket.socket) -> bytes:
    try:
        asking.send(b"question")
        return asking.recv(100)
    except OSError:
        return b""


def test_n04_random_ports_of_one_and_of_all_addresses_differ(engine: NetworkEngine) -> None:
    web = served(engine, "web", published_ports=[port(80, host_address="127.0.0.1"), port(81)])
    first, second = web.published_ports
    assert first.host_port != second.host_port
    assert fetch(engine.host, "127.0.0.1", first.host_port) == "web"


def test_n05_a_port_of_one_address_answers_there_only(engine: NetworkEngine, other_machine: Machine) -> None:
    served(engine, "web", published_ports=[port(80, 8081, host_address="127.0.0.1")])
    assert fetch(engine.host, "127.0.0.1", 8081) == "web"
    assert is_refused(engine.host, "192.0.2.1", 8081)
    assert is_refused(other_machine, "192.0.2.1", 8081)
    # Nobody on the wire reaches it by naming the loopback address either.
    other_machine.run("ip", "route", "replace", "127.0.0.9/32", "via", "192.0.2.1")
    assert is_refused(other_machine, "127.0.0.9", 8081)


def test_a_range_of_ports_leads_to_a_range(engine: NetworkEngine) -> None:
    script = f"mkdir -p /www; echo two > /www/index.html; httpd -p 81 -h /www; {SERVE}"
    web = served(engine, "web", script, published_ports=[port(80, 9000, port_count=2)])
    assert [(one.host_port, one.container_port) for one in web.published_ports] == [(9000, 80), (9001, 81)]
    assert fetch(engine.host, "127.0.0.1", 9001) == fetch(engine.host, "127.0.0.1", 9000) == "web"


def test_of_a_range_of_the_host_the_first_that_is_free_is_taken(engine: NetworkEngine) -> None:
    asked = [port(80, 9010, host_port_count=3)]
    with closing(Listener(engine.host, "127.0.0.1", 9011)):
        found = {name: served(engine, name, published_ports=asked) for name in ("one", "two")}
        for name, number in (("one", 9010), ("two", 9012)):
            assert [one.host_port for one in found[name].published_ports] == [number]
            assert [one.host_port_count for one in found[name].spec.network.published_ports] == [3]
            for address in ("127.0.0.1", "::1"):
                assert fetch(engine.host, address, number) == name
        create(engine, "three", "sleep", "1000", published_ports=asked)
        code, reason, facts = refused(lambda: start(engine, "three"))
        assert (code, reason, facts["port"]) == (EXISTS, "PORT_IN_USE", "9010-9012")
    assert [one.host_port for one in start(engine, "three").published_ports] == [9011]
    # A start chooses anew, and of one container too each has its own.
    stop(engine, "one")
    create(engine, "four", "sleep", "1000", published_ports=[port(80, 9010, host_port_count=8), *asked, port(80, 9013)])
    ports = refused(lambda: start(engine, "four"))[2]
    assert ports["port"] == "9010-9012"
    stop(engine, "two")
    assert sorted(one.host_port for one in start(engine, "four").published_ports) == [9010, 9012, 9013]
    engine.kill()
    engine.start()
    assert sorted(one.host_port for one in get(engine, "four").published_ports) == [9010, 9012, 9013]


def test_a_port_that_is_taken_is_refused_before_anything_starts_and_its_holder_is_named(engine: NetworkEngine) -> None:
    holder = served(engine, "web", published_ports=[port(80, 8082)])
    create(engine, "second", "sleep", "1", published_ports=[port(80, 8082)])
    code, reason, facts = refused(lambda: start(engine, "second"))
    assert (code, reason, facts["port"], facts["holder"]) == (
        EXISTS,
        "PORT_IN_USE",
        "8082",
        f"container {holder.id[:12]}",
    )
    with closing(Listener(engine.host)) as listener:
        create(engine, "third", "sleep", "1", published_ports=[port(80, listener.port)])
        code, reason, facts = refused(lambda: start(engine, "third"))
        assert (code, reason) == (EXISTS, "PORT_IN_USE")
        assert "process" in facts["holder"]
    failed = get(engine, "third")
    assert (failed.run_number if hasattr(failed, "run_number") else 0, failed.reason) == (0, "PORT_IN_USE")
    start(engine, "third")


def test_a_program_of_the_host_cannot_take_a_published_port(engine: NetworkEngine) -> None:
    served(engine, "web", published_ports=[port(80, 8083)])
    with pytest.raises(OSError, match="in use"):
        Listener(engine.host, ALL, 8083)


def test_only_sources_that_are_allowed_reach_a_port(engine: NetworkEngine, other_machine: Machine) -> None:
    served(engine, "near", published_ports=[port(80, 8084, allowed_sources=["192.0.2.0/24"])])
    served(engine, "far", published_ports=[port(80, 8085, allowed_sources=["198.51.100.0/24", "203.0.113.7"])])
    assert fetch(other_machine, "192.0.2.1", 8084) == "near"
    assert is_refused(other_machine, "192.0.2.1", 8085)


def test_the_operators_rules_are_obeyed_by_published_ports_and_kept(
    engine: NetworkEngine, other_machine: Machine
) -> None:
    served(engine, "web", published_ports=[port(80, 8086)])
    assert fetch(other_machine, "192.0.2.1", 8086) == "web"
    rule = ["meta", "l4proto", "tcp", "ct", "original", "proto-dst", "8086", "drop"]
    engine.host.run("nft", "add", "rule", "inet", "fluyt", "operator", *rule)
    try:
        assert is_refused(other_machine, "192.0.2.1", 8086)
        engine.kill()
        engine.start()
        assert is_refused(other_machine, "192.0.2.1", 8086)
    finally:
        engine.host.run("nft", "flush", "chain", "inet", "fluyt", "operator")
    assert fetch(other_machine, "192.0.2.1", 8086) == "web"


def test_every_exposed_port_is_published_where_all_are_asked_for(engine: NetworkEngine) -> None:
    image = steps.load(engine, extra_config={"ExposedPorts": {"80/tcp": {}, "53/udp": {}}})
    made = steps.create(engine, "sleep", "1000", image=image, network={"mode": BRIDGE, "publish_all_ports": True})
    running = start(engine, made.id)
    assert sorted((one.container_port, one.protocol) for one in running.published_ports) == [(53, UDP), (80, 1)]
    assert all(one.host_port for one in running.published_ports)


def test_a_daemon_that_was_killed_goes_on_to_hold_and_serve_ports(
    engine: NetworkEngine, other_machine: Machine
) -> None:
    before = served(engine, "web", published_ports=[port(80, 8087)])
    engine.kill()
    assert fetch(other_machine, "192.0.2.1", 8087) == "web"
    engine.start()
    after = get(engine, "web")
    assert (after.networks, after.published_ports) == (before.networks, before.published_ports)
    assert fetch(other_machine, "192.0.2.1", 8087) == "web"
    with pytest.raises(OSError, match="in use"):
        Listener(engine.host, ALL, 8087)
    request = containers_pb2.RestartContainerRequest(container="web")
    request.timeout.seconds = 0
    engine.containers.RestartContainer(request)
    assert get(engine, "web").published_ports == before.published_ports
