"""What containers see of volumes, binds, tmpfs and images (cases M01 to M08, Z05, Z06)."""

import errno
import os
import struct
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from fluyt.v1 import events_pb2, images_pb2
from fluytd.containers.checks import MAX_TMPFS_INODES
from tests.e2e.containers import steps as containers
from tests.e2e.containers.steps import IMAGE, INVALID, NOT_FOUND, WRONG_STATE, refused, refused_run
from tests.e2e.volumes.steps import bind, create, delete, get, image, names, output, remove, tmpfs, volume
from tests.support import tarball
from tests.support.engine import Engine

#: The first: CAP_NET_BIND_SERVICE, as a file has it. Source: linux/capability.h.
ATTRIBUTES = {"security.capability": struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0), "user.note": b"kept"}


def _kept_by(directory: Path) -> dict[str, bytes]:
    """The attributes that this file system has for files: a tmpfs has none of users before Linux 6.6."""
    probe = directory / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.probe", b"")
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return {name: value for name, value in ATTRIBUTES.items() if not name.startswith("user.")}
    finally:
        probe.unlink()
    return ATTRIBUTES


@pytest.fixture(scope="module")
def filled(engine: Engine) -> str:
    """An image with content at /d, owned by 1000:1001 with mode 0750, a hard link and an attribute in it."""
    return containers.load(
        engine,
        tarball.directory("d", 0o750, uid=1000, gid=1001),
        tarball.file("d/file", "content\n", mode=0o640, uid=1000, gid=1001),
        tarball.hardlink("d/same", "d/file"),
        tarball.symlink("d/link", "/etc/passwd"),
        replace(tarball.file("d/tool", "x", mode=0o4755), xattrs=ATTRIBUTES),
        tarball.directory("d/sub", 0o1777),
    )


def test_m01_depth_decides_whatever_the_order(engine: Engine) -> None:
    script = 'for p in /run/lock /tmp/s; do grep -q " $p " /proc/self/mountinfo && touch $p/x && echo seen; done'
    mounts = [tmpfs("/run"), tmpfs("/run/lock"), tmpfs("/tmp"), volume("/tmp/s", "depth")]
    for order in (mounts, mounts[::-1]):
        assert output(engine, IMAGE, script, mounts=order) == "seen\nseen"
    delete(engine, "depth")


def test_m02_a_fresh_volume_takes_on_the_images_content(engine: Engine, filled: str) -> None:
    script = (
        "stat -c '%n %u:%g %a %h' /d /d/file /d/same /d/tool /d/sub; readlink /d/link; cat /d/same;"
        " test $(stat -c %i /d/file) = $(stat -c %i /d/same) && echo one"
    )
    expected = (
        "/d 1000:1001 750 3\n/d/file 1000:1001 640 2\n/d/same 1000:1001 640 2\n/d/tool 0:0 4755 1\n"
        "/d/sub 0:0 1777 2\n/etc/passwd\ncontent\none"
    )
    assert output(engine, filled, script, mounts=[volume("/d", "m02")]) == expected
    tool = Path(get(engine, "m02").mountpoint, "tool")
    assert {name: os.getxattr(tool, name) for name in os.listxattr(tool)} == _kept_by(tool.parent.parent)
    # What a container wrote stays, and another image's content does not come over it.
    output(engine, filled, "rm -r /d/sub /d/same; chmod 700 /d; echo mine > /d/file", mounts=[volume("/d", "m02")])
    script = "cat /d/file; ls /d; stat -c %a /d"
    assert output(engine, filled, script, mounts=[volume("/d", "m02")]) == "mine\nfile\nlink\ntool\n700"
    delete(engine, "m02")


def test_m02_nocopy_sub_paths_and_binds_are_never_copied_into(engine: Engine, filled: str, tmp_path: Path) -> None:
    script = "ls -A /d; stat -c %u:%a /d"
    assert output(engine, filled, script, mounts=[volume("/d", no_copy=True)]) == "0:755"
    assert output(engine, filled, "ls -A /d", mounts=[bind("/d", tmp_path)]) == ""
    create(engine, "parts")
    output(engine, IMAGE, "mkdir -p /v/a/b; echo x > /v/a/b/f", mounts=[volume("/v", "parts")])
    assert output(engine, filled, "ls -A /d", mounts=[volume("/d", "parts", sub_path="a/b")]) == "f"
    delete(engine, "parts")


def test_a_volume_of_the_image_is_made_filled_and_goes_with_the_container(engine: Engine) -> None:
    made = containers.load(
        engine,
        tarball.directory("data"),
        tarball.file("data/seed", "seed\n"),
        extra_config={"Volumes": {"/data": {}, "/data/../empty/": {}}},
    )
    before = set(names(engine))
    container = containers.create(engine, "true", image=made)
    found = sorted((point.target, point.type) for point in container.mounts if point.type == "volume")
    assert found == [("/data", "volume"), ("/empty", "volume")]
    assert set(container.volumes) == set(names(engine)) - before
    assert all(get(engine, name).is_anonymous for name in container.volumes)
    remove(engine, container.id)
    assert set(names(engine)) - before == set(container.volumes), "a plain deletion keeps them"
    for name in container.volumes:
        delete(engine, name)
    assert output(engine, made, "cat /data/seed; echo x > /empty/y") == "seed"
    assert set(names(engine)) == before, "one that removes itself takes them along"
    # A mount of the caller's own takes the place of the image's volume.
    assert output(engine, made, "ls -A /data", mounts=[tmpfs("/data")]) == ""


def test_m03_flags_of_the_hosts_mount_are_kept(engine: Engine, tmp_path: Path) -> None:
    script = "grep ' /x ' /proc/self/mountinfo | cut -d' ' -f6"
    plain = output(engine, IMAGE, script, mounts=[bind("/x", tmp_path, read_only=True)])
    assert plain.split(",")[0] == "ro"
    shm = Path("/dev/shm") / f"fluyt-m03-{os.getpid()}"
    shm.mkdir()
    host = next(
        line.split(" ")[5] for line in Path("/proc/self/mountinfo").read_text().splitlines() if " /dev/shm " in line
    )
    try:
        options = output(engine, IMAGE, script, mounts=[bind("/x", shm, read_only=True)]).split(",")
    finally:
        shm.rmdir()
    assert "ro" in options
    assert set(host.split(",")) - {"rw", "relatime"} <= set(options)


def test_m04_an_absent_source_is_made_or_refused_as_was_asked(engine: Engine, tmp_path: Path) -> None:
    absent = tmp_path / "a" / "b"
    code, reason, metadata = refused_run(engine, "true", mounts=[bind("/x", absent)])
    assert (code, reason, metadata["path"]) == (NOT_FOUND, "BIND_SOURCE_NOT_FOUND", str(absent))
    assert not absent.parent.exists()
    output(engine, IMAGE, "touch /x/made", mounts=[bind("/x", absent, create_source=True)])
    assert (absent / "made").exists()
    assert [oct(path.stat().st_mode & 0o7777) for path in (absent, absent.parent)] == ["0o755", "0o755"]
    assert absent.stat().st_uid == 0


def test_m05_a_file_needs_a_file_and_a_directory_a_directory(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("host's\n")
    assert output(engine, IMAGE, "cat /made/deep", mounts=[bind("/made/deep", file)]) == "host's"
    for target, source in (("/etc", file), ("/etc/passwd", tmp_path)):
        code, reason, metadata = refused_run(engine, "true", mounts=[bind(target, source)])
        assert (code, reason, metadata["path"]) == (WRONG_STATE, "PROCESS_START_FAILED", target)
    assert engine.left_on_host() == []


def test_m06_a_tmpfs_has_dockers_defaults_and_what_was_asked(engine: Engine) -> None:
    script = "stat -c %a /t /u; grep ' /t ' /proc/self/mountinfo | cut -d' ' -f6; dd if=/dev/zero of=/u/f bs=1M count=2"
    script += " 2>/dev/null || echo full"
    mounts = [tmpfs("/t"), tmpfs("/u", size_bytes=1 << 20, mode=0o1770)]
    lines = output(engine, IMAGE, script, mounts=mounts).splitlines()
    assert lines[:2] == ["1777", "1770"]
    assert {"rw", "noexec", "nosuid", "nodev"} <= set(lines[2].split(","))
    assert lines[3] == "full"


def test_a_tmpfs_has_as_many_files_as_was_asked(engine: Engine) -> None:
    # Its root is one of them.
    script = "touch /t/a && touch /t/b && touch /t/c 2>/dev/null || ls /t"
    assert output(engine, IMAGE, script, mounts=[tmpfs("/t", max_inodes=3)]) == "a\nb"
    for count in (-1, MAX_TMPFS_INODES + 1):
        code, reason, metadata = refused_run(engine, "true", mounts=[tmpfs("/t", max_inodes=count)])
        assert (code, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", "spec.mounts[0].tmpfs.max_inodes")
    assert output(engine, IMAGE, "touch /t/a; ls /t", mounts=[tmpfs("/t", max_inodes=MAX_TMPFS_INODES)]) == "a"


def test_m07_volumes_are_writable_below_a_read_only_root(engine: Engine) -> None:
    script = "touch /x 2>&1 | grep -o Read-only; echo a > /dev/null; touch /v/f /t/f; test -s /etc/hosts && echo whole"
    mounts = [volume("/v"), tmpfs("/t")]
    assert output(engine, IMAGE, script, mounts=mounts, read_only_root=True) == "Read-only\nwhole"


def test_m08_only_anonymous_volumes_go_with_a_container(engine: Engine) -> None:
    before = set(names(engine))
    mounts = [volume("/anon"), volume("/n", "named")]
    output(engine, IMAGE, "touch /anon/x /n/x", mounts=mounts)
    assert set(names(engine)) - before == {"named"}
    container = containers.create(engine, "true", mounts=mounts)
    anonymous = next(name for name in container.volumes if name != "named")
    code, reason, metadata = refused(lambda: delete(engine, "named"))
    assert (code, reason) == (WRONG_STATE, "VOLUME_IN_USE")
    assert metadata == {"volume": "named", "containers": container.id}
    remove(engine, container.id, volumes=True)
    assert set(names(engine)) - before == {"named"}
    container = containers.create(engine, "true", mounts=[*mounts[1:], volume("/again", anonymous)])
    remove(engine, container.id, volumes=True)
    assert anonymous in names(engine), "asked for by its name, it is as good as named"
    for name in ("named", anonymous):
        delete(engine, name)


def test_m08_a_volume_of_an_ended_container_is_in_use_and_a_shared_anonymous_one_stays(engine: Engine) -> None:
    first = containers.create(engine, "true", mounts=[volume("/shared")])
    (name,) = first.volumes
    containers.start(engine, first.id)
    containers.wait(engine, first.id)
    second = containers.create(engine, "true", volumes_from=[first.id + ":ro"])
    assert list(second.volumes) == [name]
    assert [point.read_only for point in second.mounts if point.type == "volume"] == [True]
    assert refused(lambda: delete(engine, name))[1] == "VOLUME_IN_USE"
    remove(engine, first.id, volumes=True)
    assert name in names(engine), "the second container has it"
    remove(engine, second.id, volumes=True)
    assert name not in names(engine)


def test_volumes_from_takes_volumes_and_binds_but_not_over_own_mounts(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("bound\n")
    source = containers.create(
        engine, "true", mounts=[volume("/v", "from"), volume("/w", "other"), bind("/b", tmp_path)]
    )
    script = "cat /b/f; echo x > /v/x && echo written; ls -A /w"
    found = output(engine, IMAGE, script, volumes_from=[source.name], mounts=[tmpfs("/w")])
    assert found == "bound\nwritten"
    script = "touch /v/y 2>&1 | grep -o Read-only; touch /b/y 2>&1 | grep -o Read-only"
    assert output(engine, IMAGE, script, volumes_from=[source.name + ":ro"]) == "Read-only\nRead-only"
    code, reason, _ = refused_run(engine, "true", volumes_from=["nobody"])
    assert (code, reason) == (NOT_FOUND, "CONTAINER_NOT_FOUND")
    assert refused_run(engine, "true", volumes_from=["x:maybe"])[:2] == (INVALID, "FIELD_INVALID")
    remove(engine, source.id)
    for name in ("from", "other"):
        delete(engine, name)


def test_two_mounts_at_one_place_are_refused(engine: Engine) -> None:
    for mounts in ([tmpfs("/a"), volume("/a/")], [volume("/a"), volume("//a/.", "second")]):
        code, reason, facts = refused_run(engine, "true", mounts=mounts)
        assert (code, reason, facts["rule"]) == (INVALID, "FIELD_INVALID", "/a is given twice")
    assert "second" not in names(engine)


@pytest.mark.parametrize("target", ["/", "relative", "/a/../b", "/a\0b", ""])
def test_a_target_that_is_no_place_is_refused(engine: Engine, target: str) -> None:
    code, reason, metadata = refused_run(engine, "true", mounts=[tmpfs("/t"), volume("/v"), volume(target)])
    assert (code, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", "spec.mounts[2].target")


def test_what_is_wrong_with_a_mount_is_told_by_its_place_in_the_list(engine: Engine, tmp_path: Path) -> None:
    here, gone = bind("/b", tmp_path), bind("/g", tmp_path / "gone")
    # Kinds are mixed, so that no order of the engine's own gives the same number.
    for mounts, field in (
        ([volume("/v"), here, tmpfs("/t", mode=0o10000)], "spec.mounts[2].tmpfs.mode"),
        ([tmpfs("/t"), here, volume("/v", sub_path="../up")], "spec.mounts[2].volume.sub_path"),
        ([volume("/v"), tmpfs("/t"), gone], "spec.mounts[2].bind.source"),
        ([tmpfs("/t"), here, volume("/t")], "spec.mounts[2].target"),
    ):
        assert refused_run(engine, "true", mounts=mounts)[2]["field"] == field


def test_mounts_are_shown_in_the_order_in_which_they_were_asked(engine: Engine, tmp_path: Path) -> None:
    mounts = [volume("/1"), tmpfs("/2"), bind("/3", tmp_path), tmpfs("/4"), volume("/5")]
    made = containers.create(engine, "true", mounts=mounts)
    assert [one.target for one in made.spec.mounts] == ["/1", "/2", "/3", "/4", "/5"]
    engine.kill()
    engine.start()
    assert [one.target for one in containers.get(engine, made.id).spec.mounts] == ["/1", "/2", "/3", "/4", "/5"]
    remove(engine, made.id, volumes=True)


def test_what_confines_a_container_cannot_be_covered(engine: Engine, tmp_path: Path) -> None:
    made = containers.load(engine, tarball.symlink("link", "/proc"), tarball.symlink("deep", "/proc/sys"))
    for target in ("/proc", "/proc/sys", "/proc/self", "/link", "/link/sys", "/deep/kernel"):
        for mount in (tmpfs(target), bind(target, tmp_path), volume(target)):
            _, reason, metadata = refused_run(engine, "true", image=made, mounts=[mount])
            assert reason == "PROCESS_START_FAILED", (target, metadata)
    (tmp_path / "uptime").write_text("1 1\n")
    mounts = [bind("/proc/uptime", tmp_path / "uptime")]
    assert output(engine, made, "cat /proc/uptime", mounts=mounts) == "1 1"
    (tmp_path / "hosts").write_text("mine\n")
    assert output(engine, made, "cat /etc/hosts", mounts=[bind("/etc/hosts", tmp_path / "hosts")]) == "mine"


def test_z05_a_link_in_a_volume_does_not_lead_a_mount_out(engine: Engine, canary: Path) -> None:
    mountpoint = Path(create(engine, "z05").mountpoint)
    (mountpoint / "d").symlink_to(canary)
    (mountpoint / "up").symlink_to("../../../../../../../../../.." + str(canary))
    for target in ("/v/d/new", "/v/up/new", "/v/d"):
        script = f"grep -c {canary!s} /proc/self/mountinfo"
        mounts = [volume("/v", "z05"), volume(target)]
        # Inside the root it is a directory of that name, made there; outside nothing happens.
        assert output(engine, IMAGE, script, mounts=mounts) != "0"
        assert sorted(path.name for path in canary.iterdir()) == ["secret"]
    delete(engine, "z05")


def test_z06_copying_into_a_volume_reads_inside_the_image(engine: Engine) -> None:
    made = containers.load(
        engine,
        tarball.symlink("v", "/../../../../etc"),
        extra_config={"Volumes": {"/v": {}, "/../../../root": {}, "../sneaky": {}}},
    )
    # The volume lies on the image's own /etc, and below it the engine's files as in any container.
    found = output(engine, made, "ls /v; head -n1 /v/passwd; ls -d /sneaky").splitlines()
    assert found == ["group", "hostname", "hosts", "passwd", "resolv.conf", "root:x:0:0:root:/root:/bin/sh", "/sneaky"]
    container = containers.create(engine, "true", image=made)
    for name in container.volumes:
        kept = {path.name for path in Path(get(engine, name).mountpoint).iterdir()}
        assert kept in ({"group", "passwd"}, set()), "nothing of the host's /etc"
    remove(engine, container.id, volumes=True)


def test_sub_paths_stay_beneath_the_volume(engine: Engine, canary: Path) -> None:
    root = Path(create(engine, "sub").mountpoint)
    (root / "in").mkdir()
    (root / "in" / "f").write_text("inside\n")
    (root / "near").symlink_to("in")
    (root / "out").symlink_to(canary)
    (root / "up").symlink_to("..")
    (root / "climb").symlink_to("in/../../_data/../..")
    show = "cat /v/* 2>/dev/null; true"
    for part in ("in", "near", "./in/"):
        assert output(engine, IMAGE, show, mounts=[volume("/v", "sub", sub_path=part)]) == "inside"
    for part in ("out", "up", "climb", "absent", "out/secret"):
        _, reason, metadata = refused_run(engine, "true", mounts=[volume("/v", "sub", sub_path=part)])
        assert (reason, metadata["step"]) == ("PROCESS_START_FAILED", "bind_source"), part
    for part in ("/in", "../x", "in/../.."):
        assert refused_run(engine, "true", mounts=[volume("/v", "sub", sub_path=part)])[0] == INVALID, part
    file = [volume("/only", "sub", sub_path="in/f")]
    assert output(engine, IMAGE, "cat /only", mounts=file) == "inside"
    delete(engine, "sub")


def test_z05_links_that_are_exchanged_meanwhile_lead_nowhere(engine: Engine, canary: Path) -> None:
    root = Path(create(engine, "race").mountpoint)
    for name in ("part", "spare"):
        (root / name / "inner").mkdir(parents=True)
        (root / name / "inner" / "f").write_text("inside\n")
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            # A start may make the directory anew in the moment in which it is away.
            with suppress(OSError):
                (root / "part").rename(root / "aside")
            with suppress(OSError):
                (root / "part").symlink_to(canary.parent)
                (root / "part").unlink()
            with suppress(OSError):
                (root / "aside").rename(root / "part")

    worker = threading.Thread(target=exchange)
    worker.start()
    # What is seen of the host would be its secret, wherever the link pointed.
    script = "cat /v/secret /v/canary/secret /w/part/secret /w/part/canary/secret 2>/dev/null; echo started"
    seen = set()
    try:
        for _ in range(25):
            mounts = [
                volume("/v", "race", sub_path="part"),
                volume("/w", "race"),
                volume("/w/part/canary/new", no_copy=True),
            ]
            try:
                seen.add(output(engine, IMAGE, script, mounts=mounts))
            except grpc.RpcError as error:  # a refusal is as good as a start
                seen.add(containers.refusal(error)[1])
    finally:
        stop.set()
        worker.join()
    assert seen <= {"started", "PROCESS_START_FAILED"}, seen
    assert sorted(path.name for path in canary.iterdir()) == ["secret"]
    assert sorted(path.name for path in canary.parent.iterdir()) == ["canary"]
    delete(engine, "race")


def test_an_image_is_shown_read_only(engine: Engine, filled: str) -> None:
    script = "cat /i/d/file /p/file; touch /i/x 2>&1 | grep -o Read-only; touch /p/x 2>&1 | grep -o Read-only"
    mounts = [image("/i", filled), image("/p", filled, sub_path="d")]
    assert output(engine, IMAGE, script, mounts=mounts) == "content\ncontent\nRead-only\nRead-only"
    code, reason, _ = refused_run(engine, "true", mounts=[image("/i", "absent:1")])
    assert (code, reason) == (NOT_FOUND, "IMAGE_NOT_FOUND")
    holder = containers.create(engine, "true", mounts=[image("/i", filled)])
    deletion = images_pb2.DeleteImageRequest(image=filled)
    assert refused(lambda: engine.images.DeleteImage(deletion))[1] == "IMAGE_IN_USE"
    containers.delete(engine, holder.id)
    _, reason, _ = refused_run(engine, "true", mounts=[image("/i", filled, sub_path="d/link")])
    assert reason == "PROCESS_START_FAILED"


def test_a_volume_is_shared_and_read_only_where_asked(engine: Engine) -> None:
    create(engine, "shared")
    output(engine, IMAGE, "echo one > /v/f", mounts=[volume("/v", "shared")])
    script = "cat /v/f; echo two > /v/f 2>/dev/null || echo refused"
    assert output(engine, IMAGE, script, mounts=[volume("/v", "shared", read_only=True)]) == "one\nrefused"
    delete(engine, "shared")


def test_events_tell_of_volumes(engine: Engine) -> None:
    create(engine, "told")
    output(engine, IMAGE, "true", mounts=[volume("/v", "told")])
    delete(engine, "told")
    facts = []
    request = events_pb2.WatchEventsRequest(filter=events_pb2.EventFilter(subjects=["told"]), from_sequence=1)
    for answer in engine.events.WatchEvents(request, timeout=20):
        if answer.WhichOneof("message") == "event":
            facts.append(answer.event.WhichOneof("fact"))
            if facts[-1] == "volume_deleted":
                break
    assert facts == ["volume_created", "volume_mounted", "volume_unmounted", "volume_deleted"]
