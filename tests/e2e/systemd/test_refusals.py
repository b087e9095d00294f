"""A daemon that is to ask systemd and cannot: it does not come up, and says what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.engine import PATIENCE_SECONDS, REPOSITORY


def refused(tmp_path: Path, *options: str, **environment: str) -> tuple[int, str]:
    """Exit code and last words of a daemon with the driver systemd."""
    paths = ":".join(str(REPOSITORY / part) for part in ("server", "clients/python"))
    roots = ["--data-root", str(tmp_path / "data"), "--run-root", str(tmp_path / "run"), "--cgroup-driver", "systemd"]
    done = subprocess.run(
        [sys.executable, "-m", "fluytd", *roots, *options],
        env=os.environ | {"PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.needs("cgroup-v1")
def test_a_host_with_hierarchies_of_v1_lacks_what_it_needs(tmp_path: Path) -> None:
    code, told = refused(tmp_path)
    assert code == 1
    assert "lacks cgroup v2 alone, which cgroup_driver systemd needs" in told


def test_a_parent_that_is_not_a_slice_is_a_wrong_setting(tmp_path: Path) -> None:
    code, told = refused(tmp_path, "--cgroup-parent", "web")
    assert code == 2
    assert "cgroup_parent: must be the name of a slice" in told


def test_the_extra_that_is_missing_is_named(tmp_path: Path) -> None:
    # A package of that name which cannot be imported stands before the real one.
    (tmp_path / "jeepney.py").write_text("raise ImportError(name='jeepney')")
    paths = f"{tmp_path}:{REPOSITORY / 'server'}:{REPOSITORY / 'clients/python'}"
    code, told = refused(tmp_path, PYTHONPATH=paths)
    assert code == 2
    assert "cgroup_driver: systemd needs what `pip install 'fluytd[systemd]'` brings (jeepney)" in told


@pytest.mark.needs("cgroup-v2")
def test_without_a_bus_it_says_what_to_do(tmp_path: Path) -> None:
    code, told = refused(tmp_path, DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={tmp_path}/none")
    assert code == 1
    assert "cannot serve: systemd, which is to make the containers' control groups, cannot be asked" in told
