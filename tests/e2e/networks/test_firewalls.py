"""firewalld and ufw, as Debian installs them, on the engine's host."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.networks.conftest import HOST_ADDRESSES, OTHERS_ADDRESSES
from tests.e2e.networks.steps import IMAGE, Listener, delete, fetch, is_refused, port, served, shell
from tests.support import image_files, images
from tests.support.firewalls import Firewalld, Ufw
from tests.support.namespaces import Machine, NetworkEngine

pytestmark = pytest.mark.needs("nft", "ip")
HOST = HOST_ADDRESSES[0].partition("/")[0]
OTHER = OTHERS_ADDRESSES[0].partition("/")[0]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[NetworkEngine]:
    """An engine whose host has a firewall, too."""
    with NetworkEngine(tmp_path) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield running


@pytest.fixture
def outside(engine: NetworkEngine) -> Iterator[Machine]:
    """Another machine, which answers at port 99."""
    with Machine() as machine:
        engine.host.connect_to(machine, HOST_ADDRESSES, OTHERS_ADDRESSES)
        machine.run("ip", "route", "add", "default", "via", HOST)
        with contextlib.closing(Listener(machine, OTHER, 99)) as listener:
            threading.Thread(target=_hang_up, args=[listener.socket], daemon=True).start()
            yield machine
            listener.socket.shutdown(socket.SHUT_RDWR)


def _hang_up(listening: socket.socket) -> None:
    with contextlib.suppress(OSError):  # until it is shut down
        while True:
            listening.accept()[0].close()


def gets_out(engine: NetworkEngine) -> bool:
    """Whether a container on the engine's network reaches the other machine."""
    return shell(engine, f"nc -w 2 {OTHER} 99 < /dev/null")[1] == 0


@pytest.mark.needs("firewalld", "dbus-daemon")
def test_firewalld_leaves_published_ports_alone_and_a_zone_lets_containers_out(
    engine: NetworkEngine, outside: Machine, tmp_path: Path
) -> None:
    firewall = Firewalld(engine.host, tmp_path / "firewalld")
    try:
        served(engine, "web", published_ports=[port(80, 8001)])
        with contextlib.closing(Listener(engine.host, "0.0.0.0", 97)):  # noqa: S104 - any service of the host
            assert is_refused(outside, HOST, 97), "firewalld is at work"
        for machine, address in ((engine.host, "127.0.0.1"), (outside, HOST)):
            assert fetch(machine, address, 8001) == "web"
        firewall.run("firewall-cmd", "--zone=trusted", "--add-interface=fluyt0")
        assert gets_out(engine)
        # It makes its own rules anew, and ours stay; we ours, and its stay.
        before = engine.host.run("nft", "list", "table", "inet", "fluyt")
        firewall.run("firewall-cmd", "--reload")
        assert engine.host.run("nft", "list", "table", "inet", "fluyt") == before
        theirs = engine.host.run("nft", "list", "table", "inet", "firewalld")
        engine.kill()
        engine.start()
        assert fetch(outside, HOST, 8001) == "web"
        delete(engine, "web")
        assert is_refused(outside, HOST, 8001)
        assert engine.host.run("nft", "list", "table", "inet", "firewalld") == theirs
    finally:
        firewall.close()


@pytest.mark.needs("ufw", "iptables")
def test_ufw_drops_what_is_forwarded_until_two_rules_let_the_bridge_through(
    engine: NetworkEngine, outside: Machine, tmp_path: Path
) -> None:
    firewall = Ufw(engine.host, tmp_path / "ufw")
    try:
        served(engine, "web", published_ports=[port(80, 8001)])
        assert fetch(engine.host, "127.0.0.1", 8001) == "web"
        assert is_refused(outside, HOST, 8001)
        assert not gets_out(engine)
        firewall.run("ufw", "route", "allow", "in", "on", "fluyt0")
        firewall.run("ufw", "route", "allow", "out", "on", "fluyt0")
        assert fetch(outside, HOST, 8001) == "web"
        assert gets_out(engine)
        before = engine.host.run("nft", "list", "table", "inet", "fluyt")
        firewall.run("ufw", "reload")
        assert engine.host.run("nft", "list", "table", "inet", "fluyt") == before
        engine.kill()
        engine.start()
        assert fetch(outside, HOST, 8001) == "web"
        firewall.run("ufw", "--force", "disable")
        assert fetch(outside, HOST, 8001) == "web"
    finally:
        firewall.close()
