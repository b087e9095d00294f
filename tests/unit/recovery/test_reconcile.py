"""What is decided about the difference between records and host: cases, and properties over all of them."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluytd.containers.model import Container, ExitStatus, Resolved, State
from fluytd.containers.process_ports import Ending
from fluytd.containers.spec import ContainerSpec
from fluytd.recovery.observe import Observed
from fluytd.recovery.reconcile import (
    Adopt,
    MarkExited,
    MarkLost,
    MarkUnknown,
    Release,
    Remove,
    RemoveOrphan,
    RestoreDirectories,
    UndoCreate,
    UndoStart,
    reconcile,
)
from tests.support.fakes.containers import IMAGE

ENDING = Ending(ExitStatus(exit_code=3), 0, 5)
IDS = [letter * 64 for letter in "abcdef"]
RESOLVED = Resolved(("true",), (), "/", "", "host", 15, 10_000, {})


def record(state: State, *, auto_remove: bool = False, run_number: int = 1, container_id: str = IDS[0]) -> Container:
    return Container(
        id=container_id,
        name=container_id[:3],
        spec=ContainerSpec(image="busybox", auto_remove=auto_remove),
        image=IMAGE,
        resolved=RESOLVED,
        create_time_unix_nanos=1,
        state=state,
        run_number=run_number,
    )


HERE = frozenset({IDS[0]})


@pytest.mark.parametrize(
    "state", [State.CREATED, State.EXITED, State.STARTING, State.RUNNING, State.STOPPING, State.UNKNOWN]
)
def test_a_supervisor_that_answers_is_adopted(state: State) -> None:
    observed = Observed(run_dirs=HERE, groups=HERE, directories=HERE, supervisors=HERE)
    assert reconcile([record(state)], observed) == [Adopt(IDS[0])]


def test_a_forced_removal_that_waited_for_the_end_goes_on() -> None:
    wished = replace(record(State.RUNNING), is_removed_at_end=True, is_stopped_by_caller=True)
    running = Observed(run_dirs=HERE, groups=HERE, directories=HERE, supervisors=HERE)
    assert reconcile([wished], running) == [Adopt(IDS[0])]
    ended = Observed(run_dirs=HERE, directories=HERE, endings={IDS[0]: ENDING})
    assert reconcile([wished], ended) == [MarkExited(IDS[0], ENDING), Remove(IDS[0])]
    assert [type(action) for action in reconcile([wished], Observed(directories=HERE))] == [MarkLost, Remove]
    assert reconcile([replace(wished, state=State.EXITED)], Observed(directories=HERE)) == [Remove(IDS[0])]


@pytest.mark.parametrize("auto_remove", [False, True])
def test_an_exit_record_tells_how_it_ended(auto_remove: bool) -> None:
    observed = Observed(run_dirs=HERE, directories=HERE, endings={IDS[0]: ENDING})
    following = Remove(IDS[0]) if auto_remove else Release(IDS[0])
    actions = reconcile([record(State.RUNNING, auto_remove=auto_remove)], observed)
    assert actions == [MarkExited(IDS[0], ENDING), following]


def test_one_without_supervisor_and_exit_record_is_lost() -> None:
    actions = reconcile([record(State.RUNNING)], Observed(directories=HERE))
    assert [type(action) for action in actions] == [MarkLost, Release]


def test_a_start_without_a_process_is_undone() -> None:
    actions = reconcile([record(State.STARTING)], Observed(run_dirs=HERE, directories=HERE))
    assert [type(action) for action in actions] == [UndoStart, Release]


def test_creations_and_deletions_under_way_end_without_a_container() -> None:
    assert reconcile([record(State.CREATING)], Observed()) == [UndoCreate(IDS[0])]
    assert reconcile([record(State.DELETING)], Observed()) == [Remove(IDS[0])]


def test_directories_that_are_gone_are_made_again_only_if_they_held_nothing() -> None:
    assert reconcile([record(State.CREATED, run_number=0)], Observed()) == [RestoreDirectories(IDS[0])]
    # A start that was refused before they were made.
    assert reconcile([record(State.CREATED)], Observed()) == [RestoreDirectories(IDS[0])]
    assert [type(action) for action in reconcile([record(State.EXITED)], Observed())] == [MarkUnknown]


def test_a_first_start_whose_directories_were_not_made_yet_is_undone_with_directories() -> None:
    def kinds(**of_record: Any) -> list[type]:
        return [type(action) for action in reconcile([record(State.STARTING, **of_record)], Observed())]

    assert kinds() == [RestoreDirectories, UndoStart, Release]
    assert kinds(run_number=2) == [UndoStart, Release]
    assert kinds(auto_remove=True) == [UndoStart, Remove]


def test_names_that_are_no_ids_are_left_alone() -> None:
    observed = Observed(groups=frozenset({"someone-else", IDS[1]}), directories=frozenset({"lost+found"}))
    assert reconcile([], observed) == [RemoveOrphan(IDS[1])]


_subsets = st.frozensets(st.sampled_from(IDS))


@given(
    states=st.dictionaries(st.sampled_from(IDS), st.tuples(st.sampled_from(State), st.booleans(), st.integers(0, 2))),
    run_dirs=_subsets,
    groups=_subsets,
    directories=_subsets,
    supervisors=_subsets,
    ended=_subsets,
    unreadable=_subsets,
)
def test_everything_that_stands_has_an_owner_or_goes(
    states: dict[str, tuple[State, bool, int]],
    run_dirs: frozenset[str],
    groups: frozenset[str],
    directories: frozenset[str],
    supervisors: frozenset[str],
    ended: frozenset[str],
    unreadable: frozenset[str],
) -> None:
    containers = [
        record(state, auto_remove=removes, run_number=runs, container_id=container_id)
        for container_id, (state, removes, runs) in states.items()
        if container_id not in unreadable
    ]
    observed = Observed(
        run_dirs=run_dirs | supervisors | ended,
        groups=groups,
        directories=directories,
        supervisors=supervisors,
        endings=dict.fromkeys(ended - supervisors, ENDING),
    )
    actions = reconcile(containers, observed, unreadable)
    known = {container.id for container in containers}
    orphans = {action.container_id for action in actions if isinstance(action, RemoveOrphan)}
    assert orphans == (observed.run_dirs | groups | directories) - known - unreadable
    assert not {action.container_id for action in actions} & unreadable
    for container in containers:
        mine = [type(action) for action in actions if action.container_id == container.id]
        if container.is_live:
            # One that runs is adopted, and never anything else; one that does not is told exactly once.
            told = {Adopt, MarkExited, MarkLost, UndoStart} & set(mine)
            assert len(told) == 1
            assert (Adopt in told) == (container.id in supervisors)
        elif container.state in (State.CREATED, State.EXITED):
            assert (Adopt in mine) == (container.id in supervisors)
            left = container.id in observed.run_dirs | groups
            assert not left or Release in mine or mine == [Adopt]
    assert actions == reconcile(list(reversed(containers)), replace(observed), unreadable)
