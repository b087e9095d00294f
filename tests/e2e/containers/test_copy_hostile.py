"""Copies that are led astray: links, names that climb, archives that lie, and trees that change under them (Z03)."""

import ctypes
import io
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from tests.e2e.containers import copy_steps as copies
from tests.e2e.containers.copy_steps import directory, member, tar
from tests.e2e.containers.steps import INVALID, create, get, refusal, refused, start, started
from tests.support.engine import Engine

#: Copies of each direction while the tree changes under them, as many as fit into the time.
RACES = 1_000
RACE_SECONDS = 12
_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@pytest.fixture(params=["running", "created"])
def container(engine: Engine, request: pytest.FixtureRequest) -> str:
    """A container that runs, and one that does not."""
    return started(engine, "sleep", "1000").id if request.param == "running" else create(engine, "true").id


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A directory of the host that no copy may read or write. No container has a path of this name."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("the host's")
    return outside


def untouched(canary: Path) -> bool:
    """Nothing was written there."""
    return [path.name for path in canary.iterdir()] == ["secret"] and (canary / "secret").read_text() == "the host's"


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, None]:
    """An entry of a link."""
    info, _ = member(name, type=tarfile.SYMTYPE, linkname=target)
    return info, None


def test_z03_a_copy_through_a_link_stays_in_the_container(engine: Engine, container: str, canary: Path) -> None:
    up = symlink("up", "../../../../../../tmp")
    links = [symlink("test", "/tmp"), up, symlink("host", str(canary)), symlink("etc", "/etc")]
    copies.copy_to(engine, container, "/var", tar(*links))
    copies.copy_to(engine, container, "/var/test", tar(member("by-link", b"1")))
    copies.copy_to(engine, container, "/var", tar(member("up/by-entry", b"2")))
    assert copies.read(engine, container, "/tmp/by-link") == b"1"
    assert copies.read(engine, container, "/tmp/by-entry") == b"2"
    assert not Path("/tmp/by-link").exists()
    assert not Path("/tmp/by-entry").exists()
    # The container's own file, never the host's of the same name.
    assert copies.read(engine, container, "/var/etc/passwd") != Path("/etc/passwd").read_bytes()
    for path in ("/var/host", "/var/host/secret"):
        told = refused(lambda path=path: copies.copy_from(engine, container, path, follow_link=True))  # type: ignore[misc]
        assert told[1] == "PATH_NOT_FOUND"
    told = refused(lambda: copies.copy_to(engine, container, "/var/host", tar(member("x", b"x"))))
    assert told[1] == "PATH_NOT_FOUND"
    info, data = copies.copy_from(engine, container, "/var/host")
    assert (info.link_target, copies.names(data)) == (str(canary), ["host"])
    assert untouched(canary)


def test_z03_links_in_a_circle_end(engine: Engine, container: str) -> None:
    copies.copy_to(engine, container, "/var", tar(symlink("a", "b"), symlink("b", "a")))
    told = refused(lambda: copies.copy_from(engine, container, "/var/a/x"))
    assert (told[1], told[2]["errno"]) == ("IO_FAILED", "40")


Entries = tuple[tuple[tarfile.TarInfo, bytes | None], ...]
CLIMBING = "the name leaves the directory that it is unpacked into"


def hard_link(target: str) -> tuple[tarfile.TarInfo, None]:
    """An entry of one more name of `target`."""
    info, _ = member("l", type=tarfile.LNKTYPE, linkname=target)
    return info, None


def hostile_entries(canary: Path) -> list[tuple[Entries, str]]:
    """What a tar says, and why it is refused: a reason, or the rule of ENTRY_REJECTED."""
    out = symlink("s", str(canary))
    whiteout = member("w", type=tarfile.CHRTYPE, devmajor=0, devminor=0)
    return [
        ((member("../out", b"x"),), CLIMBING),
        ((member("a/../../out", b"x"),), CLIMBING),
        ((member("/../out", b"x"),), CLIMBING),
        ((hard_link("../etc/passwd"),), CLIMBING),
        ((hard_link("absent"),), "the hard link's target is not there"),
        ((directory("d"), hard_link("d")), "a hard link to a directory"),
        ((out, hard_link("s/secret")), "PATH_NOT_FOUND"),
        ((out, member("s/out", b"x")), "PATH_NOT_FOUND"),
        ((whiteout,), "the device 0:0 would hide a file of the image"),
        ((symlink("./", "/etc"),), "the layer's root must be a directory"),
    ]


def test_z03_entries_that_lead_out_are_refused(engine: Engine, container: str, canary: Path) -> None:
    before = Path("/etc/passwd").read_bytes()
    for entries, expected in hostile_entries(canary):
        data = tar(*entries)
        _, reason, metadata = refused(lambda data=data: copies.copy_to(engine, container, "/var", data))  # type: ignore[misc]
        assert expected in {reason, metadata.get("rule")}, entries
        assert untouched(canary), entries
    assert Path("/etc/passwd").read_bytes() == before
    assert not any(Path(place, "out").exists() for place in ("/", "/var", "/tmp"))


def test_z03_nothing_outside_is_changed_whatever_becomes_of_a_copy(
    engine: Engine, container: str, canary: Path
) -> None:
    for entries, _ in hostile_entries(canary):
        with suppress(grpc.RpcError):
            copies.copy_to(engine, container, "/var", tar(*entries))
        assert untouched(canary), entries
    # By a link that the container has, too.
    copies.copy_to(engine, container, "/var", tar(symlink("away", str(canary))))
    for path in ("/var/away", "/var/away/"):
        with suppress(grpc.RpcError):
            copies.copy_to(engine, container, path, tar(member("out", b"x"), directory("made")))
        assert untouched(canary), path


def test_a_link_of_the_archive_leads_inside_only(engine: Engine, container: str) -> None:
    copies.copy_to(engine, container, "/var", tar(symlink("s", "/etc"), member("s/made", b"inside")))
    assert copies.read(engine, container, "/etc/made") == b"inside"
    assert not Path("/etc/made").exists()


def _header_of(size: int) -> bytes:
    info = tarfile.TarInfo("huge")
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def lying_streams() -> list[tuple[str, bytes, str, str]]:
    """Bytes, the reason and what its metadata names."""
    whole = tar(member("f", b"x" * 5000))
    sparse = tarfile.TarInfo("holes")
    sparse.pax_headers = {
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "holes",
        "GNU.sparse.realsize": str(2**50),
    }  # fmt: skip
    sparse.size = 512
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(sparse, io.BytesIO(b"0\n".ljust(512, b"\0")))
    long = tar(member("p", b"", pax_headers={"comment": "c" * (1024 * 1024 + 1)}))
    return [
        ("nothing", b"", "TAR_CORRUPT", "no end marker"),
        ("no tar", b"x" * 2048, "TAR_CORRUPT", ""),
        ("cut in a file", whole[:2048], "TAR_CORRUPT", "ends early"),
        ("cut before its marker", whole[: 512 + 5120], "TAR_CORRUPT", "no end marker"),
        ("half compressed", b"\x1f\x8b\x08\x00" + b"x" * 600, "TAR_CORRUPT", ""),
        ("another compression", b"\xfd7zXZ\x00" + b"x" * 600, "TAR_CORRUPT", "xz"),
        ("more than may be", _header_of(2**40), "LIMIT_EXCEEDED", "layer_size_bytes"),
        ("holes without end", file.getvalue(), "LIMIT_EXCEEDED", "layer_size_bytes"),
        ("a long record", long, "LIMIT_EXCEEDED", "extended_header_bytes"),
        ("a deep name", tar(member("/".join("d" * 201), b"x")), "LIMIT_EXCEEDED", "path_depth"),
    ]


def test_archives_that_lie_are_refused_by_name(engine: Engine, container: str) -> None:
    for name, data, expected, named in lying_streams():
        _, reason, metadata = refused(lambda data=data: copies.copy_to(engine, container, "/var", data))  # type: ignore[misc]
        assert reason == expected, name
        assert named in (metadata.get("limit") or metadata["detail"]), name
    assert all(len(entry) < 20 for entry in copies.names(copies.copy_from(engine, container, "/var")[1]))


class Swapping:
    """Two names of a directory that change places as fast as the kernel can, as a process in the container could."""

    def __init__(self, where: Path) -> None:
        self._names = [str(where / "a").encode(), str(where / "b").encode()]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._swap)
        self.count = 0

    def _swap(self) -> None:
        a, b = self._names
        while not self._stop.is_set():
            assert _libc.renameat2(_AT_FDCWD, a, _AT_FDCWD, b, _RENAME_EXCHANGE) == 0, ctypes.get_errno()
            self.count += 1

    def __enter__(self) -> "Swapping":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def rounds() -> Iterator[int]:
    """The numbers of the copies of one race."""
    end = time.monotonic() + RACE_SECONDS
    for number in range(RACES):
        if time.monotonic() > end:
            return
        yield number


def outcome_of(call: Callable[[], object]) -> str:
    """Why the call was refused; nothing if it was not."""
    try:
        call()
    except grpc.RpcError as error:
        return refusal(error)[1]
    return ""


@pytest.fixture
def racing(engine: Engine, canary: Path) -> Iterator[tuple[str, Path]]:
    """A running container whose /race has a directory `a`, and a link `b` that leads to the canary on the host."""
    running = started(engine, "sleep", "1000")
    tree = tar(
        directory("race"), directory("race/a"), member("race/a/secret", b"inside"), symlink("race/b", str(canary))
    )
    copies.copy_to(engine, running.id, "/", tree)
    yield running.id, Path(f"/proc/{get(engine, running.id).host_pid}/root/race")
    assert untouched(canary)


def test_z03_a_directory_that_turns_into_a_link_while_it_is_read_leads_nowhere(
    engine: Engine, racing: tuple[str, Path]
) -> None:
    container, where = racing
    outcomes = set()

    def look(path: str, *, follow_link: bool) -> None:
        _, data = copies.copy_from(engine, container, path, follow_link=follow_link)
        assert b"the host's" not in data

    with Swapping(where) as swapping:
        for number in rounds():
            path, follow = ("/race/a/secret", "/race/a/", "/race")[number % 3], number % 2 == 0
            outcomes.add(outcome_of(lambda path=path, follow=follow: look(path, follow_link=follow)))  # type: ignore[misc]
    assert swapping.count > 0
    assert "" in outcomes
    assert outcomes <= {"", "PATH_NOT_FOUND"}


def test_z03_a_directory_that_turns_into_a_link_while_it_is_written_leads_nowhere(
    engine: Engine, racing: tuple[str, Path], canary: Path
) -> None:
    container, where = racing
    entries = tar(directory("a"), member("a/new", b"n"), member("a/below/new", b"n"), member("b/new", b"n"))
    calls = (("/race", entries), ("/race/a", tar(member("new", b"n"), directory("made"))))
    outcomes = set()
    with Swapping(where) as swapping:
        for number in rounds():
            outcomes.add(outcome_of(lambda number=number: copies.copy_to(engine, container, *calls[number % 2])))  # type: ignore[misc]
            assert untouched(canary)
    assert swapping.count > 0
    assert "" in outcomes
    assert outcomes <= {"", "PATH_NOT_FOUND", "PATH_WRONG_KIND"}


def test_z03_what_a_container_puts_into_passwd_is_not_the_hosts(engine: Engine, canary: Path) -> None:
    (canary / "secret").write_text("the host's")
    made = create(engine, "true", user="app")
    copies.copy_to(engine, made.id, "/etc", tar(symlink("passwd", str(canary / "secret"))), keep_owners=True)
    told = refused(lambda: copies.copy_to(engine, made.id, "/var", tar(member("f", b"x"))))
    assert told[:2] == (INVALID, "USER_INVALID")
    start_is_refused = refused(lambda: start(engine, made.id))
    assert start_is_refused[1] == "USER_INVALID"
