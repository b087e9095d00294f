"""`fluyt cp` by the rules of `docker cp`, in both directions, against directories of this host."""

import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.e2e.cli.program import IMAGE, Program

NAME = "files"


@pytest.fixture(params=["running", "created"])
def container(fluyt: Program, request: pytest.FixtureRequest) -> str:
    """A container that runs and one that does not, with /var/d (holding `in`), /var/f and /var/l, a link to d."""
    if request.param == "running":
        fluyt.ok("run", "-d", "--name", NAME, IMAGE, "sleep", "1000")
    else:
        fluyt.ok("create", "--name", NAME, IMAGE, "true")
    fluyt.ok("cp", "-", f"{NAME}:/var", stdin=_tree())
    return NAME


def _tree() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, kind, text in (("d", "dir", ""), ("d/in", "file", "in"), ("f", "file", "old"), ("l", "link", "d")):
            info = tarfile.TarInfo(name)
            info.mode = 0o755 if kind == "dir" else 0o640
            info.uid, info.gid = 12, 34
            info.type = {"dir": tarfile.DIRTYPE, "file": tarfile.REGTYPE, "link": tarfile.SYMTYPE}[kind]
            if kind == "link":
                info.linkname = text
            info.size = len(text) if kind == "file" else 0
            archive.addfile(info, io.BytesIO(text.encode()))
    return file.getvalue()


def inside(fluyt: Program, container: str) -> dict[str, str]:
    """What /var holds: `dir`, `-> target`, or a file's text, by path below it."""
    process = fluyt.spawn("cp", f"{container}:/var/.", "-")
    data, error = process.communicate(timeout=40)
    assert process.returncode == 0, error
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for entry in archive:
            name = os.path.normpath(entry.name)
            file = archive.extractfile(entry) if entry.isfile() else None
            found[name] = file.read().decode() if file else "dir" if entry.isdir() else f"-> {entry.linkname}"
    found.pop(".")
    return found


BEFORE = {"d": "dir", "d/in": "in", "f": "old", "l": "-> d"}

#: Source (of `tree/` below), destination below /var, what is new or other there; or a part of what is said instead.
INTO: list[tuple[str, str, dict[str, str] | str]] = [
    ("file", "new", {"new": "file"}),
    ("file", "new/", "there is no directory"),
    ("file", "f", {"f": "file"}),
    ("file", "f/", "is a file, not a directory"),
    ("file", "d", {"d/file": "file"}),
    ("file", "d/", {"d/file": "file"}),
    ("file", "l", {"d/file": "file"}),
    ("file", "absent/new", "there is no"),
    ("dir", "new", {"new": "dir", "new/x": "x"}),
    ("dir", "new/", {"new": "dir", "new/x": "x"}),
    ("dir/", "d", {"d/dir": "dir", "d/dir/x": "x"}),
    ("dir", "d", {"d/dir": "dir", "d/dir/x": "x"}),
    ("dir/.", "d", {"d/x": "x"}),
    ("dir/.", "new", {"new": "dir", "new/x": "x"}),
    ("dir", "f", "cannot be copied to"),
    ("dir/.", "f", "cannot be copied to"),
    ("link", "new", {"new": "-> file"}),
    ("link", "d", {"d/link": "-> file"}),
    ("-L link", "new", {"new": "file"}),
    ("-L link", "d", {"d/link": "file"}),
    ("file/", "new", "cannot read"),
    ("absent", "new", "cannot read"),
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A file, a directory with a file, and a link to the first file."""
    (tmp_path / "file").write_text("file")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "x").write_text("x")
    (tmp_path / "link").symlink_to("file")
    return tmp_path


def test_into_a_container_by_dockers_rules(fluyt: Program, container: str, tree: Path) -> None:
    for source, destination, expected in INTO:
        *flags, name = source.split()
        ended = fluyt("cp", *flags, f"{tree}/{name}", f"{container}:/var/{destination}")
        what = f"{source} to {destination}: {ended}"
        if isinstance(expected, str):
            assert (ended.code, expected in ended.err) == (1, True), what
            assert inside(fluyt, container) == BEFORE, what
            continue
        assert (ended.code, ended.out, ended.err) == (0, "", ""), what
        assert inside(fluyt, container) == BEFORE | expected, what
        reset(fluyt, container, expected)


def reset(fluyt: Program, container: str, changed: dict[str, str]) -> None:
    """What a case changed is as before; what it made is put out of the way by a container of its own kind."""
    if all(name in BEFORE for name in changed):
        fluyt.ok("cp", "-", f"{container}:/var", stdin=_tree())
        return
    running = fluyt("exec", container, "true").code == 0
    fluyt.ok("rm", "-f", container)
    if running:
        fluyt.ok("run", "-d", "--name", container, IMAGE, "sleep", "1000")
    else:
        fluyt.ok("create", "--name", container, IMAGE, "true")
    fluyt.ok("cp", "-", f"{container}:/var", stdin=_tree())


#: Source below /var, destination below a directory like BEFORE on the host, what is new or other there.
OUT: list[tuple[str, str, dict[str, str] | str]] = [
    ("f", "new", {"new": "old"}),
    ("f", "new/", "there is no directory"),
    ("f", "f", {"f": "old"}),
    ("f", "d", {"d/f": "old"}),
    ("f", "l", {"d/f": "old"}),
    ("f", "absent/new", "No such file"),
    ("d", "new", {"new": "dir", "new/in": "in"}),
    ("d/", "d", {"d/d": "dir", "d/d/in": "in"}),
    ("d/.", "d", {"d/in": "in"}),
    ("d/.", "new", {"new": "dir", "new/in": "in"}),
    ("d", "f", "cannot be copied to"),
    ("l", "new", {"new": "-> d"}),
    ("l", "d", {"d/l": "-> d"}),
    ("l/", "new", {"new": "dir", "new/in": "in"}),
    ("-L l", "new", {"new": "dir", "new/in": "in"}),
    ("-L l", "d", {"d/l": "dir", "d/l/in": "in"}),
    ("absent", "new", "there is no /var/absent"),
    ("f/", "new", "is a file, not a directory"),
]


def host(path: Path) -> dict[str, str]:
    """As `inside` for a directory of the host."""
    found = {}
    for one in sorted(path.rglob("*")):
        name = str(one.relative_to(path))
        found[name] = f"-> {one.readlink()}" if one.is_symlink() else "dir" if one.is_dir() else one.read_text()
    return found


def test_out_of_a_container_by_dockers_rules(fluyt: Program, container: str, tmp_path: Path) -> None:
    for number, (source, destination, expected) in enumerate(OUT):
        target = tmp_path / str(number)
        target.mkdir()
        with tarfile.open(fileobj=io.BytesIO(_tree())) as archive:
            archive.extractall(target, filter="data")
        (target / "f").write_text("the host's")
        before = host(target)
        *flags, name = source.split()
        ended = fluyt("cp", *flags, f"{container}:/var/{name}", f"{target}/{destination}")
        what = f"{source} to {destination}: {ended}"
        if isinstance(expected, str):
            assert (ended.code, expected in ended.err) == (1, True), what
            assert host(target) == before, what
            continue
        assert (ended.code, ended.out, ended.err) == (0, "", ""), what
        assert host(target) == before | expected, what


def test_owners_are_roots_inside_and_the_callers_outside_unless_archived(
    fluyt: Program, container: str, tree: Path
) -> None:
    os.chown(tree / "dir" / "x", 1234, 5678)
    (tree / "dir" / "x").chmod(0o4755)
    fluyt.ok("cp", f"{tree}/dir", f"{container}:/var/plain")
    fluyt.ok("cp", "-a", f"{tree}/dir", f"{container}:/var/kept")
    owners = {}
    process = fluyt.spawn("cp", f"{container}:/var", "-")
    with tarfile.open(fileobj=io.BytesIO(process.communicate(timeout=40)[0])) as archive:
        for entry in archive:
            owners[entry.name] = (entry.uid, entry.gid, entry.mode)
    assert owners["var/plain/x"] == (0, 0, 0o4755)
    assert owners["var/kept/x"] == (1234, 5678, 0o4755)
    fluyt.ok("cp", f"{container}:/var/kept", f"{tree}/plain")
    fluyt.ok("cp", "--archive", f"{container}:/var/kept", f"{tree}/kept")
    plain, kept = (tree / "plain" / "x").stat(), (tree / "kept" / "x").stat()
    # Out of a container comes no program that has its owner's powers here, unless it is asked for.
    assert (plain.st_uid, plain.st_gid, stat.S_IMODE(plain.st_mode)) == (os.geteuid(), os.getegid(), 0o755)
    assert (kept.st_uid, kept.st_gid, stat.S_IMODE(kept.st_mode)) == (1234, 5678, 0o4755)


def test_a_device_comes_out_only_where_owners_are_kept(fluyt: Program, container: str, tmp_path: Path) -> None:
    info = tarfile.TarInfo("null")
    info.type, info.devmajor, info.devminor = tarfile.CHRTYPE, 1, 3
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(info)
    fluyt.ok("cp", "-", f"{container}:/var", stdin=file.getvalue())
    ended = fluyt("cp", f"{container}:/var/null", f"{tmp_path}/null")
    assert (ended.code, "device" in ended.err) == (1, True), ended
    assert list(tmp_path.iterdir()) == []
    fluyt.ok("cp", "-a", f"{container}:/var/null", f"{tmp_path}/null")
    assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)


def test_names_that_are_no_text_and_names_with_colons(fluyt: Program, container: str, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/caf\xe9"
    Path(os.fsdecode(odd)).write_text("odd")
    (tmp_path / "a:b").write_text("colon")
    fluyt.ok("cp", os.fsdecode(odd), f"{container}:/var")
    fluyt.ok("cp", f"{tmp_path}/a:b", f"{container}:/var/a:b")
    fluyt.ok("cp", os.fsdecode(f"{container}:/var/".encode() + b"caf\xe9"), f"{tmp_path}/back")
    assert (tmp_path / "back").read_text() == "odd"
    assert inside(fluyt, container)["a:b"] == "colon"


def test_a_hostile_tree_leads_nowhere_on_this_host(fluyt: Program, container: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "target"
    (target / "d").mkdir(parents=True)
    (target / "d" / "in").symlink_to(outside / "new")
    fluyt.ok("cp", f"{container}:/var/d/.", f"{target}/d")
    assert not (target / "d" / "in").is_symlink(), "a link of the host in a file's place is replaced, not followed"
    (target / "e").mkdir()
    (target / "e" / "d").symlink_to(outside)
    ended = fluyt("cp", f"{container}:/var/d", f"{target}/e")
    assert (ended.code, "is a symbolic link" in ended.err) == (1, True), ended
    assert list(outside.iterdir()) == []


SAID: list[tuple[tuple[str, ...], str]] = [
    (("a", "b"), "one side must be of a container"),
    (("x:/a", "y:/b"), "from one container to another"),
    (("nobody:/a", "."), "there is no container nobody"),
    ((".", "nobody:/a"), "there is no container nobody"),
]


def test_what_cannot_be_meant_is_said(fluyt: Program) -> None:
    for arguments, said in SAID:
        ended = fluyt("cp", *arguments)
        assert (ended.code, said in ended.err) == (1, True), ended


def test_an_archive_goes_into_a_directory_only(fluyt: Program, container: str) -> None:
    for path in ("/var/f", "/var/absent"):
        ended = fluyt("cp", "-", f"{container}:{path}", stdin=_tree())
        assert (ended.code, "no directory" in ended.err) == (1, True), ended
    ended = fluyt("cp", "-", f"{container}:/var", stdin=b"no archive" * 100)
    assert (ended.code, "not a whole tar" in ended.err) == (1, True), ended


@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet_says_nothing(fluyt: Program, container: str, tree: Path, flag: str) -> None:
    ended = fluyt("cp", flag, f"{tree}/file", f"{container}:/var/quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_a_user_without_privileges_copies_out(fluyt: Program, container: str, tmp_path: Path) -> None:
    command = [str(fluyt.program), "cp", f"{container}:/var/d", str(tmp_path / "got")]
    # Without any capability, as any user of the host has it; the socket takes root's calls alone.
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    ended = subprocess.run([*drop, *command], env=fluyt.environment, capture_output=True, check=False)
    assert ended.returncode == 0, ended
    assert (tmp_path / "got" / "in").read_text() == "in"
