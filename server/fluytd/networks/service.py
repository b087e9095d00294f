"""The networks of this engine: one method a verb. What containers do with them stands in `attachments.py`."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from fluytd import failpoints
from fluytd.clock import Clock
from fluytd.errors import (
    EngineError,
    FieldInvalid,
    LimitExceeded,
    NetworkExists,
    NetworkInUse,
    VersionConflict,
)
from fluytd.events.model import NetworkCreated, NetworkDeleted
from fluytd.ids import ContainerId
from fluytd.networks.elements import network_elements
from fluytd.networks.model import (
    BRIDGE,
    CNI,
    IPV4_PREFIX,
    IPV6_PREFIX,
    MAX_NETWORKS,
    Network,
    NetworkRequest,
    Subnet,
    check_free,
    check_request,
    choose_subnet,
    from_dockers,
    normalised,
)
from fluytd.networks.ports import Kernel, Records
from fluytd.networks.table import NetworkEntry, NetworkTable
from fluytd.workers import Workers

_log = logging.getLogger(__name__)

#: The name of the engine's own network, as Docker has it.
DEFAULT_NAME: Final = "bridge"
_BRIDGE_ID_CHARS: Final = 12
_IPV6: Final = 6


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Settings of the engine about networks."""

    #: Interface of the default network's bridge.
    bridge_name: str
    #: Subnet of the default network; empty: from the pool.
    bridge_subnet: str
    #: Whether the default network has IPv6.
    bridge_ipv6: bool
    ipv4_pools: tuple[str, ...]
    ipv6_pools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NetworkFilter:
    """Which networks; of the values of one kind one must hold, of labels all."""

    ids: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    drivers: tuple[str, ...] = ()
    is_dangling: bool | None = None


class NetworkService:
    """Made once. All methods belong to the event loop. A reference is an id, a beginning of one, or a name."""

    def __init__(
        self,
        *,
        table: NetworkTable,
        kernel: Kernel,
        records: Records,
        workers: Workers,
        clock: Clock,
        settings: NetworkSettings,
        users: Callable[[str], Sequence[str]],
        check_list: Callable[[str, dict[str, str]], None],
    ) -> None:
        """`users`: ids of the containers, running or not, whose specification names the network of that id.
        `check_list`: whether a network of this name and options could be one of plugins; blocking, raises
        FIELD_INVALID."""
        self.table = table
        self._kernel = kernel
        self._records = records
        self._workers = workers
        self._clock = clock
        self._settings = settings
        self._users = users
        self._check_list = check_list
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """What was recorded is known, and the engine's own network is there. Raises IO_FAILED, SUBNETS_EXHAUSTED."""
        for network in sorted(await self._records.load(), key=lambda one: one.create_time_unix_nanos):
            self.table.add(network)
        if any(entry.network.is_default for entry in self.table):
            return
        settings = self._settings
        subnets = (Subnet(settings.bridge_subnet, ""),) if settings.bridge_subnet else ()
        request = NetworkRequest(DEFAULT_NAME, subnets=subnets, has_ipv6=settings.bridge_ipv6)
        await self._create(request, settings.bridge_name, is_default=True)

    async def create(self, request: NetworkRequest) -> Network:
        """The network exists, durably; its bridge is made with its first container.

        Raises FIELD_INVALID, LIMIT_EXCEEDED, NETWORK_EXISTS, SUBNET_IN_USE, SUBNETS_EXHAUSTED,
        IO_FAILED.
        """
        if request.driver not in {BRIDGE, CNI}:
            raise FieldInvalid(field="driver", rule="must be bridge or cni; none and host are modes of a container")
        request = from_dockers(request)
        check_request(request)
        if request.driver == CNI:
            await self._workers.run(self._check_list, request.name, dict(request.driver_options))
        return await self._create(request, "", is_default=False)

    async def _create(self, request: NetworkRequest, bridge_name: str, *, is_default: bool) -> Network:
        asked = normalised(request.subnets)
        async with self._lock:
            if len(self.table) >= MAX_NETWORKS:
                raise LimitExceeded(
                    limit="MAX_NETWORKS", limit_value=MAX_NETWORKS, actual=len(self.table) + 1, subject="networks"
                )
            for entry in self.table:
                if entry.network.name == request.name:
                    raise NetworkExists(name=request.name, id=entry.network.id)
            networks = [entry.network for entry in self.table]
            is_bridged = request.driver == BRIDGE
            routed = await self._routed([network.bridge_name for network in networks]) if is_bridged else ()
            check_free(asked, networks, routed)
            network_id = ContainerId.new()
            network = Network(
                id=network_id,
                name=request.name,
                bridge_name=(bridge_name or f"fl-{network_id[:_BRIDGE_ID_CHARS]}") if is_bridged else "",
                subnets=self._complete(asked, networks, routed, has_ipv6=request.has_ipv6) if is_bridged else (),
                create_time_unix_nanos=self._clock.now_unix_nanos(),
                driver=request.driver,
                driver_options=dict(request.driver_options),
                is_internal=request.is_internal,
                mtu=request.mtu,
                labels=dict(request.labels),
                is_default=is_default,
            )
            failpoints.hit("network.create.record")
            await self._records.save(network, (NetworkCreated(network.id, network.name),))
            self.table.add(network)
            return network

    def _complete(
        self, asked: Sequence[Subnet], networks: Iterable[Network], routed: Sequence[str], *, has_ipv6: bool
    ) -> tuple[Subnet, ...]:
        """The subnets asked for, with those of the pools that are lacking: IPv4 always."""
        used = [*routed, *(subnet.cidr for network in networks for subnet in network.subnets)]
        has_own_ipv6 = any(":" in subnet.cidr for subnet in asked)
        found = list(asked)
        if not any(":" not in subnet.cidr for subnet in asked):
            found.insert(0, choose_subnet(self._settings.ipv4_pools, IPV4_PREFIX, used))
        if has_ipv6 and not has_own_ipv6:
            found.append(choose_subnet(self._settings.ipv6_pools, IPV6_PREFIX, used))
        return tuple(found)

    async def _routed(self, own: Sequence[str]) -> Sequence[str]:
        return await self._workers.run(self._kernel.routed_networks, own)

    def get(self, reference: str) -> NetworkEntry:
        """The network and who is on it. Raises NETWORK_NOT_FOUND, NETWORK_AMBIGUOUS."""
        return self.table.find(reference)

    def list(self, wanted: NetworkFilter) -> Sequence[NetworkEntry]:
        """Those that fit, by name."""
        return [entry for entry in self.table if self._fits(entry, wanted)]

    async def delete(self, reference: str, *, expected_version: int = 0) -> str:
        """The network and its bridge are gone; returns its id.

        Raises NETWORK_NOT_FOUND, NETWORK_AMBIGUOUS, VERSION_CONFLICT, NETWORK_IN_USE, IO_FAILED.
        """
        entry = self.table.find(reference)
        network = entry.network
        if expected_version and network.version != expected_version:
            raise VersionConflict(id=network.id, expected=expected_version, actual=network.version)
        holders = self.container_ids(entry)
        if network.is_default or holders:
            raise NetworkInUse(id=network.id, container_ids=holders or "the engine")
        await self._delete(entry)
        return network.id

    async def _delete(self, entry: NetworkEntry) -> None:
        network = entry.network
        async with self._lock:
            # From here on no container finds it.
            self.table.remove(entry)
            try:
                if network.is_bridged:
                    await self._workers.run(self._kernel.remove_bridge, network.bridge_name, network_elements(network))
                failpoints.hit("network.delete.record")
                await self._records.delete(network, (NetworkDeleted(network.id, network.name),))
            except EngineError:
                with suppress(NetworkExists):
                    self.table.add(network)
                raise

    async def prune(self, wanted: NetworkFilter, *, dry_run: bool) -> Sequence[str]:
        """Those that fit and that no container uses are gone, or with `dry_run` would be; their ids.

        One that cannot be deleted is logged and stays.
        """
        gone = []
        for entry in self.list(wanted):
            if entry.network.is_default or self.container_ids(entry):
                continue
            if not dry_run:
                try:
                    await self._delete(entry)
                except EngineError as error:
                    _log.error("network %s could not be deleted: %s", entry.network.name, error)
                    continue
            gone.append(entry.network.id)
        return gone

    def container_ids(self, entry: NetworkEntry) -> Sequence[str]:
        """The containers that are on it, or will be once they run."""
        return sorted({*entry.endpoints, *self._users(entry.network.id)})

    def _is_dangling(self, entry: NetworkEntry) -> bool:
        # The engine's own is never deleted, so that nobody is to think so. Source: moby `daemon/network/filter.go`.
        return not entry.network.is_default and not self.container_ids(entry)

    def _fits(self, entry: NetworkEntry, wanted: NetworkFilter) -> bool:
        network = entry.network
        return (
            (not wanted.ids or any(network.id.startswith(one) for one in wanted.ids))
            and (not wanted.names or any(one in network.name for one in wanted.names))
            and all(_has_label(network.labels, label) for label in wanted.labels)
            and (not wanted.drivers or network.driver in wanted.drivers)
            and (wanted.is_dangling is None or wanted.is_dangling is self._is_dangling(entry))
        )


def _has_label(labels: dict[str, str], label: str) -> bool:
    name, separator, value = label.partition("=")
    return name in labels and (not separator or labels[name] == value)
