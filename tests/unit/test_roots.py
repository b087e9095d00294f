"""The engine's directories and id."""

import stat
from pathlib import Path

import pytest

from fluytd import roots
from fluytd.errors import DataCorruptOnDisk, IoFailed


def test_the_roots_are_made_with_their_modes(tmp_path: Path) -> None:
    data, run = tmp_path / "a" / "data", tmp_path / "b" / "run"
    roots.make(data, run)
    roots.make(data, run)
    assert stat.S_IMODE(data.stat().st_mode) == roots.DATA_ROOT_MODE
    assert stat.S_IMODE(run.stat().st_mode) == roots.RUN_ROOT_MODE


def test_a_file_in_the_place_of_a_root_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(IoFailed) as caught:
        roots.make(tmp_path / "data", tmp_path / "run")
    assert caught.value.metadata["path"] == str(tmp_path / "data")


def test_the_id_is_kept(tmp_path: Path) -> None:
    first = roots.engine_id(tmp_path)
    assert roots.engine_id(tmp_path) == first
    assert len(first) == 32
    assert [path.name for path in tmp_path.iterdir()] == [roots.ID_FILE]


@pytest.mark.parametrize("text", ["", "xyz", "A" * 32, "0" * 31])
def test_a_damaged_id_is_told_and_not_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / roots.ID_FILE).write_text(text)
    with pytest.raises(DataCorruptOnDisk):
        roots.engine_id(tmp_path)
    assert (tmp_path / roots.ID_FILE).read_text() == text
