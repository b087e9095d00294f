"""The commands for images against a live daemon, as a user of Docker types them."""

import bz2
import io
import json
import lzma
import signal
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.cli.program import IMAGE, Program
from tests.e2e.cli.terminal import Terminal, on_terminal
from tests.support import image_files, images, tarball


@pytest.fixture
def named(fluyt: Program) -> Iterator[list[str]]:
    """`first:1` and `first:2` of one image and `second:1` of another, their labels `n=1` and `n=2`; gone afterwards."""
    first, second = (images.busybox_image(labels={"n": str(number)}) for number in (1, 2))
    fluyt.ok("load", "-q", stdin=image_files.oci_archive({"first:1": first, "second:1": second}))
    fluyt.ok("tag", "first:1", "first:2")
    yield ["first:1", "first:2", "second:1"]
    fluyt("rmi", "-f", "first:1", "first:2", "second:1")


def _names(fluyt: Program, *arguments: str) -> list[str]:
    rows = [line.split() for line in fluyt.ok("images", *arguments).splitlines()[1:]]
    return sorted(f"{row[0]}:{row[1]}" for row in rows)


def test_images_have_dockers_columns_and_filters(fluyt: Program, named: list[str]) -> None:
    assert fluyt.ok("images").splitlines()[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert "DIGEST" in fluyt.ok("images", "--digests").splitlines()[0]
    assert set(named) <= set(_names(fluyt, "-a"))
    assert _names(fluyt, "first") == ["first:1", "first:2"]
    assert _names(fluyt, "--filter", "reference=second") == ["second:1"]
    assert _names(fluyt, "--filter", "label=n=2") == ["second:1"]
    assert {"first:1", "second:1"} & set(_names(fluyt, "--filter", "label!=n=2")) == {"first:1"}
    assert not set(named) & set(_names(fluyt, "--filter", "label!=n"))
    assert not set(named) & set(_names(fluyt, "--filter", "until=1h"))
    assert set(named) <= set(_names(fluyt, "--filter", "until=2099-01-01T00:00:00Z"))
    assert not set(named) & set(_names(fluyt, "--filter", "dangling=true"))
    [whole] = fluyt.ok("images", "-q", "--no-trunc", "second").split()
    assert whole.startswith("sha256:")
    assert fluyt.ok("image", "ls", "-q", "second") == f"{whole.removeprefix('sha256:')[:12]}\n"
    [listed] = fluyt("images", "--format", "json", "second").objects
    assert listed["id"] == whole
    assert fluyt("images", "--filter", "until=soon").code == 1
    for wrong in ("colour=red", "colour!=red", "dangling=perhaps", "reference"):
        refused = fluyt("images", "--filter", wrong)
        assert refused.code == 1
        assert "dangling=" in refused.err


@pytest.mark.usefixtures("named")
def test_history_is_shown_in_short_in_full_and_for_programs(fluyt: Program) -> None:
    lines = fluyt.ok("history", "first:1").splitlines()
    assert lines[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    [whole] = fluyt.ok("images", "-q", "--no-trunc", "first:1").split()
    assert fluyt.ok("image", "history", "-q", "--no-trunc", "first:1").splitlines()[0] == whole
    assert "CREATED AT" in fluyt.ok("history", "--human=false", "first:1")
    assert "CREATED AT" not in fluyt.ok("history", "--human", "first:1")
    assert len(fluyt("history", "--format", "json", "first:1").objects) == len(lines) - 1
    assert fluyt("history", "absent:1").code == 1


def test_what_save_writes_comes_back_by_load(fluyt: Program, named: list[str], tmp_path: Path) -> None:
    path = tmp_path / "images.tar"
    path.write_bytes(b"old")
    saved = fluyt("save", "-o", str(path), *named)
    assert (saved.code, saved.out) == (0, ""), saved
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(path) as archive:
        assert {"index.json", "manifest.json", "oci-layout"} <= set(archive.getnames())
    piped = subprocess.run([fluyt.program, "save", *named], env=fluyt.environment, capture_output=True, check=True)
    assert piped.stdout == path.read_bytes()
    assert piped.stderr == b""
    removed = fluyt.ok("rmi", *named)
    assert "Untagged: " in removed
    assert "Deleted: sha256:" in removed
    loaded = fluyt("load", "-i", str(path))
    assert [line.split("/")[-1] for line in loaded.out.splitlines()] == named
    assert all(line.startswith("Loaded image: ") for line in loaded.out.splitlines())
    assert set(fluyt.ok("load", "-q", stdin=path.read_bytes()).split()) == set(
        fluyt.ok("images", "-q", "--no-trunc", "first:1").split()
        + fluyt.ok("images", "-q", "--no-trunc", "second:1").split()
    )


@pytest.mark.parametrize("form", ["layout", "docker-archive"])
def test_load_takes_a_folder_and_what_is_none_is_not_sent(fluyt: Program, tmp_path: Path, form: str) -> None:
    image = images.image([images.layer(tarball.file("f", form))])
    folder = tmp_path / "folder"
    if form == "layout":
        image_files.write_layout(folder, {"folder:1": image})
    else:
        folder.mkdir()
        with tarfile.open(fileobj=io.BytesIO(image_files.docker_archive_old({"folder:1": image}))) as archive:
            archive.extractall(folder, filter="data")
    # What else stands there is sent and does not count.
    (folder / "notes").symlink_to("/etc/passwd")
    assert fluyt.ok("load", "-q", "-i", str(folder)) == f"{image.config_digest}\n"
    assert _names(fluyt, "folder") == ["folder:1"]
    fluyt.ok("rmi", "folder:1")
    refused = fluyt("load", "-i", str(tmp_path))
    assert (refused.code, "without index.json or manifest.json" in refused.err) == (1, True)


@pytest.mark.parametrize("compress", [lzma.compress, bz2.compress], ids=["xz", "bzip2"])
def test_load_and_import_take_dockers_compressions(
    fluyt: Program, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    image = images.image([images.layer(tarball.file("f", compress(b"")))])
    path = tmp_path / "image.tar.any"
    path.write_bytes(compress(image_files.docker_archive({"packed:1": image})))
    assert fluyt.ok("load", "-i", str(path)).endswith("packed:1\n")
    rootfs = compress(tarball.write_tar([tarball.file("g", compress(b""))]))
    imported = fluyt.ok("import", "-", stdin=rootfs).strip()
    fluyt.ok("rmi", "packed:1", imported)


@pytest.mark.usefixtures("named")
def test_a_save_that_fails_leaves_the_older_file_and_no_other(fluyt: Program, tmp_path: Path) -> None:
    path = tmp_path / "images.tar"
    path.write_bytes(b"old")
    absent = fluyt("save", "-o", str(path), "first:1", "absent:1")
    assert absent.code == 1
    assert "absent:1" in absent.err
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    assert fluyt("save", "-o", str(tmp_path / "absent" / "a.tar"), "first:1").code == 1
    assert fluyt("save", "-o", str(tmp_path), "first:1").code == 1
    full = fluyt("save", "-o", "/dev/full", "first:1")
    assert full.code == 1
    assert "No space left" in full.err


@pytest.mark.usefixtures("named")
def test_an_archive_is_neither_written_to_nor_read_from_a_terminal(fluyt: Program) -> None:
    refused = on_terminal(fluyt, "save", "first:1")
    assert refused.code == 1
    assert "--output" in refused.text
    for command in (("load",), ("import", "-")):
        with Terminal(fluyt, *command, reads=True) as terminal:
            shown = terminal.ended()
        assert shown.code == 1
        assert "it is a terminal" in shown.text


def test_save_shows_what_has_come_on_a_terminal(fluyt: Program, named: list[str], tmp_path: Path) -> None:
    assert "saving " in on_terminal(fluyt, "save", "-o", str(tmp_path / "a.tar"), *named).text
    assert on_terminal(fluyt, "save", "-q", "-o", str(tmp_path / "a.tar"), *named).text == ""


def test_import_takes_dockers_grammar_and_says_what_to_do_with_an_address(fluyt: Program, tmp_path: Path) -> None:
    root = tmp_path / "root.tar"
    root.write_bytes(tarball.write_tar([tarball.file("only", "this")]))
    changes = ["-c", 'CMD ["/only"]', "-c", "ENV A=b", "-m", "by hand", "--platform", "linux/arm64"]
    fluyt.ok("image", "import", *changes, str(root), "imported:1")
    [shown] = fluyt("image", "inspect", "--format", "json", "imported:1").objects
    assert shown["config"]["args"] == ["/only"]
    assert "A=b" in shown["config"]["env"]
    assert shown["image"]["platform"]["architecture"] == "arm64"
    assert shown["history"][-1]["comment"] == "by hand"
    dangling = fluyt.ok("import", "-", stdin=tarball.write_tar([tarball.file("other", "that")])).strip()
    assert dangling in fluyt.ok("images", "-q", "--no-trunc", "--filter", "dangling=true").splitlines()
    assert dangling not in fluyt.ok("images", "-q", "--no-trunc", "--filter", "dangling=false").splitlines()
    refused = fluyt("import", "https://example.com/root.tar", "imported:2")
    assert refused.code == 1
    assert "curl -L" in refused.err
    assert fluyt("import", str(tmp_path / "absent"), "imported:2").code == 1
    fluyt.ok("rmi", "imported:1", dangling)


def test_rmi_goes_on_after_a_failure_and_tells_it(fluyt: Program, named: list[str]) -> None:
    ended = fluyt("rmi", "absent:1", *named)
    assert ended.code == 1
    assert "absent:1" in ended.err
    assert ended.out.count("Untagged: ") == 3
    assert fluyt("rmi", "-f", "absent:1").code == 0
    assert fluyt("image", "rm", "absent:1").code == 1


def test_tag_moves_a_reference(fluyt: Program, named: list[str]) -> None:
    fluyt.ok("image", "tag", "second:1", named[0])
    assert fluyt.ok("images", "-q", "first:1") == fluyt.ok("images", "-q", "second:1")
    assert fluyt("tag", "absent:1", "new:1").code == 1


def test_image_inspect_tells_each_image_and_every_failure(fluyt: Program, named: list[str]) -> None:
    ended = fluyt("image", "inspect", "--format", "json", named[0], "absent:1", named[2])
    assert ended.code == 1
    assert len(ended.objects) == 2
    assert json.loads(fluyt.ok("image", "inspect", named[0]))["image"]["labels"] == {"n": "1"}


@pytest.mark.usefixtures("named")
def test_image_prune_asks_on_a_terminal_and_takes_what_nothing_uses(fluyt: Program) -> None:
    dangling = fluyt.ok("import", "-", stdin=tarball.write_tar([tarball.file("x", b"y" * 5000)])).strip()
    refused = fluyt("image", "prune")
    assert refused.code == 1
    assert "--force" in refused.err
    with Terminal(fluyt, "image", "prune", reads=True) as terminal:
        terminal.until("[y/N]")
        terminal.type("n\n")
        assert terminal.ended().code == 1
    assert dangling in fluyt.ok("image", "prune", "--dry-run")
    assert fluyt.ok("images", "-q", "--filter", "dangling=true") != ""
    assert "Deleted" not in fluyt.ok("image", "prune", "-f", "--filter", "until=1h")
    with Terminal(fluyt, "image", "prune", reads=True) as terminal:
        terminal.until("[y/N]")
        terminal.type("y\n")
        shown = terminal.ended()
    assert shown.code == 0, shown
    assert f"Deleted: {dangling}" in shown.text
    assert "Total reclaimed space: " in shown.text
    assert fluyt.ok("images", "-q", "--filter", "dangling=true") == ""
    assert fluyt("image", "prune", "-f", "--filter", "colour=red").code == 1
    fluyt.ok("image", "prune", "-a", "-f", "--filter", "label!=n=1", "--filter", "reference=second")
    assert _names(fluyt, "second") == []
    assert _names(fluyt, "first") == ["first:1", "first:2"]


@pytest.mark.usefixtures("named")
def test_a_pinned_image_stays_at_a_prune(fluyt: Program) -> None:
    assert fluyt.ok("image", "pin", "second:1") == "second:1\n"
    prune = ("image", "prune", "-a", "-f", "--filter", "label=n=2")
    assert "Deleted" not in fluyt.ok(*prune)
    assert fluyt.ok("image", "unpin", "second:1") == "second:1\n"
    assert "Deleted" in fluyt.ok(*prune)
    assert fluyt("image", "pin", "absent:1").code == 1


def test_system_df_tells_what_stands_on_disk(fluyt: Program, named: list[str]) -> None:
    rows = fluyt.ok("system", "df").splitlines()
    assert rows[0].split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert [row[:14].strip() for row in rows[1:5]] == ["Images", "Containers", "Local Volumes", "Build Cache"]
    count = len(fluyt("images", "--format", "json").objects)
    assert rows[1].split()[1] == str(count)
    [usage] = fluyt("system", "df", "--format", "json").objects
    assert usage["layers"]["size_bytes"] > 0
    verbose = fluyt.ok("system", "df", "-v")
    assert "UNIQUE SIZE" in verbose
    assert "second" in verbose
    [everything] = fluyt("system", "df", "-v", "--format", "json").objects
    assert len(everything["images"]) == count
    assert named


@pytest.mark.usefixtures("named")
def test_system_prune_asks_and_says_what_it_took(fluyt: Program) -> None:
    dangling = fluyt.ok("import", "-", stdin=tarball.write_tar([tarball.file("z", "z")])).strip()
    with Terminal(fluyt, "system", "prune", reads=True) as terminal:
        terminal.until("[y/N]")
        terminal.type("\n")
        shown = terminal.ended()
    assert shown.code == 1
    assert "all dangling images" in shown.text
    ended = fluyt("system", "prune", "-f", "--volumes")
    assert ended.code == 0, ended
    assert f"Deleted: {dangling}" in ended.out
    assert ended.out.splitlines()[-1].startswith("Total reclaimed space: ")
    assert ended.err == ""
    assert IMAGE in _names(fluyt)
    assert fluyt("system", "prune", "-f", "--volumes", "--filter", "label=x").code == 1
    assert fluyt("system", "prune").code == 1


def test_the_engine_and_events_are_under_system_too(fluyt: Program) -> None:
    assert fluyt.ok("system", "info", "--format", "json")
    with fluyt.spawn("system", "events", "--from-sequence", "1") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"1 ")
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 0
