"""Bridges, veth pairs and the nftables table over `_core.network`. It keeps what it has made, and decides nothing."""

import errno
import threading
from collections.abc import Callable, Sequence
from typing import Final

from fluytd import failpoints
from fluytd._core import network
from fluytd.errors import EngineError
from fluytd.networks.kernel_spec import AttachmentSpec, BridgeSpec, Element
from fluytd.networks.ports import Namespace

#: A namespace is opened by a supervisor, which has to be executed where none waits.
NAMESPACE_TIMEOUT_MILLIS: Final = 30_000


class CoreKernel:
    """Implements `ports.Kernel` with the Rust core. Nothing is opened or made before it is needed."""

    def __init__(self, table: str, open_namespace: Callable[[int, int], network.Namespace]) -> None:
        """`table`: name of the nftables table. `open_namespace`: of a host pid, within milliseconds."""
        self._table = table
        self._open_namespace = open_namespace
        self._lock = threading.Lock()
        self._host: network.NetworkHost | None = None
        self._has_table = False
        self._bridges: set[str] = set()

    def make_bridge(self, spec: BridgeSpec, elements: Sequence[Element]) -> None:
        """See `ports.Kernel.make_bridge`."""
        if spec.name in self._bridges:
            return
        with self._lock:
            self._make_bridge(spec, elements)

    def _make_bridge(self, spec: BridgeSpec, elements: Sequence[Element]) -> None:
        host = self._opened()
        failpoints.hit("network.bridge.make")
        host.make_bridge(spec)
        failpoints.hit("network.table.make")
        if not self._has_table:
            if not host.has_table():
                host.set_table([])
            self._has_table = True
        host.change_table(elements, [])
        self._bridges.add(spec.name)

    def remove_bridge(self, name: str, elements: Sequence[Element]) -> None:
        """See `ports.Kernel.remove_bridge`."""
        with self._lock:
            host = self._opened()
            self._bridges.discard(name)
            failpoints.hit("network.bridge.remove")
            host.remove_link(name)
            if host.has_table():
                host.change_table([], elements)

    def attach(self, spec: AttachmentSpec, namespace: Namespace) -> None:
        """See `ports.Kernel.attach`."""
        failpoints.hit("network.attach.link")
        try:
            self._opened().attach(spec, namespace)  # type: ignore[arg-type] # it is one that the core opened
        except EngineError as error:
            if error.metadata.get("errno") == str(errno.ENODEV):
                # Somebody removed the bridge: the next attachment makes it again.
                self._bridges.discard(spec.bridge)
            raise

    def make_waiting(self, name: str, namespace: Namespace) -> None:
        """See `ports.Kernel.make_waiting`."""
        failpoints.hit("network.prepare.link")
        self._opened().make_waiting(name, namespace)  # type: ignore[arg-type] # as above
        failpoints.hit("network.prepare.linked")

    def open_namespace(self, host_pid: int) -> Namespace:
        """See `ports.Kernel.open_namespace`."""
        return self._open_namespace(host_pid, NAMESPACE_TIMEOUT_MILLIS)

    def remove_link(self, name: str) -> None:
        """See `ports.Kernel.remove_link`."""
        failpoints.hit("network.detach.link")
        self._opened().remove_link(name)

    def change_table(self, added: Sequence[Element], removed: Sequence[Element]) -> None:
        """See `ports.Kernel.change_table`."""
        if added or removed:
            failpoints.hit("network.table.change")
            self._opened().change_table(added, removed)

    def settle(
        self, elements: Sequence[Element], *, keep_links: frozenset[str], link_prefix: str
    ) -> tuple[list[str], frozenset[str]]:
        """See `ports.Kernel.settle`."""
        host = self._opened()
        links = host.list_links()
        swept = [name for name in links if name.startswith(link_prefix) and name not in keep_links]
        for name in swept:
            failpoints.hit("network.sweep.link")
            host.remove_link(name)
        if elements or host.has_table():
            host.set_table(elements)
            self._has_table = True
        standing = {element.bridge for element in elements if element.kind == "bridge"}
        self._bridges = standing & set(links)
        return swept, keep_links - set(links)

    def routed_networks(self, except_interfaces: Sequence[str]) -> list[str]:
        """See `ports.Kernel.routed_networks`."""
        return self._opened().routed_networks(except_interfaces)

    def _opened(self) -> network.NetworkHost:
        if self._host is None:
            self._host = network.NetworkHost(self._table)
        return self._host
