"""Decides what is to be done about the difference between the records and the host. Pure.

What may have changed while no daemon ran, and is therefore looked at and never assumed:

- Containers ran on. Some ended, and their supervisors left exit records before they went; some supervisors were killed.
- The daemon may have died between any two steps of create, start, stop, delete or of what follows an exit, so that
  every record may be one step before or after what stands on the host.
- The host may have been rebooted: the run root is empty then, and no process and no control group is left.
- After a loss of power the newest records may be missing (an `auto_remove` container is never written durably), and
  directories that no record knows may stand.

What is taken for granted: one daemon at a time uses these roots (the database's lock), and names in the engine's places
that are no container ids are someone else's and left alone.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from fluytd.containers.model import Container, State
from fluytd.containers.process_ports import Ending
from fluytd.errors import Failure, SupervisorLost
from fluytd.recovery.observe import Observed

_ID: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Adopt:
    """Its supervisor answers: the container runs, and is watched again, also where the record of its start had not
    reached the store. A stop or forced removal that was under way goes on, a pause is carried to its end, an update is
    undone."""

    container_id: str


@dataclass(frozen=True, slots=True)
class MarkExited:
    """It ended while no daemon looked; the exit record says how."""

    container_id: str
    ending: Ending


@dataclass(frozen=True, slots=True)
class MarkLost:
    """It was running, its supervisor has gone and left no exit record: what is left of it is killed."""

    container_id: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class UndoStart:
    """The daemon died while it started it, before there was a supervisor that answers."""

    container_id: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class UndoCreate:
    """It was never told to a caller: record and directories go."""

    container_id: str


@dataclass(frozen=True, slots=True)
class RestoreDirectories:
    """It never ran; its directories, which held nothing yet, are made, again or for the first time."""

    container_id: str


@dataclass(frozen=True, slots=True)
class MarkUnknown:
    """Nothing that can be done would be right; the reason is shown and only a forced deletion is possible."""

    container_id: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class Release:
    """It does not run; supervisor, control groups and run directory of an earlier run go."""

    container_id: str


@dataclass(frozen=True, slots=True)
class Remove:
    """It is deleted: a deletion that was under way, or one that was to go at its end and has ended."""

    container_id: str


@dataclass(frozen=True, slots=True)
class RemoveOrphan:
    """No record knows it: processes, control groups, run directory and directories go."""

    container_id: str


Action = (
    Adopt
    | MarkExited
    | MarkLost
    | UndoStart
    | UndoCreate
    | RestoreDirectories
    | MarkUnknown
    | Release
    | Remove
    | RemoveOrphan
)


def reconcile(containers: Iterable[Container], observed: Observed, unreadable: Collection[str] = ()) -> list[Action]:
    """What to do, in order: containers oldest first, each with its actions together, then orphans by id.

    Args:
        containers: every record that could be read.
        observed: what the host shows.
        unreadable: ids of records that could not be read; whatever stands for them is left as it is.
    """
    actions: list[Action] = []
    known = set(unreadable)
    for container in sorted(containers, key=lambda one: (one.create_time_unix_nanos, one.id)):
        known.add(container.id)
        actions += _for_record(container, observed)
    standing = observed.run_dirs | observed.groups | observed.directories
    actions += [RemoveOrphan(name) for name in sorted(standing - known) if _ID.fullmatch(name)]
    return actions


def _for_record(container: Container, observed: Observed) -> list[Action]:
    match container.state:
        case State.STARTING | State.RUNNING | State.PAUSED | State.STOPPING:
            return _live(container, observed)
        case State.CREATING:
            return [UndoCreate(container.id)]
        case State.DELETING:
            return [Remove(container.id)]
        case State.UNKNOWN:
            return [Adopt(container.id)] if container.id in observed.supervisors else []
        case State.CREATED | State.EXITED:
            return _at_rest(container, observed)


def _live(container: Container, observed: Observed) -> list[Action]:
    id_ = container.id
    if id_ in observed.supervisors:
        return [Adopt(id_)]
    following: list[Action] = [Remove(id_)] if _goes_at_end(container) else [Release(id_)]
    if id_ in observed.endings:
        return [MarkExited(id_, observed.endings[id_]), *following]
    if container.state is State.STARTING:
        detail = "the engine ended while the container was being started"
        undo = UndoStart(id_, SupervisorLost(id=id_, detail=detail).failure)
        # A record of creation and start in one is stored while the directories are made.
        is_made = id_ in observed.directories or container.run_number > 1 or container.spec.auto_remove
        return [undo, *following] if is_made else [RestoreDirectories(id_), undo, *following]
    damaged = observed.failures.get(id_)
    detail = "it ended without leaving an exit record" if damaged is None else f"its exit record: {damaged.message}"
    return [MarkLost(id_, SupervisorLost(id=id_, detail=detail).failure), *following]


def _goes_at_end(container: Container) -> bool:
    return container.spec.auto_remove or container.is_removed_at_end


def _at_rest(container: Container, observed: Observed) -> list[Action]:
    id_ = container.id
    if id_ in observed.supervisors:
        return [Adopt(id_)]
    actions: list[Action] = []
    if id_ in observed.run_dirs or id_ in observed.groups:
        actions.append(Release(id_))
    if container.state is State.EXITED and _goes_at_end(container):
        return [*actions, Remove(id_)]
    if id_ in observed.directories:
        return actions
    if container.state is State.CREATED:
        return [*actions, RestoreDirectories(id_)]
    lost = SupervisorLost(id=id_, detail="its directories are gone from the data root")
    return [*actions, MarkUnknown(id_, lost.failure)]
