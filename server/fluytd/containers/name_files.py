"""The texts of /etc/hosts and /etc/resolv.conf of a container. Pure."""

import functools
import ipaddress
from dataclasses import dataclass
from typing import Final

from fluytd.containers.model import Container
from fluytd.containers.spec import ContainerSpec, NetworkMode

#: Stands in `extra_hosts` for the host as the container reaches it. Source: moby `opts/hosts.go`.
HOST_GATEWAY: Final = "host-gateway"
#: Where containers on networks with names ask for them. It is the core's `resolver.ADDRESS`.
RESOLVER_ADDRESS: Final = "127.0.0.11"


@dataclass(frozen=True, slots=True)
class HostNames:
    """What the host says about names, and the engine's settings."""

    hosts: str = ""
    resolv_conf: str = ""
    #: What systemd-resolved found out itself, while the host's file names it alone; empty if it is not there.
    systemd_resolv_conf: str = ""
    #: Servers where the caller names none and the host has none that a container can reach.
    fallback_servers: tuple[str, ...] = ()


def hosts_file(container: Container, host: HostNames) -> str:
    """The text of /etc/hosts: in the host's network that of the host. Source: moby libnetwork `etchosts`."""
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += ["fe00::\tip6-localnet", "ff00::\tip6-mcastprefix", "ff02::1\tip6-allnodes", "ff02::2\tip6-allrouters"]
    is_of_host = container.spec.network.mode is NetworkMode.HOST and bool(host.hosts)
    if is_of_host:
        lines = host.hosts.splitlines()
    gateway = _host_as_reached(container)
    for entry in container.spec.network.extra_hosts:
        name, _, address = entry.partition(":")
        address = gateway if address == HOST_GATEWAY else address.removeprefix("[").removesuffix("]")
        if address:
            lines.append(f"{address}\t{name}")
    names = container.resolved.hostname
    if container.spec.domainname:
        names = f"{names}.{container.spec.domainname} {names}"
    if not is_of_host:
        own = [address.partition("/")[0] for endpoint in container.endpoints for address in endpoint.addresses]
        lines += [f"{address}\t{names}" for address in own or ["127.0.1.1"]]
    return "\n".join(lines) + "\n"


def _host_as_reached(container: Container) -> str:
    """The host's address as the container sees it; empty while it has none."""
    if container.spec.network.mode is not NetworkMode.BRIDGE:
        return "127.0.0.1"
    endpoints = sorted(container.endpoints, key=lambda one: not one.is_default_route)
    return next((one.ipv4_gateway for one in endpoints if one.ipv4_gateway), "")


def upstream_servers(spec: ContainerSpec, host: HostNames) -> tuple[str, ...]:
    """Who is asked, from the host, what no container of a network is called: the caller's servers, else the host's.

    The caller's are meant as the container reaches them: one on the loopback device is the container's own, and no
    server of the host's.
    """
    if spec.network.dns_servers:
        return tuple(filter(_is_reachable, spec.network.dns_servers))
    return tuple(_servers(host.resolv_conf)) or host.fallback_servers


def resolv_conf(container: Container, host: HostNames) -> str:
    """The text of /etc/resolv.conf: the host's, with what the caller gave in place of it line by line.

    Where names of other containers resolve, the engine's resolver is the only server, and names without a dot are asked
    for as they are first. Source: moby libnetwork `resolvconf`, `TransformForIntNS`.

    Servers on the host's loopback device cannot be reached from a network of the container's own. They are left out:
    systemd-resolved's own file is taken where it is there, and the fallback where no server is left. Case N06; source:
    moby libnetwork `internal/resolvconf`.
    """
    spec = container.spec
    network = spec.network
    text = host.resolv_conf
    has_names = any(endpoint.has_names for endpoint in container.endpoints)
    is_of_host = network.mode is NetworkMode.HOST
    if not is_of_host and host.systemd_resolv_conf and not any(map(_is_reachable, _servers(text))):
        text = host.systemd_resolv_conf
    kept = [line for line in text.splitlines() if not _is_replaced(line, spec) and not (has_names and _is_server(line))]
    if not is_of_host:
        kept = [line for line in kept if not _is_server(line) or _is_reachable(line.split()[1])]
    servers = (RESOLVER_ADDRESS,) if has_names else network.dns_servers
    if not servers and not is_of_host and not any(map(_is_server, kept)):
        servers = host.fallback_servers
    lines = [f"nameserver {server}" for server in servers]
    if network.dns_search and network.dns_search != (".",):
        lines.append("search " + " ".join(network.dns_search))
    if network.dns_options:
        lines.append("options " + " ".join(network.dns_options))
    if has_names and not any("ndots:" in line for line in (*kept, *lines)):
        lines.append("options ndots:0")
    text = "\n".join([*kept, *lines])
    return text + "\n" if text else ""


def _is_server(line: str) -> bool:
    words = line.split()
    return len(words) > 1 and words[0] == "nameserver"


def _servers(text: str) -> list[str]:
    return [line.split()[1] for line in text.splitlines() if _is_server(line)]


@functools.lru_cache(maxsize=256)
def _is_reachable(server: str) -> bool:
    try:
        address = ipaddress.ip_address(server.partition("%")[0])
    except ValueError:
        return True  # what is no address is the resolver's to judge
    mapped = getattr(address, "ipv4_mapped", None)
    return not (mapped or address).is_loopback


def _is_replaced(line: str, spec: ContainerSpec) -> bool:
    word = line.split(maxsplit=1)[0] if line.strip() else ""
    network = spec.network
    return bool(
        (word == "nameserver" and network.dns_servers)
        or (word in {"search", "domain"} and network.dns_search)
        or (word == "options" and network.dns_options)
    )
