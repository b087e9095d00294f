"""Networks without a kernel: what it was told is kept in sets."""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fluytd.errors import IoFailed, PortInUse
from fluytd.events.model import Fact
from fluytd.networks.attachments import Attachments
from fluytd.networks.cni.attachments import PluginNetworks
from fluytd.networks.cni.model import PluginAttachment
from fluytd.networks.kernel_spec import AttachmentSpec, BridgeSpec, Element
from fluytd.networks.model import Network, Subnet
from fluytd.networks.names import Names
from fluytd.networks.ports import HeldPort, Namespace
from fluytd.networks.table import NetworkTable

PREFIX = "f123456"


@dataclass
class FakeNamespace:
    """A namespace that nothing runs in."""

    where: str = "/proc/1/fd/3"
    #: Addresses of links that stand in, by name.
    links: dict[str, list[str]] = field(default_factory=dict)

    def route_by(self, spec: AttachmentSpec) -> None:
        """Nothing."""

    def stand_in(self, name: str, addresses: Sequence[str]) -> None:
        self.links[name] = [*addresses]

    def path(self) -> str:
        return self.where


@dataclass
class FakeKernel:
    """Implements `networks.ports.Kernel`."""

    bridges: set[str] = field(default_factory=set)
    #: Attached interfaces by the name of the host's end.
    links: dict[str, AttachmentSpec] = field(default_factory=dict)
    elements: set[Element] = field(default_factory=set)
    routed: list[str] = field(default_factory=list)
    #: The next attachment fails.
    is_failing: bool = False

    def make_bridge(self, spec: BridgeSpec, elements: Sequence[Element]) -> None:
        self.bridges.add(spec.name)
        self.elements |= set(elements)

    def remove_bridge(self, name: str, elements: Sequence[Element]) -> None:
        self.bridges.discard(name)
        self.elements -= set(elements)

    def attach(self, spec: AttachmentSpec, namespace: Namespace) -> None:
        if self.is_failing:
            raise IoFailed(operation="attach", path=spec.name, errno=5)
        assert spec.bridge in self.bridges
        self.links[spec.host_name] = spec

    def make_waiting(self, name: str, namespace: Namespace) -> None:
        raise NotImplementedError

    def open_namespace(self, host_pid: int) -> Namespace:
        return FakeNamespace()

    def remove_link(self, name: str) -> None:
        self.links.pop(name, None)

    def change_table(self, added: Sequence[Element], removed: Sequence[Element]) -> None:
        self.elements = (self.elements - set(removed)) | set(added)

    def settle(
        self, elements: Sequence[Element], *, keep_links: frozenset[str], link_prefix: str
    ) -> tuple[list[str], frozenset[str]]:
        swept = [name for name in self.links if name.startswith(link_prefix) and name not in keep_links]
        for name in swept:
            del self.links[name]
        self.elements = set(elements)
        return swept, keep_links - set(self.links)

    def routed_networks(self, except_interfaces: Sequence[str]) -> list[str]:
        return self.routed


@dataclass
class FakeResolver:
    """Implements `networks.ports.Resolver`."""

    #: Names by network's and holder's id.
    names: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    #: What each client may ask: ids of networks, servers.
    clients: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)
    #: How often each client was given sockets.
    served: dict[str, int] = field(default_factory=dict)

    def put(self, network: str, network_name: str, holder: str, names: Sequence[str], addresses: Sequence[str]) -> None:
        self.names[network, holder] = [*names]

    def remove(self, network: str, holder: str) -> None:
        self.names.pop((network, holder), None)

    def set_client(self, client: str, networks: Sequence[str], servers: Sequence[str]) -> None:
        self.clients[client] = ([*networks], [*servers])

    def serve(self, client: str, namespace: Namespace) -> None:
        self.served[client] = self.served.get(client, 0) + 1

    def stop(self, client: str) -> None:
        self.clients.pop(client, None)
        self.served.pop(client, None)


@dataclass
class FakeHeldPort:
    """One port of a `FakeHostPorts`."""

    owner: "FakeHostPorts"
    port: int
    protocol: str

    def close(self) -> None:
        self.owner.held.discard((self.port, self.protocol))


@dataclass
class FakeHostPorts:
    """Implements `networks.ports.HostPorts`."""

    held: set[tuple[int, str]] = field(default_factory=set)

    def hold(
        self, address: str, port: int, protocol: str, *, names_holder: bool = True
    ) -> tuple[Sequence[FakeHeldPort], int]:
        number = port or next(n for n in range(40000, 50000) if (n, protocol) not in self.held)
        if (number, protocol) in self.held:
            raise PortInUse(address=address, port=number, protocol=protocol, holder="another process")
        self.held.add((number, protocol))
        return [FakeHeldPort(self, number, protocol)], number

    def release(self, held: Iterable[HeldPort]) -> None:
        for one in held:
            one.close()


@dataclass
class FakeRecords:
    """Implements `networks.ports.Records`."""

    saved: dict[str, Network] = field(default_factory=dict)

    async def load(self) -> list[Network]:
        return [*self.saved.values()]

    def save(self, network: Network, facts: Sequence[Fact]) -> Awaitable[None]:
        self.saved[network.id] = network
        return _done()

    def delete(self, network: Network, facts: Sequence[Fact]) -> Awaitable[None]:
        self.saved.pop(network.id, None)
        return _done()


@dataclass(frozen=True)
class FakePluginEnd:
    """Implements `networks.cni.ports.PluginEnd`."""

    output: bytes
    code: int = 0
    end: str = "exited"
    errors: bytes = b""


@dataclass
class FakePlugins:
    """Implements `networks.cni.ports.Plugins`; each plugin answers what stands for its type and the command."""

    lists: dict[str, str] = field(default_factory=dict)
    answers: dict[tuple[str, str], FakePluginEnd] = field(default_factory=dict)
    #: (command, type, what it read) of each execution.
    executed: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    #: What each found as its namespace.
    namespaces: list[str] = field(default_factory=list)
    #: Files that they were given and that are there yet.
    files: set[str] = field(default_factory=set)
    #: Called while one is executed, with the command.
    meanwhile: Callable[[str], None] = lambda _: None

    def read_list(self, name: str) -> str:
        return self.lists[name]

    def find(self, kind: str) -> str:
        return f"/plugins/{kind}"

    def run(self, kind: str, environment: Mapping[str, str], config: bytes, file_name: str) -> FakePluginEnd:
        command = environment["CNI_COMMAND"]
        self.meanwhile(command)
        self.files.add(file_name)
        self.executed.append((command, kind, json.loads(config)))
        self.namespaces.append(environment["CNI_NETNS"])
        return self.answers.get((command, kind), FakePluginEnd(b""))

    def forget(self, file_name: str) -> None:
        self.files.discard(file_name)


@dataclass
class FakePluginRecords:
    """Implements `networks.cni.ports.PluginRecords`."""

    saved: dict[tuple[str, str], PluginAttachment] = field(default_factory=dict)

    async def load(self) -> list[PluginAttachment]:
        return [*self.saved.values()]

    def save(self, attachment: PluginAttachment) -> None:
        self.saved[attachment.key] = attachment

    def delete(self, attachment: PluginAttachment) -> None:
        self.saved.pop(attachment.key, None)


async def _done() -> None:
    pass


def default_network() -> Network:
    """The engine's own, as it is first made."""
    return Network("d" * 64, "bridge", "fluyt0", (Subnet("10.208.0.0/20", "10.208.0.1"),), 1, is_default=True)


def attachments(
    kernel: FakeKernel | None = None,
    host_ports: FakeHostPorts | None = None,
    resolver: FakeResolver | None = None,
    *others: Network,
) -> Attachments:
    """Containers on the default network and others over fakes; the host's name server is 192.0.2.53."""
    table = NetworkTable()
    for network in (default_network(), *others):
        table.add(network)
    names = Names(resolver or FakeResolver(), lambda _: ["192.0.2.53"])
    plugins = PluginNetworks(FakePlugins(), FakePluginRecords(), FakeNamespace)
    return Attachments(table, kernel or FakeKernel(), host_ports or FakeHostPorts(), names, plugins, link_prefix=PREFIX)
