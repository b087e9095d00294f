"""What the core is told of networks: plain values, ready for the kernel. It decides nothing."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BridgeSpec:
    """A network's bridge on the host."""

    #: 1 to 15 bytes.
    name: str
    #: 6 bytes.
    hardware_address: bytes
    #: Bytes; 0 is the kernel's default.
    mtu: int
    #: The host's addresses on it, `10.9.0.1/24`.
    addresses: list[str]


@dataclass(frozen=True, slots=True)
class AttachmentSpec:
    """How an interface of a container comes to be."""

    bridge: str
    #: The end of the veth pair that stays on the host; 1 to 15 bytes.
    host_name: str
    #: The end inside.
    name: str
    hardware_address: bytes
    mtu: int
    addresses: list[str]
    #: Of the default routes, at most one a family.
    gateways: list[str]


@dataclass(frozen=True, slots=True)
class Element:
    """An element of a set or map of the nftables table; which fields count depends on its kind."""

    #: `bridge`, `internal`, `open`, `masqueraded` (with `bridge`); `published`, `restricted`, `allowed`.
    kind: str
    bridge: str = ""
    #: Empty: any address of the host.
    host_address: str = ""
    host_port: int = 0
    #: The container's.
    address: str = ""
    #: IANA protocol number.
    protocol: int = 0
    port: int = 0
    #: CIDR that may connect.
    source: str = ""
