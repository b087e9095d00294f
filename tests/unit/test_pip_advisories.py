"""What `make audit` makes of pip-audit's reports: a package that nobody knows anything of has not passed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "pip_advisories.py"

KNOWN = {"name": "a", "version": "1", "vulns": []}
UNKNOWN = {"name": "b", "version": "2", "skip_reason": "not on this index"}
BAD = {"name": "c", "version": "3", "vulns": [{"id": "PYSEC-1", "fix_versions": ["4"]}]}


@pytest.mark.parametrize(
    ("packages", "code", "word"),
    [
        ([KNOWN, UNKNOWN], 0, "1 asked after, 0 advisories, not known: ['b']"),
        ([UNKNOWN, UNKNOWN], 0, "skipped: advisories of the 2 packages of pinned.txt"),
        ([KNOWN, BAD, UNKNOWN], 1, "c 3: PYSEC-1, fixed in 4"),
        (None, 1, ""),
    ],
)
def test_what_is_told_of_a_report(packages: list[object] | None, code: int, word: str, tmp_path: Path) -> None:
    program = tmp_path / "pip-audit"
    report = "broken" if packages is None else json.dumps({"dependencies": packages, "fixes": []})
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{report}\nEND\n")
    program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(program), "pinned.txt"], check=False, capture_output=True, text=True
    )
    assert (done.returncode, word in done.stdout) == (code, True)
