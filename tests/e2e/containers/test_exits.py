"""How an end is told where it is odd: faults, programs the kernel cannot run, rights that lack, limits it refuses."""

from collections.abc import Iterator

import grpc
import pytest

from fluyt.v1.types import container_pb2, resources_pb2
from tests.e2e.containers.steps import (
    INVALID,
    WRONG_STATE,
    create,
    exit_of,
    get,
    group,
    listed,
    load,
    refused,
    refused_run,
    start,
)
from tests.support import programs, tarball
from tests.support.engine import Engine


@pytest.fixture(scope="module")
def odd(container_engine: Engine) -> str:
    """An image of programs that fault, that belong to another machine, or that only root may execute."""
    return load(
        container_engine,
        tarball.file("bin/segv", programs.program("segv"), mode=0o755),
        tarball.file("bin/ill", programs.program("ill"), mode=0o755),
        tarball.file("bin/alien", programs.program("ill", machine=programs.FOREIGN_MACHINE), mode=0o755),
        tarball.file("bin/cut", programs.program("segv")[:40], mode=0o755),
        tarball.file("bin/crlf", "#!/bin/sh\r\necho never\n", mode=0o755),
        tarball.file("bin/by-directory", "#!/etc\n", mode=0o755),
        tarball.file("bin/roots", "#!/bin/sh\necho roots\n", mode=0o700),
        tarball.directory("closed", mode=0o700),
        tarball.file("closed/tool", "#!/bin/sh\necho closed\n", mode=0o755),
        tarball.symlink("bin/by-link", "../etc/../bin/chain"),
        tarball.symlink("bin/chain", "/bin/busybox"),
    )


@pytest.mark.parametrize(("program", "signal"), [("segv", 11), ("ill", 4)])
def test_t03_a_fault_of_process_one_is_told_as_its_signal(engine: Engine, odd: str, program: str, signal: int) -> None:
    assert exit_of(engine.run(odd, program)[2]) == ("signal", signal)
    assert engine.run(odd, "sh", "-c", f"{program}; echo $?")[0].splitlines()[-1] == b"%d" % (128 + signal)


@pytest.mark.parametrize(
    ("program", "code", "user"),
    [
        ("alien", 126, ""),
        ("cut", 126, ""),
        ("by-directory", 126, ""),
        ("/bin", 126, ""),
        ("/dev/null", 126, ""),
        ("roots", 126, "1000"),
        ("/closed/tool", 126, "1000"),
        ("crlf", 127, ""),
        ("", 127, ""),
        ("no such", 127, ""),
        ("/bin/segv/x", 127, ""),
    ],
)
def test_t01_what_the_kernel_or_its_rights_keep_from_running(
    engine: Engine, odd: str, program: str, code: int, user: str
) -> None:
    container = create(engine, program, image=odd, user=user)
    status, reason, metadata = refused(lambda: start(engine, container.id))
    assert (status, reason, metadata["exit_code"]) == (WRONG_STATE, "PROCESS_START_FAILED", str(code))
    assert get(engine, container.id).state == container_pb2.Container.STATE_CREATED


def test_t01_a_directory_of_the_path_that_is_closed_is_passed_over_and_told_if_nothing_else_has_it(
    engine: Engine, odd: str
) -> None:
    path = "PATH=/closed:/bin"
    assert engine.run(odd, "echo", "found", env=[path], user="1000")[0] == b"found\n"
    assert engine.run(odd, "tool", env=[path])[0] == b"closed\n"
    assert refused_run(engine, "tool", image=odd, env=[path], user="1000")[2]["exit_code"] == "126"
    assert refused_run(engine, "echo", image=odd, env=["PATH="])[2]["exit_code"] == "127"


def test_t01_a_program_by_links_is_executed_and_sees_the_name_it_was_called_by(engine: Engine, odd: str) -> None:
    assert b"applet not found" in engine.run(odd, "by-link")[1]


def test_t01_arguments_beyond_the_limit_are_refused_by_its_name(engine: Engine) -> None:
    longest = "x" * 131_071
    assert engine.run("busybox:1", "sh", "-c", "echo ${#1}", "sh", longest)[0] == b"131071\n"
    status, reason, metadata = refused_run(engine, "echo", longest + "x")
    assert (status, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", "spec.args[1]")
    assert "MAX_ARG_BYTES" in metadata["rule"]
    status, reason, metadata = refused_run(engine, "echo", *["x"] * 65_536)
    assert (status, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert metadata["limit"] == "MAX_ARGS_AND_ENV_COUNT"


def test_t02_a_failed_run_that_removes_itself_leaves_no_container(engine: Engine) -> None:
    assert refused_run(engine, "/bin/nope")[1] == "PROCESS_START_FAILED"
    assert list(listed(engine)) == []


@pytest.fixture
def narrow_parent(engine: Engine) -> Iterator[None]:
    """The engine's own group may use a tenth of a CPU, which no group below it can exceed."""
    quota = group(engine, "cpu") / "cpu.cfs_quota_us"
    quota.write_text("10000")
    yield
    quota.write_text("-1")


@pytest.mark.needs("cgroup-v1")
@pytest.mark.usefixtures("narrow_parent")
def test_a_limit_that_the_kernel_refuses_is_told_with_its_file_and_nothing_is_left(engine: Engine) -> None:
    wide = resources_pb2.Resources(cpu_quota_micros=50_000)
    status, reason, metadata = refused_run(engine, "true", resources=wide)
    assert (status, reason) == (WRONG_STATE, "CGROUP_LIMIT_REJECTED")
    assert (metadata["file"].rpartition("/")[2], metadata["value"]) == ("cpu.cfs_quota_us", "50000")
    assert engine.left_on_host() == []
    container = create(engine, "true", resources=wide)
    refused(lambda: start(engine, container.id))
    assert exit_of(get(engine, container.id)) == ("exit_code", 125)
    fitting = resources_pb2.Resources(cpu_quota_micros=5_000)
    assert exit_of(engine.run("busybox:1", "true", resources=fitting)[2]) == ("exit_code", 0)
