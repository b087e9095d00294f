"""Catalogue entries about networks, addresses and published ports."""

from fluytd.errors.base import AlreadyExists, InvalidInput, NotFound, ResourceExhausted, Upstream, WrongState


class NetworkNotFound(
    NotFound,
    reason="NETWORK_NOT_FOUND",
    keys="id",
    text="there is no network {id}",
    next_step="List the networks, or create it.",
):
    """An id or name that no network has."""


class NetworkAmbiguous(
    InvalidInput,
    reason="NETWORK_AMBIGUOUS",
    keys="id matches",
    text="{id} stands for several networks: {matches}",
    next_step="Give more digits of the network's id, or its name.",
):
    """A shortened id that fits more than one network."""


class NetworkExists(
    AlreadyExists,
    reason="NETWORK_EXISTS",
    keys="name id",
    text="the network {name!r} exists with the id {id}",
    next_step="Choose another name, or use that network.",
):
    """A network's name that is taken."""


class NetworkInUse(
    WrongState,
    reason="NETWORK_IN_USE",
    keys="id container_ids",
    text="network {id} is used by containers: {container_ids}",
    next_step="Disconnect or delete these containers first; the engine's own network is never deleted.",
):
    """A network that cannot be deleted yet."""


class SubnetInUse(
    AlreadyExists,
    reason="SUBNET_IN_USE",
    keys="subnet holder",
    text="addresses of {subnet} belong to {holder}",
    next_step="Choose another subnet, or none: the engine takes a free one of its pool.",
):
    """A subnet that overlaps with another."""


class SubnetsExhausted(
    ResourceExhausted,
    reason="SUBNETS_EXHAUSTED",
    keys="pools",
    text="no subnet is free in the engine's pools {pools}",
    next_step="Name a subnet, delete networks, or give the engine a larger pool (setting network_ipv4_pools).",
):
    """No range is left for another network."""


class AddressInUse(
    AlreadyExists,
    reason="ADDRESS_IN_USE",
    keys="address holder",
    text="the address {address} is held by {holder}",
    next_step="Choose another address, or none: a free one is taken.",
):
    """A container's address that is taken."""


class AddressesExhausted(
    ResourceExhausted,
    reason="ADDRESSES_EXHAUSTED",
    keys="subnet",
    text="no address is free in {subnet}",
    next_step="Delete containers of that network, or make one with a larger subnet.",
):
    """A subnet that has no address left."""


class PortInUse(
    AlreadyExists,
    reason="PORT_IN_USE",
    keys="address port protocol holder",
    text="port {port}/{protocol} of {address} is held by {holder}",
    next_step="Choose another port of the host, or end what holds this one.",
):
    """A port of the host that is taken."""


class NotAttached(
    WrongState,
    reason="NOT_ATTACHED",
    keys="container_id network_id",
    text="container {container_id} has no network of its own that {network_id} could be added to or taken from",
    next_step="Only a container with the network mode bridge can be connected and disconnected.",
):
    """A container whose network namespace is another's, or has no interfaces by choice."""


class CniPluginFailed(
    Upstream,
    reason="CNI_PLUGIN_FAILED",
    keys="network plugin command detail",
    text="the CNI plugin {plugin} of network {network} failed at {command}: {detail}",
    next_step="See what the plugin says and what its configuration list asks of it, then repeat.",
):
    """A plugin of the host's operator that did not attach a container, or says that it is not attached."""
