"""What the tests of networks do again and again, by gRPC and by real traffic."""

import contextlib
import http.client
import socket
import subprocess
import threading
from collections.abc import Sequence
from typing import Any

from fluyt.v1 import containers_pb2, networks_pb2
from fluyt.v1.types import container_pb2, container_spec_pb2, network_pb2
from tests.support.engine import Engine
from tests.support.namespaces import Machine, NetworkEngine
from tests.support.wait import until_now

IMAGE = "busybox:1"
BRIDGE = network_pb2.NetworkSpec.MODE_BRIDGE
TCP = network_pb2.TRANSPORT_PROTOCOL_TCP
UDP = network_pb2.TRANSPORT_PROTOCOL_UDP
#: Answers each connection with a text, on IPv4 and IPv6.
SERVE = "mkdir -p /www; echo {text} > /www/index.html; httpd -p [::]:80 -h /www; echo ready; exec sleep 1000"
#: How long one try to connect may take, in seconds.
PATIENCE = 10


def port(container: int, host: int = 0, **fields: Any) -> network_pb2.PublishedPort:
    """A port to be published."""
    return network_pb2.PublishedPort(container_port=container, host_port=host, **fields)


def on(*names: str, **fields: Any) -> list[network_pb2.NetworkAttachment]:
    """Attachments to these networks, the first with the fields."""
    first, *rest = names
    return [
        network_pb2.NetworkAttachment(network=first, **fields),
        *(network_pb2.NetworkAttachment(network=name) for name in rest),
    ]


def spec_of(*args: str, **network: Any) -> container_spec_pb2.ContainerSpec:
    """A specification with such a network."""
    return container_spec_pb2.ContainerSpec(image=IMAGE, args=args, network=network_pb2.NetworkSpec(**network))


def create(engine: Engine, name: str, *args: str, **network: Any) -> container_pb2.Container:
    """CreateContainer's answer."""
    request = containers_pb2.CreateContainerRequest(spec=spec_of(*args, **network), name=name)
    return engine.containers.CreateContainer(request).container  # type: ignore[no-any-return]


def start(engine: Engine, name: str) -> container_pb2.Container:
    """StartContainer's answer."""
    return engine.containers.StartContainer(containers_pb2.StartContainerRequest(container=name)).container  # type: ignore[no-any-return]


def stop(engine: Engine, name: str) -> None:
    """It has ended at once."""
    request = containers_pb2.StopContainerRequest(container=name)
    request.timeout.seconds = 0
    engine.containers.StopContainer(request)


def delete(engine: Engine, name: str) -> None:
    """It is gone, whatever it does."""
    engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=name, force=True))


def get(engine: Engine, name: str) -> container_pb2.Container:
    """GetContainer's answer."""
    return engine.containers.GetContainer(containers_pb2.GetContainerRequest(container=name)).container  # type: ignore[no-any-return]


def containers(engine: Engine) -> Sequence[container_pb2.Container]:
    """All containers."""
    return engine.containers.ListContainers(containers_pb2.ListContainersRequest()).containers  # type: ignore[no-any-return]


def networks(engine: Engine) -> Sequence[networks_pb2.Network]:
    """All networks."""
    return engine.networks.ListNetworks(networks_pb2.ListNetworksRequest()).networks  # type: ignore[no-any-return]


def make_network(engine: Engine, name: str, **fields: Any) -> networks_pb2.Network:
    """CreateNetwork's answer."""
    return engine.networks.CreateNetwork(networks_pb2.CreateNetworkRequest(name=name, **fields)).network  # type: ignore[no-any-return]


def served(engine: Engine, name: str, script: str = SERVE, **network: Any) -> container_pb2.Container:
    """A running container that answers with its name."""
    create(engine, name, "sh", "-c", script.format(text=name), **network)
    running = start(engine, name)
    until_now(lambda: b"ready" in engine.logs(name), f"{name} is ready")
    return running


def ipv4(container: container_pb2.Container, index: int = 0) -> str:
    """Its IPv4 address on one of its networks."""
    return container.networks[index].ipv4_address.partition("/")[0]


def ipv6(container: container_pb2.Container, index: int = 0) -> str:
    """Its IPv6 address on one of its networks."""
    return container.networks[index].ipv6_address.partition("/")[0]


def fetch(machine: Machine, address: str, number: int) -> str:
    """What the server there answers to a machine; OSError if there is none."""

    def ask() -> str:
        with contextlib.closing(http.client.HTTPConnection(address, number, timeout=PATIENCE)) as connection:
            connection.request("GET", "/")
            return connection.getresponse().read().decode().strip()

    return machine.inside(ask)


def is_refused(machine: Machine, address: str, number: int, patience: float = 1) -> bool:
    """Whether a machine gets no connection there."""

    def ask() -> bool:
        try:
            socket.create_connection((address, number), timeout=patience).close()
        except OSError:
            return True
        return False

    return machine.inside(ask)


def inside(container: container_pb2.Container) -> Machine:
    """The network of a running container, for what a program in it would see."""
    machine = Machine.__new__(Machine)
    machine.pid = container.host_pid
    return machine


class Datagrams:
    """A server in a machine's network, or a container's, that answers each datagram with a text."""

    def __init__(self, machine: Machine, number: int, text: str) -> None:
        """It answers."""
        self._socket = machine.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._socket.bind(("", number))
        self._text = text.encode()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            data, asker = self._socket.recvfrom(100)
            if data == b"end":
                return
            self._socket.sendto(self._text, asker)

    def close(self) -> None:
        """It answers no more."""
        number = self._socket.getsockname()[1]
        # Sockets keep the network in which they were made.
        self._socket.sendto(b"end", ("127.0.0.1", number))
        self._thread.join()
        self._socket.close()


def ask_udp(machine: Machine, address: str, number: int) -> str:
    """The answer to a datagram."""

    def ask() -> str:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.settimeout(0.5)
            asking.connect((address, number))
            for _ in range(20 * PATIENCE):
                try:
                    asking.send(b"question\n")
                    return asking.recv(100).decode().strip()
                except OSError:
                    continue
        raise AssertionError(f"no answer from {address}:{number}")

    return machine.inside(ask)


def shell(engine: Engine, script: str, **network: Any) -> tuple[str, int]:
    """What the script prints in a container with such a network, and how it ends."""
    spec = network_pb2.NetworkSpec(**network)
    out, err, ended = engine.run(IMAGE, "sh", "-c", script, network=spec)
    return (out + err).decode(), ended.exit_code


def exec_in(engine: NetworkEngine, container: container_pb2.Container, *command: str) -> str:
    """What a command of the host prints in the network of a container; it must succeed."""
    namespace = f"--net=/proc/{container.host_pid}/ns/net"
    done = subprocess.run(["nsenter", namespace, "--", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


class Listener:
    """A program of the host, beside the engine, that has a port."""

    def __init__(self, machine: Machine, address: str = "127.0.0.1", number: int = 0) -> None:
        """It listens."""

        def listen() -> socket.socket:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            return socket.create_server((address, number), family=family)

        self.socket = machine.inside(listen)
        self.port = self.socket.getsockname()[1]

    def close(self) -> None:
        """The port is free."""
        self.socket.close()
