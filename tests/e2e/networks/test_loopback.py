"""Published ports at the host's IPv6 loopback address, where the daemon itself forwards."""

import contextlib
import socket
from contextlib import closing
from typing import Final

import pytest

from fluyt.v1 import containers_pb2, networks_pb2
from fluyt.v1.types import network_pb2
from tests.e2e.containers.steps import EXISTS, refused
from tests.e2e.networks.steps import (
    PATIENCE,
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
    stop,
)
from tests.support.namespaces import Machine, NetworkEngine
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("root", "busybox", "nft", "ip")
LOOPBACK: Final = "::1"
#: Answers one connection, with all that it was sent, once the other side has said that it sends no more.
ECHO: Final = "nc -l -p 80 -e cat; exec sleep 1000"


def test_a_port_of_all_addresses_answers_there_by_tcp_and_udp(engine: NetworkEngine) -> None:
    web = served(engine, "web", published_ports=[port(80, 8300), port(53, 8300, protocol=UDP)])
    with closing(Datagrams(inside(web), 53, "datagram")):
        for address in (LOOPBACK, "127.0.0.1"):
            assert fetch(engine.host, address, 8300) == "web"
            assert ask_udp(engine.host, address, 8300) == "datagram"
    assert fetch(engine.host, "localhost", 8300) == "web"


def test_a_port_of_this_address_alone_answers_nowhere_else(engine: NetworkEngine, other_machine: Machine) -> None:
    asked = [port(80, 8301, host_address=LOOPBACK), port(53, 8301, host_address=LOOPBACK, protocol=UDP)]
    web = served(engine, "web", published_ports=asked)
    with closing(Datagrams(inside(web), 53, "datagram")):
        assert fetch(engine.host, LOOPBACK, 8301) == "web"
        assert ask_udp(engine.host, LOOPBACK, 8301) == "datagram"
    for machine, address in ((engine.host, "127.0.0.1"), (engine.host, "2001:db8::1"), (other_machine, "2001:db8::1")):
        assert is_refused(machine, address, 8301), address


def test_a_free_port_of_this_address_is_found(engine: NetworkEngine) -> None:
    web = served(engine, "web", published_ports=[port(80, host_address=LOOPBACK), port(80, host_address="::")])
    first, second = (one.host_port for one in web.published_ports)
    assert fetch(engine.host, LOOPBACK, first) == fetch(engine.host, LOOPBACK, second) == "web"


def test_a_port_of_another_address_does_not_answer_there(engine: NetworkEngine) -> None:
    for number, address in ((8302, "127.0.0.1"), (8303, "0.0.0.0"), (8304, "2001:db8::1")):  # noqa: S104
        served(engine, f"web-{number}", published_ports=[port(80, number, host_address=address)])
        assert is_refused(engine.host, LOOPBACK, number, patience=20), address


def test_a_container_with_ipv6_is_reached_by_it_and_by_ipv4_where_it_listens_there_alone(engine: NetworkEngine) -> None:
    make_network(engine, "six", enable_ipv6=True)
    served(engine, "both", attachments=on("six"), published_ports=[port(80, 8305)])
    four = "mkdir -p /www; echo {text} > /www/index.html; httpd -p 0.0.0.0:80 -h /www; echo ready; exec sleep 1000"
    only = served(
        engine, "only", four, attachments=on("six"), published_ports=[port(80, 8306), port(53, 8306, protocol=UDP)]
    )
    assert (fetch(engine.host, LOOPBACK, 8305), fetch(engine.host, LOOPBACK, 8306)) == ("both", "only")
    with closing(Datagrams(inside(only), 53, "datagram")):
        assert ask_udp(engine.host, LOOPBACK, 8306) == "datagram"


def test_what_one_side_has_ended_the_other_still_answers(engine: NetworkEngine) -> None:
    create(engine, "echo", "sh", "-c", ECHO, published_ports=[port(80, 8307)])
    start(engine, "echo")
    sent = b"0123456789abcdef" * 65_536

    def ask() -> bytes:
        with socket.create_connection((LOOPBACK, 8307), timeout=PATIENCE) as connection:
            connection.settimeout(PATIENCE)
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65_536), b""))

    def answered() -> bool:
        # Until the server listens there is nobody to take it.
        with contextlib.suppress(OSError):
            return engine.host.inside(ask) == sent
        return False

    until_now(answered, "all comes back")


def test_nobody_in_the_container_is_a_connection_that_is_cut(engine: NetworkEngine) -> None:
    create(engine, "idle", "sleep", "1000", published_ports=[port(80, 8308)])
    start(engine, "idle")
    with pytest.raises(OSError, match=r"reset|closed|refused"):
        fetch(engine.host, LOOPBACK, 8308)


@pytest.mark.parametrize("asked", ["", LOOPBACK])
def test_a_port_that_is_taken_there_is_refused_before_anything_starts(engine: NetworkEngine, asked: str) -> None:
    create(engine, "web", "sleep", "1000", published_ports=[port(80, 8309, host_address=asked)])
    with closing(Listener(engine.host, LOOPBACK, 8309)):
        code, reason, facts = refused(lambda: start(engine, "web"))
        assert (code, reason, facts["port"]) == (EXISTS, "PORT_IN_USE", "8309")
        assert "process" in facts["holder"]
    start(engine, "web")
    with pytest.raises(OSError, match="in use"):
        Listener(engine.host, LOOPBACK, 8309)
    create(engine, "second", "sleep", "1", published_ports=[port(80, 8309, host_address=LOOPBACK)])
    facts = refused(lambda: start(engine, "second"))[2]
    assert facts["holder"] == f"container {get(engine, 'web').id[:12]}"


def test_a_datagram_port_that_is_taken_there_is_refused_though_its_holder_would_share(engine: NetworkEngine) -> None:
    def take(number: int) -> socket.socket:
        taking = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        taking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taking.bind((LOOPBACK, number))
        return taking

    create(engine, "web", "sleep", "1000", published_ports=[port(53, 8310, protocol=UDP)])
    with closing(engine.host.inside(lambda: take(8310))):
        assert refused(lambda: start(engine, "web"))[1] == "PORT_IN_USE"
    start(engine, "web")
    with pytest.raises(OSError, match="in use"):
        engine.host.inside(lambda: take(8310))


def test_n01_it_is_free_as_soon_as_stop_or_delete_returns_though_somebody_was_connected(engine: NetworkEngine) -> None:
    for number in range(5):
        served(engine, "web", published_ports=[port(80, 8311), port(53, 8311, protocol=UDP)])
        connection = engine.host.inside(lambda: socket.create_connection((LOOPBACK, 8311), timeout=PATIENCE))
        with connection:
            connection.sendall(b"GET ")
            (stop if number % 2 else delete)(engine, "web")
            with closing(Listener(engine.host, LOOPBACK, 8311)), closing(_datagrams(engine.host, 8311)):
                pass
            connection.settimeout(PATIENCE)
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
        with contextlib.suppress(Exception):
            delete(engine, "web")


def _datagrams(machine: Machine, number: int) -> socket.socket:
    def take() -> socket.socket:
        taking = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        taking.bind((LOOPBACK, number))
        return taking

    return machine.inside(take)


def test_while_no_daemon_runs_it_refuses_and_the_next_daemon_answers(engine: NetworkEngine) -> None:
    asked = [port(80, 8312), port(53, 8312, protocol=UDP), port(80, 8313, host_address=LOOPBACK)]
    web = served(engine, "web", published_ports=asked)
    with closing(Datagrams(inside(web), 53, "datagram")):
        engine.kill()
        # A child that the daemon was about to make into another program has its sockets until it is one.
        until_now(lambda: is_refused(engine.host, LOOPBACK, 8312, patience=20), "nothing listens any more")
        assert fetch(engine.host, "127.0.0.1", 8312) == "web"
        engine.start()
        assert fetch(engine.host, LOOPBACK, 8312) == fetch(engine.host, LOOPBACK, 8313) == "web"
        assert ask_udp(engine.host, LOOPBACK, 8312) == "datagram"
        with pytest.raises(OSError, match="in use"):
            Listener(engine.host, LOOPBACK, 8313)
    stop(engine, "web")
    with closing(Listener(engine.host, LOOPBACK, 8312)), closing(Listener(engine.host, LOOPBACK, 8313)):
        pass


def test_ports_of_a_running_container_come_and_go_there_too(engine: NetworkEngine) -> None:
    served(engine, "web", published_ports=[port(80, 8314)])
    update = containers_pb2.UpdateContainerRequest
    change = update(container="web", add_published_ports=[port(80, 8315)], remove_published_ports=[port(80, 8314)])
    engine.containers.UpdateContainer(change)
    assert fetch(engine.host, LOOPBACK, 8315) == "web"
    assert is_refused(engine.host, LOOPBACK, 8314)
    # One number for another port of the container: the forwarder stays and leads elsewhere.
    served(
        engine,
        "two",
        "mkdir -p /www; echo other > /www/index.html; httpd -p [::]:81 -h /www; echo ready; exec sleep 1000",
    )
    engine.containers.UpdateContainer(update(container="two", add_published_ports=[port(80, 8316)]))
    change = update(container="two", add_published_ports=[port(81, 8316)], remove_published_ports=[port(80, 8316)])
    engine.containers.UpdateContainer(change)
    assert fetch(engine.host, LOOPBACK, 8316) == fetch(engine.host, "127.0.0.1", 8316) == "other"


def test_it_follows_the_network_that_gives_the_way_out(engine: NetworkEngine) -> None:
    for name in ("one", "two"):
        make_network(engine, name)
    served(engine, "web", attachments=on("one"), published_ports=[port(80, 8317)])
    attachment = network_pb2.NetworkAttachment(network="two")
    connect = networks_pb2.ConnectContainerRequest(container="web", attachment=attachment)
    engine.networks.ConnectContainer(connect)
    engine.networks.DisconnectContainer(networks_pb2.DisconnectContainerRequest(container="web", network="one"))
    assert fetch(engine.host, LOOPBACK, 8317) == fetch(engine.host, "127.0.0.1", 8317) == "web"


def test_nothing_is_published_there_of_a_container_on_internal_networks(engine: NetworkEngine) -> None:
    make_network(engine, "inner", internal=True)
    served(engine, "web", attachments=on("inner"), published_ports=[port(80, 8318)])
    assert is_refused(engine.host, LOOPBACK, 8318, patience=20)
