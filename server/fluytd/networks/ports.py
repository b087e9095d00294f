"""What networks need of the kernel, of the host's ports and of the store."""

from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from fluytd.events.model import Fact
from fluytd.networks.kernel_spec import AttachmentSpec, BridgeSpec, Element
from fluytd.networks.model import Network, PublishedPort


class Namespace(Protocol):
    """A container's network namespace, open."""

    def route_by(self, spec: AttachmentSpec) -> None:
        """The interface that is there has these routes. Raises IO_FAILED. Blocking."""

    def stand_in(self, name: str, addresses: Sequence[str]) -> None:
        """A link of that name with these addresses is in it, tied to nothing. Raises KERNEL_FEATURE_MISSING,
        FIELD_INVALID, IO_FAILED. Blocking."""

    def path(self) -> str:
        """Where other programs find it, as long as this lives. Never blocks."""


class Resolver(Protocol):
    """Names of containers, answered inside their namespaces; see `_core.resolver.Resolver`. Shared between threads."""

    def put(self, network: str, network_name: str, holder: str, names: Sequence[str], addresses: Sequence[str]) -> None:
        """See there."""

    def remove(self, network: str, holder: str) -> None:
        """See there."""

    def set_client(self, client: str, networks: Sequence[str], servers: Sequence[str]) -> None:
        """See there."""

    def serve(self, client: str, namespace: Namespace) -> None:
        """See there; the namespace is one of its own. Blocking."""

    def stop(self, client: str) -> None:
        """See there."""


class Kernel(Protocol):
    """Bridges, veth pairs and the table; all methods block and may be called by any thread."""

    def make_bridge(self, spec: BridgeSpec, elements: Sequence[Element]) -> None:
        """The bridge is there and up, and the table, which is made where it is absent, knows it by these elements.

        Raises KERNEL_FEATURE_MISSING, IO_FAILED.
        """

    def remove_bridge(self, name: str, elements: Sequence[Element]) -> None:
        """Neither interface nor elements are there. Idempotent. Raises IO_FAILED."""

    def attach(self, spec: AttachmentSpec, namespace: Namespace) -> None:
        """A veth pair leads from the bridge into the namespace. Raises KERNEL_FEATURE_MISSING, IO_FAILED; nothing is
        left then."""

    def make_waiting(self, name: str, namespace: Namespace) -> None:
        """A veth pair with a host end of this name leads into the namespace. It waits for the next `attach` there, and
        goes with the namespace. Raises KERNEL_FEATURE_MISSING, IO_FAILED."""

    def open_namespace(self, host_pid: int) -> Namespace:
        """The network namespace of a process. Raises IO_FAILED, SUPERVISOR_LOST."""

    def remove_link(self, name: str) -> None:
        """The interface is gone. Idempotent. Raises IO_FAILED."""

    def change_table(self, added: Sequence[Element], removed: Sequence[Element]) -> None:
        """The elements came and went at once. Raises IO_FAILED."""

    def settle(
        self, elements: Sequence[Element], *, keep_links: frozenset[str], link_prefix: str
    ) -> tuple[list[str], frozenset[str]]:
        """The table has exactly these elements, if there are any or it stands; interfaces whose name begins so are gone
        but for those kept. Returns the names of those that went,
        and of those to be kept that are not there. Raises KERNEL_FEATURE_MISSING, IO_FAILED."""

    def routed_networks(self, except_interfaces: Sequence[str]) -> list[str]:
        """CIDRs that the host has routes to but by these interfaces. Raises IO_FAILED."""


class HeldPort(Protocol):
    """A port of the host that nobody else can take."""

    def close(self) -> None:
        """It is ours no more. Idempotent. It is free for anybody after `HostPorts.release`."""


@runtime_checkable
class Forwarding(HeldPort, Protocol):
    """A port that is held by what listens there: the kernel itself leads nobody from it to a container."""

    def lead_to(self, targets: Sequence[str]) -> None:
        """What comes there goes to the first of these (`10.0.0.2:80`) that takes it, and waits if there are none. Never
        blocks."""


#: What holds each port of the host, by address, number and protocol.
Held = dict[tuple[str, int, str], Sequence[HeldPort]]


@dataclass(frozen=True, slots=True)
class PortChange:
    """Ports that come to a running container and go from it; nothing has been told to anybody yet."""

    added: tuple[PublishedPort, ...]
    removed: tuple[PublishedPort, ...]
    #: What holds the added ones, but for those that a removed one holds already.
    held: Held
    #: All that the container has once the change is made.
    ports: tuple[PublishedPort, ...]


class HostPorts(Protocol):
    """Ports of the host. Never blocks for long."""

    def hold(
        self, address: str, port: int, protocol: str, *, names_holder: bool = True
    ) -> tuple[Sequence[HeldPort], int]:
        """The port of the address (empty: of all, of both families) is ours; 0 takes a free one. Returns what holds it,
        and its number. Where the address covers ::1, one of what holds it is a `Forwarding`.

        Raises PORT_IN_USE (it names the holder where that is wanted and can be found out), FIELD_INVALID
        (`host_address`), IO_FAILED.
        """

    def release(self, held: Iterable[HeldPort]) -> None:
        """The ports are free for anybody. Idempotent."""


class Records(Protocol):
    """Networks in the durable store. Writes are carried out in the order of the calls, whether awaited or not."""

    async def load(self) -> list[Network]:
        """All records, no order; one that does not read back is logged and left out. Raises IO_FAILED."""

    def save(self, network: Network, facts: Sequence[Fact]) -> Awaitable[None]:
        """Stored durably, together with what happened. Raises STORAGE_FULL, IO_FAILED when awaited."""

    def delete(self, network: Network, facts: Sequence[Fact]) -> Awaitable[None]:
        """Removed durably; idempotent. As `save` otherwise."""
