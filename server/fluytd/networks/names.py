"""Names of containers on their networks: who has which, and in which containers they are answered.

On the engine's own network nobody has a name; on every other one a container is found by its name, its aliases, the
beginning of its id and its host name, alone or with the network's name behind it, as in Docker.
"""

import threading
from collections.abc import Callable, Sequence

from fluytd import failpoints
from fluytd.containers.model import Container
from fluytd.containers.spec import ContainerSpec
from fluytd.ids import ContainerId
from fluytd.networks.model import Endpoint
from fluytd.networks.ports import Namespace, Resolver


class Names:
    """What `Attachments` tells the resolver. `serve` and `restrict` block; all methods may be called by any thread."""

    def __init__(self, resolver: Resolver, servers: Callable[[ContainerSpec], Sequence[str]]) -> None:
        """`servers`: who is asked what no container is called; it blocks (reads a file)."""
        self._resolver = resolver
        self._servers = servers
        self._served: set[str] = set()
        self._serving = threading.Lock()

    @staticmethod
    def are_served(endpoints: Sequence[Endpoint]) -> bool:
        """Whether a container with these endpoints asks the resolver."""
        return any(endpoint.has_names for endpoint in endpoints)

    def put(self, container: Container, endpoints: Sequence[Endpoint]) -> None:
        """The container is found on these networks. Never blocks."""
        for endpoint in endpoints:
            if endpoint.has_names:
                addresses = [address.partition("/")[0] for address in endpoint.addresses]
                names = names_of(container, endpoint)
                self._resolver.put(endpoint.network_id, endpoint.network_name, container.id, names, addresses)

    def remove(self, container_id: str, endpoint: Endpoint) -> None:
        """It is not found there any more. Idempotent. Never blocks."""
        self._resolver.remove(endpoint.network_id, container_id)

    def serve(self, container: Container, endpoints: Sequence[Endpoint], namespace: Namespace) -> None:
        """Its processes are answered, where a network of its has names. Raises KERNEL_FEATURE_MISSING, IO_FAILED."""
        if not self.are_served(endpoints):
            return
        self.restrict(container, endpoints)
        # Sockets and the table that leads to them are of one call.
        with self._serving:
            if container.id not in self._served:
                failpoints.hit("network.names.serve")
                self._resolver.serve(container.id, namespace)
                self._served.add(container.id)

    def restrict(self, container: Container, endpoints: Sequence[Endpoint]) -> None:
        """Its processes find what is on these networks. One without a way out asks nobody on the host's side either
        (CVE-2024-29018)."""
        has_way_out = any(not endpoint.is_internal for endpoint in endpoints)
        servers = self._servers(container.spec) if has_way_out else ()
        networks = [endpoint.network_id for endpoint in endpoints if endpoint.has_names]
        self._resolver.set_client(container.id, networks, list(servers))

    def stop(self, container_id: str) -> None:
        """Its processes are not answered any more. Idempotent. Never blocks."""
        self._served.discard(container_id)
        self._resolver.stop(container_id)


def names_of(container: Container, endpoint: Endpoint) -> list[str]:
    """What the container is called on a network, the best first. Source: moby `buildEndpointDNSNames`."""
    hostname, domain = container.resolved.hostname, container.spec.domainname
    whole = [f"{hostname}.{domain}"] if domain else []
    return [container.name, *endpoint.aliases, ContainerId(container.id).short, hostname, *whole]
