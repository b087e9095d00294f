"""Who a container's first process is: user, groups and capabilities, looked up in the image and nowhere else."""

import dataclasses
import time

import pytest

from fluyt.v1.types import security_pb2
from tests.e2e.containers.steps import IMAGE, INVALID, load, refused_run, status_of
from tests.support import tarball
from tests.support.engine import Engine

NOBODYS_USERS = (
    "root:x:0:0:root:/root:/bin/sh\n1000:x:0:0::/:/bin/sh\nevil:x:notanum:10::/:/bin/sh\n"
    "huge:x:4294967296:10::/:/bin/sh\nminus:x:-1:10::/:/bin/sh\nbadgroup:x:7:x::/:/bin/sh\n"
    "app:x:1001:1001:app:/home/app:/bin/sh\n"
)
GROUPS = "root:x:0:\napp:x:1001:\nextra:x:2000:app\nmore:x:2001:root,app\nbad:x:many:\nhuge:x:4294967296:\n"


@pytest.fixture(scope="module")
def users(container_engine: Engine) -> str:
    """An image whose user database is hostile."""
    return load(
        container_engine, tarball.file("etc/passwd", NOBODYS_USERS), tarball.file("etc/group", GROUPS), user="app"
    )


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ("", "1001:1001"),
        ("0", "0:0"),
        ("1000", "1000:0"),  # never the user named 1000; a number without an entry has group 0
        ("1001", "1001:1001"),
        ("5:6", "5:6"),
        ("app", "1001:1001"),
        ("app:extra", "1001:2000"),
        ("app:2005", "1001:2005"),
        ("5:extra", "5:2000"),
        ("65535", "65535:0"),
        ("app:", "1001:1001"),
        ("root:0", "0:0"),
        ("00000000000000000005", "5:0"),
        (":", "0:0"),
    ],
)
def test_t05_digits_are_numbers_and_names_are_the_images(engine: Engine, users: str, user: str, shown: str) -> None:
    status = status_of(engine.run(users, "cat", "/proc/self/status", user=user)[0])
    uid, gid = shown.split(":")
    # Real, effective, saved and of the file system.
    assert (status["Uid"].split(), status["Gid"].split()) == ([uid] * 4, [gid] * 4)


def test_t05_the_highest_number_is_a_user_where_the_container_has_the_hosts(engine: Engine, users: str) -> None:
    host = security_pb2.UserNamespaceSpec(mode=security_pb2.UserNamespaceSpec.MODE_HOST)
    spaces = security_pb2.NamespacesSpec(user=host)
    said = engine.run(users, "cat", "/proc/self/status", user="2147483647", namespaces=spaces)[0]
    assert status_of(said)["Uid"].split() == ["2147483647"] * 4


@pytest.mark.parametrize(
    "user",
    [
        "evil",
        "huge",
        "minus",
        "badgroup",
        "nobodyhere",
        "2147483648",
        "4294967295",
        "4294967296",
        "99999999999999999999",
    ]
    + ["-1", "0:-1", "app:nogroup", "app:bad", "app:huge", "app:4294967296", "0x0", "1:2:3", " 0"],
)
def test_t06_a_user_that_cannot_be_had_starts_nothing(engine: Engine, users: str, user: str) -> None:
    assert refused_run(engine, "id", "-u", image=users, user=user)[:2] == (INVALID, "USER_INVALID")


@pytest.mark.parametrize(
    ("user", "added", "groups"),
    [
        ("1000:1000", ["2000"], {1000, 2000}),
        ("app", [], {1001, 2000, 2001}),
        ("app:extra", [], {2000}),
        ("app:extra", ["more", "3000"], {2000, 2001, 3000}),
        ("root", [], {0, 2001}),
        ("5:6", [], {6}),
    ],
)
def test_t07_the_process_has_its_group_and_the_further_ones(
    engine: Engine, users: str, user: str, added: list[str], groups: set[int]
) -> None:
    out, _, _ = engine.run(users, "cat", "/proc/self/status", user=user, additional_groups=added)
    assert {int(word) for word in status_of(out)["Groups"].split()} == groups


@pytest.mark.parametrize("group", ["nosuch", "4294967296", "-1", "bad"])
def test_t07_a_further_group_that_cannot_be_had_starts_nothing(engine: Engine, users: str, group: str) -> None:
    refusal = refused_run(engine, "id", image=users, user="0", additional_groups=[group])
    assert refusal[:2] == (INVALID, "USER_INVALID")


@pytest.mark.parametrize(("user", "effective"), [("0", "00000000a80425fb"), ("1000", "0" * 16), ("app", "0" * 16)])
def test_t08_capabilities_are_the_default_set_for_root_and_none_for_others(
    engine: Engine, user: str, effective: str
) -> None:
    status = status_of(engine.run(IMAGE, "cat", "/proc/self/status", user=user)[0])
    assert {status[name] for name in ("CapInh", "CapAmb")} == {"0" * 16}
    assert {status[name] for name in ("CapPrm", "CapEff")} == {effective}
    assert status["CapBnd"] == "00000000a80425fb"


@pytest.mark.parametrize("database", ["etc/passwd", "etc/group"])
@pytest.mark.parametrize(
    "member",
    [
        tarball.symlink("X", "/fifo"),
        tarball.symlink("X", "/proc/self/../../etc/passwd"),
        tarball.symlink("X", "../../../../../../etc/passwd"),
        tarball.symlink("X", "/dev/zero"),
        tarball.fifo("X"),
        tarball.directory("X"),
        tarball.file("X", b"app:x:1:1:" + b"a" * (33 << 20)),
    ],
    ids=["to-a-fifo", "through-proc", "upwards", "to-a-device", "fifo", "directory", "huge"],
)
def test_t15_a_hostile_user_database_neither_hangs_nor_reads_the_host(
    engine: Engine, database: str, member: tarball.Entry
) -> None:
    hostile = dataclasses.replace(member, name=database)
    image = load(engine, tarball.fifo("fifo"), hostile)
    begun = time.monotonic()
    wanted = "nobodyhere:nogrouphere" if database == "etc/passwd" else "0:nogrouphere"
    assert refused_run(engine, "id", image=image, user=wanted)[1] == "USER_INVALID"
    assert time.monotonic() - begun < 5
