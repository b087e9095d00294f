"""How much of its output is kept: as the engine's settings say, and as a container says for itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt.v1.types import container_spec_pb2
from tests.e2e.containers.steps import IMAGE, started, wait
from tests.support import image_files, images
from tests.support.engine import Engine

SETTINGS = "log_segment_bytes = 4096\nlog_segment_count = 3\n"
LINES = 20_000
LogSpec = container_spec_pb2.LogSpec


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine with bounds of its own."""
    root = tmp_path_factory.mktemp("bounded")
    config = root / "fluytd.toml"
    config.write_text(SETTINGS)
    with Engine(root, options=("--config", str(config))) as engine:
        engine.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield engine


def kept(engine: Engine, **log: int) -> tuple[list[int], bytes]:
    """(sizes of the files of its log, what can be read of it) of a container that wrote many lines."""
    container = started(engine, "seq", str(LINES), log=LogSpec(**log))  # type: ignore[arg-type]
    wait(engine, container.id)
    files = (engine.root / "data" / "containers" / container.id / "log").iterdir()
    return sorted(Path(file).stat().st_size for file in files if file.is_file()), engine.logs(container.id)


def test_a_log_is_bounded_by_the_engines_settings_or_the_containers_own(bounded: Engine) -> None:
    for own, size, count in (
        ({}, 4096, 3),
        ({"segment_size_bytes": 16_384}, 16_384, 3),
        ({"segment_count": 1}, 4096, 1),
        ({"segment_size_bytes": 1024, "segment_count": 2}, 1024, 2),
    ):
        sizes, text = kept(bounded, **own)
        logs = [found for found in sizes if found > size // 2]
        # A line may pass the bound of its file, never more.
        assert len(logs) <= count, own
        assert max(sizes) <= size + 100, own
        shown = [int(line) for line in text.split()]
        assert shown == list(range(shown[0], LINES + 1)), own
        # The newest file may have one line alone.
        assert 1 < shown[0] <= LINES
