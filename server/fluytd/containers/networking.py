"""A container and its networks: what is taken before a start, given back after a run, and changed while it runs."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fluytd import failpoints
from fluytd.containers import publishing, transitions
from fluytd.containers.context import Context
from fluytd.containers.model import Container, State
from fluytd.containers.publishing import NO_CHANGES, PortChanges
from fluytd.containers.spec import AttachmentSpec, NetworkMode
from fluytd.containers.table import Entry
from fluytd.errors import EngineError, NotAttached
from fluytd.events.model import NetworkConnected, NetworkDisconnected
from fluytd.networks.model import Endpoint

_log = logging.getLogger(__name__)

#: How long the kernel has to take a run's interfaces away with its namespace, before they are looked for.
LINGER_SECONDS = 0.5
_CHANGEABLE = frozenset({State.CREATED, State.RUNNING, State.PAUSED, State.EXITED})


def is_bridged(container: Container) -> bool:
    """Whether it is on networks of the engine."""
    return container.spec.network.mode is NetworkMode.BRIDGE


def joined(ctx: Context, container: Container) -> Container:
    """The record with the addresses and ports of the coming run. Raises as `ports.Networking.join`."""
    if not is_bridged(container):
        return container
    endpoints, ports = ctx.networking.join(container)
    return transitions.joined(container, endpoints, ports)


def attached(ctx: Context, container: Container) -> Container:
    """The record with the addresses that it has now: those that plugins gave it are not known before."""
    if not is_bridged(container):
        return container
    return transitions.joined(container, ctx.networking.endpoints(container.id), container.published_ports)


async def give_back(ctx: Context, container_id: str) -> None:
    """Addresses and ports of a run that has ended, or was never begun, are free when this returns; the interfaces go
    with the namespace, and a moment later in any case."""
    try:
        await ctx.workers.run(ctx.networking.detach, container_id)
    except EngineError as error:
        # The next start of the daemon makes the table anew.
        _log.error("container %s: the table still leads to it: %s", container_id, error)
    links = ctx.networking.leave(container_id)
    if links:
        ctx.spawn(_remove_links(ctx, links), f"interfaces of {container_id}")


async def _remove_links(ctx: Context, links: list[str]) -> None:
    if not ctx.is_closing:
        await ctx.sleep(LINGER_SECONDS)
    await ctx.workers.run(ctx.networking.remove_links, links)


async def connect(
    ctx: Context, entry: Entry, attachment: AttachmentSpec, *, expected_version: int = 0
) -> Endpoint | None:
    """The container is on the network, a running one at once, durably; None for one that does not run. One that is on
    it already is answered as it is.

    Raises CONTAINER_NOT_FOUND, VERSION_CONFLICT, CONTAINER_WRONG_STATE, NOT_ATTACHED, NETWORK_NOT_FOUND,
    ADDRESS_IN_USE, ADDRESSES_EXHAUSTED, FIELD_INVALID, IO_FAILED, SUPERVISOR_LOST; nothing has changed then.
    """
    async with entry.lock:
        container = _changeable(entry, attachment.network, expected_version)
        network_id = ctx.networking.id_of(attachment.network)
        wanted = _attachments(ctx, container)
        if any(ctx.networking.id_of(one.network) == network_id for one in wanted):
            return next((one for one in container.endpoints if one.network_id == network_id), None)
        wanted = (*wanted, attachment)
        ctx.networking.check(wanted)
        if not container.is_live:
            await ctx.record(entry, transitions.connected(container, wanted, ()), durable=True)
            return None
        endpoint = ctx.networking.connect(container, attachment)
        failpoints.hit("network.connect.record")
        fact = NetworkConnected(network_id, container.id)
        connected = transitions.connected(container, wanted, ctx.networking.endpoints(container.id))
        await ctx.record(entry, connected, (fact,), durable=True)
        try:
            await ctx.workers.run(ctx.networking.attach_live, container, endpoint)
        except EngineError:
            ctx.networking.disconnect(container.id, network_id)
            undone = transitions.connected(entry.container, wanted[:-1], ctx.networking.endpoints(container.id))
            await ctx.record(entry, undone, (NetworkDisconnected(network_id, container.id),))
            raise
        now = attached(ctx, entry.container)
        if now.endpoints != entry.container.endpoints:
            await ctx.record(entry, now, durable=True)
        await ctx.workers.run(ctx.directories.write_names, now)
        return next((one for one in now.endpoints if one.network_id == network_id), endpoint)


async def disconnect(ctx: Context, entry: Entry, network: str, *, expected_version: int = 0) -> list[str]:
    """The container is not on the network, a running one at once, durably; returns the ids of those it is still on.

    Raises as `connect`.
    """
    async with entry.lock:
        container = _changeable(entry, network, expected_version)
        network_id = ctx.networking.id_of(network)
        wanted = _attachments(ctx, container)
        left = tuple(one for one in wanted if ctx.networking.id_of(one.network) != network_id)
        if len(left) < len(wanted):
            gone = ctx.networking.disconnect(container.id, network_id)
            failpoints.hit("network.disconnect.record")
            facts = (NetworkDisconnected(network_id, container.id),)
            rest = ctx.networking.endpoints(container.id)
            await ctx.record(entry, transitions.connected(container, left, rest), facts, durable=True)
            if gone is not None:
                await ctx.workers.run(ctx.networking.detach_live, container, gone, rest)
                await ctx.workers.run(ctx.directories.write_names, entry.container)
        return [ctx.networking.id_of(one.network) for one in left]


@asynccontextmanager
async def published(ctx: Context, entry: Entry, changes: PortChanges) -> AsyncIterator[None]:
    """With the block's end the container publishes other ports, a running one at once, durably. What can be refused is
    refused before the block; if the block fails, nothing has changed.

    Raises FIELD_INVALID, PORT_IN_USE, LIMIT_EXCEEDED, IO_FAILED. The caller holds the lock.
    """
    if changes == NO_CHANGES:
        yield
        return
    asked, gone = publishing.changed(entry.container, changes)
    if not entry.container.is_live:
        yield
        await ctx.record(entry, transitions.publishing(entry.container, asked, ()), durable=True)
        return
    before = entry.container
    change = ctx.networking.publisher.change(before, changes.added, gone)
    try:
        yield
        failpoints.hit("network.publish.record")
        await ctx.record(entry, transitions.publishing(entry.container, asked, change.ports), durable=True)
        await ctx.workers.run(ctx.networking.publisher.make, before.id, change)
    except BaseException:
        ctx.networking.publisher.drop(change)
        if entry.container.is_live and entry.container.published_ports != before.published_ports:
            old = before.spec.network.published_ports
            await ctx.record(entry, transitions.publishing(entry.container, old, before.published_ports))
        raise


def _changeable(entry: Entry, network: str, expected_version: int) -> Container:
    entry.check_present(expected_version)
    container = entry.container
    transitions.check_state(container, _CHANGEABLE)
    if not is_bridged(container):
        raise NotAttached(container_id=container.id, network_id=network)
    return container


def _attachments(ctx: Context, container: Container) -> tuple[AttachmentSpec, ...]:
    """What it is to be on; the default network where nothing was named, unless it was disconnected from all."""
    spec = container.spec.network
    if spec.attachments or spec.is_detached:
        return spec.attachments
    return (AttachmentSpec(network=ctx.networking.default_id),)
