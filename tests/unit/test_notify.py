"""Telling a service manager."""

import socket
from pathlib import Path

import pytest

from fluytd import notify


def test_the_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        monkeypatch.setenv(notify.VARIABLE, str(tmp_path / "n"))
        notify.ready()
        notify.stopping()
        assert [manager.recv(64), manager.recv(64)] == [b"READY=1", b"STOPPING=1"]


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(notify.VARIABLE, raising=False)
    notify.ready()
    monkeypatch.setenv(notify.VARIABLE, str(tmp_path / "gone"))
    notify.ready()
