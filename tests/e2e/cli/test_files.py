"""commit, diff and export on the command line."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli.program import IMAGE, Program

REFERENCE = "made/cli:1"


@pytest.fixture
def changed(fluyt: Program) -> Iterator[str]:
    """A container that has changed something; what a test commits to REFERENCE goes with it."""
    fluyt.ok("run", "--name", "changed", IMAGE, "sh", "-c", "echo new > /new; rm /bin/vi; echo x >> /etc/passwd")
    yield "changed"
    fluyt("rmi", "-f", REFERENCE)


def test_diff_tells_what_was_added_changed_and_deleted(fluyt: Program, changed: str) -> None:
    expected = ["C /bin", "D /bin/vi", "C /etc", "C /etc/passwd", "A /new"]
    assert fluyt.ok("diff", changed).splitlines() == expected


def test_commit_prints_the_id_and_takes_dockers_flags(fluyt: Program, changed: str) -> None:
    flags = ["-a", "Ann <ann@example.com>", "-m", "a remark", "-c", 'CMD ["cat", "/new"]', "--change", "ENV MODE=live"]
    image_id = fluyt.ok("commit", *flags, changed, REFERENCE).strip()
    assert image_id.startswith("sha256:")
    assert fluyt.ok("run", "--rm", REFERENCE) == "new\n"
    shown = fluyt.ok("inspect", "--type", "image", REFERENCE)
    assert all(text in shown for text in (image_id, "a remark", "Ann <ann@example.com>", "MODE=live"))


@pytest.mark.parametrize("flag", ["-p", "--pause", "--pause=true", "--pause=false", "-p=false"])
def test_a_running_container_is_committed_paused_or_not(fluyt: Program, changed: str, flag: str) -> None:
    fluyt.ok("run", "-d", "--name", "live", IMAGE, "sleep", "1000")
    fluyt.ok("commit", flag, "live", REFERENCE)
    assert "live" in fluyt.ok("ps")


def test_export_goes_to_a_file_or_to_standard_output(fluyt: Program, changed: str, tmp_path: Path) -> None:
    target = tmp_path / "changed.tar"
    assert fluyt.ok("export", "-o", str(target), changed) == ""
    with tarfile.open(target) as archive:
        assert {"new", "bin/busybox"} <= set(archive.getnames())
        assert archive.getmember("new").size == len("new\n")
    piped = fluyt.spawn("export", changed)
    data, _ = piped.communicate(timeout=30)
    assert piped.returncode == 0
    assert data == target.read_bytes()


def test_a_failed_export_leaves_no_file(fluyt: Program, tmp_path: Path) -> None:
    target = tmp_path / "never.tar"
    ended = fluyt("export", "-o", str(target), "nobody")
    assert ended.code == 1
    assert "there is no container nobody" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_is_imported_runs(fluyt: Program, changed: str, tmp_path: Path) -> None:
    target = tmp_path / "flat.tar"
    fluyt.ok("export", "-o", str(target), changed)
    fluyt.ok("import", str(target), REFERENCE)
    assert fluyt.ok("run", "--rm", REFERENCE, "cat", "/new") == "new\n"


@pytest.mark.parametrize("command", ["commit", "diff", "export"])
def test_each_command_shows_examples(fluyt: Program, command: str) -> None:
    shown = fluyt.ok(command, "--help")
    assert "Example" in shown
    assert f"fluyt {command}" in shown


def test_a_change_that_is_none_is_told_by_name(fluyt: Program, changed: str) -> None:
    ended = fluyt("commit", "-c", "NONSENSE x", changed, REFERENCE)
    assert ended.code == 1
    assert "CMD, ENTRYPOINT, ENV" in ended.err
