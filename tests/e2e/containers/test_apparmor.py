"""The profile that containers get unasked where the host has AppArmor: who is under it, and what it forbids."""

from pathlib import Path
from typing import Any, Final

import pytest

from fluyt.v1 import containers_pb2
from fluyt.v1.types import security_pb2
from tests.e2e.builds.steps import build
from tests.e2e.containers.sees_steps import shell
from tests.e2e.containers.steps import HOST_USERS, IMAGE, exit_of, load, started, wait
from tests.e2e.execs.steps import run as exec_in
from tests.support.engine import Engine

pytestmark = pytest.mark.needs("apparmor", "apparmor_parser")

LABEL: Final = "cat /proc/self/attr/current"
UNDER: Final = "fluyt-default (enforce)\n"
#: What keeps a process from these things but the profile: nothing.
OPEN: Final[dict[str, Any]] = {
    "seccomp": security_pb2.SeccompProfile(unconfined=True),
    "add_capabilities": ["SYS_ADMIN", "SYS_PTRACE"],
    "masked_paths": security_pb2.PathList(),
    "read_only_paths": security_pb2.PathList(),
}


def security(**fields: Any) -> security_pb2.SecuritySpec:
    return security_pb2.SecuritySpec(**fields)


def test_every_process_of_a_container_is_under_it_unless_it_asks_for_none(engine: Engine) -> None:
    for own in (HOST_USERS, None):
        assert shell(engine, LABEL, namespaces=own) == UNDER
    running = started(engine, "sleep", "100")
    assert exec_in(engine, running.id, "sh", "-c", LABEL).out == UNDER.encode()
    assert exec_in(engine, running.id, "sh", "-c", LABEL, privileged=True).out == b"unconfined\n"
    assert shell(engine, LABEL, security=security(apparmor_profile="unconfined")) == "unconfined\n"
    assert shell(engine, LABEL, namespaces=HOST_USERS, security=security(privileged=True)) == "unconfined\n"


def test_it_forbids_to_mount_and_to_set_what_is_the_hosts(engine: Engine) -> None:
    tries = {
        "mount": "mkdir -p /m; mount -t tmpfs none /m",
        "sysrq": "cat </dev/null >>/proc/sysrq-trigger",
        "kernel": "cat </dev/null >>/proc/sys/kernel/panic",
        "vm": "cat </dev/null >>/proc/sys/vm/swappiness",
        "net": "cat </dev/null >>/proc/sys/net/ipv4/ip_forward",
        "irq": "cat </dev/null >>/proc/irq/default_smp_affinity",
        "sys": "mount -o remount,rw /sys; cat </dev/null >>/sys/kernel/mm/transparent_hugepage/enabled",
        "shm": "cat </dev/null >>/proc/sys/kernel/shmmax",
    }
    script = "; ".join(f"({attempt}) 2>/dev/null && echo {name}" for name, attempt in tries.items()) + "; true"
    assert shell(engine, script, namespaces=HOST_USERS, security=security(**OPEN)).split() == ["shm"]
    freely = security(**OPEN, apparmor_profile="unconfined")
    assert shell(engine, script, namespaces=HOST_USERS, security=freely).split() == list(tries)


def test_signals_within_it_and_from_the_engine_arrive(engine: Engine) -> None:
    assert shell(engine, "sleep 100 & kill $!; wait $!; echo $?") == "143\n"
    running = started(engine, "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done")
    engine.containers.StopContainer(containers_pb2.StopContainerRequest(container=running.id))
    assert exit_of(wait(engine, running.id))[1] == 7


def test_a_step_of_a_build_is_under_it(engine: Engine, tmp_path: Path) -> None:
    built = build(engine, tmp_path, f"FROM {IMAGE}\nRUN {LABEL}\n", no_cache=True)
    assert UNDER.encode() in built.output


def test_a_daemon_that_is_told_not_to_gives_none(tmp_path: Path) -> None:
    with Engine(tmp_path, options=["--apparmor=off"]) as plain:
        assert shell(plain, LABEL, image=load(plain)) == "unconfined\n"
