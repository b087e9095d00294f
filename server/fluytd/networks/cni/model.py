"""CNI's configuration lists, what plugins are given, and what they answer. Pure.

Source: CNI specification 1.1.0, sections 1 (configuration), 2 (execution), 4 (delegation), 5 (results).
"""

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from fluytd.errors import FieldInvalid
from fluytd.networks.model import Endpoint, PublishedPort, is_mac

#: Versions of the specification whose results are read.
VERSIONS: Final = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
#: Those without CHECK, and without a result of earlier plugins for DEL.
_WITHOUT_CHECK: Final = frozenset({"0.3.0", "0.3.1"})
#: Plugins of one list.
MAX_PLUGINS: Final = 16
#: Addresses that one result may have.
MAX_RESULT_ADDRESSES: Final = 64
MAX_RESULT_INTERFACES: Final = 256
_TYPE: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}")
_IPV4: Final = 4


@dataclass(frozen=True, slots=True)
class PluginAttachment:
    """A container on one network by plugins: what they were given, and what they answered. A record."""

    container_id: str
    network_id: str
    network_name: str
    interface_name: str
    #: The configuration list as it stood, JSON: what was added by it is taken away by it.
    config: str
    #: Arguments of capabilities, JSON.
    capabilities: str = "{}"
    #: What the last plugin answered, JSON; empty until one has.
    result: str = ""
    #: Not all have answered.
    is_partial: bool = False
    #: Plugins have been told to take it away, and one of them failed so often.
    failed_count: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """Container and network."""
        return self.container_id, self.network_id

    @property
    def is_ending(self) -> bool:
        """It is nobody's any more, but plugins may have something of it."""
        return self.failed_count > 0


@dataclass(frozen=True, slots=True)
class ConfigList:
    """A configuration list."""

    name: str
    version: str
    has_check: bool
    plugins: tuple[Mapping[str, Any], ...]

    @property
    def capabilities(self) -> frozenset[str]:
        """What some plugin of it can be told at run time."""
        return frozenset(name for plugin in self.plugins for name in _capabilities(plugin))


def parse_list(text: str, place: str) -> ConfigList:
    """The list. Raises FIELD_INVALID about the field `place`."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FieldInvalid(field=place, rule=f"is no JSON: {error}") from None
    name = whole.get("name") if isinstance(whole, dict) else None
    if not isinstance(whole, dict) or not isinstance(name, str) or not name:
        raise FieldInvalid(field=place, rule="must be an object with a name")
    version = whole.get("cniVersion")
    if version not in VERSIONS:
        raise FieldInvalid(field=place, rule=f"{name}: cniVersion must be one of {', '.join(VERSIONS)}")
    plugins = whole.get("plugins")
    if not isinstance(plugins, list) or not 0 < len(plugins) <= MAX_PLUGINS:
        raise FieldInvalid(field=place, rule=f"{name}: plugins must be 1 to {MAX_PLUGINS} (MAX_PLUGINS)")
    for plugin in plugins:
        kind = plugin.get("type") if isinstance(plugin, dict) else None
        if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
            raise FieldInvalid(field=place, rule=f"{name}: each plugin must have a type, the name of a program")
        if not isinstance(plugin.get("capabilities", {}), dict):
            raise FieldInvalid(field=place, rule=f"{name}: capabilities must be an object")
    has_check = version not in _WITHOUT_CHECK and whole.get("disableCheck") not in (True, "true")
    return ConfigList(name, version, has_check, tuple(plugins))


def wanted_capabilities(
    listed: ConfigList, endpoint: Endpoint, aliases: Sequence[str], ports: Sequence[PublishedPort]
) -> dict[str, Any]:
    """What the plugins are to be told of one container, by capability. The addresses of the endpoint are those that its
    caller wants. Raises FIELD_INVALID for what no plugin of the list can be told, of an attachment by the field's
    name alone."""
    wanted: dict[str, Any] = {}
    required = {}
    if endpoint.is_default_route and ports:
        wanted["portMappings"] = [_mapping(port) for port in ports]
        required["portMappings"] = "spec.network.published_ports"
    if endpoint.addresses:
        wanted["ips"] = [*endpoint.addresses]
        required["ips"] = "ipv4_address" if endpoint.ipv4_address else "ipv6_address"
    if endpoint.mac_address:
        wanted["mac"] = endpoint.mac_address
        required["mac"] = "mac_address"
    if aliases:
        wanted["aliases"] = {listed.name: [*aliases]}
    for name, place in required.items():
        if name not in listed.capabilities:
            rule = f"no plugin of {endpoint.network_name} (conflist {listed.name}) has the capability {name}"
            raise FieldInvalid(field=place, rule=rule)
    return wanted


def plugin_input(
    listed: ConfigList, plugin: Mapping[str, Any], capabilities: Mapping[str, Any], previous: str
) -> bytes:
    """What the plugin reads. `previous`: the JSON of the result so far; empty for none."""
    given = {name: value for name, value in capabilities.items() if name in _capabilities(plugin)}
    config = dict(plugin) | {"cniVersion": listed.version, "name": listed.name}
    config.pop("capabilities", None)
    if given:
        config["runtimeConfig"] = given
    if previous:
        config["prevResult"] = json.loads(previous)
    return json.dumps(config, separators=(",", ":")).encode()


def parse_result(output: bytes) -> dict[str, Any]:
    """A plugin's answer to ADD. Raises ValueError: it is not one, and why."""
    try:
        result = json.loads(output.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its answer is no JSON: {error}") from None
    if not isinstance(result, dict):
        raise ValueError("its answer is no object")
    for name, most in (("ips", MAX_RESULT_ADDRESSES), ("interfaces", MAX_RESULT_INTERFACES)):
        items = result.get(name) or []
        if not isinstance(items, list) or not all(isinstance(one, dict) for one in items):
            raise ValueError(f"{name} of its answer is no list of objects")
        if len(items) > most:
            raise ValueError(f"{name} of its answer has more than {most} entries")
    return result


def error_of(output: bytes) -> str:
    """What a plugin says of its failure; empty if that cannot be read."""
    try:
        said = json.loads(output.decode())
        parts = [said.get("msg"), said.get("details")]
    except (ValueError, RecursionError, AttributeError):
        return ""
    return ": ".join(part for part in parts if isinstance(part, str) and part)


def addresses_of(text: str) -> list[str]:
    """The addresses that a container had by the plugins' answer, with prefix length; none by what is no answer."""
    try:
        result = parse_result(text.encode())
        interfaces = result.get("interfaces") or []
        return [
            ipaddress.ip_interface(str(entry.get("address"))).with_prefixlen
            for entry in result.get("ips") or []
            if _is_inside(entry, interfaces)
        ]
    except ValueError:
        return []


def _is_inside(entry: Mapping[str, Any], interfaces: Sequence[Mapping[str, Any]]) -> bool:
    index = entry.get("interface")
    return not isinstance(index, int) or (0 <= index < len(interfaces) and bool(interfaces[index].get("sandbox")))


def with_result(endpoint: Endpoint, text: str) -> Endpoint:
    """The endpoint as the plugins' last answer has it: the first address of each family in the container. Raises
    ValueError for addresses that are none."""
    result = parse_result(text.encode())
    interfaces = result.get("interfaces") or []
    addresses, gateways = {4: "", 6: ""}, {4: "", 6: ""}
    for entry in result.get("ips") or []:
        if not _is_inside(entry, interfaces):
            continue  # an address of the host
        address = ipaddress.ip_interface(str(entry.get("address")))
        if addresses[address.version]:
            continue
        addresses[address.version] = address.with_prefixlen
        if entry.get("gateway"):
            gateways[address.version] = str(ipaddress.ip_address(str(entry["gateway"])))
    mac = next((str(one.get("mac")) for one in interfaces if one.get("sandbox") and is_mac(str(one.get("mac")))), "")
    return replace(
        endpoint,
        ipv4_address=addresses[4],
        ipv6_address=addresses[6],
        ipv4_gateway=gateways[4],
        ipv6_gateway=gateways[6],
        mac_address=mac.lower(),
    )


def _capabilities(plugin: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(name for name, is_on in plugin.get("capabilities", {}).items() if is_on is True)


def _mapping(port: PublishedPort) -> dict[str, object]:
    mapping: dict[str, object] = {
        "hostPort": port.host_port,
        "containerPort": port.container_port,
        "protocol": port.protocol,
    }
    if port.host_address:
        mapping["hostIP"] = port.host_address
    return mapping
