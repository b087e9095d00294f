"""Directories of containers below a data root of the test's own."""

import os
import stat
from pathlib import Path

import pytest

from fluytd.containers import directories
from fluytd.containers.directories import MOUNT_TARGETS_DIR, ContainerDirectories


def test_the_places_that_are_mounted_on_can_be_passed_by_every_user_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        ContainerDirectories(tmp_path, tmp_path / "run")
    finally:
        os.umask(before)
    # A second daemon finds them as they are.
    ContainerDirectories(tmp_path, tmp_path / "run")
    made = [tmp_path / MOUNT_TARGETS_DIR, *(tmp_path / MOUNT_TARGETS_DIR).rglob("*")]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made}
    files = dict.fromkeys(("hosts", "hostname", "resolv.conf"), 0o644)
    assert modes == {MOUNT_TARGETS_DIR: 0o755, "dev": 0o755, "proc": 0o755, "sys": 0o755, "etc": 0o755} | files


def test_a_writable_layer_is_counted_whole_or_to_its_bound_and_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ContainerDirectories(tmp_path, tmp_path / "run")
    upper = tmp_path / "containers" / "one" / "upper"
    (upper / "deep").mkdir(parents=True)
    for number in range(20):
        (upper / "deep" / str(number)).write_bytes(b"x" * 4096)
    whole, is_bound = found.writable_usage("one")
    assert (whole >= 20 * 4096, is_bound) == (True, False)
    monkeypatch.setattr(directories, "MAX_COUNTED_ENTRIES", 10)
    part, is_bound = found.writable_usage("one")
    assert (0 < part < whole, is_bound) == (True, True)
