"""A default of users that the host cannot keep is told of."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from fluytd.bootstrap import containers
from fluytd.bootstrap.base import Base


@pytest.mark.parametrize(("default", "count"), [("auto", 1), ("host", 0)])
def test_it_is_logged_once_and_only_if_the_setting_asks_for_it(
    default: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    obstacle = f"no such mounts for {tmp_path.name}"
    feature = SimpleNamespace(is_available=False, detail=obstacle)
    monkeypatch.setattr("fluytd._core.host.idmapped_mounts", lambda root: feature)
    config = SimpleNamespace(
        default_userns=default, userns_first_id=1, userns_pool_count=2, userns_range_count=1, data_root=tmp_path
    )
    base = cast(Base, SimpleNamespace(config=config))
    assert [containers.id_settings(base).obstacle for _ in range(2)] == [obstacle] * 2
    told = [record.getMessage() for record in caplog.records if obstacle in record.getMessage()]
    assert len(told) == count
