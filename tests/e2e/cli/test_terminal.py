"""What a terminal is sent: bars while an image comes in, no control characters of others."""

from pathlib import Path

import pytest

from tests.e2e.cli.program import IMAGE, Program
from tests.e2e.cli.terminal import on_terminal
from tests.support import image_files, images, tarball
from tests.support.registry import RealRegistry


def _assert_cursor_is_shown(sent: str) -> None:
    assert sent.rfind("\x1b[?25l") <= sent.rfind("\x1b[?25h")


@pytest.mark.needs("docker-registry")
def test_pull_draws_bars_on_a_terminal_and_prints_lines_elsewhere(fluyt: Program, tmp_path: Path) -> None:
    with RealRegistry(tmp_path / "registry") as registry:
        image_files.push(registry.address, "app", "1", images.busybox_image(images.layer(tarball.file("p", "1"))))
        reference = f"{registry.address}/app:1"
        shown = on_terminal(fluyt, "pull", reference)
        assert shown.code == 0, shown
        assert "\x1b[" in shown.text
        assert "total: " in shown.text
        _assert_cursor_is_shown(shown.text)
        fluyt.ok("rmi", reference)
        plain = fluyt("pull", reference)
        assert plain.code == 0, plain
        assert plain.err.splitlines()[-1].startswith("total: 2 layers, 1 already there, ")
        assert "\x1b" not in plain.err + plain.out
        assert ": already here\n" in plain.err
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
    shown = on_terminal(fluyt, *arguments)
    assert shown.code == 0, shown
    assert "sending [" in shown.text
    _assert_cursor_is_shown(shown.text)
    plain = fluyt(*arguments)
    assert plain.code == 0, plain
    assert plain.err.startswith("sending ")
    assert len(plain.err.splitlines()) == 1
    assert "\x1b" not in plain.err + plain.out


def test_control_characters_of_a_command_do_not_reach_a_terminal(fluyt: Program) -> None:
    fluyt.ok("run", "--name", "evil", IMAGE, "echo", "\x1b[2J\x07")
    sent = on_terminal(fluyt, "ps", "-a", "--no-trunc").text
    assert "evil" in sent
    assert "\x1b" not in sent
    assert "\x07" not in sent
