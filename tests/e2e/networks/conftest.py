"""One engine in a network namespace of its own for all tests of networks; each test leaves nothing in it."""

import re
from collections.abc import Iterator

import pytest

from fluyt.v1 import networks_pb2
from tests.e2e.networks.steps import IMAGE, containers, delete, networks
from tests.support import image_files, images
from tests.support.namespaces import Machine, NetworkEngine
from tests.support.wait import until_now

#: What the machine that the engine runs on has for the other one, and the other for it.
OTHERS_ADDRESSES = ("192.0.2.2/24", "2001:db8::2/64")
HOST_ADDRESSES = ("192.0.2.1/24", "2001:db8::1/64")
#: What the host says of resolvers, and who is asked where it names none that a container can reach.
RESOLV_CONF = "nameserver 127.0.0.53\noptions edns0\nsearch lan\n"
FALLBACK = "192.0.2.53"


@pytest.fixture(scope="session")
def network_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkEngine]:
    """The engine of the whole run, with a busybox."""
    root = tmp_path_factory.mktemp("nets")
    resolvers = root / "resolv.conf"
    resolvers.write_text(RESOLV_CONF)
    names = ["--resolv-conf-path", str(resolvers), "--dns-fallback-servers", FALLBACK]
    with NetworkEngine(root, options=names) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield running


@pytest.fixture(scope="session")
def other_machine(network_engine: NetworkEngine) -> Iterator[Machine]:
    """Another machine, on a wire with the engine's; its way to everywhere is through that one."""
    with Machine() as machine:
        network_engine.host.connect_to(machine, HOST_ADDRESSES, OTHERS_ADDRESSES)
        for gateway in HOST_ADDRESSES:
            machine.run("ip", "route", "add", "default", "via", gateway.partition("/")[0])
        yield machine


@pytest.fixture
def engine(network_engine: NetworkEngine) -> Iterator[NetworkEngine]:
    """The engine without containers and networks of its own. Afterwards nothing of them is left in its namespace."""
    engine = network_engine
    yield engine
    had_ended = engine.revive()
    for container in containers(engine):
        delete(engine, container.id)
    for network in networks(engine):
        if network.name != "bridge":
            engine.networks.DeleteNetwork(networks_pb2.DeleteNetworkRequest(network=network.id))
    assert not had_ended
    until_now(lambda: engine.host.links() <= {"lo", "wire", "fluyt0"}, "no interface is left")
    table = engine.host.run("nft", "list", "tables")
    assert table in {"", "table inet fluyt\n"}, table
    # What is left of the table is about the default bridge alone.
    lines = [line.strip() for line in engine.host.run("nft", "list", "ruleset").splitlines()]
    assert not [line for line in lines if " : " in line and not line.startswith("type")]
    assert not [line for line in lines if re.search(r"fl-[0-9a-f]{12}", line)]
