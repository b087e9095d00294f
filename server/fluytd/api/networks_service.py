"""RPC bodies of NetworkService."""

from typing import Any, Final

from fluyt.v1 import networks_pb2, networks_pb2_grpc
from fluytd.api.convert.containers import from_reference
from fluytd.api.convert.networks import from_attachment, from_create, from_network_filter, to_endpoint, to_network
from fluytd.api.convert.values import from_page_token, page_size, to_page_token
from fluytd.containers.service import ContainerService
from fluytd.errors import FieldInvalid
from fluytd.networks.service import NetworkService
from fluytd.networks.table import NetworkEntry

DEFAULT_PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1_000


class NetworkServicer(networks_pb2_grpc.NetworkServiceServicer):
    """Networks for callers."""

    def __init__(self, networks: NetworkService, containers: ContainerService) -> None:
        """Serves `networks`; `containers` are connected to them."""
        self._networks = networks
        self._containers = containers

    async def CreateNetwork(
        self, request: networks_pb2.CreateNetworkRequest, context: Any
    ) -> networks_pb2.CreateNetworkResponse:
        network = await self._networks.create(from_create(request))
        return networks_pb2.CreateNetworkResponse(network=to_network(network, ()))

    async def GetNetwork(
        self, request: networks_pb2.GetNetworkRequest, context: Any
    ) -> networks_pb2.GetNetworkResponse:
        return networks_pb2.GetNetworkResponse(network=self._message(self._networks.get(_network(request))))

    async def ListNetworks(
        self, request: networks_pb2.ListNetworksRequest, context: Any
    ) -> networks_pb2.ListNetworksResponse:
        size = page_size(request.page_size, default=DEFAULT_PAGE_SIZE, maximum=MAX_PAGE_SIZE)
        after = from_page_token(request.page_token)
        found = self._networks.list(from_network_filter(request.filter))
        rest = [entry for entry in found if entry.network.name > after]
        page = rest[:size]
        token = to_page_token(page[-1].network.name) if len(rest) > size else ""
        return networks_pb2.ListNetworksResponse(
            networks=[self._message(entry) for entry in page], next_page_token=token
        )

    async def DeleteNetwork(
        self, request: networks_pb2.DeleteNetworkRequest, context: Any
    ) -> networks_pb2.DeleteNetworkResponse:
        deleted = await self._networks.delete(_network(request), expected_version=request.expected_version)
        return networks_pb2.DeleteNetworkResponse(id=deleted)

    async def ConnectContainer(
        self, request: networks_pb2.ConnectContainerRequest, context: Any
    ) -> networks_pb2.ConnectContainerResponse:
        attachment = from_attachment(request.attachment, "attachment")
        endpoint = await self._containers.connect(
            from_reference(request), attachment, expected_version=request.expected_version
        )
        message = to_endpoint(endpoint) if endpoint is not None else None
        return networks_pb2.ConnectContainerResponse(endpoint=message)

    async def DisconnectContainer(
        self, request: networks_pb2.DisconnectContainerRequest, context: Any
    ) -> networks_pb2.DisconnectContainerResponse:
        left = await self._containers.disconnect(
            from_reference(request), _network(request), expected_version=request.expected_version
        )
        return networks_pb2.DisconnectContainerResponse(network_ids=left)

    async def PruneNetworks(
        self, request: networks_pb2.PruneNetworksRequest, context: Any
    ) -> networks_pb2.PruneNetworksResponse:
        deleted = await self._networks.prune(from_network_filter(request.filter), dry_run=request.dry_run)
        return networks_pb2.PruneNetworksResponse(deleted=deleted)

    def _message(self, entry: NetworkEntry) -> networks_pb2.Network:
        return to_network(entry.network, self._networks.container_ids(entry))


def _network(request: Any) -> str:
    reference: str = request.network
    if not reference:
        raise FieldInvalid(field="network", rule="must be given")
    return reference
