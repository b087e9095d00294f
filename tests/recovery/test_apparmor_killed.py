"""The daemon is killed before it has the AppArmor profile of containers loaded: the next one has it loaded, whole.

The daemon is shown a host with AppArmor and a program that keeps what it is to load, so that every host can show it.
"""

from pathlib import Path
from typing import Final

import pytest

from tests.recovery.crash import CrashedEngine, die_at, end_in_order, nothing
from tests.support.preloaded_fluytd import Preloaded

FAILPOINT: Final = "apparmor.load"


@pytest.mark.needs("root")
def test_a_profile_that_was_not_loaded_is_loaded_by_the_next_daemon(
    tmp_path: Path, preloaded: Preloaded, registry: str
) -> None:
    (tmp_path / "module" / "parameters").mkdir(parents=True)
    (tmp_path / "module" / "parameters" / "enabled").write_text("Y\n")
    loaded, parser = tmp_path / "loaded", tmp_path / "parser"
    parser.write_text(f"#!/bin/sh\ncat >>{loaded}\n")
    parser.chmod(0o755)
    (tmp_path / "engine").mkdir()
    options = (f"--apparmor-module-path={tmp_path / 'module'}", f"--apparmor-parser={parser}")
    with CrashedEngine(tmp_path / "engine", preloaded, registry, options=options) as running:
        whole = loaded.read_text()
        assert whole.startswith("profile fluyt-default ")
        end_in_order(running)
        loaded.unlink()
        die_at(running, FAILPOINT, nothing)
        assert not loaded.exists()
        running.start()
        assert loaded.read_text() == whole
