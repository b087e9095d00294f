"""Which containers a caller means, and in which order they are listed. Pure."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final

from fluytd.containers.health_state import HealthState
from fluytd.containers.model import Container, State
from fluytd.containers.port_filter import PortRange, is_exposed, is_published
from fluytd.errors import EngineError, FieldInvalid
from fluytd.ids import ImageReference

#: Most values of one condition.
MAX_FILTER_VALUES: Final = 1_000
#: A slash is how Docker writes the beginning of a name.
_PART_OF_NAME: Final = re.compile(r"\^?/?[a-zA-Z0-9_.-]*\$?", re.ASCII)


@dataclass(frozen=True, slots=True)
class ContainerFilter:
    """Conditions of different kinds must all hold; of the values of one kind, one must; of labels, all."""

    ids: tuple[str, ...] = ()
    #: As `check_name` lets them pass.
    names: tuple[str, ...] = ()
    #: `name` or `name=value`.
    labels: tuple[str, ...] = ()
    #: None: all; empty: none.
    states: frozenset[State] | None = None
    exit_codes: frozenset[int] = frozenset()
    #: References and ids as given, what these references stand for now (`of_images`), and their whole names.
    images: tuple[str, ...] = ()
    image_ids: frozenset[str] = frozenset()
    image_names: frozenset[str] = frozenset()
    #: Only those made before this time; None: all.
    before_unix_nanos: int | None = None
    since_unix_nanos: int | None = None
    #: Names of networks; `none` and `host` stand for the modes.
    networks: frozenset[str] = frozenset()
    #: None stands for no health check.
    health_states: frozenset[HealthState | None] = frozenset()
    #: Targets of mounts, names of volumes.
    volumes: frozenset[str] = frozenset()
    published_ports: tuple[PortRange, ...] = ()
    exposed_ports: tuple[PortRange, ...] = ()

    #: Those that wait for their restart, besides those of `states`.
    restarting: bool = False

    def accepts(self, container: Container, *, waits_for_restart: bool = False) -> bool:
        """True if the container fits. `waits_for_restart`: its policy starts it again in a moment."""
        return (
            (not self.ids or any(container.id.startswith(prefix) for prefix in self.ids))
            and (not self.names or any(_is_named(container.name, part) for part in self.names))
            and self._is_state(container, waits_for_restart)
            and all(_has_label(container, label) for label in self.labels)
            and (not self.exit_codes or _ended_with(container, self.exit_codes))
            and (not self.images or self._has_image(container))
            and (self.before_unix_nanos is None or container.create_time_unix_nanos < self.before_unix_nanos)
            and (self.since_unix_nanos is None or container.create_time_unix_nanos > self.since_unix_nanos)
            and (not self.networks or not self.networks.isdisjoint(_networks(container)))
            and (not self.health_states or _health_of(container) in self.health_states)
            and (not self.volumes or any(target in self.volumes for target in _targets(container)))
            and (not self.published_ports or is_published(container, self.published_ports))
            and (not self.exposed_ports or is_exposed(container, self.exposed_ports))
        )

    def _is_state(self, container: Container, waits_for_restart: bool) -> bool:
        if self.restarting and waits_for_restart:
            return True
        return container.state in self.states if self.states is not None else not self.restarting

    def _has_image(self, container: Container) -> bool:
        facts = container.image
        if facts.image_id in self.image_ids or facts.reference in self.image_names:
            return True
        return any(_is_of(container, image) for image in self.images)


def check_name(part: str, field: str) -> None:
    """Raises FIELD_INVALID for what no name can have in it: it would fit none, and nobody would be told."""
    if not _PART_OF_NAME.fullmatch(part):
        rule = "must be a part of a name, with `^` before it for the beginning and `$` behind it for the end"
        raise FieldInvalid(field=field, rule=rule)


def of_images(wanted: ContainerFilter, ids_of: Callable[[str], Collection[str]]) -> ContainerFilter:
    """The filter with what its references stand for. `ids_of`: the present images of a reference."""
    if not wanted.images:
        return wanted
    ids = frozenset(image_id for image in wanted.images for image_id in ids_of(image))
    return replace(wanted, image_ids=ids, image_names=frozenset(map(_whole_name, wanted.images)))


def _whole_name(image: str) -> str:
    try:
        return str(ImageReference.parse(image).with_default_tag())
    except EngineError:
        return image  # an id, or nothing that an image can be called


def _is_named(name: str, part: str) -> bool:
    begins = part.startswith(("^", "/"))
    ends = part.endswith("$")
    text = part.removeprefix("^").removeprefix("/").removesuffix("$")
    if begins and ends:
        return name == text
    return name.startswith(text) if begins else name.endswith(text) if ends else text in name


def _has_label(container: Container, label: str) -> bool:
    name, separator, value = label.partition("=")
    labels = container.resolved.labels
    return name in labels and (not separator or labels[name] == value)


def _ended_with(container: Container, codes: frozenset[int]) -> bool:
    return container.state is State.EXITED and container.exit is not None and container.exit.shell_code in codes


def _is_of(container: Container, image: str) -> bool:
    facts = container.image
    if image in (container.spec.image, facts.reference, facts.image_id, facts.manifest_digest):
        return True
    digits = image.removeprefix("sha256:")
    is_id = len(digits) >= 4 and all(character in "0123456789abcdef" for character in digits)
    return is_id and facts.image_id.removeprefix("sha256:").startswith(digits)


def _networks(container: Container) -> set[str]:
    """The mode of its network, and the names and ids of the networks that it is on or is to be on."""
    spec = container.spec.network
    found = {spec.mode.value, *(attachment.network for attachment in spec.attachments)}
    return found | {text for one in container.endpoints for text in (one.network_id, one.network_name)}


def _health_of(container: Container) -> HealthState | None:
    return None if container.health is None else container.health.state


def _targets(container: Container) -> list[str]:
    spec, resolved = container.spec, container.resolved
    found = [one.target for one in resolved.binds or spec.binds]
    found += [one.target for one in spec.tmpfs] + [one.target for one in resolved.images]
    return found + [text for one in resolved.volumes for text in (one.target, one.name)]


def newest_first(container: Container) -> tuple[int, str]:
    """The key by which containers are sorted for a listing."""
    return (-container.create_time_unix_nanos, container.id)
