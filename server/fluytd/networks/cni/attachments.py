"""Containers attached by CNI plugins. What is to be added stands in a record before the first plugin is executed, so
that whatever a dead daemon has left is taken away again by the next one.

All methods but `load` block: they belong to workers.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
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

#: How long after each failure plugins are told again to take away what they gave; after the last they are let be.
RETRY_SECONDS: Final = (1.0, 5.0, 30.0, 120.0, 600.0)
#: The field that an error about a list names.
PLACE: Final = "driver_options[conflist]"


class PluginNetworks:
    """Made once; its methods may be called by any thread, for one container by one at a time."""

    def __init__(
        self,
        plugins: Plugins,
        records: PluginRecords,
        new_namespace: Callable[[], Namespace],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """None is known yet (see `load`). `new_namespace`: an empty one, of nobody. `now`: in seconds."""
        self._plugins = plugins
        self._records = records
        self._new_namespace = new_namespace
        self._now = now
        #: Told (by a worker) that there is something to be tried again (see `retry`).
        self.on_put_off: Callable[[], None] = lambda: None
        #: When those that are ending are tried again, and the namespaces that plugins are to find then.
        self._due: dict[tuple[str, str], float] = {}
        self._ending: dict[tuple[str, str], Namespace] = {}
        #: Held while one that is ending is tried again or given up.
        self._retrying = threading.Lock()
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
        self._give_up(attachment.key)
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
            if plugin is not listed.plugins[-1]:
                # Whoever takes it away without the namespace must know the addresses.
                self._save(replace(attachment, result=result, is_partial=True))
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
        return (
            attachment is not None
            and bool(attachment.result)
            and not attachment.is_partial
            and not attachment.is_ending
        )

    def check(self, container_id: str) -> list[str]:
        """What plugins say is wrong with what they gave the container; their list has to want it to be asked."""
        wrong = []
        for attachment in self._of(container_id):
            listed = parse_list(attachment.config, PLACE)
            namespace = self._namespaces.get(container_id)
            asked = listed.has_check and self.is_complete(*attachment.key)
            for plugin in listed.plugins if asked else ():
                if attachment.key not in self._known:
                    break  # it has ended meanwhile
                try:
                    self._run("CHECK", attachment, listed, plugin, attachment.result, namespace)
                except EngineError as error:
                    wrong.append(error.message)
            if asked and attachment.key not in self._known:
                # Its end came while a plugin was executed, which may have made the file again.
                self._plugins.forget(_file_name(attachment))
        return wrong

    def remove(self, container_id: str, network_id: str = "") -> None:
        """Plugins have taken away what they gave the container, on this network or on all. One that fails is logged,
        and the others are executed all the same; all of them are told again later (see `retry`). Idempotent. Raises
        STORAGE_FULL, IO_FAILED of the records."""
        for attachment in self._of(container_id):
            if network_id in ("", attachment.network_id) and not attachment.is_ending:
                self._remove(attachment)
        if all(attachment.is_ending for attachment in self._of(container_id)):
            self._namespaces.pop(container_id, None)

    def sweep(self, live: Collection[str]) -> None:
        """As `remove` for each container that is not among the live ones; what a dead daemon was to try again is tried,
        or of a live container soon."""
        with self._lock:
            known = [*self._known.values()]
        for container_id in {one.container_id for one in known} - set(live):
            _log.info("container %s does not run: its plugins are told so", container_id)
            try:
                self.remove(container_id)
            except EngineError as error:
                _log.error("container %s: its plugins cannot be told: %s", container_id, error)
        for attachment in known:
            if attachment.is_ending:
                self._due[attachment.key] = self._now() + (RETRY_SECONDS[0] if attachment.container_id in live else 0)
        self.retry()

    def retry(self) -> float | None:
        """Plugins whose time has come are told again to take away what they gave. Returns the seconds until the next
        time; None if there is none. A failure of the records is logged."""
        with self._retrying:
            for key, due in [*self._due.items()]:
                if due > self._now():
                    continue
                del self._due[key]
                attachment = self._known.get(key)
                if attachment is None or not attachment.is_ending:
                    continue
                try:
                    self._remove(attachment)
                except EngineError as error:
                    _log.error("container %s: its plugins cannot be told: %s", attachment.container_id, error)
                    self._due[key] = self._now() + RETRY_SECONDS[-1]
            return max(min(self._due.values()) - self._now(), 0) if self._due else None

    def _remove(self, attachment: PluginAttachment) -> None:
        """Told once; what fails is put off as often as may be."""
        namespace = self._ending.get(attachment.key) or self._namespaces.get(attachment.container_id)
        listed = parse_list(attachment.config, PLACE)
        stand_in = self._stand_in(attachment) if namespace is None else None
        has_failed = False
        for plugin in reversed(listed.plugins):
            failpoints.hit("network.cni.delete")
            # One that had taken its part away already may fail by what it finds in the place of a namespace that has
            # gone (Debian 12's `bridge`), and not without one.
            if stand_in is not None and self._deleted(attachment, listed, plugin, stand_in, logging.DEBUG):
                continue
            has_failed = not self._deleted(attachment, listed, plugin, namespace, logging.ERROR) or has_failed
        if has_failed and attachment.failed_count < len(RETRY_SECONDS):
            self._put_off(attachment, namespace)
            return
        if has_failed:
            _log.error("container %s: plugins may keep something of it for ever", attachment.container_id)
        self._forget(attachment)

    def _deleted(
        self,
        attachment: PluginAttachment,
        listed: ConfigList,
        plugin: Mapping[str, Any],
        namespace: Namespace | None,
        level: int,
    ) -> bool:
        """Whether the plugin has taken its part away; a failure is logged at this level."""
        try:
            self._run("DEL", attachment, listed, plugin, attachment.result, namespace)
        except EngineError as error:
            _log.log(level, "container %s: %s", attachment.container_id, error.message)
            return False
        return True

    def _put_off(self, attachment: PluginAttachment, namespace: Namespace | None) -> None:
        failpoints.hit("network.cni.put_off")
        self._save(replace(attachment, failed_count=attachment.failed_count + 1))
        if namespace is not None:
            self._ending[attachment.key] = namespace
        self._due[attachment.key] = self._now() + RETRY_SECONDS[attachment.failed_count]
        self.on_put_off()

    def _give_up(self, key: tuple[str, str]) -> None:
        """Nothing is known of what is to be tried again: it is tried now, for the last time, since another takes its
        place."""
        with self._retrying:
            attachment = self._known.get(key)
            if attachment is not None and attachment.is_ending:
                self._remove(replace(attachment, failed_count=len(RETRY_SECONDS)))

    def _forget(self, attachment: PluginAttachment) -> None:
        failpoints.hit("network.cni.forget")
        self._records.delete(attachment)
        self._plugins.forget(_file_name(attachment))
        self._ending.pop(attachment.key, None)
        self._due.pop(attachment.key, None)
        with self._lock:
            self._known.pop(attachment.key, None)

    def _stand_in(self, attachment: PluginAttachment) -> Namespace | None:
        """A namespace in the place of one that has gone with its container, with a link of the addresses that it had:
        plugins that look into it find by them what else they have made. None where no address is known."""
        addresses = model.addresses_of(attachment.result)
        if not addresses:
            return None
        try:
            namespace = self._new_namespace()
            namespace.stand_in(attachment.interface_name, addresses)
        except EngineError as error:
            _log.error("container %s: its plugins find no namespace: %s", attachment.container_id, error)
            return None
        return namespace

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
