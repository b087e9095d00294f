"""What the engine makes of a host's capabilities."""

import pytest

from fluytd.host.model import ADVICE, Need, judge


@pytest.mark.parametrize("name", ADVICE)
def test_what_is_missing_comes_with_advice(name: str) -> None:
    assert judge(name, False, "no").next_step
    assert judge(name, True, "").next_step == ""


def test_what_containers_cannot_do_without_is_required() -> None:
    assert {name for name in ADVICE if judge(name, False, "").need is Need.REQUIRED} == {"overlay", "pidfd", "openat2"}


def test_a_capability_that_is_new_to_the_table_is_optional() -> None:
    assert judge("teleport", False, "no").need is Need.OPTIONAL
