"""Failpoints: the armed one kills the process, and the catalogue is what stands in the code."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fluytd import failpoints

SERVER = Path(__file__).parents[2] / "server"


@pytest.mark.parametrize(("value", "hits", "is_killed"), [("a.b", 1, True), ("a.b:3", 2, False), ("a.b:3", 3, True)])
def test_an_armed_failpoint_kills_at_its_count(value: str, hits: int, is_killed: bool) -> None:
    code = f"from fluytd import failpoints as f\nf.hit('other')\nfor _ in range({hits}): f.hit('a.b')"
    environment = {"PYTHONPATH": str(SERVER), failpoints.VARIABLE: value}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == (-signal.SIGKILL if is_killed else 0)


def test_the_catalogue_is_what_stands_in_the_code() -> None:
    literals: set[str] = set()
    patterns: set[str] = set()
    for source in (SERVER / "fluytd").rglob("*.py"):
        for is_pattern, name in re.findall(r"""failpoints\.hit\(\s*(f?)"([a-z_.{}]+)"\s*\)""", source.read_text()):
            (patterns if is_pattern else literals).add(name)
    made = {name: {known for known in failpoints.CATALOGUE if _fits(name, known)} for name in patterns}
    assert all(made.values()), made
    assert literals.union(*made.values()) == set(failpoints.CATALOGUE)


def _fits(pattern: str, name: str) -> bool:
    parts = re.split(r"\{[^}]*\}", pattern)
    return re.fullmatch("[a-z_]+".join(map(re.escape, parts)), name) is not None
