"""Flags about networks and ports as a Docker user types them, in a network namespace of the tests' own."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.e2e.cli.program import IMAGE, Program
from tests.e2e.networks.steps import SERVE, Datagrams, ask_udp, fetch, get, inside, is_refused
from tests.support import image_files, images
from tests.support.namespaces import NetworkEngine
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("nft", "ip")
EXPOSING = "exposing:1"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkEngine]:
    """The engine, with a busybox, and one that exposes ports."""
    exposing = images.busybox_image(extra_config={"ExposedPorts": {"80/tcp": {}, "53/udp": {}}})
    with NetworkEngine(tmp_path_factory.mktemp("cliflags")) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image(), EXPOSING: exposing}))
        yield running


@pytest.fixture
def fluyt(engine: NetworkEngine) -> Iterator[Program]:
    """The program; afterwards there is no container and no network but the engine's own."""
    program = Program(engine.root / "run" / "fluytd.sock")
    yield program
    for identifier in program.ok("ps", "-aq").split():
        program.ok("rm", "-f", identifier)
    program.ok("network", "prune", "-f")


def web(fluyt: Program, name: str, *flags: str, image: str = IMAGE) -> None:
    """A container that answers with its name."""
    fluyt.ok("run", "-d", "--name", name, *flags, image, "sh", "-c", SERVE.format(text=name))
    until_now(lambda: "ready" in fluyt.ok("logs", name), f"{name} is ready")


def ports(fluyt: Program, name: str) -> dict[str, list[str]]:
    """What `port` shows, by the container's port."""
    found: dict[str, list[str]] = {}
    for line in fluyt.ok("port", name).splitlines():
        own, _, hosts = line.partition(" -> ")
        found.setdefault(own, []).append(hosts)
    return found


def test_a_free_port_of_one_address(engine: NetworkEngine, fluyt: Program) -> None:
    web(fluyt, "web", "-p", "127.0.0.1::80")
    (shown,) = ports(fluyt, "web")["80/tcp"]
    address, _, number = shown.rpartition(":")
    assert address == "127.0.0.1"
    assert fetch(engine.host, address, int(number)) == "web"
    assert is_refused(engine.host, "::1", int(number))
    assert f"127.0.0.1:{number}->80/tcp" in fluyt.ok("ps")


def test_a_range_of_datagram_ports(engine: NetworkEngine, fluyt: Program) -> None:
    fluyt.ok("run", "-d", "--name", "dns", "-p", "8000-8010:8000-8010/udp", IMAGE, "sleep", "1000")
    assert ports(fluyt, "dns") == {f"{number}/udp": [f"0.0.0.0:{number}"] for number in range(8000, 8011)}
    assert "0.0.0.0:8000-8010->8000-8010/udp" in fluyt.ok("ps")
    with closing(Datagrams(inside(get(engine, "dns")), 8007, "datagram")):
        assert ask_udp(engine.host, "127.0.0.1", 8007) == "datagram"
    assert fluyt.ok("port", "dns", "8003/udp") == "0.0.0.0:8003\n"
    for absent in ("8003", "8011/udp"):
        ended = fluyt("port", "dns", absent)
        assert (ended.code, "is not published" in ended.err) == (1, True)


def test_all_that_an_image_exposes(engine: NetworkEngine, fluyt: Program) -> None:
    web(fluyt, "web", "-P", image=EXPOSING)
    found = ports(fluyt, "web")
    assert sorted(found) == ["53/udp", "80/tcp"]
    assert fetch(engine.host, "127.0.0.1", int(found["80/tcp"][0].rpartition(":")[2])) == "web"
    # What is published by itself is so at that number alone.
    fluyt.ok("run", "-d", "--name", "both", "-P", "-p", "8080:80", EXPOSING, "sleep", "1000")
    assert ports(fluyt, "both")["80/tcp"] == ["0.0.0.0:8080"]


def test_ports_of_an_address_of_ipv6_and_of_both_families(engine: NetworkEngine, fluyt: Program) -> None:
    fluyt.ok("network", "create", "--ipv6", "six")
    web(fluyt, "web", "--network", "six", "-p", "8080:80", "-p", "[::1]:8081:80", "-p", "[::1]::80")
    found = ports(fluyt, "web")["80/tcp"]
    assert found[:3] == ["0.0.0.0:8080", "[::]:8080", "[::1]:8081"]
    for number in (8080, 8081, int(found[3].rpartition(":")[2])):
        assert fetch(engine.host, "::1", number) == "web"
    assert fluyt.ok("port", "web", "80/tcp").splitlines() == found


def test_a_network_with_its_options_in_one_word(fluyt: Program) -> None:
    fluyt.ok("network", "create", "--subnet", "10.20.0.0/24", "--subnet", "fd20::/64", "--ipv6", "front")
    words = "name=front,ip=10.20.0.9,ip6=fd20::9,alias=store,alias=shop,mac-address=02:00:00:00:00:09"
    web(fluyt, "web", "--network", words)
    (shown,) = fluyt("inspect", "web", "--format", "json").objects
    (endpoint,) = shown["networks"]
    assert (endpoint["ipv4_address"], endpoint["ipv6_address"]) == ("10.20.0.9/24", "fd20::9/64")
    assert endpoint["mac_address"] == "02:00:00:00:00:09"
    for name in ("web", "store", "shop", "store.front"):
        assert fluyt.run("--network", "front", script=f"wget -qO- http://{name}/") == "web\n"
    ended = fluyt("run", "--network", "name=front,colour=red", IMAGE, "true")
    assert (ended.code, "`colour=red` is not known" in ended.err) == (125, True)


def test_a_running_container_is_connected_with_an_address_and_names(engine: NetworkEngine, fluyt: Program) -> None:
    fluyt.ok("network", "create", "--subnet", "10.20.1.0/24", "back")
    web(fluyt, "web")
    fluyt.ok("network", "connect", "--ip", "10.20.1.77", "--alias", "db", "--alias", "data", "back", "web")
    for name in ("db", "data", "web"):
        assert fluyt.run("--network", "back", script=f"wget -qO- http://{name}/") == "web\n"
    assert "10.20.1.77/24" in fluyt.ok("exec", "web", "ip", "-o", "-4", "address")
    fluyt.ok("create", "--name", "late", IMAGE, "true")
    assert fluyt("network", "connect", "--ip", "10.20.1.77", "back", "late").code == 0, "it does not run yet"
    ended = fluyt("start", "late")
    assert (ended.code, "10.20.1.77 is held by container web" in ended.err) == (1, True), ended
    for arguments, told in (
        (["--ip", "10.99.0.1", "back", "web"], ""),
        (["nowhere", "web"], "there is no network nowhere"),
        (["back", "nobody"], "there is no container nobody"),
    ):
        ended = fluyt("network", "connect", *arguments)
        assert (ended.code, told in ended.err) == (0 if not told else 1, True), ended
    for _ in range(2):
        fluyt.ok("network", "disconnect", "-f", "back", "web")
    assert "10.20.1." not in fluyt.ok("exec", "web", "ip", "-o", "-4", "address")


def test_networks_are_listed_by_what_they_are(fluyt: Program) -> None:
    front = fluyt.ok("network", "create", "--label", "tier=front", "front").strip()
    fluyt.ok("network", "create", "--label", "tier=back", "back")
    fluyt.ok("create", "--name", "user", "--network", "front", IMAGE)

    def listed(*filters: str) -> list[str]:
        flags = [flag for one in filters for flag in ("--filter", one)]
        return [one["name"] for one in fluyt("network", "ls", *flags, "--format", "json").objects]

    assert listed() == ["back", "bridge", "front"]
    assert listed("label=tier") == ["back", "front"]
    assert listed("label=tier=front") == listed(f"id={front[:12]}") == ["front"]
    assert listed("name=ac", "name=ron", "driver=bridge") == ["back", "front"]
    assert listed("driver=cni") == []
    assert (listed("dangling=true"), listed("dangling=false")) == (["back"], ["bridge", "front"])
    assert (listed("dangling=1"), listed("dangling=0")) == (["back"], ["bridge", "front"])
    assert fluyt.ok("network", "ls", "-q", "--no-trunc", "--filter", "name=front") == f"{front}\n"
    wrong = fluyt("network", "ls", "--filter", "colour=red")
    assert (wrong.code, "colour=red is not known" in wrong.err) == (1, True), wrong
    # What is told to be dangling can be deleted, as scripts do.
    assert fluyt.ok("network", "rm", *listed("dangling=true")) == "back\n"


@pytest.mark.parametrize("mode", ["none", "host", "container:owner"])
def test_what_needs_a_network_of_ones_own_is_refused_where_there_is_none(fluyt: Program, mode: str) -> None:
    fluyt.ok("run", "-d", "--name", "owner", IMAGE, "sleep", "1000")
    for flags in (["--ip", "10.0.0.9"], ["--network-alias", "x"], ["--mac-address", "02:00:00:00:00:01"]):
        ended = fluyt("run", "--rm", "--network", mode, *flags, IMAGE, "true")
        assert (ended.code, "a network of the container's own" in ended.err) == (125, True), ended


def test_an_anonymous_and_a_named_volume_by_their_filters(fluyt: Program) -> None:
    fluyt.ok("volume", "create", "--label", "keep", "kept")
    fluyt.ok("create", "--name", "user", "-v", "used:/u", "-v", "/anonymous", IMAGE)
    assert fluyt.ok("volume", "ls", "-q", "--filter", "dangling=true") == "kept\n"
    assert len(fluyt.ok("volume", "ls", "-q", "--filter", "dangling=false").split()) == 2
    fluyt.ok("rm", "user")
    assert fluyt.ok("volume", "prune", "-f").count("Deleted: ") == 1, "the anonymous one"
    assert fluyt.ok("volume", "prune", "-a", "-f", "--filter", "label=keep").count("Deleted: kept") == 1
    assert fluyt.ok("volume", "ls", "-q") == "used\n"
    fluyt.ok("volume", "prune", "-a", "-f")
