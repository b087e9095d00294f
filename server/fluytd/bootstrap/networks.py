"""Networks: which there are, and what containers do with them."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from fluytd._core import forward, resolver
from fluytd.bootstrap.base import Base
from fluytd.config import Config
from fluytd.containers.spec import ContainerSpec
from fluytd.containers.supervisor import CoreRuntime
from fluytd.networks.attachments import Attachments
from fluytd.networks.bridges import CoreKernel
from fluytd.networks.cni.attachments import PluginNetworks
from fluytd.networks.cni.plugins import CorePlugins
from fluytd.networks.names import Names
from fluytd.networks.service import NetworkService, NetworkSettings
from fluytd.networks.sockets import SocketPorts
from fluytd.networks.table import NetworkTable
from fluytd.state.cni import StoredPluginAttachments
from fluytd.state.networks import NetworkRecords
from fluytd.workers import Workers

#: Digits of the engine's id in the names of its interfaces.
_TAG_CHARS = 6


async def keep_telling(plugins: PluginNetworks, workers: Workers) -> None:
    """Plugins that failed to take away what they gave are told again when it is time, until cancelled."""
    loop, has_more = asyncio.get_running_loop(), asyncio.Event()

    def note() -> None:
        loop.call_soon_threadsafe(has_more.set)

    plugins.on_put_off = note
    while True:
        has_more.clear()
        delay = await workers.run(plugins.retry)
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await has_more.wait()


@dataclass(frozen=True)
class NetworkParts:
    """Networks and containers on them."""

    service: NetworkService
    attachments: Attachments
    plugins: PluginNetworks

    async def open(self) -> None:
        """What was recorded is known. Raises IO_FAILED, SUBNETS_EXHAUSTED."""
        await self.service.open()
        await self.plugins.load()


def network_parts_of(
    base: Base,
    runtime: CoreRuntime,
    users: Callable[[str], Sequence[str]],
    servers: Callable[[ContainerSpec], Sequence[str]],
) -> NetworkParts:
    """None is known yet (see `NetworkParts.open`). `users`: containers that are to be on a network. `servers`: who is
    asked what no container is called."""
    config, table = base.config, NetworkTable()
    kernel = CoreKernel(config.nft_table, runtime.open_namespace)
    tag = base.identity.replace("-", "")[:_TAG_CHARS]
    names = Names(resolver.Resolver(), servers)  # type: ignore[arg-type] # its namespaces are the core's
    plugins = PluginNetworks(_plugins(config), StoredPluginAttachments(base.database), runtime.new_namespace)
    attachments = Attachments(
        table,
        kernel,
        SocketPorts(forward.Forwarder()),
        names,
        plugins,
        link_prefix=f"f{tag}",
        publish_address=config.publish_address,
    )
    runtime.attach, runtime.make_waiting = attachments.attach, attachments.make_waiting
    service = NetworkService(
        table=table,
        kernel=kernel,
        records=NetworkRecords(base.database),
        workers=base.workers,
        clock=base.clock,
        settings=settings_of(config, base.identity),
        users=users,
        check_list=plugins.check_list,
    )
    return NetworkParts(service, attachments, plugins)


def _plugins(config: Config) -> CorePlugins:
    config_dirs = [*filter(None, config.cni_config_dirs.split(","))]
    plugin_dirs = [*filter(None, config.cni_plugin_dirs.split(","))]
    return CorePlugins(config_dirs, plugin_dirs, config.run_root / "cni")


def settings_of(config: Config, identity: str) -> NetworkSettings:
    """The settings; without a pool of IPv6 ranges, a unique local one that is made of the engine's id (RFC 4193)."""
    digits = identity.replace("-", "")[:10]
    own = f"fd{digits[:2]}:{digits[2:6]}:{digits[6:10]}::/48"
    return NetworkSettings(
        bridge_name=config.bridge_name,
        bridge_subnet=config.bridge_subnet,
        bridge_ipv6=config.bridge_ipv6,
        ipv4_pools=tuple(filter(None, config.network_ipv4_pools.split(","))),
        ipv6_pools=tuple(filter(None, config.network_ipv6_pools.split(","))) or (own,),
    )
