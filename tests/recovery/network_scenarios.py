"""How each failpoint of networks is reached: what makes ready, and the call that the daemon dies in."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import grpc

from fluyt.v1 import containers_pb2, networks_pb2
from fluyt.v1.types import network_pb2
from tests.e2e.networks.steps import create, delete, make_network, on, port, start, stop
from tests.support.namespaces import NetworkEngine

NAME, NETWORK, OTHER = "half", "half-net", "other-net"
PORT = 8090
Step = Callable[[NetworkEngine], object]


def made_network(engine: NetworkEngine) -> None:
    """A network whose bridge is not there yet."""
    make_network(engine, NETWORK)


def made_container(engine: NetworkEngine) -> None:
    """A container of that network, not started."""
    made_network(engine)
    create(engine, NAME, "sleep", "1000", attachments=on(NETWORK), published_ports=[port(80, PORT)])


def running_container(engine: NetworkEngine) -> None:
    """It runs."""
    made_container(engine)
    start(engine, NAME)


def running_and_other_network(engine: NetworkEngine) -> None:
    """It runs, and there is another network."""
    running_container(engine)
    make_network(engine, OTHER)


def running_on_both(engine: NetworkEngine) -> None:
    """It runs on two networks."""
    running_and_other_network(engine)
    connect(engine)


def ended_container(engine: NetworkEngine) -> None:
    """The network has a bridge and no container."""
    running_container(engine)
    delete(engine, NAME)


def stray_link(engine: NetworkEngine) -> None:
    """An interface that looks like one of the engine's and belongs to nothing."""
    own = next(name for name in engine.host.links() if name.startswith("f") and len(name) == 15)
    engine.host.run("ip", "link", "add", own[:7] + "00000000", "type", "veth", "peer", "name", "stray")


def nothing(engine: NetworkEngine) -> None:
    """Nothing has to be there."""


def restart_daemon(engine: NetworkEngine) -> None:
    """A new daemon comes up."""
    engine.kill()
    engine.start()


def start_it(engine: NetworkEngine) -> None:
    """StartContainer."""
    start(engine, NAME)


def stop_it(engine: NetworkEngine) -> None:
    """StopContainer."""
    stop(engine, NAME)


def delete_network(engine: NetworkEngine) -> None:
    """DeleteNetwork."""
    engine.networks.DeleteNetwork(networks_pb2.DeleteNetworkRequest(network=NETWORK))


def connect(engine: NetworkEngine, gateway_priority: int = 0) -> None:
    """ConnectContainer."""
    attachment = network_pb2.NetworkAttachment(network=OTHER, gateway_priority=gateway_priority)
    engine.networks.ConnectContainer(networks_pb2.ConnectContainerRequest(container=NAME, attachment=attachment))


def disconnect(engine: NetworkEngine, network: str = OTHER) -> None:
    """DisconnectContainer."""
    engine.networks.DisconnectContainer(networks_pb2.DisconnectContainerRequest(container=NAME, network=network))


def publish(engine: NetworkEngine) -> None:
    """UpdateContainer: one port in place of the other."""
    engine.containers.UpdateContainer(
        containers_pb2.UpdateContainerRequest(
            container=NAME, add_published_ports=[port(80, PORT + 1)], remove_published_ports=[port(80, PORT)]
        )
    )


def clear(engine: NetworkEngine) -> None:
    """Nothing of a scenario is left in the records."""
    with suppress(grpc.RpcError):
        delete(engine, NAME)
    for name in (NETWORK, OTHER):
        with suppress(grpc.RpcError):
            engine.networks.DeleteNetwork(networks_pb2.DeleteNetworkRequest(network=name))


@dataclass(frozen=True)
class NetworkScenario:
    """What stands before, and the call that the daemon dies in."""

    prepare: Step
    act: Step


CREATING = NetworkScenario(nothing, made_network)
STARTING = NetworkScenario(made_container, start_it)
STOPPING = NetworkScenario(running_container, stop_it)
PUBLISHING = NetworkScenario(running_container, publish)
CONNECTING = NetworkScenario(running_and_other_network, connect)
DISCONNECTING = NetworkScenario(running_on_both, disconnect)
DELETING = NetworkScenario(ended_container, delete_network)

#: Failpoint -> how it is reached.
SCENARIOS = {
    "network.create.record": CREATING,
    "network.record.saved": CREATING,
    "network.bridge.make": STARTING,
    "network.table.make": STARTING,
    "network.attach.link": STARTING,
    "network.prepare.link": STARTING,
    "network.prepare.linked": STARTING,
    "network.table.change": STARTING,
    "network.names.serve": STARTING,
    "network.attach.started": STARTING,
    "network.detach.link": STOPPING,
    "network.forward.lead": STARTING,
    "network.publish.record": PUBLISHING,
    "network.publish.table": PUBLISHING,
    "network.connect.record": CONNECTING,
    "network.connect.attach": CONNECTING,
    "network.disconnect.record": DISCONNECTING,
    "network.disconnect.detach": DISCONNECTING,
    "network.bridge.remove": DELETING,
    "network.delete.record": DELETING,
    "network.record.deleted": DELETING,
    "network.sweep.link": NetworkScenario(stray_link, restart_daemon),
}
#: Other ways past the same places.
FURTHER = [
    ("network.table.change", STOPPING),
    ("network.forward.lead", PUBLISHING),
    ("container.start.executed", STARTING),
    ("container.exit.record", STOPPING),
]
