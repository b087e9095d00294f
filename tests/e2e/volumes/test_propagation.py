"""What is mounted below the source of a bind, before a start and while the container runs, and who may write there."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt import execs
from fluyt.v1.types import mount_pb2, security_pb2
from tests.e2e.containers import steps as containers
from tests.e2e.containers.steps import HOST_USERS, IMAGE, INVALID, refused_run
from tests.e2e.volumes.steps import bind, create, delete, output, remove, tmpfs, volume
from tests.support.engine import Engine
from tests.support.wait import until_now

Bind = mount_pb2.BindMount


def mount(*arguments: object) -> None:
    """mount(8) on the host."""
    subprocess.run(["mount", *map(str, arguments)], check=True)


def mounted(place: Path) -> Path:
    """The directory, with a file system in memory on it that has a file."""
    place.mkdir()
    mount("-t", "tmpfs", "tmpfs", place)
    (place / "f").write_text("below\n")
    return place


@pytest.fixture(params=["plain", "with ä and blank"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A mount of the host that tells others of what is mounted below it, whatever its name."""
    place = tmp_path / request.param
    place.mkdir()
    mount("-t", "tmpfs", "tmpfs", place)
    mount("--make-shared", place)
    yield place
    subprocess.run(["umount", "--recursive", str(place)], check=True)


@pytest.fixture
def nested(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host with another file system below it."""
    place = tmp_path / "nested"
    place.mkdir()
    mounted(place / "sub")
    yield place
    subprocess.run(["umount", str(place / "sub")], check=True)


def inside(engine: Engine, container: str, script: str) -> str:
    """What a script prints in a running container, however it ends."""
    return execs.run(engine.channel, container, ["sh", "-c", script]).stdout.decode().strip()


@pytest.mark.parametrize("spaces", [security_pb2.NamespacesSpec(), HOST_USERS], ids=["own", "host"])
@pytest.mark.parametrize(
    ("word", "is_seen"),
    [
        ("UNSPECIFIED", False),
        ("PRIVATE", False),
        ("RPRIVATE", False),
        ("SLAVE", True),
        ("RSLAVE", True),
        ("SHARED", True),
        ("RSHARED", True),
    ],
)
def test_a_later_mount_of_the_host_is_seen_where_that_was_asked(
    engine: Engine, shared: Path, word: str, is_seen: bool, spaces: security_pb2.NamespacesSpec
) -> None:
    propagation = Bind.Propagation.Value(f"PROPAGATION_{word}")
    wanted = [bind("/x", shared, propagation=propagation)]
    running = containers.started(engine, "sleep", "1000", mounts=wanted, namespaces=spaces)
    (point,) = (one for one in running.mounts if one.type == "bind")
    assert point.propagation == (propagation or Bind.PROPAGATION_RPRIVATE)
    mounted(shared / "late")
    assert inside(engine, running.id, "cat /x/late/f 2>/dev/null || echo nothing") == (
        "below" if is_seen else "nothing"
    )
    subprocess.run(["umount", str(shared / "late")], check=True)
    assert inside(engine, running.id, "cat /x/late/f 2>/dev/null || echo nothing") == "nothing"
    remove(engine, running.id, force=True)


@pytest.mark.parametrize(("word", "is_seen"), [("RSLAVE", False), ("RPRIVATE", False), ("RSHARED", True)])
def test_a_mount_of_the_container_is_seen_by_the_host_where_that_was_asked(
    engine: Engine, shared: Path, word: str, is_seen: bool
) -> None:
    wanted = [bind("/x", shared, propagation=Bind.Propagation.Value(f"PROPAGATION_{word}"))]
    (shared / "theirs").mkdir()
    script = "mount -t tmpfs tmpfs /x/theirs && echo inside > /x/theirs/f && echo done"
    privileged = security_pb2.SecuritySpec(privileged=True)
    assert output(engine, IMAGE, script, mounts=wanted, security=privileged, namespaces=HOST_USERS) == "done"
    assert (shared / "theirs" / "f").exists() is is_seen


def test_a_mount_that_does_not_spread_cannot_be_asked_to(engine: Engine, tmp_path: Path) -> None:
    private = mounted(tmp_path / "private")
    mount("--make-private", private)
    try:
        for word in ("SHARED", "RSHARED", "SLAVE", "RSLAVE"):
            wanted = [tmpfs("/y"), bind("/x", private, propagation=Bind.Propagation.Value(f"PROPAGATION_{word}"))]
            code, _, facts = refused_run(engine, "true", mounts=wanted)
            assert (code, facts["field"]) == (INVALID, "spec.mounts[1].bind.propagation"), word
            assert str(private) in facts["rule"]
    finally:
        subprocess.run(["umount", str(private)], check=True)


def test_what_is_mounted_below_comes_along_unless_it_is_left_out(engine: Engine, nested: Path) -> None:
    script = "cat /x/sub/f 2>/dev/null || echo nothing"
    assert output(engine, IMAGE, script, mounts=[bind("/x", nested)]) == "below"
    assert output(engine, IMAGE, script, mounts=[bind("/x", nested, non_recursive=True)]) == "nothing"


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({}, "refused\nrefused"),
        ({"recursive_read_only": True}, "refused\nrefused"),
        ({"recursive_read_only": False}, "refused\nwritten"),
    ],
)
def test_a_read_only_bind_is_so_in_all_that_is_below_unless_that_was_asked(
    engine: Engine, nested: Path, wish: dict[str, bool], expected: str
) -> None:
    script = "for p in /x/a /x/sub/a; do echo 1 2>/dev/null > $p && echo written || echo refused; done 2>/dev/null"
    assert output(engine, IMAGE, script, mounts=[bind("/x", nested, read_only=True, **wish)]) == expected
    assert (nested / "sub" / "a").exists() is ("written" in expected)


def test_nothing_below_a_read_only_bind_is_made_writable_again_from_inside(engine: Engine, nested: Path) -> None:
    script = "mount -o remount,rw,bind /x/sub 2>/dev/null; mount -o remount,rw,bind /x 2>/dev/null; touch /x/sub/a /x/a"
    out, err, ended = engine.run(IMAGE, "sh", "-c", script, mounts=[bind("/x", nested, read_only=True)])
    assert ended.exit_code != 0, (out, err)
    assert not (nested / "sub" / "a").exists()
    assert not (nested / "a").exists()


def test_a_volume_that_is_a_bind_of_the_host_has_what_is_mounted_below_if_it_says_so(
    engine: Engine, nested: Path
) -> None:
    script = "cat /x/sub/f 2>/dev/null || echo nothing"
    for word, expected in (("rbind", "below"), ("bind", "nothing")):
        create(engine, f"by-{word}", driver_options={"type": "none", "o": word, "device": str(nested)})
        assert output(engine, IMAGE, script, mounts=[volume("/x", f"by-{word}")]) == expected
        delete(engine, f"by-{word}")


def test_what_was_mounted_meanwhile_is_let_go_with_the_container(engine: Engine, shared: Path) -> None:
    wanted = [bind("/x", shared, propagation=Bind.PROPAGATION_RSLAVE)]
    running = containers.started(engine, "sleep", "1000", mounts=wanted)
    mounted(shared / "late")
    until_now(lambda: inside(engine, running.id, "cat /x/late/f") == "below", "it is seen")
    # Somebody else's view does not keep the host from unmounting, nor from removing the place.
    subprocess.run(["umount", str(shared / "late")], check=True)
    (shared / "late").rmdir()
    remove(engine, running.id, force=True)
    assert engine.left_on_host() == []
