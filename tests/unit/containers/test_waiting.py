"""How many supervisors wait with an interface, and which of them are given out."""

import pytest

from fluytd.containers.waiting import MAX_WAITING, WaitingSupervisors
from tests.support.fakes.networks import FakeNamespace


class FakeReady:
    def __init__(self) -> None:
        self.is_ended = False

    def is_alive(self) -> bool:
        return not self.is_ended

    def close(self) -> None:
        self.is_ended = True


def of(made: list[FakeReady]) -> WaitingSupervisors[FakeReady, FakeNamespace]:
    def make() -> tuple[FakeReady, FakeNamespace]:
        made.append(FakeReady())
        return made[-1], FakeNamespace()

    return WaitingSupervisors(make)


def test_none_is_made_before_one_was_wanted_and_then_as_many_as_may_wait() -> None:
    made: list[FakeReady] = []
    waiting = of(made)
    waiting.fill()
    assert not made
    assert waiting.take() is None
    waiting.fill()
    waiting.fill()
    assert len(made) == MAX_WAITING
    assert [waiting.take() is not None for _ in range(MAX_WAITING + 1)] == [True] * MAX_WAITING + [False]


def test_one_that_has_ended_is_passed_over() -> None:
    made: list[FakeReady] = []
    waiting = of(made)
    waiting.take()
    waiting.fill()
    for ready in made[1:]:
        ready.is_ended = True
    taken = waiting.take()
    assert taken is not None
    assert taken[0] is made[0]
    assert waiting.take() is None


def test_when_it_is_closed_all_end_and_none_is_made() -> None:
    made: list[FakeReady] = []
    waiting = of(made)
    waiting.take()
    waiting.fill()
    waiting.close()
    assert all(ready.is_ended for ready in made)
    waiting.fill()
    assert len(made) == MAX_WAITING


def test_a_failure_to_make_one_is_raised_and_those_that_wait_stay() -> None:
    made = 0

    def make() -> tuple[FakeReady, FakeNamespace]:
        nonlocal made
        made += 1
        if made == 2:
            raise OSError("no")
        return FakeReady(), FakeNamespace()

    waiting = WaitingSupervisors(make)
    waiting.take()
    with pytest.raises(OSError, match="no"):
        waiting.fill()
    assert waiting.take() is not None
