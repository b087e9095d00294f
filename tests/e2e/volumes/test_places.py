"""Where something may be mounted, however its place is written and whatever is there (more of M01, M03 to M07)."""

import itertools
import os
import random
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt import execs
from fluyt.v1.types import security_pb2
from tests.e2e.containers import steps as containers
from tests.e2e.containers.steps import HOST_USERS, IMAGE, INVALID, WRONG_STATE, refused_run
from tests.e2e.volumes.steps import bind, create, delete, image, names, output, tmpfs, volume
from tests.support import tarball
from tests.support.engine import Engine


def test_m01_twenty_starts_with_mounts_in_any_order_show_each_of_them(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("file\n")
    mounts = [
        tmpfs("/run"),
        tmpfs("/run/lock"),
        bind("/run/lock/deep/er", tmp_path),
        volume("/tmp/s", "m01"),
        tmpfs("/tmp"),
        bind("/tmp/s/conf", tmp_path / "file"),
    ]
    running = containers.started(engine, "sleep", "1000", mounts=mounts)
    chosen = random.Random(1)  # noqa: S311 - orders, not secrets
    seen = "for p in /run/lock /run/lock/deep/er /tmp/s; do touch $p/x && echo $p; done; cat /tmp/s/conf"
    expected = "/run/lock\n/run/lock/deep/er\n/tmp/s\nfile"
    for _ in range(20):
        chosen.shuffle(mounts)
        assert output(engine, IMAGE, seen, mounts=mounts) == expected, mounts
    assert execs.run(engine.channel, running.id, ["sh", "-c", seen]).stdout.decode().strip() == expected
    containers.delete(engine, running.id, force=True)
    delete(engine, "m01")


@pytest.mark.parametrize("parent", ["/a", "/a/", "//a", "/./a/.", "/././././a", "/a///"])
@pytest.mark.parametrize("child", ["/a/b", "/a/b//", "//a//b", "/a/././b"])
def test_m01_depth_is_that_of_the_place_not_of_how_it_is_written(engine: Engine, parent: str, child: str) -> None:
    for mounts in itertools.permutations([tmpfs(parent), volume(child, "spelt")]):
        container = containers.create(engine, "true", mounts=mounts)
        assert sorted(point.target for point in container.mounts) == ["/a", "/a/b"]
        containers.delete(engine, container.id)
        script = "grep -c -E ' /a(/b)? ' /proc/self/mountinfo; touch /a/b/f && ls /a"
        assert output(engine, IMAGE, script, mounts=mounts) == "2\nb"
    delete(engine, "spelt")


@pytest.mark.parametrize("again", ["/a", "/a/", "//a", "/./a", "/a/.", "///a//."])
def test_two_mounts_at_one_place_are_refused_however_it_is_written(engine: Engine, again: str) -> None:
    before = names(engine)
    for mounts in itertools.permutations([tmpfs("/a"), volume(again, "second")]):
        code, reason, facts = refused_run(engine, "true", mounts=mounts)
        assert (code, reason, facts["rule"]) == (INVALID, "FIELD_INVALID", "/a is given twice")
    assert names(engine) == before


@pytest.mark.parametrize("root", ["/", "//", "/.", "/./"])
def test_the_root_is_no_place_for_a_mount_however_it_is_written(engine: Engine, root: str) -> None:
    assert refused_run(engine, "true", mounts=[volume(root)])[2]["rule"] == "must not be the root"


def test_the_engines_own_files_give_way_to_the_callers_however_these_are_written(
    engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("mine\n")
    for place in ("/etc/hosts", "/etc//hosts", "/etc/./resolv.conf", "/etc/hostname/"):
        script = f"cat {place.rstrip('/')}; grep -c ' {os.path.normpath(place)} ' /proc/self/mountinfo"
        assert output(engine, IMAGE, script, mounts=[bind(place, tmp_path / "mine")]) == "mine\n1", place


def test_m05_places_that_are_absent_are_made_for_each_kind_also_in_a_read_only_root(
    engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("file\n")
    mounts = [
        bind("/new/deep/file", tmp_path / "file"),
        bind("/new/dir", tmp_path),
        volume("/new/volume"),
        tmpfs("/new/memory"),
        image("/new/image", IMAGE),
    ]
    script = "cat /new/deep/file /new/dir/file; touch /new/volume/x /new/memory/x; test -d /new/image/bin && echo all"
    script += "; stat -c %u:%g:%a /new /new/deep; touch /new/x 2>&1 | grep -o Read-only; true"
    for is_read_only, last in ((False, ""), (True, "\nRead-only")):
        found = output(engine, IMAGE, script, mounts=mounts, read_only_root=is_read_only)
        assert found == "file\nfile\nall\n0:0:755\n0:0:755" + last


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Path]:
    """A socket of the host."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield path


def test_m05_whatever_is_no_directory_is_a_file_for_a_bind(engine: Engine, tmp_path: Path, listening: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "link"
    link.symlink_to("file")
    (tmp_path / "file").write_text("led to\n")
    mounts = [
        bind("/run/s", listening),
        bind("/run/pipe", pipe),
        bind("/run/link", link),
        bind("/run/null", "/dev/null"),
    ]
    script = "stat -c %F /run/s /run/pipe /run/link /run/null; cat /run/link"
    expected = "socket\nfifo\nregular file\ncharacter special file\nled to"
    assert output(engine, IMAGE, script, mounts=mounts) == expected


def test_m05_a_place_of_the_other_kind_is_refused_wherever_a_link_leads(engine: Engine, tmp_path: Path) -> None:
    made = containers.load(
        engine,
        tarball.directory("dir"),
        tarball.file("file", "image's\n"),
        tarball.symlink("to-dir", "dir"),
        tarball.symlink("to-file", "/file"),
        tarball.symlink("loop", "loop"),
    )
    (tmp_path / "file").write_text("host's\n")
    here = tmp_path / "file"
    for target, source in (("/to-dir", here), ("/dir", here), ("/to-file", tmp_path), ("/file/below", tmp_path)):
        code, reason, facts = refused_run(engine, "true", image=made, mounts=[bind(target, source)])
        assert (code, reason, facts["path"]) == (WRONG_STATE, "PROCESS_START_FAILED", target)
    assert refused_run(engine, "true", image=made, mounts=[tmpfs("/loop/x")])[1] == "PROCESS_START_FAILED"
    assert output(engine, made, "cat /file", mounts=[bind("/to-file", here)]) == "host's"
    assert engine.left_on_host() == []


def test_m04_a_source_that_cannot_be_made_is_told_and_nothing_is_made(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for source in (tmp_path / "file" / "below", tmp_path / "dangling"):
        code, reason, _ = refused_run(engine, "true", mounts=[bind("/x", source)])
        assert (code, reason) == (containers.NOT_FOUND, "BIND_SOURCE_NOT_FOUND"), source
        _, reason, facts = refused_run(engine, "true", mounts=[bind("/x", source, create_source=True)])
        assert (reason, str(tmp_path) in facts["path"]) == ("IO_FAILED", True), source
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file"]


@pytest.mark.parametrize("spaces", [security_pb2.NamespacesSpec(), HOST_USERS], ids=["own", "host"])
def test_m03_flags_of_the_hosts_mount_stay_and_cannot_be_taken_away(
    engine: Engine, tmp_path: Path, spaces: security_pb2.NamespacesSpec
) -> None:
    place = tmp_path / "flagged"
    place.mkdir()
    flags = "nosuid,nodev,noexec,noatime"
    subprocess.run(["mount", "-t", "tmpfs", "-o", flags, "tmpfs", str(place)], check=True)
    try:
        (place / "file").write_text("x")
        for source in (place, place / "file"):
            for read_only in (True, False):
                script = (
                    "grep ' /x ' /proc/self/mountinfo | cut -d' ' -f6; mount -o remount,bind,exec,suid /x 2>/dev/null"
                )
                script += "; grep ' /x ' /proc/self/mountinfo | cut -d' ' -f6"
                mounts = [bind("/x", source, read_only=read_only)]
                for line in output(engine, IMAGE, script, mounts=mounts, namespaces=spaces).split():
                    assert {*flags.split(","), "ro" if read_only else "rw"} <= {*line.split(",")}
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_m06_each_word_of_a_tmpfs_is_honoured(engine: Engine) -> None:
    mounts = [
        tmpfs("/owned", uid=7, gid=8, mode=0o750),
        tmpfs("/programs", exec=True, suid=True, dev=True, size_bytes=4 << 20),
    ]
    script = "stat -c %u:%g:%a /owned; grep ' /programs ' /proc/self/mountinfo | cut -d' ' -f6"
    script += "; cp /bin/busybox /programs/ && /programs/busybox echo ran"
    owned, flags, ran = output(engine, IMAGE, script, mounts=mounts).splitlines()
    assert (owned, ran) == ("7:8:750", "ran")
    assert {"rw", "noexec", "nosuid", "nodev"} & {*flags.split(",")} == {"rw"}
    read_only = [tmpfs("/t")]
    read_only[0].read_only = True
    assert output(engine, IMAGE, "touch /t/x 2>&1 | grep -o Read-only", mounts=read_only) == "Read-only"


def test_m07_a_read_only_root_has_what_programs_need(engine: Engine) -> None:
    create(engine, "m07")
    script = "touch /x /etc/x /tmp/x 2>&1 | grep -c Read-only; echo a >/dev/null && touch /dev/shm/x && echo written"
    script += "; for f in hosts hostname resolv.conf; do test -s /etc/$f && echo $f; done; touch /v/x && ls /v"
    mounts = [volume("/v", "m07"), tmpfs("/run")]
    found = output(engine, IMAGE, script, mounts=mounts, read_only_root=True)
    assert found.split() == ["3", "written", "hosts", "hostname", "resolv.conf", "x"]
    # Nor are the engine's own files written to, unless the caller mounts something in their place.
    script = "for f in hosts hostname resolv.conf; do echo x >> /etc/$f && echo $f; done 2>/dev/null; true"
    assert output(engine, IMAGE, script, read_only_root=True) == ""
    assert output(engine, IMAGE, script, read_only_root=True, mounts=[volume("/etc", "m07")]) == ""
    assert output(engine, IMAGE, script).split() == ["hosts", "hostname", "resolv.conf"]
    delete(engine, "m07")
