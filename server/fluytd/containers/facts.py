"""What events tell about containers, made from their records. Pure."""

from fluytd.containers.model import Container, State
from fluytd.errors import Failure
from fluytd.events.model import (
    ContainerCreated,
    ContainerDeleted,
    ContainerExited,
    ContainerHealthChanged,
    ContainerLost,
    ContainerOutOfMemory,
    ContainerPaused,
    ContainerResumed,
    ContainerSignalled,
    ContainerStarted,
    ContainerStartFailed,
    ContainerStopped,
    ContainerStopping,
    ContainerUpdated,
    Fact,
    VolumeMounted,
    VolumeUnmounted,
)


def created(container: Container) -> Fact:
    """It was made."""
    return ContainerCreated(container.id, container.name, container.spec.image, container.image.image_id)


def started_with_volumes(container: Container) -> list[Fact]:
    """Its process was executed, and its volumes came into use. The pid is 0 where it ended before a daemon saw it."""
    mounted = [VolumeMounted(one.name, container.id, one.target, one.read_only) for one in container.resolved.volumes]
    return [ContainerStarted(container.id, container.name, container.host_pid), *mounted]


def start_failed(container: Container, failure: Failure) -> Fact:
    """Its process could not be started."""
    return ContainerStartFailed(container.id, container.name, failure)


def signalled(container: Container, number: int) -> Fact:
    """A signal was sent to it."""
    return ContainerSignalled(container.id, container.name, number)


def paused(container: Container) -> Fact:
    """It was frozen."""
    return ContainerPaused(container.id, container.name)


def resumed(container: Container) -> Fact:
    """It was thawed."""
    return ContainerResumed(container.id, container.name)


def updated(container: Container) -> Fact:
    """It got other limits or another policy."""
    return ContainerUpdated(container.id, container.name)


def health_changed(container: Container) -> Fact:
    """Its health has another state."""
    state = container.health.state.value if container.health is not None else ""
    return ContainerHealthChanged(container.id, container.name, state)


def stopping(container: Container) -> Fact:
    """It was asked to stop."""
    return ContainerStopping(container.id, container.name)


def ended(container: Container, *, was_stop_requested: bool) -> list[Fact]:
    """All that an end brings, in the order in which it is told: out of memory, lost, exited, stopped (case L10)."""
    facts: list[Fact] = []
    if container.oom_killed:
        facts.append(ContainerOutOfMemory(container.id, container.name))
    if container.failure is not None:
        facts.append(ContainerLost(container.id, container.name, State.EXITED.value, container.reason))
    status = container.exit
    exit_code = status.exit_code if status is not None else None
    signal = status.signal if status is not None else None
    facts.append(
        ContainerExited(container.id, container.name, exit_code, signal, container.oom_killed, container.reason)
    )
    if was_stop_requested:
        facts.append(ContainerStopped(container.id, container.name))
    names = dict.fromkeys(one.name for one in container.resolved.volumes)
    return [*facts, *(VolumeUnmounted(name, container.id) for name in names)]


def lost(container: Container) -> Fact:
    """The engine lost sight of it."""
    return ContainerLost(container.id, container.name, container.state.value, container.reason)


def deleted(container: Container) -> Fact:
    """It is gone."""
    return ContainerDeleted(container.id, container.name)
