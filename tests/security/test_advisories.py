"""The table of advisories is true: each test that it names is there, and each case and advisory has a row."""

import re
import subprocess
import sys

from tests.security.advisories import ATTACKS
from tests.support.engine import REPOSITORY

CASES = {f"Z{number:02}" for number in range(1, 15)}
SERVER = REPOSITORY / "server" / "fluytd"


def test_each_test_that_the_table_names_is_collected() -> None:
    files = sorted({attack.test.partition("::")[0] for attack in ATTACKS})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    collected = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()
    known = {*collected, *(name.partition("[")[0] for name in collected)}
    named = [name for attack in ATTACKS for name in (attack.test, attack.held) if name]
    assert [name for name in named if name not in known] == []


def test_each_case_and_each_advisory_of_the_tests_has_a_row() -> None:
    named = {name for attack in ATTACKS for name in attack.names}
    assert named >= CASES
    told = set()
    for path in [*(REPOSITORY / "tests").rglob("*.py"), *(REPOSITORY / "rust_core").glob("*/src/**/*.rs")]:
        told |= set(re.findall(r"CVE-\d{4}-\d{4,}", path.read_text()))
    assert told - named == set()


def test_each_attack_has_a_fence_or_says_why_none_is_left_out() -> None:
    assert [attack.test for attack in ATTACKS if bool(attack.fence) == bool(attack.unweakened)] == []


def test_where_two_fences_stand_a_test_shows_that_the_second_holds() -> None:
    assert [attack.test for attack in ATTACKS if bool(attack.held) != ("," in attack.fence)] == []


def test_no_fence_can_be_left_out_of_what_is_released() -> None:
    programs = [*SERVER.glob("_core*.so"), SERVER / "libexec" / "fluyt-supervisor"]
    assert len(programs) == 2
    for program in programs:
        assert b"FLUYT_WEAKENED: fences can be left out" not in program.read_bytes(), program
    assert not [path for path in SERVER.rglob("*.py") if "WEAKENED" in path.read_text()]
