"""Addresses of one subnet: who has which. It decides and remembers; it does no I/O."""

import ipaddress

from fluytd.errors import AddressesExhausted, AddressInUse, FieldInvalid
from fluytd.networks.model import Subnet, is_host


class Addresses:
    """Addresses of a subnet by holder. They are given out in turn: one that came back stays unused for long."""

    def __init__(self, subnet: Subnet) -> None:
        """The gateway is taken."""
        self.subnet = subnet
        self._whole = ipaddress.ip_network(subnet.cidr)
        part = ipaddress.ip_network(subnet.allocation_range or subnet.cidr)
        self._first, self._last = int(part.network_address), int(part.broadcast_address)
        self._next = self._first
        self._holders: dict[int, str] = {int(ipaddress.ip_address(subnet.gateway)): "the gateway"}

    def take(self, holder: str, wanted: str = "") -> str:
        """An address with its prefix length, the holder's from now on.

        Raises ADDRESS_IN_USE, ADDRESSES_EXHAUSTED, FIELD_INVALID (`ipv4_address`, `ipv6_address`: not of the subnet).
        """
        if wanted:
            address = ipaddress.ip_address(wanted)
            if not is_host(address, self._whole):
                field = f"ipv{self._whole.version}_address"
                raise FieldInvalid(field=field, rule=f"must be an address of {self.subnet.cidr}")
            number = int(address)
            if number in self._holders:
                raise AddressInUse(address=wanted, holder=self._holders[number])
        else:
            number = self._free()
        self._holders[number] = holder
        return f"{self._address(number)}/{self._whole.prefixlen}"

    def give_back(self, address: str) -> None:
        """The address (with or without prefix length) is free. Idempotent; the gateway stays taken."""
        number = int(ipaddress.ip_interface(address).ip)
        if number != int(ipaddress.ip_address(self.subnet.gateway)):
            self._holders.pop(number, None)

    def _free(self) -> int:
        # Each address that is passed over is taken, or the range's first or last.
        for _ in range(min(len(self._holders) + 3, self._last - self._first + 1)):
            number = self._next
            self._next = self._first if number >= self._last else number + 1
            if number not in self._holders and is_host(self._address(number), self._whole):
                return number
        raise AddressesExhausted(subnet=self.subnet.allocation_range or self.subnet.cidr)

    def _address(self, number: int) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        kind = ipaddress.IPv4Address if self._whole.version == 4 else ipaddress.IPv6Address
        return kind(number)
