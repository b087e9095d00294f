"""Each bound of a clone is reached: by a daemon whose bounds are small, on repositories that are a little too large."""

import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fluyt.v1.builds_pb2 import BuildSource
from tests.e2e.builds.steps import BASE, build, refused
from tests.support import image_files, images, repositories
from tests.support.engine import REPOSITORY, Engine

pytestmark = pytest.mark.needs("git")
DOCKERFILE = "FROM busybox:1\nCOPY . /app\n"
PROGRAM = """#!{python}
import sys
sys.path[:0] = {paths!r}
from fluytd.__main__ import main
from fluytd.builds import sources
sources.{limit} = {value}
sys.exit(main())
"""


@pytest.fixture
def bounded(tmp_path: Path) -> Iterator[Callable[[str, int], Engine]]:
    """Starts the one engine of a test, with this bound."""
    with contextlib.ExitStack() as undo:

        def start(limit: str, value: int) -> Engine:
            root = tmp_path / "engine"
            root.mkdir()
            program = tmp_path / "fluytd"
            paths = [str(REPOSITORY / one) for one in ("server", "", "clients/python")]
            program.write_text(PROGRAM.format(python=sys.executable, paths=paths, limit=limit, value=value))
            program.chmod(0o755)
            engine = undo.enter_context(Engine(root, program=program))
            engine.load(image_files.oci_archive({BASE: images.busybox_image()}))
            return engine

        yield start


def source(folder: Path) -> BuildSource:
    """A repository of the host."""
    return BuildSource(git_url=f"file://{folder}")


@pytest.mark.parametrize(
    ("limit", "value", "few", "many"),
    [
        ("MAX_GIT_ENTRIES", 150, {"f": "x"}, {f"f{number}": f"{number}\n" for number in range(200)}),
        ("MAX_GIT_BYTES", 2_000_000, {"f": "x"}, {f"f{number}": f"{number}" * 100_000 for number in range(10, 40)}),
    ],
)
def test_a_clone_that_is_too_large_is_refused(
    bounded: Callable[[str, int], Engine],
    tmp_path: Path,
    limit: str,
    value: int,
    few: dict[str, str],
    many: dict[str, str],
) -> None:
    engine = bounded(limit, value)
    repositories.make(tmp_path / "small", {"Dockerfile": DOCKERFILE} | few)
    repositories.make(tmp_path / "large", {"Dockerfile": DOCKERFILE} | many)
    build(engine, source(tmp_path / "small"))
    failure = refused(engine, source(tmp_path / "large"))
    assert (failure.reason, failure.metadata["limit"]) == ("LIMIT_EXCEEDED", limit)
    assert int(failure.metadata["actual"]) > value
    assert not list((engine.root / "data" / "build_scratch").iterdir())


def test_a_clone_that_takes_too_long_is_ended(bounded: Callable[[str, int], Engine], tmp_path: Path) -> None:
    engine = bounded("MAX_GIT_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        taken: list[socket.socket] = []

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(silent.accept()[0])

        threading.Thread(target=take, daemon=True).start()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/app.git"
        failure = refused(engine, BuildSource(git_url=url))
        silent.shutdown(socket.SHUT_RDWR)
    assert taken
    assert (failure.reason, failure.metadata["limit"]) == ("LIMIT_EXCEEDED", "MAX_GIT_SECONDS")
    assert not list((engine.root / "data" / "build_scratch").iterdir())


def test_a_url_that_is_too_long_is_refused(engine: Engine) -> None:
    url = "http://127.0.0.1:1/" + "x" * 8_192 + ".git"
    failure = refused(engine, BuildSource(git_url=url))
    assert failure.reason == "FIELD_INVALID"
    assert "MAX_GIT_URL_BYTES" in str(failure)
    failure = refused(engine, BuildSource(git_url="http://127.0.0.1:1/app.git#" + "x" * 8_193))
    assert "MAX_GIT_URL_BYTES" in str(failure)
