"""Which containers' namespaces a container shares. Pure.

Another container is named by its id once this one is made, and it must have been made before: no circle can come to be.
"""

from collections.abc import Callable
from dataclasses import replace

from fluytd.containers.model import Container
from fluytd.containers.spec import ContainerSpec, NamespaceMode, NetworkMode
from fluytd.errors import FieldInvalid

_KINDS = ("pid", "ipc", "uts", "cgroup")


def others(spec: ContainerSpec) -> tuple[str, ...]:
    """The containers whose namespaces are shared, each once, in the order of their places for the core."""
    found = [spec.network.container, *(getattr(spec.namespaces, kind).container for kind in _KINDS)]
    return tuple(dict.fromkeys(filter(None, found)))


def modes(spec: ContainerSpec) -> dict[str, str]:
    """The modes in the core's words, of `network`, `pid`, `ipc`, `uts`, `cgroup` and `shm`."""
    places = {container: f"joined:{place}" for place, container in enumerate(others(spec))}
    found = {}
    for kind in _KINDS:
        asked = getattr(spec.namespaces, kind)
        known = {NamespaceMode.HOST: "host", NamespaceMode.CONTAINER: places.get(asked.container, "")}
        found[kind] = known.get(asked.mode, "own")
    network = spec.network
    found["network"] = places[network.container] if network.mode is NetworkMode.CONTAINER else network.mode.value
    if network.mode is NetworkMode.BRIDGE:
        # To the core it is one without interfaces: it is given them before the process is executed.
        found["network"] = NetworkMode.NONE.value
    ipc = spec.namespaces.ipc
    # The host's is a mount like others.
    shm = {NamespaceMode.CONTAINER: found["ipc"], NamespaceMode.NONE: "none", NamespaceMode.HOST: "none"}
    found["shm"] = shm.get(ipc.mode, "own")
    return found


def bound(spec: ContainerSpec, find: Callable[[str], Container]) -> ContainerSpec:
    """The spec with the ids of the containers that it names. `find` raises CONTAINER_NOT_FOUND. Raises FIELD_INVALID
    for one that shares no ipc namespace."""
    namespaces, network = spec.namespaces, spec.network
    for kind in _KINDS:
        asked = getattr(namespaces, kind)
        if asked.mode is NamespaceMode.CONTAINER:
            other = find(asked.container)
            if kind == "ipc":
                _check_shares_ipc(other)
            namespaces = replace(namespaces, **{kind: replace(asked, container=other.id)})
    if network.mode is NetworkMode.CONTAINER:
        network = replace(network, container=find(network.container).id)
    if namespaces == spec.namespaces and network == spec.network:
        return spec
    return replace(spec, namespaces=namespaces, network=network)


def _check_shares_ipc(other: Container) -> None:
    # Source: moby `daemon/daemon_unix.go`, getIpcContainer.
    if other.spec.namespaces.ipc.mode in {NamespaceMode.PRIVATE, NamespaceMode.NONE}:
        rule = f"container {other.id} shares none; make it with the ipc mode shareable"
        raise FieldInvalid(field="spec.namespaces.ipc", rule=rule)


def host_name(spec: ContainerSpec, of_host: str, find: Callable[[str], Container]) -> str:
    """The name of the host or of the other container, where it is this container's too; else empty.

    Source: moby `daemon/container_operations.go`, initializeNetworking.
    """
    uts = spec.namespaces.uts
    if uts.mode is NamespaceMode.CONTAINER:
        return find(uts.container).resolved.hostname
    if uts.mode is NamespaceMode.HOST or (spec.network.mode is NetworkMode.HOST and not spec.hostname):
        return of_host
    if spec.network.mode is NetworkMode.CONTAINER:
        return find(spec.network.container).resolved.hostname
    return ""
