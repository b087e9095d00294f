"""The daemon is killed at every failpoint of networks: no interface, rule, address or port is left without an owner."""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_pb2, container_spec_pb2
from tests.e2e.networks.steps import (
    IMAGE,
    SERVE,
    Listener,
    containers,
    exec_in,
    fetch,
    make_network,
    networks,
    on,
    port,
    served,
    spec_of,
    start,
)
from tests.recovery import network_scenarios
from tests.recovery.crash import CALL_SECONDS, until_empty
from tests.recovery.network_scenarios import PORT, NetworkScenario, clear
from tests.support import image_files, images
from tests.support.namespaces import Machine, NetworkEngine
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("nft", "ip")
BYSTANDER = "bystander"
CASES = [*network_scenarios.SCENARIOS.items(), *network_scenarios.FURTHER]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkEngine]:
    """An engine in a namespace of its own, with a busybox and a container that answers all the time."""
    with NetworkEngine(tmp_path_factory.mktemp("netcrash")) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        served(running, BYSTANDER, published_ports=[port(80, 8001)])
        yield running
        if running.process.poll() is not None:
            running.start()


def left_behind(engine: NetworkEngine, *, is_wanted: bool = True) -> list[str]:
    """Interfaces, elements of the table and ports that no record owns, and those that a record lacks. `is_wanted`: this
    daemon has started a container on a network."""
    live = [one for one in containers(engine) if one.host_pid]
    bridges = {network.bridge_name for network in networks(engine)}
    links = engine.host.links() - {"lo"} - bridges
    wanted = sum(len(one.networks) for one in live)
    if not is_wanted:
        # A daemon makes none before the first container that needs one.
        links = engine.host.all_links() - {"lo"} - bridges
    found = [f"{len(links)} interfaces for {wanted} endpoints: {links}"] if len(links) != wanted else []
    shown = engine.host.run("nft", "list", "map", "inet", "fluyt", "publish_any_4")
    ports = {published.host_port for one in live for published in one.published_ports}
    if {int(number) for number in re.findall(r"tcp \. (\d+) : ", shown)} != ports:
        found.append(f"ports {ports}: {shown}")
    if PORT not in ports:
        for address in ("0.0.0.0", "::1"):  # noqa: S104 - whether anybody holds it
            try:
                Listener(engine.host, address, PORT).close()
            except OSError:
                found.append(f"port {PORT} of {address} is held")
    return found


@pytest.mark.parametrize(
    ("failpoint", "scenario"), CASES, ids=[f"{name}-{scenario.act.__name__}" for name, scenario in CASES]
)
def test_nothing_of_a_network_is_left_that_nothing_owns_after(
    engine: NetworkEngine, failpoint: str, scenario: NetworkScenario
) -> None:
    clear(engine)
    scenario.prepare(engine)
    engine.channel.close()
    engine.process.terminate()
    assert engine.process.wait(CALL_SECONDS) == 0
    with suppress(AssertionError):  # it may stand in the way of a start
        engine.start(FLUYT_FAILPOINT=failpoint)
        with suppress(grpc.RpcError):
            scenario.act(engine)
    assert engine.process.wait(CALL_SECONDS) == -signal.SIGKILL, (engine.root / "fluytd.log").read_text()
    engine.channel.close()
    engine.start()
    for address in ("127.0.0.1", "::1"):
        assert fetch(engine.host, address, 8001) == BYSTANDER
    until_empty(lambda: left_behind(engine, is_wanted=False))
    clear(engine)
    scenario.prepare(engine)
    scenario.act(engine)
    until_empty(lambda: left_behind(engine))
    clear(engine)
    until_empty(lambda: left_behind(engine))


@pytest.mark.parametrize(
    ("failpoint", "act", "by"),
    [
        ("network.disconnect.record", "disconnect", network_scenarios.NETWORK),
        ("network.disconnect.detach", "disconnect", network_scenarios.OTHER),
        ("network.connect.record", "connect", network_scenarios.NETWORK),
        ("network.connect.attach", "connect", network_scenarios.OTHER),
    ],
)
def test_the_way_out_is_the_one_of_the_record_after(engine: NetworkEngine, failpoint: str, act: str, by: str) -> None:
    """The daemon dies while another network of a running container takes the way out over."""
    clear(engine)
    network_scenarios.running_and_other_network(engine)
    if act == "disconnect":
        network_scenarios.connect(engine)
    engine.channel.close()
    engine.process.terminate()
    assert engine.process.wait(CALL_SECONDS) == 0
    engine.start(FLUYT_FAILPOINT=failpoint)
    with suppress(grpc.RpcError):
        if act == "disconnect":
            network_scenarios.disconnect(engine, network_scenarios.NETWORK)
        else:
            network_scenarios.connect(engine, gateway_priority=1)
    assert engine.process.wait(CALL_SECONDS) == -signal.SIGKILL
    engine.channel.close()
    engine.start()
    container = next(one for one in containers(engine) if one.name == network_scenarios.NAME)
    (way,) = (one for one in container.networks if one.network_name == by)
    expected = f"default via {way.ipv4_gateway} dev {way.interface_name}"
    until_now(lambda: expected in exec_in(engine, container, "ip", "route", "show", "default"), f"it is by {by}")
    shown = engine.host.run("nft", "list", "map", "inet", "fluyt", "publish_any_4")
    assert f"tcp . {PORT} : {way.ipv4_address.partition('/')[0]} . 80" in shown
    until_empty(lambda: left_behind(engine))
    clear(engine)


def test_everything_comes_back_after_a_restart_of_the_host(tmp_path: Path) -> None:
    with NetworkEngine(tmp_path) as engine:
        engine.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        make_network(engine, "kept", enable_ipv6=True)
        spec = spec_of("sh", "-c", SERVE.format(text="web"), attachments=on("kept"), published_ports=[port(80, 8002)])
        spec.restart_policy.mode = container_spec_pb2.RestartPolicy.MODE_ALWAYS
        engine.containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec, name="web"))
        before = start(engine, "web")
        until_now(lambda: b"ready" in engine.logs("web"), "it answers")
        engine.kill()
        # The host goes down: processes, kernel objects and the run root are gone, the data root is kept.
        for pid in (_parent(before.host_pid), before.host_pid):
            os.kill(pid, signal.SIGKILL)
        until_now(lambda: not Path(f"/proc/{before.host_pid}").exists(), "its processes have gone")
        shutil.rmtree(engine.root / "run")
        old, engine.host = engine.host, Machine()
        with old:
            engine.start()
            until_now(
                lambda: containers(engine)[0].state == container_pb2.Container.STATE_RUNNING, "its policy starts it"
            )
            until_now(lambda: engine.logs("web").count(b"ready") == 2, "it answers again")
            assert fetch(engine.host, "127.0.0.1", 8002) == fetch(engine.host, "::1", 8002) == "web"
            assert [one.name for one in networks(engine)] == ["bridge", "kept"]
            assert containers(engine)[0].networks[0].network_name == "kept"


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
