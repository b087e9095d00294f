"""Signals, names, specs and limits: what is taken, what is refused, and what comes out."""

from random import Random

import pytest

from fluytd.containers.checks import MAX_EXPOSED_PORTS, MAX_LOG_DETAILS, check_spec, swap_default
from fluytd.containers.model import Container, ExitStatus
from fluytd.containers.names import is_valid_name, make_name
from fluytd.containers.privileges import capabilities
from fluytd.containers.resolve import resolve
from fluytd.containers.resource_limits import limits
from fluytd.containers.root_mounts import MAX_LOWER_DIRS, mounts, stacked_dirs
from fluytd.containers.signals import parse_signal
from fluytd.containers.spec import (
    ContainerSpec,
    LogSpec,
    NetworkMode,
    NetworkSpec,
    ResourcesSpec,
    RlimitSpec,
    SecuritySpec,
    TmpfsSpec,
)
from fluytd.containers.start_facts import StartPaths
from fluytd.errors import FieldInvalid, LimitExceeded
from fluytd.state.containers import Encoder, decode
from tests.support.fakes.containers import HOST, IMAGE, FakeDirectories

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("text", "number"),
    [("SIGUSR1", 10), ("usr1", 10), ("10", 10), ("RTMIN+3", 37), ("SIGRTMAX-1", 63), ("0", None), ("65", None)]
    + [("nope", None), ("SIGSIGTERM", None), ("-9", None), ("RTMIN+31", None), ("", None)],
)
def test_t04_signals_are_names_with_or_without_sig_or_numbers(text: str, number: int | None) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize(
    ("name", "is_valid"), [("ab", True), ("a", False), ("_a", False), ("a/b", False), ("a" * 129, False), ("é1", False)]
)
def test_names_follow_dockers_rule(name: str, is_valid: bool) -> None:
    assert is_valid_name(name) is is_valid


def test_made_names_are_valid_and_free() -> None:
    random = Random(0)  # noqa: S311 - names need no secrecy
    taken: set[str] = set()
    for _ in range(500):
        name = make_name(taken, random)
        assert is_valid_name(name)
        assert name not in taken
        taken.add(name)


def test_an_entrypoint_of_the_callers_drops_the_images_command() -> None:
    assert resolve(ContainerSpec("busybox"), IMAGE, "a" * 64).args == ("sh",)
    assert resolve(ContainerSpec("busybox", entrypoint=("x",)), IMAGE, "a" * 64).args == ("x",)
    with pytest.raises(FieldInvalid):
        resolve(ContainerSpec("busybox", entrypoint=()), IMAGE, "a" * 64)


def test_t11_a_bare_name_removes_the_images_variable() -> None:
    env = resolve(ContainerSpec("busybox", env=("FOO", "E=")), IMAGE, "a" * 64).env
    assert env == ("PATH=/bin", "HOSTNAME=aaaaaaaaaaaa", "E=")


@pytest.mark.parametrize(
    ("memory", "swap", "expected"),
    [(64, 96, 96), (64, 64, 64), (64, -1, -1), (64, None, 128), (None, None, None)],
)
def test_c02_swap_counts_memory_too_and_is_twice_it_by_default(
    memory: int | None, swap: int | None, expected: int | None
) -> None:
    assert swap_default(memory, swap) == expected


@pytest.mark.parametrize(("asked", "given"), [(0, -1), (-1, -1), (16, 16), (None, None)])
def test_c05_no_limit_of_processes_is_unlimited(asked: int | None, given: int | None) -> None:
    assert limits(ResourcesSpec(pids_limit=asked)).pids_limit == given


def test_cpus_are_quota_and_period() -> None:
    found = limits(ResourcesSpec(nano_cpus=1_500_000_000))
    assert (found.cpu_quota_micros, found.cpu_period_micros) == (150_000, 100_000)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (ContainerSpec("b", resources=ResourcesSpec(memory_limit_bytes=1)), "spec.resources.memory_limit_bytes"),
        (
            ContainerSpec("b", resources=ResourcesSpec(memory_limit_bytes=64 * MIB, memory_swap_limit_bytes=32 * MIB)),
            "spec.resources.memory_swap_limit_bytes",
        ),
        (ContainerSpec("b", resources=ResourcesSpec(cpu_shares=1)), "spec.resources.cpu_shares"),
        (ContainerSpec("b", resources=ResourcesSpec(cpuset_cpus="1-")), "spec.resources.cpuset_cpus"),
        (ContainerSpec("b", resources=ResourcesSpec(pids_limit=-2)), "spec.resources.pids_limit"),
        (ContainerSpec("b", rlimits=(RlimitSpec("nofile", 2, 1),)), "spec.rlimits[0].soft"),
        (ContainerSpec("b", rlimits=(RlimitSpec("files", 1, 1),)), "spec.rlimits[0].name"),
        (ContainerSpec("b", env=("=x",)), "spec.env[0]"),
        (ContainerSpec("b", args=("a\0b",)), "spec.args[0]"),
        (ContainerSpec("b", hostname="a\nb"), "spec.hostname"),
        (ContainerSpec("b", working_dir="rel"), "spec.working_dir"),
        (ContainerSpec("b", stop_signal="SIGNOPE"), "spec.stop_signal"),
        (ContainerSpec("b", sysctls={"vm.swappiness": "1"}), "spec.sysctls[vm.swappiness]"),
        (ContainerSpec("b", sysctls={"kernel.core_pattern": "|/x"}), "spec.sysctls[kernel.core_pattern]"),
        (
            ContainerSpec("b", sysctls={"net.x": "1"}, network=NetworkSpec(NetworkMode.HOST)),
            "spec.sysctls[net.x]",
        ),
        (
            ContainerSpec("b", sysctls={"kernel.shm_rmid_forced": "1+kernel.core_pattern=|/x"}),
            "spec.sysctls[kernel.shm_rmid_forced]",
        ),
        (ContainerSpec("b", log=LogSpec(detail_labels=("a=b",))), "spec.log.detail_labels[0]"),
        (ContainerSpec("b", log=LogSpec(detail_env=("OK", ""))), "spec.log.detail_env[1]"),
        (ContainerSpec("b", network=NetworkSpec(exposed_ports=("80/tcp", "80"))), "spec.network.exposed_ports[1]"),
        (ContainerSpec("b", network=NetworkSpec(exposed_ports=("65536/udp",))), "spec.network.exposed_ports[0]"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_its_field(spec: ContainerSpec, field: str) -> None:
    with pytest.raises(FieldInvalid) as caught:
        check_spec(spec)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("spec", "limit"),
    [
        (ContainerSpec("b", log=LogSpec(detail_env=("A",) * (MAX_LOG_DETAILS + 1))), "MAX_LOG_DETAILS"),
        (
            ContainerSpec("b", network=NetworkSpec(exposed_ports=("80/tcp",) * (MAX_EXPOSED_PORTS + 1))),
            "MAX_EXPOSED_PORTS",
        ),
    ],
)
def test_what_is_too_many_is_told_by_its_limit(spec: ContainerSpec, limit: str) -> None:
    with pytest.raises(LimitExceeded) as caught:
        check_spec(spec)
    assert caught.value.metadata["limit"] == limit


def test_capabilities_are_dropped_and_added_as_docker_does() -> None:
    assert capabilities(SecuritySpec(), HOST) == ["CHOWN", "KILL"]
    assert capabilities(SecuritySpec(drop_capabilities=("ALL",), add_capabilities=("KILL",)), HOST) == ["KILL"]
    assert capabilities(SecuritySpec(add_capabilities=("ALL",), drop_capabilities=("KILL",)), HOST) == [
        "CHOWN",
        "SYS_ADMIN",
    ]
    assert capabilities(SecuritySpec(privileged=True), HOST) == ["CHOWN", "KILL", "SYS_ADMIN"]
    with pytest.raises(FieldInvalid):
        capabilities(SecuritySpec(add_capabilities=("FLY",)), HOST)


@pytest.mark.parametrize("targets", [("/run", "/run/lock"), ("/run/lock", "/run")])
def test_m01_parents_are_mounted_before_what_is_below_them(targets: tuple[str, str]) -> None:
    spec = ContainerSpec("busybox", tmpfs=tuple(TmpfsSpec(target) for target in targets))
    container = Container("a" * 64, "x", spec, IMAGE, resolve(spec, IMAGE, "a" * 64), 1)
    order = [mount.destination for mount in mounts(container, FakeDirectories().paths(container, ("/l",)), "/init")]
    assert order.index("/run") < order.index("/run/lock")


def test_a_record_reads_back_as_it_was_written() -> None:
    spec = ContainerSpec("busybox", entrypoint=(), security=SecuritySpec(masked_paths=()), tmpfs=(TmpfsSpec("/t"),))
    resolved = resolve(ContainerSpec("busybox"), IMAGE, "a" * 64)
    container = Container("a" * 64, "x", spec, IMAGE, resolved, 1, exit=ExitStatus(signal=9))
    assert decode(container.id, Encoder().encode(container)) == container


@pytest.mark.parametrize("count", [1, MAX_LOWER_DIRS - 1, MAX_LOWER_DIRS])
def test_the_places_that_are_mounted_on_stand_below_all_layers_unless_the_kernel_stacks_no_more(count: int) -> None:
    layers = tuple(str(number) for number in range(count))
    paths = StartPaths("/r", "/l", layers, "/u", "/w", "/h", "/n", "/c", mount_targets_dir="/targets")
    assert stacked_dirs(paths) == [*layers, "/targets"][:MAX_LOWER_DIRS]
