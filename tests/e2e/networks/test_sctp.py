"""SCTP through a published port, packet by packet: no program has to have it, and the kernel may lack its sockets."""

import socket
import struct
from contextlib import closing

import pytest

from tests.e2e.containers.steps import EXISTS, INVALID, refused
from tests.e2e.networks.steps import (
    UDP,
    create,
    delete,
    fetch,
    get,
    inside,
    ipv4,
    port,
    served,
    start,
    stop,
)
from tests.e2e.networks.test_publishing import publish
from tests.support.namespaces import Machine, NetworkEngine
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("root", "busybox", "nft", "ip")
SCTP = 3
NUMBER = 132
#: Chunk types. Source: RFC 9260, 3.2.
INIT, INIT_ACK = 1, 2


def checksum(data: bytes) -> int:
    """CRC32c. Source: RFC 9260, appendix A."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def packet(source: int, target: int, kind: int, tag: int) -> bytes:
    """A packet that begins an association, or that answers one."""
    chunk = struct.pack(">BBHIIHHI", kind, 0, 20, 7, 65_535, 1, 1, 1)
    head = struct.pack(">HHI", source, target, tag)
    return head + struct.pack("<I", checksum(head + bytes(4) + chunk)) + chunk


def raw(machine: Machine) -> socket.socket:
    """What sees all SCTP that comes to a machine."""
    made = machine.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, NUMBER))
    made.settimeout(0.3)
    return made


def received(listening: socket.socket) -> tuple[str, int, int, int] | None:
    """(sender, its port, the port asked, chunk type) of the next packet."""
    try:
        data, (address, _) = listening.recvfrom(2000)
    except TimeoutError:
        return None
    body = data[(data[0] & 15) * 4 :]
    source, target = struct.unpack(">HH", body[:4])
    return address, source, target, body[12]


def test_what_comes_to_a_published_port_reaches_the_container_and_the_answer_its_sender(
    engine: NetworkEngine, other_machine: Machine
) -> None:
    create(engine, "signal", "sleep", "1000", published_ports=[port(2905, 9905, protocol=SCTP)])
    container = start(engine, "signal")
    assert [(one.host_port, one.container_port, one.protocol) for one in container.published_ports] == [
        (9905, 2905, SCTP)
    ]
    with closing(raw(other_machine)) as outside, closing(raw(inside(container))) as own:
        for number in range(20):
            outside.sendto(packet(5000 + number, 9905, INIT, 0), ("192.0.2.1", 0))
            found = received(own)
            if found is not None:
                break
        assert found == ("192.0.2.2", 5000 + number, 2905, INIT)
        own.sendto(packet(2905, 5000 + number, INIT_ACK, 7), ("192.0.2.2", 0))
        assert received(outside) == ("192.0.2.1", 9905, 5000 + number, INIT_ACK)
        # Nothing leads to a port that was not published, nor to this one once it no longer is.
        outside.sendto(packet(6000, 9906, INIT, 0), ("192.0.2.1", 0))
        assert received(own) is None
        publish(engine, "signal", remove=[port(2905, 9905, protocol=SCTP)])
        outside.sendto(packet(6001, 9905, INIT, 0), ("192.0.2.1", 0))
        assert received(own) is None


def test_n03_one_number_is_three_ports_by_its_protocols(engine: NetworkEngine) -> None:
    asked = [port(80, 9907), port(80, 9907, protocol=UDP), port(80, 9907, protocol=SCTP)]
    served(engine, "web", published_ports=asked)
    assert fetch(engine.host, "127.0.0.1", 9907) == "web"
    assert [one.host_port for one in get(engine, "web").published_ports] == [9907] * 3


def test_a_port_that_is_taken_is_refused_and_its_holder_is_named_until_it_is_free(engine: NetworkEngine) -> None:
    create(engine, "one", "sleep", "1000", published_ports=[port(80, 9908, protocol=SCTP)])
    holder = start(engine, "one")
    for address in ("", "0.0.0.0", "127.0.0.1"):  # noqa: S104 - what was asked
        create(engine, "two", "sleep", "1000", published_ports=[port(80, 9908, host_address=address, protocol=SCTP)])
        code, reason, facts = refused(lambda: start(engine, "two"))
        assert (code, reason, facts["port"]) == (EXISTS, "PORT_IN_USE", "9908")
        assert facts["holder"] == f"container {holder.id[:12]}"
        delete(engine, "two")
    create(engine, "two", "sleep", "1000", published_ports=[port(80, 9908, protocol=SCTP)])
    engine.kill()
    engine.start()
    assert refused(lambda: start(engine, "two"))[1] == "PORT_IN_USE", "the next daemon knows of it"
    stop(engine, "one")
    start(engine, "two")
    assert refused(lambda: start(engine, "one"))[2]["holder"] == f"container {get(engine, 'two').id[:12]}"


def test_addresses_of_one_number_are_told_apart(engine: NetworkEngine) -> None:
    for number, address in enumerate(("127.0.0.1", "127.0.0.2")):
        asked = [port(80, 9909, host_address=address, protocol=SCTP)]
        create(engine, f"at-{number}", "sleep", "1000", published_ports=asked)
        assert [one.host_address for one in start(engine, f"at-{number}").published_ports] == [address]
    create(engine, "far", "true", published_ports=[port(80, 9909, host_address="203.0.113.9", protocol=SCTP)])
    code, reason, facts = refused(lambda: start(engine, "far"))
    assert (code, reason, facts["field"]) == (INVALID, "FIELD_INVALID", "host_address")


def test_n02_a_free_port_has_a_number_and_none_comes_twice(engine: NetworkEngine) -> None:
    found = set()
    for number in range(5):
        create(
            engine, f"c{number}", "sleep", "1000", published_ports=[port(80, protocol=SCTP), port(81, protocol=SCTP)]
        )
        found |= {one.host_port for one in start(engine, f"c{number}").published_ports}
    assert len(found) == 10
    assert all(1024 < number <= 65535 for number in found), found
    create(engine, "range", "sleep", "1000", published_ports=[port(80, 9911, host_port_count=2, protocol=SCTP)])
    create(engine, "holder", "sleep", "1000", published_ports=[port(80, 9911, protocol=SCTP)])
    start(engine, "holder")
    assert [one.host_port for one in start(engine, "range").published_ports] == [9912]
    shown = engine.host.run("nft", "list", "map", "inet", "fluyt", "publish_any_4")
    assert f"sctp . {min(found)}" in shown or f"132 . {min(found)}" in shown
    delete(engine, "range")
    until_now(lambda: "9912" not in engine.host.run("nft", "list", "map", "inet", "fluyt", "publish_any_4"), "it goes")


def test_neighbours_reach_each_other(engine: NetworkEngine) -> None:
    """The bridge leads SCTP between neighbours as anything else."""
    create(engine, "left", "sleep", "1000")
    create(engine, "right", "sleep", "1000")
    left, right = start(engine, "left"), start(engine, "right")
    with closing(raw(inside(left))) as sending, closing(raw(inside(right))) as listening:
        sending.sendto(packet(1, 2, INIT, 0), (ipv4(right), 0))
        assert received(listening) == (ipv4(left), 1, 2, INIT)
