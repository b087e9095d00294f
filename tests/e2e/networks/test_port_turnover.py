"""A published port goes with its container, however that ends, and not a moment later (more of N01, N03)."""

import os
import signal
import socket
from contextlib import closing

import pytest

from fluyt.v1 import containers_pb2, networks_pb2
from tests.e2e.containers.steps import refused, wait
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
    stop,
)
from tests.e2e.networks.test_publishing import publish
from tests.support.namespaces import Machine, NetworkEngine
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("root", "busybox", "nft", "ip")
ALL = "0.0.0.0"  # noqa: S104 - what others try to take


def is_free(engine: NetworkEngine, number: int) -> None:
    """Somebody else can have the port now, at every address and by each family."""
    for address in (ALL, "::", "127.0.0.1", "::1"):
        Listener(engine.host, address, number).close()


def test_n01_it_is_free_when_the_end_is_told_whatever_ended_it(engine: NetworkEngine) -> None:
    asked = [port(80, 8501), port(53, 8501, protocol=UDP)]
    for number in range(5):
        name = f"by-itself-{number}"
        create(engine, name, "true", published_ports=asked)
        start(engine, name)
        wait(engine, name)
        is_free(engine, 8501)
    for number in range(5):
        name = f"killed-{number}"
        create(engine, name, "sleep", "1000", published_ports=asked)
        os.kill(start(engine, name).host_pid, signal.SIGKILL)
        wait(engine, name)
        is_free(engine, 8501)


@pytest.mark.parametrize("removes_itself", [True, False])
def test_n01_it_is_free_when_the_stream_of_a_run_ends(engine: NetworkEngine, removes_itself: bool) -> None:
    for _ in range(10):
        request = containers_pb2.RunContainerRequest()
        request.spec.image, request.spec.auto_remove = "busybox:1", removes_itself
        request.spec.args.append("true")
        request.spec.network.published_ports.append(port(80, 8502))
        events = [event.WhichOneof("event") for event in engine.containers.RunContainer(request)]
        assert events[-1] == "exited"
        is_free(engine, 8502)


def test_n01_an_address_is_free_when_the_end_is_told(engine: NetworkEngine) -> None:
    make_network(engine, "own", subnets=[networks_pb2.Subnet(cidr="10.79.0.0/24")])
    for number in range(10):
        create(engine, f"c{number}", "true", attachments=on("own", ipv4_address="10.79.0.9"))
        start(engine, f"c{number}")
        wait(engine, f"c{number}")


def test_n01_twenty_restarts_keep_the_port(engine: NetworkEngine) -> None:
    served(engine, "web", published_ports=[port(80, 8503)])
    for _ in range(20):
        request = containers_pb2.RestartContainerRequest(container="web")
        request.timeout.seconds = 0
        engine.containers.RestartContainer(request)
        assert [one.host_port for one in get(engine, "web").published_ports] == [8503]
    stop(engine, "web")
    is_free(engine, 8503)


@pytest.mark.parametrize("protocol", [0, UDP])
def test_n01_of_a_start_that_fails_none_is_kept(engine: NetworkEngine, protocol: int) -> None:
    """Whichever of several cannot be had, and whatever else stands in the way."""
    served(engine, "holder", published_ports=[port(80, 8506, protocol=protocol)])
    wanted = [port(80, number, protocol=protocol) for number in (8504, 8505, 8506)]
    create(engine, "third", "sleep", "1000", published_ports=wanted)
    create(
        engine, "address", "sleep", "1000", published_ports=[*wanted[:2], port(80, 8507, host_address="203.0.113.1")]
    )
    create(engine, "command", "/etc/passwd", published_ports=wanted[:2])
    for name, reason in (
        ("third", "PORT_IN_USE"),
        ("address", "FIELD_INVALID"),
        ("command", "PROCESS_START_FAILED"),
    ):
        assert refused(lambda name=name: start(engine, name))[1] == reason  # type: ignore[misc]
        for number in (8504, 8505):
            is_free(engine, number)
    stop(engine, "holder")
    start(engine, "third")


def test_n01_a_paused_container_keeps_its_port_and_answers_there_when_it_goes_on(engine: NetworkEngine) -> None:
    served(engine, "web", published_ports=[port(80, 8508)])
    engine.containers.PauseContainer(containers_pb2.PauseContainerRequest(container="web"))
    with pytest.raises(OSError, match="in use"):
        Listener(engine.host, ALL, 8508)
    engine.containers.ResumeContainer(containers_pb2.ResumeContainerRequest(container="web"))
    assert fetch(engine.host, "127.0.0.1", 8508) == "web"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "192.0.2.1", "2001:db8::1"])
def test_n01_connections_that_linger_of_a_program_that_has_gone_are_in_nobodys_way(
    engine: NetworkEngine, other_machine: Machine, address: str
) -> None:
    """Who closes first waits a minute for what may still be on its way; the port is nobody's all the same."""
    listener = Listener(engine.host, address, 8511)
    with closing(engine.host.inside(lambda: socket.create_connection((address, 8511), 10))) as calling:
        accepted, _ = listener.socket.accept()
        accepted.close()
        assert calling.recv(1) == b""
    listener.close()
    until_now(lambda: "TIME-WAIT" in engine.host.run("ss", "-tan", "sport", "=", ":8511"), "it lingers")
    served(engine, "web", published_ports=[port(80, 8511)])
    assert fetch(other_machine, "192.0.2.1", 8511) == fetch(engine.host, "::1", 8511) == "web"
    with pytest.raises(OSError, match="in use"):
        Listener(engine.host, ALL, 8511)


def test_n01_who_has_bound_a_port_without_listening_has_it(engine: NetworkEngine) -> None:
    def bind() -> socket.socket:
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        bound.bind((ALL, 8512))
        return bound

    create(engine, "web", "sleep", "1000", published_ports=[port(80, 8512)])
    with closing(engine.host.inside(bind)):
        assert refused(lambda: start(engine, "web"))[1] == "PORT_IN_USE"
    start(engine, "web")


def test_n01_what_ended_while_no_daemon_ran_has_no_port_when_the_next_one_serves(
    engine: NetworkEngine, other_machine: Machine
) -> None:
    web = served(engine, "web", published_ports=[port(80, 8509)])
    assert fetch(other_machine, "192.0.2.1", 8509) == "web"
    engine.kill()
    os.kill(web.host_pid, signal.SIGKILL)
    engine.start()
    wait(engine, "web")
    is_free(engine, 8509)
    assert is_refused(other_machine, "192.0.2.1", 8509)
    served(engine, "next", published_ports=[port(80, 8509)])
    assert fetch(other_machine, "192.0.2.1", 8509) == "next"


def test_n03_each_protocol_of_a_number_comes_and_goes_by_itself(engine: NetworkEngine) -> None:
    web = served(engine, "web", published_ports=[port(80, 8510), port(53, 8510, protocol=UDP)])
    with closing(Datagrams(inside(web), 53, "datagram")):
        publish(engine, "web", remove=[port(80, 8510)])
        is_free(engine, 8510)
        assert ask_udp(engine.host, "127.0.0.1", 8510) == "datagram"
        other = served(engine, "other", published_ports=[port(80, 8510)])
        assert fetch(engine.host, "127.0.0.1", 8510) == "other"
        delete(engine, other.id)
        assert ask_udp(engine.host, "127.0.0.1", 8510) == "datagram"


def test_n03_every_port_of_an_image_is_published_by_its_protocol(engine: NetworkEngine) -> None:
    running = served(engine, "dns", exposed_ports=["53/tcp", "53/udp", "80/tcp"], publish_all_ports=True)
    ports = {(one.container_port, one.protocol): one.host_port for one in running.published_ports}
    assert set(ports) == {(53, TCP), (53, UDP), (80, TCP)}
    assert fetch(engine.host, "127.0.0.1", ports[80, TCP]) == "dns"
    with closing(Datagrams(inside(running), 53, "datagram")):
        assert ask_udp(engine.host, "127.0.0.1", ports[53, UDP]) == "datagram"
