"""The daemon's own log."""

import json
import logging
from collections.abc import Iterator

import pytest

from fluytd import journal


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """The root logger as it was."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    journal.configure("info", "json")
    logging.getLogger("x").debug("not shown")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("x").exception("it %s", "failed")
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["level"], told["logger"], told["message"]) == ("error", "x", "it failed")
    assert told["time"].endswith("Z")
    assert "two\nlines" in told["trace"]


def test_plain_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    journal.configure("warning", "plain")
    logging.getLogger("x").warning("beware")
    assert capsys.readouterr().err.rstrip().endswith("WARNING x: beware")
