"""What a container's first process is: program, directory, environment, signals, and how its end is told."""

import concurrent.futures
import time
from typing import Any

import pytest

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_pb2, resources_pb2
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
    wait,
)
from tests.support import images, tarball
from tests.support.engine import Engine
from tests.support.wait import until_now

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


@pytest.mark.parametrize("directory", ["/tmp/new", "/a/b/c", "/tmp/", "/var/./run/x"])
def test_t09_a_working_directory_that_is_missing_is_made(engine: Engine, directory: str) -> None:
    out, err, _ = engine.run(IMAGE, "sh", "-c", 'pwd; stat -c "%a %u" .', working_dir=directory)
    expected = directory.rstrip("/").replace("/./", "/").encode()
    mode = b"1777 0\n" if expected == b"/tmp" else b"755 0\n"
    assert (out, err) == (expected + b"\n" + mode, b"")


@pytest.mark.parametrize("directory", ["tmp", "./tmp", "/tmp/../etc", "/" + "x" * 4095])
def test_t09_a_working_directory_that_is_no_clean_absolute_path_is_refused(engine: Engine, directory: str) -> None:
    assert refused_run(engine, "pwd", working_dir=directory)[:2] == (INVALID, "FIELD_INVALID")


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


def test_the_host_name_is_the_one_asked_for_or_the_id_and_stands_in_hosts(engine: Engine) -> None:
    script = "hostname; cat /etc/hostname; grep -c 'box.lan box' /etc/hosts; cat /proc/sys/kernel/domainname"
    assert engine.run(IMAGE, "sh", "-c", script, hostname="box", domainname="lan")[0] == b"box\nbox\n1\nlan\n"
    out, _, ended = engine.run(IMAGE, "hostname")
    assert out.decode() == ended.id[:12] + "\n"


@pytest.mark.parametrize("bad", ["a b", "-a", "x" * 65, "a\n", "ü", "a/b"])
def test_a_host_name_that_is_none_is_refused(engine: Engine, bad: str) -> None:
    assert refused_run(engine, "true", hostname=bad)[:2] == (INVALID, "FIELD_INVALID")
