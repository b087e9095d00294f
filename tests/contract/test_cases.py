"""The tables of tests/README.md are true: each case is in the name of a test in each file that its row names."""

import re

import pytest

from tests.support.engine import REPOSITORY

TESTS = REPOSITORY / "tests"
_ROW = re.compile(r"\| ((?:[A-Z]\d\d, )*[A-Z]\d\d) \| ([a-z].*\.(?:py|rs)) \|")
#: Cases whose tests are rows of one test: the row begins with the id.
_NAMED = r"(?:def test_|fn |\"){case}[_ \"]"


def _rows() -> list[tuple[str, str]]:
    """Each case with a file that is said to show it."""
    rows = [_ROW.fullmatch(line) for line in (TESTS / "README.md").read_text().splitlines()]
    return [
        (case, file) for row in rows if row is not None for case in row[1].split(", ") for file in row[2].split(", ")
    ]


def test_the_tables_have_rows() -> None:
    assert len(_rows()) > 80


@pytest.mark.parametrize(("case", "file"), _rows())
def test_each_case_of_the_tables_is_tested_where_they_say(case: str, file: str) -> None:
    path = (REPOSITORY if file.startswith("rust_core/") else TESTS) / file
    assert re.search(_NAMED.format(case=case.lower()), path.read_text()), f"{file} does not test {case}"


def test_each_case_that_a_daemon_test_names_is_in_the_tables() -> None:
    named = {
        (case.upper(), str(path.relative_to(TESTS)))
        for path in TESTS.glob("e2e/containers/test_*.py")
        for case in re.findall(r"def test_([a-z]\d\d)_", path.read_text())
    }
    told = {case for case, _ in _rows()}
    assert sorted(case for case, _ in named if case not in told) == []
