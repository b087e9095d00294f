"""All networks in memory, with the addresses on each and the containers that have them. It does no I/O."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from fluytd.errors import NetworkAmbiguous, NetworkExists, NetworkNotFound
from fluytd.networks.addresses import Addresses
from fluytd.networks.model import Endpoint, Network

#: Matches that an error about an ambiguous id lists.
_LISTED_MATCHES: Final = 5


@dataclass(eq=False, slots=True)
class NetworkEntry:
    """One network, and what is on it now."""

    network: Network
    #: By IP version.
    addresses: dict[int, Addresses]
    #: Running containers by id.
    endpoints: dict[str, Endpoint] = field(default_factory=dict)

    def take(self, holder: str, version: int, wanted: str) -> str:
        """An address of that IP version; empty if the network has none. Raises as `Addresses.take`."""
        addresses = self.addresses.get(version)
        return addresses.take(holder, wanted) if addresses is not None else ""

    def give_back(self, address: str) -> None:
        """The address is free. Idempotent."""
        if address:
            addresses = self.addresses.get(ipaddress.ip_interface(address).version)
            if addresses is not None:
                addresses.give_back(address)


class NetworkTable:
    """Which networks exist. Belongs to the event loop."""

    def __init__(self) -> None:
        self._by_id: dict[str, NetworkEntry] = {}

    def add(self, network: Network) -> NetworkEntry:
        """The network is known. Raises NETWORK_EXISTS."""
        for entry in self:
            if entry.network.name == network.name:
                raise NetworkExists(name=network.name, id=entry.network.id)
        addresses: dict[int, Addresses] = {
            ipaddress.ip_network(subnet.cidr).version: Addresses(subnet) for subnet in network.subnets
        }
        entry = self._by_id[network.id] = NetworkEntry(network, addresses)
        return entry

    def remove(self, entry: NetworkEntry) -> None:
        """It is not known any more. Idempotent."""
        self._by_id.pop(entry.network.id, None)

    def find(self, reference: str) -> NetworkEntry:
        """The network of an id, a name, the name of the default one's bridge, or an unambiguous beginning of an id.

        Raises NETWORK_NOT_FOUND, NETWORK_AMBIGUOUS.
        """
        found = self._by_id.get(reference)
        for entry in self if found is None else ():
            network = entry.network
            if reference == network.name or (network.is_default and reference == network.bridge_name):
                return entry
        if found is not None:
            return found
        matches = [id_ for id_ in self._by_id if id_.startswith(reference)] if reference else []
        if not matches:
            raise NetworkNotFound(id=reference)
        if len(matches) > 1:
            raise NetworkAmbiguous(id=reference, matches=sorted(matches)[:_LISTED_MATCHES])
        return self._by_id[matches[0]]

    def get(self, network_id: str) -> NetworkEntry | None:
        """The entry of a whole id, or None."""
        return self._by_id.get(network_id)

    @property
    def default(self) -> NetworkEntry:
        """The engine's own network."""
        return next(entry for entry in self if entry.network.is_default)

    def __iter__(self) -> Iterator[NetworkEntry]:
        """All entries, by name."""
        return iter(sorted(self._by_id.values(), key=lambda entry: entry.network.name))

    def __len__(self) -> int:
        return len(self._by_id)
