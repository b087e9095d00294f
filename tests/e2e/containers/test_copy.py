"""Files into and out of containers: what comes through, whose it is, what is refused, what a broken copy leaves."""

import gzip
import socket
import stat
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from fluyt.v1 import container_files_pb2, containers_pb2
from fluyt.v1.types import container_pb2, mount_pb2
from tests.e2e.containers import copy_steps as copies
from tests.e2e.containers.copy_steps import directory, member, tar
from tests.e2e.containers.steps import (
    HOST_USERS,
    INVALID,
    NOT_FOUND,
    WRONG_STATE,
    create,
    delete,
    get,
    refusal,
    refused,
    start,
    started,
    wait,
)
from tests.support.engine import Engine
from tests.support.wait import until_now

LONG = "n" * 200
DEEP = "/".join(f"{LONG[:90]}{level}" for level in range(5))
NOT_TEXT = b"caf\xe9-\xff".decode(errors="surrogateescape")


@pytest.fixture(params=["running", "created", "exited"])
def container(engine: Engine, request: pytest.FixtureRequest) -> str:
    """A container in each state that has files."""
    if request.param == "running":
        return started(engine, "sleep", "1000").id
    made = create(engine, "true")
    if request.param == "exited":
        start(engine, made.id)
        wait(engine, made.id)
    return made.id


def every_kind() -> bytes:
    """A tar of each kind of file that a container may have."""
    return tar(
        directory("tree", mode=0o1750, uid=7, gid=8, mtime=1_000_000.25),
        member("tree/file", b"data", mode=0o4751, uid=9, gid=10, mtime=-5.5),
        member("tree/again", type=tarfile.LNKTYPE, linkname="tree/file"),
        member("tree/link", type=tarfile.SYMTYPE, linkname="../no/where"),
        member("tree/pipe", type=tarfile.FIFOTYPE, mode=0o620),
        member("tree/tty", type=tarfile.CHRTYPE, devmajor=5, devminor=0, mode=0o600),
        directory("tree/empty", mode=0o500),
        member(f"tree/{DEEP}/{LONG}", b"deep"),
        member(f"tree/{NOT_TEXT}", b"not text"),
        member("tree/with", b"x", pax_headers={"SCHILY.xattr.user.note": "kept"}),
    )


def test_each_kind_of_file_goes_in_and_comes_back_as_it_was(engine: Engine, container: str) -> None:
    answer = copies.copy_to(engine, container, "/var", every_kind(), keep_owners=True)
    assert (answer.entry_count, answer.size_bytes) == (10, len(b"datadeepnot textx"))
    info, data = copies.copy_from(engine, container, "/var/tree")
    assert (info.name, stat.filemode(info.mode)) == ("tree", "drwxr-x--T")
    found = {entry.name: entry for entry in copies.members(data)}
    assert {found["tree/file"].islnk(), found["tree/again"].islnk()} == {True, False}
    whole = found["tree/again"] if found["tree/file"].islnk() else found["tree/file"]
    assert (whole.mode, whole.uid, whole.gid, whole.mtime) == (0o4751, 9, 10, -5.5)
    assert (found["tree"].mode, found["tree"].uid, found["tree"].mtime) == (0o1750, 7, 1_000_000.25)
    assert found["tree/link"].linkname == "../no/where"
    assert found["tree/pipe"].isfifo()
    assert (found["tree/tty"].ischr(), found["tree/tty"].devmajor) == (True, 5)
    assert found["tree/empty"].mode == 0o500
    assert copies.content(data, f"tree/{DEEP}/{LONG}") == b"deep"
    assert copies.content(data, f"tree/{NOT_TEXT}") == b"not text"
    assert found["tree/with"].pax_headers["SCHILY.xattr.user.note"] == "kept"


def test_what_was_copied_into_a_container_is_there_once_it_runs(engine: Engine) -> None:
    made = create(engine, "cat", "/etc/made")
    copies.copy_to(engine, made.id, "/etc", tar(member("made", b"before the start\n")))
    start(engine, made.id)
    wait(engine, made.id)
    assert engine.logs(made.id) == b"before the start\n"


def test_holes_of_a_file_stay_holes(engine: Engine) -> None:
    size = 64 * 1024 * 1024
    running = started(engine, "sh", "-c", f"cd /var; dd if=/dev/zero of=s bs=1 count=0 seek={size} 2>/dev/null; "
                      "echo end >> s; sleep 1000")  # fmt: skip
    until_now(lambda: _exists(engine, running.id, "/var/s"), "it is there")
    until_now(lambda: copies.copy_from(engine, running.id, "/var/s")[0].size_bytes == size + 4, "it is written")
    _, data = copies.copy_from(engine, running.id, "/var/s")
    assert len(data) < 256 * 1024
    assert copies.content(data, "s").endswith(b"\0end\n")
    copies.copy_to(engine, running.id, "/tmp", data)
    _, again = copies.copy_from(engine, running.id, "/tmp/s")
    assert len(again) < 256 * 1024
    assert copies.content(again, "s") == copies.content(data, "s")


def _exists(engine: Engine, container: str, path: str) -> bool:
    try:
        copies.copy_from(engine, container, path)
    except grpc.RpcError as error:
        if refusal(error)[1] != "PATH_NOT_FOUND":
            raise
        return False
    return True


@pytest.mark.parametrize(
    ("path", "name", "names"),
    [
        ("/var/tree", "tree", ["tree", "tree/file"]),
        ("/var/tree/", "tree", ["tree", "tree/file"]),
        ("/var/tree/.", ".", [".", "file"]),
        ("/var/tree/file", "file", ["file"]),
        ("/var/tree/../tree", "tree", ["tree", "tree/file"]),
        ("/var/link", "link", ["link"]),
        ("/var/link/", "link", ["link", "link/file"]),
        ("/var/link/file", "file", ["file"]),
        ("/../../var/tree/file", "file", ["file"]),
    ],
)
def test_a_path_says_what_is_sent_and_how_it_is_called(engine: Engine, path: str, name: str, names: list[str]) -> None:
    made = create(engine, "true")
    link = member("link", type=tarfile.SYMTYPE, linkname="/var/tree")
    copies.copy_to(engine, made.id, "/var", tar(directory("tree"), member("tree/file", b"x"), link))
    info, data = copies.copy_from(engine, made.id, path)
    assert (info.name, copies.names(data)) == (name, names)


OWNERS: list[tuple[str, bool, tuple[int, int] | str]] = [
    ("", False, (0, 0)),
    ("", True, (1234, 5678)),
    ("1000:100", False, (1000, 100)),
    ("1000:100", True, (1234, 5678)),
    ("2000", False, (2000, 0)),
    ("app", False, (1000, 1000)),
]


@pytest.mark.parametrize(("user", "keep_owners", "expected"), OWNERS)
def test_files_belong_to_the_containers_user_or_to_whom_the_tar_says(
    engine: Engine, user: str, keep_owners: bool, expected: tuple[int, int]
) -> None:
    made = create(engine, "true", user=user)
    entries = tar(directory("d", uid=1234, gid=5678), member("d/implied/f", b"x", uid=1234, gid=5678))
    copies.copy_to(engine, made.id, "/var", entries, keep_owners=keep_owners)
    _, data = copies.copy_from(engine, made.id, "/var/d")
    owners = {entry.name: (entry.uid, entry.gid) for entry in copies.members(data)}
    # Whose a directory is that the tar does not name, it does not say either.
    implied = (0, 0) if keep_owners else expected
    assert owners == {"d": expected, "d/implied": implied, "d/implied/f": expected}


def test_a_user_that_the_container_does_not_have_is_refused(engine: Engine) -> None:
    made = create(engine, "true", user="nobody-here")
    told = refused(lambda: copies.copy_to(engine, made.id, "/var", tar(member("f", b"x"))))
    assert told[:2] == (INVALID, "USER_INVALID")


def test_kinds_take_each_others_place_only_if_asked(engine: Engine, container: str) -> None:
    before = tar(
        directory("d"), member("d/in", b"in"), member("f", b"old"), member("l", type=tarfile.SYMTYPE, linkname="d")
    )
    copies.copy_to(engine, container, "/var", before)
    clashes = [
        (member("d", b"file"), "d", "a directory"),
        (directory("f"), "f", "a file"),
        (member("f/below", b"x"), "f", "a file"),
        (directory("l"), "l", "a symbolic link"),
    ]
    for clash, path, found in clashes:
        code, reason, metadata = refused(lambda clash=clash: copies.copy_to(engine, container, "/var", tar(clash)))  # type: ignore[misc]
        assert (code, reason, metadata["path"], metadata["found"]) == (WRONG_STATE, "PATH_WRONG_KIND", path, found)
    # A file takes the place of a file and of a link, whatever the link leads to.
    copies.copy_to(engine, container, "/var", tar(member("f", b"new"), member("l", b"no link any more")))
    assert copies.read(engine, container, "/var/f") == b"new"
    assert copies.read(engine, container, "/var/l") == b"no link any more"
    assert copies.read(engine, container, "/var/d/in") == b"in"
    copies.copy_to(engine, container, "/var", tar(member("d", b"file"), directory("f")), replace_kinds=True)
    _, data = copies.copy_from(engine, container, "/var")
    assert {entry.name: entry.isdir() for entry in copies.members(data)} == {
        "var": True, "var/d": False, "var/f": True, "var/l": False,
    }  # fmt: skip


def test_paths_that_are_not_there_or_no_paths_are_refused(engine: Engine, container: str) -> None:
    entries = tar(member("f", b"x"))
    cases: list[tuple[str | bytes, tuple[grpc.StatusCode, str]]] = [
        ("/absent", (NOT_FOUND, "PATH_NOT_FOUND")),
        ("/absent/below", (NOT_FOUND, "PATH_NOT_FOUND")),
        ("/bin/busybox/", (WRONG_STATE, "PATH_WRONG_KIND")),
        ("/bin/busybox/x", (WRONG_STATE, "PATH_WRONG_KIND")),
        ("relative", (INVALID, "FIELD_INVALID")),
        ("", (INVALID, "FIELD_INVALID")),
        (b"/nul\0", (INVALID, "FIELD_INVALID")),
        ("/" + "n" * 300, (WRONG_STATE, "FILE_NOT_COPYABLE")),
    ]
    for path, expected in cases:
        assert refused(lambda path=path: copies.copy_from(engine, container, path))[:2] == expected, path  # type: ignore[misc]
        assert refused(lambda path=path: copies.copy_to(engine, container, path, entries))[:2] == expected, path  # type: ignore[misc]
    told = refused(lambda: copies.copy_to(engine, container, "/bin/busybox", entries))
    assert told[:2] == (WRONG_STATE, "PATH_WRONG_KIND")
    for call in (
        lambda: copies.copy_from(engine, "nobody", "/"),
        lambda: copies.copy_to(engine, "nobody", "/", entries),
    ):
        assert refused(call)[1] == "CONTAINER_NOT_FOUND"


def test_a_path_and_names_that_are_no_text_are_taken_as_bytes(engine: Engine, container: str) -> None:
    copies.copy_to(engine, container, "/var", tar(directory(NOT_TEXT)))
    raw = b"/var/" + NOT_TEXT.encode(errors="surrogateescape")
    copies.copy_to(engine, container, raw, tar(member("in", b"x")))
    info, data = copies.copy_from(engine, container, raw)
    assert info.raw_name == raw.rpartition(b"/")[2]
    assert "\ufffd" in info.name
    assert copies.content(data, f"{NOT_TEXT}/in") == b"x"


def _binds(*mounts: tuple[Path, str, bool]) -> list[mount_pb2.Mount]:
    return [
        mount_pb2.Mount(target=target, read_only=read_only, bind=mount_pb2.BindMount(source=str(source)))
        for source, target, read_only in mounts
    ]


@pytest.mark.parametrize("is_running", [True, False])
def test_binds_are_seen_whether_it_runs_or_not(engine: Engine, tmp_path: Path, is_running: bool) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "one").write_text("one file")
    mounts = _binds((tmp_path / "shared", "/made/for/it", False), (tmp_path / "one", "/var/one", False))
    make = started if is_running else create
    container = make(engine, "sleep", "1000", mounts=mounts).id
    copies.copy_to(engine, container, "/made/for/it", tar(member("in", b"into the bind")))
    assert (tmp_path / "shared" / "in").read_bytes() == b"into the bind"
    # What is mounted on a name is written in place: the name cannot be given to another file.
    copies.copy_to(engine, container, "/var", tar(member("one", b"written in place")))
    assert (tmp_path / "one").read_bytes() == b"written in place"
    copies.copy_to(engine, container, "/etc", tar(member("hosts", b"127.0.0.1 me\n")))
    assert copies.read(engine, container, "/etc/hosts") == b"127.0.0.1 me\n"
    _, data = copies.copy_from(engine, container, "/made")
    assert copies.content(data, "made/for/it/in") == b"into the bind"
    told = refused(lambda: copies.copy_to(engine, container, "/", tar(member("made", b"x")), replace_kinds=True))
    assert told[:2] == (WRONG_STATE, "FILE_NOT_COPYABLE")
    assert (tmp_path / "shared" / "in").exists(), "what is mounted is not the container's to remove"


def test_what_is_copied_into_a_volume_before_the_start_is_in_it_afterwards(engine: Engine) -> None:
    mounts = [mount_pb2.Mount(target="/data", volume=mount_pb2.VolumeMount())]
    made = create(engine, "sh", "-c", "cat /data/f; echo from inside > /data/g", mounts=mounts)
    copies.copy_to(engine, made.id, "/data", tar(member("f", b"from outside\n")))
    start(engine, made.id)
    wait(engine, made.id)
    assert engine.logs(made.id) == b"from outside\n"
    assert copies.read(engine, made.id, "/data/g") == b"from inside\n"
    _, data = copies.copy_from(engine, made.id, "/data")
    assert set(copies.names(data)) == {"data", "data/f", "data/g"}


@pytest.mark.parametrize("is_running", [True, False])
def test_what_is_read_only_is_refused_and_the_rest_written(engine: Engine, tmp_path: Path, is_running: bool) -> None:
    (tmp_path / "rw").mkdir()
    (tmp_path / "ro").mkdir()
    mounts = _binds((tmp_path / "rw", "/rw", False), (tmp_path / "ro", "/ro", True))
    make = started if is_running else create
    # The places that a read-only root is mounted on must be there.
    container = make(engine, "sleep", "1000", mounts=mounts, read_only_root=True).id
    for path in ("/var", "/ro", "/"):
        told = refused(lambda path=path: copies.copy_to(engine, container, path, tar(member("f", b"x"))))  # type: ignore[misc]
        assert told[:2] == (WRONG_STATE, "FILE_SYSTEM_READ_ONLY"), path
    copies.copy_to(engine, container, "/rw", tar(member("f", b"x")))
    assert (tmp_path / "rw" / "f").read_bytes() == b"x"
    assert list((tmp_path / "ro").iterdir()) == []
    assert copies.names(copies.copy_from(engine, container, "/rw")[1]) == ["rw", "rw/f"]
    into_both = tar(member("rw/g", b"x"), member("ro/g", b"x"))
    assert refused(lambda: copies.copy_to(engine, container, "/", into_both))[1] == "FILE_SYSTEM_READ_ONLY"


def test_a_tmpfs_of_a_running_container_is_seen(engine: Engine) -> None:
    mounts = [mount_pb2.Mount(target="/scratch", tmpfs=mount_pb2.TmpfsMount())]
    running = started(engine, "sleep", "1000", mounts=mounts, read_only_root=True)
    copies.copy_to(engine, running.id, "/scratch", tar(member("f", b"in memory")))
    assert copies.read(engine, running.id, "/scratch/f") == b"in memory"


def test_what_the_kernel_shows_is_told_and_not_read(engine: Engine) -> None:
    running = started(engine, "sleep", "1000")
    for path in ("/proc", "/proc/1/environ", "/proc/self/root", "/sys/kernel", "/dev/pts"):
        told = refused(lambda path=path: copies.copy_from(engine, running.id, path))  # type: ignore[misc]
        assert told[1] in {"FILE_NOT_COPYABLE", "PATH_NOT_FOUND"}, path
    assert copies.read(engine, running.id, "/proc/1/root/etc/passwd") == copies.read(engine, running.id, "/etc/passwd")
    _, data = copies.copy_from(engine, running.id, "/")
    found = set(copies.names(data))
    assert {"proc", "sys", "dev/null", "etc/hosts", "bin/busybox"} <= found
    assert not any(name.startswith(("proc/", "sys/", "dev/pts/")) for name in found)


def test_a_socket_is_left_out_and_refused_by_itself(engine: Engine) -> None:
    running = started(engine, "sleep", "1000", namespaces=HOST_USERS)
    pid = get(engine, running.id).host_pid
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/{pid}/root/var/socket")
    told = refused(lambda: copies.copy_from(engine, running.id, "/var/socket"))
    assert told[:2] == (WRONG_STATE, "FILE_NOT_COPYABLE")
    assert copies.names(copies.copy_from(engine, running.id, "/var")[1]) == ["var"]


def test_a_compressed_tar_is_unpacked_by_what_it_is(engine: Engine) -> None:
    made = create(engine, "true")
    copies.copy_to(engine, made.id, "/var", gzip.compress(tar(member("f", b"squeezed"))))
    assert copies.read(engine, made.id, "/var/f") == b"squeezed"


def test_a_retry_with_the_same_request_id_writes_nothing_again(engine: Engine) -> None:
    made = create(engine, "true")
    first = copies.copy_to(engine, made.id, "/var", tar(member("f", b"first")), request_id="copy-1")
    again = copies.copy_to(engine, made.id, "/var", tar(member("f", b"other")), request_id="copy-1")
    assert first == again
    assert copies.read(engine, made.id, "/var/f") == b"first"
    other = refused(lambda: copies.copy_to(engine, made.id, "/tmp", b"", request_id="copy-1"))
    assert other[1] == "REQUEST_ID_REUSED"


def test_messages_out_of_order_are_refused(engine: Engine) -> None:
    made = create(engine, "true")
    chunk = container_files_pb2.CopyToRequest(chunk=b"x")
    options = next(copies.messages(made.id, "/", ()))
    for sent in ([], [chunk], [options, options], [container_files_pb2.CopyToRequest()]):
        told = refused(lambda sent=sent: engine.containers.CopyTo(iter(sent), timeout=20))  # type: ignore[misc]
        assert told[1] == "FIELD_INVALID", sent


class Slow:
    """A caller's pieces, the last of which waits."""

    def __init__(self, container: str, path: str, *pieces: bytes) -> None:
        self._messages = copies.messages(container, path, pieces)
        self.may_end = threading.Event()

    def __iter__(self) -> Iterator[Any]:
        yield from self._messages
        self.may_end.wait(30)


def test_a_copy_that_breaks_off_leaves_whole_files_only(engine: Engine, container: str) -> None:
    data = tar(directory("d"), member("d/first", b"1" * 4096), member("d/second", b"2" * 2_000_000))
    slow = Slow(container, "/var", data[: 512 * 1024])
    call = engine.containers.CopyTo.future(iter(slow), timeout=40)
    if get(engine, container).state == container_pb2.Container.STATE_RUNNING:
        until_now(lambda: _exists(engine, container, "/var/d/first"), "the first file is there")
    call.cancel()
    slow.may_end.set()

    def left() -> dict[str, int]:
        entries = copies.members(copies.copy_from(engine, container, "/var")[1])
        return {entry.name: entry.size for entry in entries}

    until_now(lambda: set(left()) <= {"var", "var/d", "var/d/first"}, "nothing half is there")
    assert left().get("var/d/first", 4096) == 4096
    copies.copy_to(engine, container, "/var", data)
    assert left()["var/d/second"] == 2_000_000


def test_a_start_comes_after_a_copy_into_what_does_not_run(engine: Engine) -> None:
    made = create(engine, "cat", "/var/late")
    data = tar(member("late", b"in time"))
    slow = Slow(made.id, "/var", data)
    call = engine.containers.CopyTo.future(iter(slow), timeout=40)
    starting = threading.Thread(target=start, args=(engine, made.id))
    until_now(lambda: _is_locked(engine, made.id), "the copy has begun")
    starting.start()
    slow.may_end.set()
    assert call.result().entry_count == 1
    starting.join(20)
    wait(engine, made.id)
    assert engine.logs(made.id) == b"in time"


def _is_locked(engine: Engine, container: str) -> bool:
    """A file that is there already shows that the copy is under way: reading needs no lock."""
    return _exists(engine, container, "/var/late")


def test_the_end_of_a_container_ends_its_copies_and_holds_up_no_start(engine: Engine) -> None:
    make = "[ -e /var/again ] || dd if=/dev/zero of=/var/big bs=1M count=24 2>/dev/null; touch /var/again"
    running = started(engine, "sh", "-c", f"{make}; sleep 1000")
    until_now(lambda: _exists(engine, running.id, "/var/again"), "it is written")
    request = container_files_pb2.CopyFromRequest(container=running.id, path="/var")
    stalled = engine.containers.CopyFrom(request, timeout=50)
    next(stalled)
    slow = Slow(running.id, "/var", tar(member("begun", b"x"), member("f", b"x"))[: 3 * 512])
    call = engine.containers.CopyTo.future(iter(slow), timeout=40)
    until_now(lambda: _exists(engine, running.id, "/var/begun"), "the copy has begun")
    engine.containers.KillContainer(containers_pb2.KillContainerRequest(container=running.id))
    wait(engine, running.id)
    with pytest.raises(grpc.RpcError) as caught:
        call.result()
    assert refusal(caught.value)[1] == "CONTAINER_WRONG_STATE"
    start(engine, running.id)
    with pytest.raises(grpc.RpcError) as caught:
        for _ in stalled:
            pass
    assert refusal(caught.value)[1] == "CONTAINER_WRONG_STATE"
    slow.may_end.set()


def test_callers_that_leave_hold_up_no_start(engine: Engine) -> None:
    running = started(engine, "sleep", "1000")
    request = container_files_pb2.CopyFromRequest(container=running.id, path="/bin")
    for number in range(60):
        # They leave at the beginning, in the middle and at the very end, where the tree is just being given up.
        stream = engine.containers.CopyFrom(request, timeout=40)
        for part in stream:
            if number % 3 == 0 or (number % 3 == 1 and part.WhichOneof("part") == "chunk"):
                break
            if part.WhichOneof("part") == "complete":
                break
        stream.cancel()
    engine.containers.KillContainer(containers_pb2.KillContainerRequest(container=running.id))
    wait(engine, running.id)
    engine.containers.StartContainer(containers_pb2.StartContainerRequest(container=running.id), timeout=30)


def test_a_container_that_is_deleted_meanwhile_is_not_told_as_whole(engine: Engine) -> None:
    made = create(engine, "true")
    many = tar(*(member(f"{number}", b"x" * 65536) for number in range(200)))
    copies.copy_to(engine, made.id, "/var", many)
    stream = engine.containers.CopyFrom(container_files_pb2.CopyFromRequest(container=made.id, path="/var"), timeout=50)
    next(stream)
    delete(engine, made.id)
    with pytest.raises(grpc.RpcError) as caught:
        for _ in stream:
            pass
    assert refusal(caught.value)[1] in {"CONTAINER_NOT_FOUND", "CONTAINER_WRONG_STATE"}
