"""What a volume without data takes on of an image, in the forms in which images come (more of M02, M09, Z06)."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from fluyt.v1.types import security_pb2
from tests.e2e.containers import steps as containers
from tests.e2e.containers.steps import HOST_USERS, IMAGE, refused_run
from tests.e2e.volumes.steps import create, delete, get, names, output, tmpfs, volume
from tests.support import image_files, images, tarball
from tests.support.engine import Engine

#: Version 2, effective, CAP_NET_RAW. Source: linux/capability.h, struct vfs_cap_data.
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
USERS = [
    pytest.param({}, id="own", marks=pytest.mark.needs("own-users")),
    pytest.param({"namespaces": HOST_USERS}, id="host"),
]


@pytest.mark.parametrize("users", USERS)
def test_m02_owners_are_the_images_whoever_the_users_are(engine: Engine, users: dict[str, object]) -> None:
    made = containers.load(
        engine,
        tarball.directory("d", 0o2750, uid=1000, gid=1001),
        tarball.file("d/f", "x", mode=0o4711, uid=65534, gid=7),
        replace(tarball.symlink("d/dangling", "/no/such"), uid=5, gid=6),
        replace(tarball.file("d/can", "x", 0o755), xattrs={"security.capability": CAPABILITY}),
        tarball.fifo("d/pipe", 0o622),
    )
    script = "cd /d; stat -c '%n %u:%g %a %F %Y' . f dangling pipe; readlink dangling"
    plain = output(engine, made, script, **users)
    assert output(engine, made, script, mounts=[volume("/d", "taken-on")], **users) == plain
    assert plain.splitlines()[0] == ". 1000:1001 2750 directory 1000000000"
    kept = Path(get(engine, "taken-on").mountpoint)
    assert (kept.stat().st_uid, kept.stat().st_gid) == (1000, 1001), "the same on disk for every range of users"
    assert os.getxattr(kept / "can", "security.capability") == CAPABILITY
    delete(engine, "taken-on")


def test_m02_an_anonymous_and_a_read_only_volume_are_filled_too(engine: Engine) -> None:
    made = containers.load(engine, tarball.directory("d"), tarball.file("d/f", "content\n"))
    assert output(engine, made, "cat /d/f; echo more > /d/g; ls /d", mounts=[volume("/d")]) == "content\nf\ng"
    script = "cat /d/f; touch /d/g 2>&1 | grep -o Read-only"
    assert output(engine, made, script, mounts=[volume("/d", "shown", read_only=True)]) == "content\nRead-only"
    delete(engine, "shown")


def test_m02_what_makes_a_volume_one_with_data(engine: Engine) -> None:
    made = containers.load(engine, tarball.directory("d", 0o700, uid=9), tarball.file("d/f", "content\n"))
    for name, entry in (("hidden", "touch /v/.keep"), ("directory", "mkdir /v/sub"), ("link", "ln -s x /v/l")):
        output(engine, IMAGE, entry, mounts=[volume("/v", name)])
        script = "ls -A /d | wc -l; test -e /d/f || echo not copied; stat -c %u:%a /d"
        assert output(engine, made, script, mounts=[volume("/d", name)]) == "1\nnot copied\n0:755", name
        delete(engine, name)


def test_m02_a_place_that_is_a_link_of_the_image_is_filled_from_where_it_leads(engine: Engine) -> None:
    made = containers.load(
        engine, tarball.directory("real", 0o711), tarball.file("real/f", "content\n"), tarball.symlink("d", "real")
    )
    script = "cat /d/f /real/f; stat -c %a /real; grep -c ' /real ' /proc/self/mountinfo"
    assert output(engine, made, script, mounts=[volume("/d", "linked")]) == "content\ncontent\n711\n1"
    delete(engine, "linked")


def test_m02_what_the_layers_come_to_is_copied_not_what_each_holds(engine: Engine) -> None:
    image = images.busybox_image(
        images.layer(tarball.directory("d"), tarball.file("d/gone", "1"), tarball.file("d/kept", "1")),
        images.layer(tarball.directory("d/sub"), tarball.file("d/sub/below", "2")),
        images.layer(tarball.whiteout("d/gone"), tarball.file("d/kept", "3")),
        images.layer(tarball.directory("d/sub"), tarball.opaque("d/sub"), tarball.file("d/sub/new", "4")),
    )
    engine.load(image_files.oci_archive({"layered:1": image}))
    script = "cd /d; find . | sort; cat kept"
    assert output(engine, "layered:1", script, mounts=[volume("/d", "layered")]) == "\n".join(
        [".", "./kept", "./sub", "./sub/new", "3"]
    )
    delete(engine, "layered")


def test_m02_volumes_below_each_other_each_take_their_own_part(engine: Engine) -> None:
    made = containers.load(
        engine,
        tarball.directory("d"),
        tarball.file("d/f", "1"),
        tarball.directory("d/sub"),
        tarball.file("d/sub/g", "2"),
    )
    mounts = [volume("/d/sub", "lower"), volume("/d", "upper")]
    assert output(engine, made, "echo x > /d/sub/h; cat /d/f /d/sub/g", mounts=mounts) == "12"
    assert {path.name for path in Path(get(engine, "lower").mountpoint).iterdir()} == {"g", "h"}
    kept = Path(get(engine, "upper").mountpoint)
    assert {str(path.relative_to(kept)) for path in kept.rglob("*")} == {"f", "sub", "sub/g"}
    for name in ("upper", "lower"):
        delete(engine, name)


def test_m02_many_that_come_at_once_find_it_whole(engine: Engine) -> None:
    members = [tarball.directory("d"), *(tarball.file(f"d/{number}", f"{number}\n") for number in range(400))]
    made = containers.load(engine, *members)

    def count(_: int) -> str:
        return output(engine, made, "ls /d | wc -l; cat /d/399", mounts=[volume("/d", "at-once")])

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(count, range(8))) == {"400\n399"}
    kept = Path(get(engine, "at-once").mountpoint).parent
    assert [path.name for path in kept.iterdir()] == ["_data"]
    delete(engine, "at-once")


def test_m02_memory_and_the_mount_of_an_option_take_nothing_on(engine: Engine, tmp_path: Path) -> None:
    made = containers.load(engine, tarball.directory("d"), tarball.file("d/f", "content\n"))
    assert output(engine, made, "ls -A /d", mounts=[tmpfs("/d")]) == ""
    create(engine, "elsewhere", driver_options={"type": "none", "o": "bind", "device": str(tmp_path)})
    assert output(engine, made, "ls -A /d", mounts=[volume("/d", "elsewhere")]) == ""
    assert list(tmp_path.iterdir()) == []
    delete(engine, "elsewhere")


def test_m05_a_volume_does_not_lie_on_a_file_and_nothing_is_left(engine: Engine) -> None:
    before = set(names(engine))
    for mounts in ([volume("/etc/passwd")], [volume("/etc/passwd", "on-a-file")]):
        code, reason, facts = refused_run(engine, "true", mounts=mounts)
        assert (code, reason, facts["path"]) == (containers.WRONG_STATE, "PROCESS_START_FAILED", "/etc/passwd")
    assert engine.left_on_host() == []
    # As in Docker the volume with a name stays, and is empty; the other one has gone with its container.
    assert set(names(engine)) - before == {"on-a-file"}
    assert list(Path(get(engine, "on-a-file").mountpoint).iterdir()) == []
    delete(engine, "on-a-file")


def test_z06_links_of_the_image_are_copied_as_links_and_lead_nowhere(engine: Engine, canary: Path) -> None:
    made = containers.load(
        engine,
        tarball.directory("d"),
        tarball.symlink("d/away", str(canary)),
        tarball.symlink("d/up", "../../../../../../../.." + str(canary)),
        tarball.symlink("d/proc", f"/proc/1/root{canary}"),
        tarball.symlink("chain", "one"),
        tarball.symlink("one", f"/../..{canary}"),
    )
    script = "cat /d/away/secret /d/up/secret /d/proc/secret 2>/dev/null; ls /d | wc -l"
    assert output(engine, made, script, mounts=[volume("/d", "links")]) == "3"
    kept = Path(get(engine, "links").mountpoint)
    assert [(kept / name).is_symlink() for name in ("away", "up", "proc")] == [True] * 3
    # The place itself led outside: it is a directory of that name inside, and nothing is there to be copied.
    assert output(engine, made, "ls -A /chain", mounts=[volume("/chain", "chained")]) == ""
    assert list(Path(get(engine, "chained").mountpoint).iterdir()) == []
    assert sorted(path.name for path in canary.iterdir()) == ["secret"]
    for name in ("links", "chained"):
        delete(engine, name)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine whose data root has a long name, with an image of 120 layers, each with a file here and there."""
    root = tmp_path_factory.mktemp("far")
    data_root = root / ("long-" * 20) / ("longer-" * 12)
    with Engine(root, options=["--data-root", str(data_root)]) as engine:
        layers = (
            images.layer(tarball.file(f"f{number}", f"{number}\n"), tarball.file(f"d/f{number}", f"{number}\n"))
            for number in range(120)
        )
        engine.load(image_files.oci_archive({"deep:1": images.busybox_image(*layers)}))
        yield engine


@pytest.mark.parametrize("spaces", [security_pb2.NamespacesSpec(), HOST_USERS], ids=["own", "host"])
def test_m09_an_image_of_120_layers_starts_and_fills_a_volume(
    deep: Engine, spaces: security_pb2.NamespacesSpec
) -> None:
    script = "cat /f0 /f119 /d/f0 /d/f119; ls /d | wc -l; mv /d/f5 /moved && cat /moved"
    for mounts in ([], [volume("/d", "deep")]):
        assert output(deep, "deep:1", script, mounts=mounts, namespaces=spaces).split() == ["0", "119"] * 2 + [
            "120",
            "5",
        ]
    delete(deep, "deep")
