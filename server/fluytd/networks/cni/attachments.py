"""Containers attached by CNI plugins. What is to be added stands in a record before the first plugin is executed, so
that whatever a dead daemon has left is taken away again by the next one.

All methods but `load` block: they belong to workers.
"""

import json
import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any, Final

from fluytd import failpoints
from fluytd.errors import CniPluginFailed, EngineError
from fluytd.networks.cni import model
from fluytd.networks.cni.model import ConfigList, PluginAttachment, parse_list
from fluytd.networks.cni.ports import PluginRecords, Plugins
from fluytd.networks.model import Endpoint, Network, PublishedPort, conflist_of
from fluytd.networks.ports import Namespace

_log = logging.getLogger(__name__)

#: The field that an error about a list names.
PLACE: Final = "driver_options[conflist]"


class PluginNetworks:
    """Made once; its methods may be called by any thread, for one container by one at a time."""

    def __init__(self, plugins: Plugins, records: PluginRecords) -> None:
        """None is known yet (see `load`)."""
        self._plugins = plugins
        self._records = records
        self._known: dict[tuple[str, str], PluginAttachment] = {}
        #: Of running containers, so that plugins find it when the last process has gone.
        self._namespaces: dict[str, Namespace] = {}
        self._lock = threading.Lock()

    async def load(self) -> None:
        """What earlier daemons have recorded is known. Raises IO_FAILED."""
        self._known = {one.key: one for one in await self._records.load()}

    def check_list(self, network_name: str, options: dict[str, str]) -> None:
        """The network's list is there and right, and its plugins are installed. Raises FIELD_INVALID, IO_FAILED."""
        listed = parse_list(self._plugins.read_list(options.get("conflist") or network_name), PLACE)
        for plugin in listed.plugins:
            self._plugins.find(str(plugin["type"]))

    def add(
        self,
        container_id: str,
        network: Network,
        endpoint: Endpoint,
        ports: Sequence[PublishedPort],
        namespace: Namespace,
    ) -> Endpoint:
        """The container is on the network; returns the endpoint with what the plugins gave it.

        Raises FIELD_INVALID, CNI_PLUGIN_FAILED, STORAGE_FULL, IO_FAILED; `remove` is the caller's to call then.
        """
        config = self._plugins.read_list(conflist_of(network))
        listed = parse_list(config, PLACE)
        capabilities = model.wanted_capabilities(listed, endpoint, endpoint.aliases, ports)
        attachment = PluginAttachment(
            container_id=container_id,
            network_id=network.id,
            network_name=network.name,
            interface_name=endpoint.interface_name,
            config=config,
            capabilities=json.dumps(capabilities),
        )
        failpoints.hit("network.cni.record")
        self._save(attachment)
        self._namespaces[container_id] = namespace
        result = ""
        for plugin in listed.plugins:
            failpoints.hit("network.cni.add")
            output = self._run("ADD", attachment, listed, plugin, result, namespace)
            try:
                result = json.dumps(model.parse_result(output), separators=(",", ":"))
                attached = model.with_result(endpoint, result)
            except ValueError as error:
                raise _failed(attachment, "ADD", str(plugin["type"]), str(error)) from None
        failpoints.hit("network.cni.result")
        self._save(replace(attachment, result=result))
        return attached

    def recorded(self, container_id: str, endpoint: Endpoint) -> Endpoint:
        """The endpoint with what plugins gave it, as far as that was recorded. Never blocks."""
        attachment = self._known.get((container_id, endpoint.network_id))
        return (
            model.with_result(endpoint, attachment.result) if attachment is not None and attachment.result else endpoint
        )

    def hold(self, container_id: str, namespace: Namespace) -> None:
        """The namespace of a container that was found running: plugins find it until `remove`. Never blocks."""
        self._namespaces[container_id] = namespace

    def has(self, container_id: str) -> bool:
        """Whether plugins have something of the container. Never blocks."""
        return bool(self._of(container_id))

    def is_complete(self, container_id: str, network_id: str) -> bool:
        """Whether all plugins of that network have answered. Never blocks."""
        attachment = self._known.get((container_id, network_id))
        return attachment is not None and bool(attachment.result)

    def check(self, container_id: str) -> list[str]:
        """What plugins say is wrong with what they gave the container; their list has to want it to be asked."""
        wrong = []
        for attachment in self._of(container_id):
            listed = parse_list(attachment.config, PLACE)
            namespace = self._namespaces.get(container_id)
            for plugin in listed.plugins if listed.has_check and attachment.result else ():
                if attachment.key not in self._known:
                    break  # it has ended meanwhile
                try:
                    self._run("CHECK", attachment, listed, plugin, attachment.result, namespace)
                except EngineError as error:
                    wrong.append(error.message)
        return wrong

    def remove(self, container_id: str, network_id: str = "") -> None:
        """Plugins have taken away what they gave the container, on this network or on all. One that fails is logged,
        and the others are executed all the same. Idempotent. Raises STORAGE_FULL, IO_FAILED of the records."""
        for attachment in self._of(container_id):
            if network_id in ("", attachment.network_id):
                self._remove(attachment)
        if not self.has(container_id):
            self._namespaces.pop(container_id, None)

    def sweep(self, live: Collection[str]) -> None:
        """As `remove` for each container that is not among the live ones."""
        with self._lock:
            known = {key[0] for key in self._known}
        for container_id in known - set(live):
            _log.info("container %s does not run: its plugins are told so", container_id)
            try:
                self.remove(container_id)
            except EngineError as error:
                _log.error("container %s: its plugins cannot be told: %s", container_id, error)

    def _remove(self, attachment: PluginAttachment) -> None:
        namespace = self._namespaces.get(attachment.container_id)
        listed = parse_list(attachment.config, PLACE)
        for plugin in reversed(listed.plugins):
            failpoints.hit("network.cni.delete")
            try:
                self._run("DEL", attachment, listed, plugin, attachment.result, namespace)
            except EngineError as error:
                _log.error("container %s: %s", attachment.container_id, error.message)
        failpoints.hit("network.cni.forget")
        self._records.delete(attachment)
        self._plugins.forget(_file_name(attachment))
        with self._lock:
            self._known.pop(attachment.key, None)

    def _of(self, container_id: str) -> list[PluginAttachment]:
        with self._lock:
            return [one for key, one in self._known.items() if key[0] == container_id]

    def _save(self, attachment: PluginAttachment) -> None:
        self._records.save(attachment)
        with self._lock:
            self._known[attachment.key] = attachment

    def _run(
        self,
        command: str,
        attachment: PluginAttachment,
        listed: ConfigList,
        plugin: Mapping[str, Any],
        previous: str,
        namespace: Namespace | None,
    ) -> bytes:
        kind = str(plugin["type"])
        given = json.loads(attachment.capabilities)
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": attachment.container_id,
            "CNI_NETNS": namespace.path() if namespace is not None else "",
            "CNI_IFNAME": attachment.interface_name,
        }
        config = model.plugin_input(listed, plugin, given, previous)
        end = self._plugins.run(kind, environment, config, _file_name(attachment))
        if end.end == "exited" and end.code == 0:
            return end.output
        said = model.error_of(end.output) or end.errors.decode(errors="replace").strip()
        how = {
            "exited": f"exit code {end.code}",
            "killed": f"killed by signal {end.code}",
            "timed_out": "it took too long",
            "too_long": "it printed too much",
        }[end.end]
        raise _failed(attachment, command, kind, f"{how}: {said}" if said else how)


def _failed(attachment: PluginAttachment, command: str, kind: str, detail: str) -> CniPluginFailed:
    return CniPluginFailed(network=attachment.network_name, plugin=kind, command=command, detail=detail)


def _file_name(attachment: PluginAttachment) -> str:
    """Of what its plugins read; one container has one at a time on a network."""
    return PurePath(f"{attachment.container_id}-{attachment.network_id[:12]}").name
