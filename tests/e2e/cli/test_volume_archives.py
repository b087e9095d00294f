"""What `fluyt volume export` and `import` show while data goes, and what is left where it stops half way."""

import os
import threading
from pathlib import Path

from tests.e2e.cli.program import Program
from tests.e2e.cli.terminal import Terminal, on_terminal
from tests.support import tarball

MIB = 1024**2


def archive(size: int) -> bytes:
    """A tar with one file of so many bytes."""
    return tarball.write_tar([tarball.file("large", os.urandom(MIB) * (size // MIB))])


def test_progress_is_told_on_a_terminal_and_the_data_is_whole(fluyt: Program, tmp_path: Path) -> None:
    data = archive(96 * MIB)
    (tmp_path / "in.tar").write_bytes(data)
    shown = on_terminal(fluyt, "volume", "import", "told", str(tmp_path / "in.tar"))
    assert (shown.code, "sending [" in shown.text, "/100.66 MB" in shown.text) == (0, True, True), shown
    shown = on_terminal(fluyt, "volume", "export", "-o", str(tmp_path / "out.tar"), "told")
    assert (shown.code, "saving " in shown.text) == (0, True), shown
    assert abs((tmp_path / "out.tar").stat().st_size - len(data)) < 64 * 1024
    for quiet in (
        ["import", "-q", "told", str(tmp_path / "in.tar")],
        ["export", "-q", "-o", str(tmp_path / "o"), "told"],
    ):
        shown = on_terminal(fluyt, "volume", *quiet)
        assert (shown.code, "sending" in shown.text or "saving" in shown.text) == (0, False), shown
    fluyt.ok("volume", "rm", "told")


def test_what_comes_of_a_pipe_is_counted_as_it_comes(fluyt: Program, tmp_path: Path) -> None:
    data, pipe = archive(4 * MIB), tmp_path / "pipe"
    os.mkfifo(pipe)
    go_on = threading.Event()

    def feed() -> None:
        with pipe.open("wb") as file:
            file.write(data[: 2 * MIB])
            file.flush()
            go_on.wait(30)
            file.write(data[2 * MIB :])

    feeder = threading.Thread(target=feed)
    feeder.start()
    with Terminal(fluyt, "volume", "import", "piped", str(pipe)) as terminal:
        terminal.until("sending")
        terminal.until("B/s")
        go_on.set()
        assert terminal.ended().code == 0
    feeder.join()
    fluyt.ok("volume", "rm", "piped")


def test_an_import_that_is_cut_off_is_an_error_and_the_next_one_is_whole(fluyt: Program, tmp_path: Path) -> None:
    data = archive(4 * MIB)
    ended = fluyt("volume", "import", "again", "-", stdin=data[: 3 * MIB])
    assert ended.code == 1, ended
    assert fluyt.ok("volume", "import", "again", "-", stdin=data) == "again\n"
    out = tmp_path / "out.tar"
    fluyt.ok("volume", "export", "-o", str(out), "again")
    assert abs(out.stat().st_size - len(data)) < 64 * 1024
    fluyt.ok("volume", "rm", "again")
