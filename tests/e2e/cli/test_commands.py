"""Every other command of the command line against a live daemon."""

import signal
from pathlib import Path

import pytest

from tests.e2e.cli.program import IMAGE, PATIENCE_SECONDS, Program
from tests.support import image_files, images, tarball


def test_ps_lists_running_ones_and_with_a_all(fluyt: Program) -> None:
    running = fluyt.ok("run", "-d", "--name", "up", "--label", "role=web", IMAGE, "sleep", "100").strip()
    fluyt("run", "--name", "down", IMAGE, "sh", "-c", "exit 3")
    assert fluyt.ok("ps", "-q") == f"{running[:12]}\n"
    assert fluyt.ok("ps", "-q", "--no-trunc") == f"{running}\n"
    table = fluyt.ok("ps", "-a").splitlines()
    assert table[0].split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert len(table) == 3
    assert "Exited (3)" in fluyt.ok("ps", "-a", "--filter", "name=down")
    assert fluyt.ok("ps", "-q", "--filter", "label=role=web") == f"{running[:12]}\n"
    assert [each["name"] for each in fluyt("ps", "-a", "--filter", "exited=3", "--format", "json").objects] == ["down"]
    assert fluyt("ps", "--filter", "nonsense=1").code == 1


def test_stop_kill_wait_and_rm(fluyt: Program) -> None:
    for name in ("one", "two"):
        fluyt.ok("run", "-d", "--name", name, IMAGE, "sleep", "100")
    assert fluyt("rm", "one").code == 1
    fluyt.ok("stop", "-t", "0", "one")
    assert fluyt.ok("wait", "one") == "137\n"
    fluyt.ok("kill", "-s", "KILL", "two")
    assert fluyt.ok("wait", "two") == "137\n"
    fluyt.ok("rm", "one")
    fluyt.ok("rm", "-f", "two")
    assert fluyt.ok("ps", "-aq") == ""


def test_logs_are_cut_followed_and_stamped(fluyt: Program) -> None:
    fluyt.ok("run", "--name", "talk", IMAGE, "sh", "-c", "for i in 1 2 3; do echo $i; done")
    assert fluyt.ok("logs", "talk") == "1\n2\n3\n"
    assert fluyt.ok("logs", "-f", "--tail", "2", "talk") == "2\n3\n"
    assert fluyt.ok("logs", "--since", "1h", "talk") == "1\n2\n3\n"
    assert fluyt.ok("logs", "--until", "1h", "talk") == ""
    time, _, text = fluyt.ok("logs", "-t", "--tail", "1", "talk").partition(" ")
    assert time.endswith("Z")
    assert text == "3\n"
    assert len(fluyt("logs", "--format", "json", "talk").objects) >= 1


def test_images_come_in_by_load_from_file_and_input_and_by_import(fluyt: Program, tmp_path: Path) -> None:
    archive = image_files.oci_archive({"loaded:1": images.busybox_image(env=["MADE=here"])})
    (tmp_path / "image.tar").write_bytes(archive)
    by_file = fluyt("load", "-i", str(tmp_path / "image.tar"))
    assert by_file.code == 0, by_file
    assert "loaded:1" in by_file.out
    assert "\x1b" not in by_file.err
    fluyt.ok("rmi", "loaded:1")
    assert "loaded:1" in fluyt.ok("load", stdin=archive)
    (tmp_path / "root.tar").write_bytes(tarball.write_tar([tarball.file("only", "this")]))
    assert fluyt.ok("import", str(tmp_path / "root.tar"), "imported:1").startswith("sha256:")
    fluyt.ok("tag", "imported:1", "again:2")
    listed = fluyt.ok("images")
    assert listed.splitlines()[0].startswith("REPOSITORY")
    for name in ("loaded", "imported", "again"):
        assert name in listed
    assert all(len(line) == 12 for line in fluyt.ok("images", "-q").split())
    assert len(fluyt("images", "--format", "json").objects) >= 3
    [shown] = fluyt("inspect", "--type", "image", "--format", "json", "again:2").objects
    assert shown["image"]["id"].startswith("sha256:")
    fluyt.ok("rmi", "loaded:1", "imported:1", "again:2")
    assert "imported" not in fluyt.ok("images")
    assert fluyt("rmi", "imported:1").code == 1


def test_a_damaged_archive_is_refused_with_1(fluyt: Program) -> None:
    ended = fluyt("load", "-q", stdin=b"this is no archive")
    assert ended.code == 1
    assert ended.err.startswith("fluyt: ")


@pytest.mark.parametrize("command", ["info", "version", "doctor"])
def test_the_engine_tells_of_itself_in_text_and_json(fluyt: Program, command: str) -> None:
    text, as_json = fluyt(command), fluyt(command, "--format", "json")
    assert text.code == as_json.code
    assert text.out
    assert as_json.objects
    assert command == "doctor" or text.code == 0


def test_events_are_shown_as_they_come(fluyt: Program) -> None:
    with fluyt.spawn("events", "--format", "json", "--from-sequence", "1") as process:
        fluyt.ok("run", "--rm", "--name", "seen-by-events", IMAGE, "true")
        assert process.stdout is not None
        lines = iter(process.stdout.readline, b"")
        assert any(b"seen-by-events" in line for line in lines)
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)


def test_every_command_has_help(fluyt: Program) -> None:
    commands = "run ps logs stop kill wait rm inspect pull push save load import images tag rmi history image system"
    for command in [*commands.split(), "events", "info", "version", "doctor"]:
        assert f"Usage: fluyt {command}" in fluyt.ok(command, "--help")
