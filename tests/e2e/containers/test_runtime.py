"""What a container's first process is: program, user, directory, environment, signals, and how its end is told."""

import concurrent.futures
import dataclasses
import time
from typing import Any

import pytest

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_pb2, container_spec_pb2, resources_pb2
from tests.e2e.containers.steps import (
    IMAGE,
    INVALID,
    WRONG_STATE,
    create,
    delete,
    exit_of,
    get,
    load,
    refused,
    refused_run,
    start,
    started,
    status_of,
    wait,
)
from tests.support import images, tarball
from tests.support.engine import Engine
from tests.support.wait import until_now

NOBODYS_USERS = (
    "root:x:0:0:root:/root:/bin/sh\n1000:x:0:0::/:/bin/sh\nevil:x:notanum:10::/:/bin/sh\n"
    "huge:x:4294967296:10::/:/bin/sh\nminus:x:-1:10::/:/bin/sh\nbadgroup:x:7:x::/:/bin/sh\n"
    "app:x:1001:1001:app:/home/app:/bin/sh\n"
)
GROUPS = "root:x:0:\napp:x:1001:\nextra:x:2000:app\nmore:x:2001:root,app\nbad:x:many:\nhuge:x:4294967296:\n"
SCRIPT = tarball.file("bin/noshebang", "echo never\n", mode=0o755)
PROGRAMS = (
    SCRIPT,
    tarball.file("bin/plain", "#!/bin/sh\n", mode=0o644),
    tarball.file("bin/lost", "#!/no/interpreter\n", mode=0o755),
    tarball.file("bin/empty", b"", mode=0o755),
    tarball.directory("opt"),
    tarball.file("opt/tool", "#!/bin/sh\necho tool $0\n", mode=0o755),
    tarball.symlink("bin/dangling", "/nowhere"),
    tarball.symlink("bin/loop", "loop"),
)


@pytest.fixture(scope="module")
def programs(container_engine: Engine) -> str:
    """An image with programs that cannot be executed, each for a reason of its own."""
    return load(container_engine, *PROGRAMS)


@pytest.fixture(scope="module")
def users(container_engine: Engine) -> str:
    """An image whose user database is hostile."""
    return load(
        container_engine, tarball.file("etc/passwd", NOBODYS_USERS), tarball.file("etc/group", GROUPS), user="app"
    )


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["/etc"], 126),
        (["/bin/plain"], 126),
        (["/bin/noshebang"], 126),
        (["noshebang"], 126),
        (["/bin/empty"], 126),
        (["/etc/passwd"], 126),
        (["/bin/loop"], 126),
        (["nosuch"], 127),
        (["/bin/nosuch"], 127),
        (["./nosuch"], 127),
        (["/etc/passwd/below"], 127),
        (["/bin/lost"], 127),
        (["/bin/dangling"], 127),
        (["x" * 300], 126),
    ],
)
def test_t01_a_program_that_cannot_be_executed_is_126_and_one_not_found_127(
    engine: Engine, programs: str, args: list[str], code: int
) -> None:
    container = create(engine, *args, image=programs)
    status, reason, metadata = refused(lambda: start(engine, container.id))
    assert (status, reason, metadata["exit_code"]) == (WRONG_STATE, "PROCESS_START_FAILED", str(code))
    failed = get(engine, container.id)
    assert (failed.state, exit_of(failed)) == (container_pb2.Container.STATE_CREATED, ("exit_code", code))


def test_t01_a_relative_program_is_found_from_the_working_directory_and_a_bare_one_in_the_path(
    engine: Engine, programs: str
) -> None:
    assert engine.run(programs, "./tool", working_dir="/opt")[0] == b"tool ./tool\n"
    assert engine.run(programs, "tool", env=["PATH=/nowhere:/opt"])[0] == b"tool /opt/tool\n"
    _, _, metadata = refused_run(engine, "tool", image=programs, working_dir="/opt")
    assert metadata["exit_code"] == "127"


def test_t01_an_argument_with_a_nul_is_refused(engine: Engine) -> None:
    assert refused_run(engine, "echo", "a\0b")[:2] == (INVALID, "FIELD_INVALID")
    assert refused_run(engine, "true", env=["A=\0"])[:2] == (INVALID, "FIELD_INVALID")


@pytest.mark.parametrize("code", [0, 1, 7, 125, 126, 127, 128, 143, 255])
def test_t01_an_exit_code_of_the_program_itself_is_told_as_it_is(engine: Engine, code: int) -> None:
    assert exit_of(engine.run(IMAGE, "sh", "-c", f"exit {code}")[2]) == ("exit_code", code)


def test_t02_a_failed_start_leaves_created_with_its_failure_and_a_name_to_use_again(engine: Engine) -> None:
    create(engine, "/bin/nope", name="again")
    refused(lambda: start(engine, "again"))
    failed = get(engine, "again")
    assert (failed.state, exit_of(failed)) == (container_pb2.Container.STATE_CREATED, ("exit_code", 127))
    assert failed.failure.reason == "PROCESS_START_FAILED"
    assert "/bin/nope" in failed.failure.message
    delete(engine, "again")
    create(engine, "true", name="again")
    assert exit_of(wait(engine, start(engine, "again").id)) == ("exit_code", 0)


@pytest.mark.parametrize(("signal", "number"), [("TERM", 15), ("KILL", 9), ("INT", 2), ("SEGV", 11), ("RTMIN+3", 37)])
def test_t03_a_signal_that_ends_process_one_is_told_as_its_number(engine: Engine, signal: str, number: int) -> None:
    # The kernel keeps a signal without a handler from process 1 of a namespace; only SIGKILL passes from outside.
    if signal == "KILL":
        container = started(engine, "sleep", "100")
        kill(engine, container.id, signal)
        assert exit_of(wait(engine, container.id)) == ("signal", 9)
        return
    container = started(engine, "sh", "-c", f"sh -c 'kill -{number} $$'; echo $?", name="child")
    wait(engine, container.id)
    assert engine.logs("child").splitlines()[-1] == str(128 + number).encode()


def test_t03_process_one_without_a_handler_is_killed_after_its_time(engine: Engine) -> None:
    container = started(engine, "sleep", "100")
    begun = time.monotonic()
    ended = stop(engine, container.id, seconds=2)
    assert exit_of(ended) == ("signal", 9)
    assert 2 <= time.monotonic() - begun < 4


def kill(engine: Engine, name: str, signal: str = "") -> None:
    engine.containers.KillContainer(containers_pb2.KillContainerRequest(container=name, signal=signal))


def stop(engine: Engine, name: str, seconds: int | None = None, signal: str = "") -> container_pb2.Container:
    request = containers_pb2.StopContainerRequest(container=name, signal=signal)
    if seconds is not None:
        request.timeout.seconds = seconds
    return engine.containers.StopContainer(request).container  # type: ignore[no-any-return]


def trapping(engine: Engine, trapped: str, image: str = IMAGE, **spec: Any) -> container_pb2.Container:
    """A running container whose process 1 answers the signal with output and exit code 9, and is ready to."""
    script = f'trap "echo got; exit 9" {trapped}; echo ready; while :; do sleep .02; done'
    container = started(engine, "sh", "-c", script, image=image, **spec)
    until_now(lambda: engine.logs(container.id) == b"ready\n", "the handler is set")
    return container


@pytest.mark.parametrize("spelling", ["SIGUSR1", "USR1", "usr1", "10"])
def test_t04_the_stop_signal_of_the_image_is_sent_however_it_is_spelled(engine: Engine, spelling: str) -> None:
    container = trapping(engine, "USR1", image=load(engine, stop_signal=spelling))
    assert exit_of(stop(engine, container.id)) == ("exit_code", 9)
    assert engine.logs(container.id) == b"ready\ngot\n"


@pytest.mark.parametrize(
    ("spelling", "trapped"), [("SIGTERM", 15), ("TERM", 15), ("15", 15), ("RTMIN+3", 37), ("37", 37)]
)
def test_t04_the_stop_signal_of_the_container_wins(engine: Engine, spelling: str, trapped: int) -> None:
    container = trapping(engine, str(trapped), image=load(engine, stop_signal="SIGUSR1"), stop_signal=spelling)
    assert exit_of(stop(engine, container.id)) == ("exit_code", 9)


@pytest.mark.parametrize("bad", ["SIGNOPE", "0", "65", "-1", "RTMIN+31", "1 5", "١٥"])
def test_t04_what_is_no_signal_is_refused(engine: Engine, bad: str) -> None:
    assert refused_run(engine, "true", stop_signal=bad)[:2] == (INVALID, "FIELD_INVALID")
    container = started(engine, "sleep", "100")
    assert refused(lambda: kill(engine, container.id, bad))[:2] == (INVALID, "FIELD_INVALID")
    assert refused(lambda: stop(engine, container.id, 0, bad))[:2] == (INVALID, "FIELD_INVALID")
    assert get(engine, container.id).state == container_pb2.Container.STATE_RUNNING


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ("", b"1001:1001"),
        ("0", b"0:0"),
        ("1000", b"1000:0"),  # never the user named 1000; a number without an entry has group 0
        ("1001", b"1001:1001"),
        ("5:6", b"5:6"),
        ("app", b"1001:1001"),
        ("app:extra", b"1001:2000"),
        ("app:2005", b"1001:2005"),
        ("5:extra", b"5:2000"),
        ("2147483647", b"2147483647:0"),
        ("app:", b"1001:1001"),
        (":", b"0:0"),
    ],
)
def test_t05_digits_are_numbers_and_names_are_the_images(engine: Engine, users: str, user: str, shown: bytes) -> None:
    if user == "1000":
        out = engine.run(users, "id", "-u", user=user)[0]
        assert out == b"1000\n"
        return
    out, err, _ = engine.run(users, "sh", "-c", "echo $(id -u):$(id -g)", user=user)
    assert (out, err) == (shown + b"\n", b"")


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


@pytest.mark.parametrize("directory", ["/tmp/new", "/a/b/c", "/tmp/", "/var/./run/x"])
def test_t09_a_working_directory_that_is_missing_is_made(engine: Engine, directory: str) -> None:
    out, err, _ = engine.run(IMAGE, "sh", "-c", 'pwd; stat -c "%a %u" .', working_dir=directory)
    expected = directory.rstrip("/").replace("/./", "/").encode()
    mode = b"1777 0\n" if expected == b"/tmp" else b"755 0\n"
    assert (out, err) == (expected + b"\n" + mode, b"")


@pytest.mark.parametrize("directory", ["tmp", "./tmp", "/tmp/../etc", "/" + "x" * 4095])
def test_t09_a_working_directory_that_is_no_clean_absolute_path_is_refused(engine: Engine, directory: str) -> None:
    status, reason, _ = refused_run(engine, "pwd", working_dir=directory)
    assert (status, reason) in {(INVALID, "FIELD_INVALID"), (INVALID, "LIMIT_EXCEEDED")}


def test_t09_a_working_directory_that_is_a_file_starts_nothing_and_one_by_a_link_stays_inside(engine: Engine) -> None:
    image = load(engine, tarball.symlink("way", "/../../home/app"), tarball.symlink("lost", "/lost/lost"))
    assert refused_run(engine, "pwd", working_dir="/etc/passwd")[:2] == (WRONG_STATE, "PROCESS_START_FAILED")
    assert engine.run(image, "/bin/pwd", working_dir="/way")[0] == b"/home/app\n"
    assert refused_run(engine, "pwd", image=image, working_dir="/lost")[:2] == (WRONG_STATE, "PROCESS_START_FAILED")


def environment(engine: Engine, image: str = IMAGE, **spec: Any) -> list[str]:
    return engine.run(image, "env", **spec)[0].decode().splitlines()


def test_t11_a_bare_name_takes_the_images_variable_away_and_an_empty_one_stays(engine: Engine) -> None:
    image = load(engine, env=[images.BUSYBOX_PATH, "FOO=BAR", "KEEP=a=b", "EMPTY="])
    lines = environment(engine, image, env=["FOO", "NEW=", "NOSUCH", "A=1", "A=2", "B=x y"])
    assert not [line for line in lines if line.startswith(("FOO", "NOSUCH"))]
    assert [line for line in lines if line.startswith("A=")] == ["A=2"]
    assert {"KEEP=a=b", "EMPTY=", "NEW=", "B=x y"} <= set(lines)


@pytest.mark.parametrize("bad", ["", "=x", "="])
def test_t11_a_variable_without_a_name_is_refused(engine: Engine, bad: str) -> None:
    assert refused_run(engine, "env", env=[bad])[:2] == (INVALID, "FIELD_INVALID")


def test_t12_values_are_literal(engine: Engine) -> None:
    lines = environment(engine, env=['K="v"', "H=a#b", "S=$HOME `x`", "U=ü"])
    assert {'K="v"', "H=a#b", "S=$HOME `x`", "U=ü"} <= set(lines)


def test_t13_fifty_at_once_see_their_own_environment_only(engine: Engine) -> None:
    def one(number: int) -> tuple[bytes, bytes]:
        return engine.run(IMAGE, "sh", "-c", "echo $ID", env=[f"ID={number}"])[0], b"%d\n" % number

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        pairs = list(pool.map(one, range(50)))
    assert [got for got, _ in pairs] == [wanted for _, wanted in pairs]


@pytest.mark.parametrize(("user", "home"), [("", "/root"), ("app", "/home/app"), ("1000", "/home/app"), ("4711", "/")])
def test_t14_home_is_the_users_and_the_rest_has_its_defaults(engine: Engine, user: str, home: str) -> None:
    image = load(engine, env=[])
    lines = environment(engine, image, user=user, hostname="box")
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert sorted(lines) == sorted([path, f"HOME={home}", "HOSTNAME=box"])


def test_t14_what_the_caller_sets_wins(engine: Engine) -> None:
    lines = environment(engine, env=["HOME=/h", "PATH=/bin", "HOSTNAME=mine", "TERM=dumb"])
    assert {"HOME=/h", "PATH=/bin", "HOSTNAME=mine", "TERM=dumb"} <= set(lines)


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


HOG = 'x=$(head -c 200m /dev/zero | tr "\\0" a)'


def limited(megabytes: int = 32) -> resources_pb2.Resources:
    return resources_pb2.Resources(memory_limit_bytes=megabytes << 20, memory_swap_limit_bytes=megabytes << 20)


def test_t16_a_container_over_its_memory_is_told_so_and_a_plain_kill_is_not(engine: Engine) -> None:
    ended = engine.run(IMAGE, "sh", "-c", HOG, resources=limited())[2]
    assert (ended.oom_killed, exit_of(ended)) == (True, ("signal", 9))
    container = started(engine, "sleep", "100", resources=limited())
    kill(engine, container.id)
    ended = wait(engine, container.id)
    assert (ended.oom_killed, exit_of(ended)) == (False, ("signal", 9))


@pytest.mark.parametrize(
    ("entrypoint", "args", "shown"),
    [
        (None, [], b"image image-arg\n"),
        (None, ["own"], b"image own\n"),
        (["echo", "e"], [], b"e\n"),
        (["echo", "e"], ["a"], b"e a\n"),
        ([], ["echo", "bare"], b"bare\n"),
    ],
)
def test_entrypoint_and_arguments_are_put_together_as_docker_does(
    engine: Engine, entrypoint: list[str] | None, args: list[str], shown: bytes
) -> None:
    image = load(engine, entrypoint=["echo", "image"], cmd=["image-arg"])
    given = {} if entrypoint is None else {"entrypoint": container_spec_pb2.StringList(values=entrypoint)}
    assert engine.run(image, *args, **given)[0] == shown


def test_an_empty_entrypoint_drops_the_images_command_so_that_nothing_is_left(engine: Engine) -> None:
    image = load(engine, entrypoint=["echo"], cmd=["x"])
    refusal = refused_run(engine, image=image, entrypoint=container_spec_pb2.StringList())
    assert refusal[:2] == (INVALID, "FIELD_INVALID")


def test_the_host_name_is_the_one_asked_for_or_the_id_and_stands_in_hosts(engine: Engine) -> None:
    script = "hostname; cat /etc/hostname; grep -c 'box.lan box' /etc/hosts; cat /proc/sys/kernel/domainname"
    assert engine.run(IMAGE, "sh", "-c", script, hostname="box", domainname="lan")[0] == b"box\nbox\n1\nlan\n"
    out, _, ended = engine.run(IMAGE, "hostname")
    assert out.decode() == ended.id[:12] + "\n"


@pytest.mark.parametrize("bad", ["a b", "-a", "x" * 65, "a\n", "ü", "a/b"])
def test_a_host_name_that_is_none_is_refused(engine: Engine, bad: str) -> None:
    assert refused_run(engine, "true", hostname=bad)[:2] == (INVALID, "FIELD_INVALID")
