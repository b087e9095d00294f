"""Networks and published ports by the command line, in a network namespace of the tests' own."""

from collections.abc import Iterator

import pytest

from tests.e2e.cli.program import IMAGE, Program
from tests.e2e.networks.steps import SERVE, fetch
from tests.support import image_files, images
from tests.support.namespaces import NetworkEngine
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("nft", "ip")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkEngine]:
    """The engine, with a busybox."""
    with NetworkEngine(tmp_path_factory.mktemp("clinet")) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield running


@pytest.fixture
def fluyt(engine: NetworkEngine) -> Iterator[Program]:
    """The program; afterwards there is no container and no network but the engine's own."""
    program = Program(engine.root / "run" / "fluytd.sock")
    yield program
    for identifier in program.ok("ps", "-aq").split():
        program.ok("rm", "-f", identifier)
    program.ok("network", "prune", "-f")


def test_a_web_server_answers_by_a_published_port_that_ps_and_port_show(engine: NetworkEngine, fluyt: Program) -> None:
    script = SERVE.format(text="web")
    fluyt.ok("run", "-d", "--name", "web", "-p", "8080:80", "-p", "127.0.0.1:8443:443", IMAGE, "sh", "-c", script)
    until_now(lambda: "ready" in fluyt.ok("logs", "web"), "it is ready")
    assert fetch(engine.host, "127.0.0.1", 8080) == "web"
    assert sorted(fluyt.ok("port", "web").splitlines()) == [
        "443/tcp -> 127.0.0.1:8443",
        "80/tcp -> 0.0.0.0:8080",
    ]
    assert fluyt.ok("port", "web", "80") == "0.0.0.0:8080\n"
    assert fluyt("port", "web", "81").code == 1
    assert "0.0.0.0:8080->80/tcp, 127.0.0.1:8443->443/tcp" in fluyt.ok("ps")
    taken = fluyt("run", "-d", "--name", "second", "-p", "8080:80", IMAGE, "true")
    assert taken.code == 125
    assert "held by container" in taken.err
    assert fluyt("run", "-p", "8080:80:80:80", IMAGE, "true").code == 125


def test_networks_are_made_shown_used_and_deleted(fluyt: Program) -> None:
    made = fluyt.ok(
        "network", "create", "--subnet", "10.20.0.0/24", "--gateway", "10.20.0.9", "--label", "a=b", "front"
    )
    fluyt.ok("network", "create", "--internal", "--ipv6", "back")
    assert len(made.strip()) == 64
    (shown,) = fluyt("network", "inspect", "front", "--format", "json").objects
    assert (shown["id"], shown["subnets"][0]["gateway"], shown["labels"]) == (made.strip(), "10.20.0.9", {"a": "b"})
    lines = fluyt.ok("network", "ls").splitlines()
    assert [line.split()[1] for line in lines[1:] if line] == ["back", "bridge", "front"]
    assert "internal" in lines[1]
    flags = ["--network", "front", "--ip", "10.20.0.77", "--network-alias", "web", "--add-host", "db:192.0.2.1"]
    out = fluyt.run(*flags, script="ip -o -4 address show eth0; cat /etc/hosts")
    assert "10.20.0.77/24" in out
    assert "192.0.2.1\tdb" in out
    fluyt.ok("run", "-d", "--name", "job", "--network", "none", IMAGE, "sleep", "1000")
    fluyt.ok("run", "-d", "--name", "web", IMAGE, "sleep", "1000")
    fluyt.ok("network", "connect", "--ip", "10.20.0.5", "front", "web")
    assert "10.20.0.5" in fluyt.ok("inspect", "web")
    refused = fluyt("network", "connect", "front", "job")
    assert (refused.code, "no network of its own" in refused.err) == (1, True)
    assert fluyt("network", "rm", "front").code == 1
    fluyt.ok("network", "disconnect", "front", "web")
    assert fluyt.ok("network", "rm", "front", "back") == "front\nback\n"
    assert fluyt("network", "inspect", "front").code == 1
    assert fluyt("run", "--network", "front", IMAGE, "true").code == 125


def test_modes_are_those_of_docker(fluyt: Program, engine: NetworkEngine) -> None:
    links = "ip -o link | cut -d: -f2"
    assert fluyt.run("--network", "none", script=links).split() == ["lo"]
    assert set(fluyt.run("--network", "host", script=links).replace(" ", "").split()) >= {"lo", "fluyt0"}
    assert "eth0@" in fluyt.run("--network", "bridge", script=links)
    assert fluyt.run("--dns", "192.0.2.5", script="cat /etc/resolv.conf").count("192.0.2.5") == 1
