"""What a terminal is sent: bars while an image comes in, no control characters of others."""

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cli.program import IMAGE, PATIENCE_SECONDS, PROGRAM, Program
from tests.support import image_files, images
from tests.support.registry import RealRegistry


def _on_terminal(fluyt: Program, *arguments: str) -> tuple[int, str]:
    """Exit code of a command whose standard error is a terminal, and what the terminal was sent."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [PROGRAM, *arguments],
        env=fluyt.environment | {"TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        sent = b""
        try:
            while piece := os.read(ours, 65536):
                sent += piece
        except OSError:  # EIO: nobody holds the other side any more
            pass
        os.close(ours)
        return process.wait(PATIENCE_SECONDS), sent.decode()


def _assert_cursor_is_shown(sent: str) -> None:
    assert sent.rfind("\x1b[?25l") <= sent.rfind("\x1b[?25h")


@pytest.mark.needs("docker-registry")
def test_pull_draws_bars_on_a_terminal_and_prints_lines_elsewhere(fluyt: Program, tmp_path: Path) -> None:
    with RealRegistry(tmp_path / "registry") as registry:
        image_files.push(registry.address, "app", "1", images.busybox_image(env=["P=1"]))
        reference = f"{registry.address}/app:1"
        code, sent = _on_terminal(fluyt, "pull", reference)
        assert code == 0, sent
        assert "\x1b[" in sent
        _assert_cursor_is_shown(sent)
        fluyt.ok("rmi", reference)
        plain = fluyt("pull", reference)
        assert plain.code == 0, plain
        assert plain.err
        assert "\x1b" not in plain.err + plain.out
        assert fluyt("pull", "-q", reference).err == ""
        assert fluyt("run", "--rm", "--pull", "always", reference, "echo", "pulled").out == "pulled\n"


def test_load_draws_a_bar_on_a_terminal_and_prints_a_line_elsewhere(fluyt: Program, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(image_files.oci_archive({"sent:1": images.busybox_image(env=["SENT=1"])}))
    _assert_progress_of_sending(fluyt, "load", "-i", str(archive))
    assert fluyt("load", "-q", "-i", str(archive)).err == ""
    assert "sent" in fluyt.ok("images")


def test_import_draws_a_bar_on_a_terminal_and_prints_a_line_elsewhere(fluyt: Program, tmp_path: Path) -> None:
    archive = tmp_path / "rootfs.tar"
    archive.write_bytes(images.busybox_layer("none").blob)
    _assert_progress_of_sending(fluyt, "import", str(archive), "sent:2")
    assert "sent" in fluyt.ok("images")


def _assert_progress_of_sending(fluyt: Program, *arguments: str) -> None:
    code, sent = _on_terminal(fluyt, *arguments)
    assert code == 0, sent
    assert "sending [" in sent
    _assert_cursor_is_shown(sent)
    plain = fluyt(*arguments)
    assert plain.code == 0, plain
    assert plain.err.startswith("sending ")
    assert len(plain.err.splitlines()) == 1
    assert "\x1b" not in plain.err + plain.out


def test_control_characters_of_a_command_do_not_reach_a_terminal(fluyt: Program) -> None:
    fluyt.ok("run", "--name", "evil", IMAGE, "echo", "\x1b[2J\x07")
    _, sent = _on_terminal(fluyt, "ps", "-a", "--no-trunc")
    assert "evil" in sent
    assert "\x1b" not in sent
    assert "\x07" not in sent
