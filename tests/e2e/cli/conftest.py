"""One engine for all tests of the command line; each test leaves no container and nothing on the host."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli.program import IMAGE, PATIENCE_SECONDS, Program
from tests.support import image_files, images
from tests.support.engine import Engine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test here needs the built program."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.needs("command-line"))


@pytest.fixture(scope="session")
def cli_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine of the whole run, with a busybox."""
    with Engine(tmp_path_factory.mktemp("cli")) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield running


@pytest.fixture
def fluyt(cli_engine: Engine) -> Iterator[Program]:
    """The program. Afterwards every container is deleted by `rm -f` and nothing is left of any."""
    program = Program(cli_engine.root / "run" / "fluytd.sock")
    yield program
    had_ended = cli_engine.revive()
    # A container of --rm whose `run` was killed may be on its way out; `rm` then finds it gone.
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := program.ok("ps", "-aq").split():
        ended = program("rm", "-f", *left)
        assert ended.code == 0 or "there is no container" in ended.err, ended
        assert time.monotonic() < deadline, left
    assert not had_ended
    assert cli_engine.left_on_host() == []
