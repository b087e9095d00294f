"""Which tests of a run that failed are run once more."""

import pytest

from tests.suite import FAILED, MAX_AGAIN, to_run_again

ONE = "tests/unit/test_ids.py::test_one[a b]"


def test_a_few_failures_are_run_again() -> None:
    failed = [f"{ONE}{number}" for number in range(MAX_AGAIN)]
    assert to_run_again(FAILED, failed) == failed


def test_more_failures_than_that_stand() -> None:
    assert to_run_again(FAILED, [f"{ONE}{number}" for number in range(MAX_AGAIN + 1)]) == []


@pytest.mark.parametrize("exit_code", [0, 2, 3, 4, 5, -9])
def test_what_is_no_failure_of_tests_stands(exit_code: int) -> None:
    assert to_run_again(exit_code, [ONE]) == []


def test_a_file_that_does_not_load_stands() -> None:
    assert to_run_again(FAILED, ["tests/unit/test_ids.py", ONE]) == []
