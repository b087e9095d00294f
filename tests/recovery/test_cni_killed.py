"""The daemon is killed at every failpoint of networks by plugins: each plugin is told to take away what it gave."""

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from fluyt.v1 import containers_pb2, networks_pb2
from fluyt.v1.types import network_pb2
from tests.e2e.networks.steps import (
    IMAGE,
    containers,
    create,
    delete,
    fetch,
    make_network,
    on,
    port,
    served,
    start,
    stop,
)
from tests.recovery.crash import CALL_SECONDS, until_empty
from tests.support import image_files, images
from tests.support.cni import BRIDGE, PORTMAP, Lists
from tests.support.namespaces import NetworkEngine
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("cni-plugins", "iptables", "nft", "ip")
NAME, BYSTANDER, PORT = "half", "bystander", 8090
Step = Callable[[NetworkEngine], object]


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Lists:
    """One list."""
    made = Lists(tmp_path_factory.mktemp("cni"))
    made.write("front", made.bridge("front"), PORTMAP)
    return made


@pytest.fixture(scope="module")
def engine(lists: Lists, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkEngine]:
    """An engine with a container on that network that answers all the time."""
    with NetworkEngine(tmp_path_factory.mktemp("cnicrash"), options=lists.options) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        make_network(running, "front", driver="cni")
        served(running, BYSTANDER, attachments=on("front"), published_ports=[port(80, 8001)])
        yield running
        if running.process.poll() is not None:
            running.start()


def made(engine: NetworkEngine) -> None:
    """A container of that network, not started."""
    create(engine, NAME, "sleep", "1000", attachments=on("front"), published_ports=[port(80, PORT)])


def running(engine: NetworkEngine) -> None:
    """It runs."""
    made(engine)
    start(engine, NAME)


def elsewhere(engine: NetworkEngine) -> None:
    """It runs on another network."""
    create(engine, NAME, "sleep", "1000", attachments=on("bridge"))
    start(engine, NAME)


def start_it(engine: NetworkEngine) -> None:
    """StartContainer."""
    start(engine, NAME)


def stop_it(engine: NetworkEngine) -> None:
    """StopContainer."""
    stop(engine, NAME)


def connect(engine: NetworkEngine) -> None:
    """ConnectContainer."""
    attachment = network_pb2.NetworkAttachment(network="front")
    engine.networks.ConnectContainer(networks_pb2.ConnectContainerRequest(container=NAME, attachment=attachment))


#: Failpoint, with how often it is come by -> what stands before, and the call that the daemon dies in.
SCENARIOS: dict[str, tuple[Step, Step]] = {
    "network.cni.record": (made, start_it),
    "network.cni.saved:2": (made, start_it),
    "network.cni.saved:3": (made, start_it),
    "network.cni.add": (made, start_it),
    "network.cni.add:2": (made, start_it),
    "network.attach.started": (made, start_it),
    "network.cni.result": (elsewhere, connect),
    "network.cni.delete:2": (running, stop_it),
    "network.cni.forget": (running, stop_it),
    "container.exit.record": (running, stop_it),
}

#: Reached by a test of its own, below.
PUT_OFF = "network.cni.put_off"


def left_behind(engine: NetworkEngine, lists: Lists) -> list[str]:
    """Addresses, interfaces and chains of plugins that no running container has, and those that one lacks."""
    live = [one for one in containers(engine) if one.host_pid]
    ours = [(one, network) for one in live for network in one.networks if network.network_name == "front"]
    found = []
    addresses = {network.ipv4_address.partition("/")[0] for _, network in ours}
    if lists.leased("front") != addresses:
        found.append(f"{addresses} of containers, leased {lists.leased('front')}")
    veths = engine.host.run("ip", "-o", "link", "show", "master", BRIDGE).splitlines()
    if len(veths) != len(ours):
        found.append(f"{len(ours)} containers, {veths}")
    rules = engine.host.run("iptables-save", "-t", "nat")
    known = {one.id for one in live}
    found += [rules for owner in re.findall(r'id: \\*"([0-9a-f]{64})', rules) if owner not in known]
    published = sum(one.spec.network.attachments[0].network == "front" for one in live)
    if rules.count(":CNI-DN-") != published:
        found.append(rules)
    files = {path.name for path in Path(engine.root, "run", "cni").iterdir()}
    if {name.partition("-")[0] for name in files} != {one.id for one, _ in ours}:
        found.append(f"files {files}")
    return found


def clear(engine: NetworkEngine) -> None:
    """Only the bystander is left."""
    with suppress(grpc.RpcError):
        delete(engine, NAME)


@pytest.mark.parametrize(("failpoint", "steps"), [*SCENARIOS.items()], ids=[*SCENARIOS])
def test_no_plugin_has_anything_of_what_nothing_owns_after(
    engine: NetworkEngine, lists: Lists, failpoint: str, steps: tuple[Step, Step]
) -> None:
    prepare, act = steps
    clear(engine)
    # By the addresses that it answered `bridge` ends masquerading. Of an answer that was not recorded nobody knows.
    is_recorded = failpoint != "network.cni.saved:2"
    lists.write("front", lists.bridge("front", ipMasq=is_recorded), PORTMAP)
    prepare(engine)
    engine.channel.close()
    engine.process.terminate()
    assert engine.process.wait(CALL_SECONDS) == 0
    engine.start(FLUYT_FAILPOINT=failpoint)
    with suppress(grpc.RpcError):
        act(engine)
    assert engine.process.wait(CALL_SECONDS) == -signal.SIGKILL, (engine.root / "fluytd.log").read_text()
    engine.channel.close()
    engine.start()
    assert fetch(engine.host, "127.0.0.1", 8001) == BYSTANDER
    until_empty(lambda: left_behind(engine, lists))
    clear(engine)
    until_empty(lambda: left_behind(engine, lists))


def test_a_plugin_that_outlives_the_daemon_is_waited_for(engine: NetworkEngine, lists: Lists, tmp_path: Path) -> None:
    log = tmp_path / "log"
    answer = '{"cniVersion": "0.4.0"}'
    begun = tmp_path / "begun"
    # It notes itself before it answers: nobody reads that any more.
    add = f"touch {begun}; sleep 2; echo ADD >> {log}; echo '{answer}'"
    lists.script("slow", f'if [ "$CNI_COMMAND" = ADD ]; then {add}; else echo $CNI_COMMAND >> {log}; fi')
    lists.write("slow", {"type": "slow"})
    clear(engine)
    make_network(engine, "slow", driver="cni")
    create(engine, NAME, "sleep", "1000", attachments=on("slow"))
    call = engine.containers.StartContainer.future(containers_pb2.StartContainerRequest(container=NAME))
    until_now(begun.exists, "it has been executed")
    engine.kill()
    call.cancel()
    engine.start()
    assert log.read_text().split() == ["ADD", "DEL"]
    delete(engine, NAME)
    engine.networks.DeleteNetwork(networks_pb2.DeleteNetworkRequest(network="slow"))


def test_a_plugin_that_failed_as_the_daemon_died_is_told_again_by_the_next(
    engine: NetworkEngine, lists: Lists, tmp_path: Path
) -> None:
    log, fails = tmp_path / "log", tmp_path / "fails"
    fails.touch()
    answer = '{"cniVersion": "0.4.0"}'
    act = f"echo $CNI_COMMAND >> {log}; [ $CNI_COMMAND = ADD ] || [ ! -e {fails} ] || exit 1"
    lists.script("flaky", f"{act}; [ $CNI_COMMAND != ADD ] || echo '{answer}'")
    lists.write("flaky", {"type": "flaky"}, disableCheck=True)
    clear(engine)
    make_network(engine, "flaky", driver="cni")
    create(engine, NAME, "sleep", "1000", attachments=on("flaky"))
    engine.channel.close()
    engine.process.terminate()
    assert engine.process.wait(CALL_SECONDS) == 0
    engine.start(FLUYT_FAILPOINT=PUT_OFF)
    start(engine, NAME)
    with suppress(grpc.RpcError):
        stop(engine, NAME)
    assert engine.process.wait(CALL_SECONDS) == -signal.SIGKILL
    engine.channel.close()
    # The next fails once more, the one after it does not.
    engine.start()
    until_now(lambda: log.read_text().split() == ["ADD", "DEL", "DEL"], "it is told again")
    engine.kill()
    fails.unlink()
    engine.start()
    until_now(lambda: log.read_text().split() == ["ADD", "DEL", "DEL", "DEL"], "and by the next daemon")
    engine.kill()
    engine.start()
    assert log.read_text().split() == ["ADD", "DEL", "DEL", "DEL"], "nothing is left of it"
    delete(engine, NAME)
    engine.networks.DeleteNetwork(networks_pb2.DeleteNetworkRequest(network="flaky"))
