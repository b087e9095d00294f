"""Profiles of system calls of the caller's own, paths that are masked or not, and security modules."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fluyt.v1 import execs_pb2, execs_pb2_grpc
from fluyt.v1.types import security_pb2
from fluytd.host import probe
from tests.e2e.containers.sees_steps import shell, sleeper
from tests.e2e.containers.steps import (
    HOST_USERS,
    INVALID,
    WRONG_STATE,
    create,
    get,
    refused,
    refused_run,
    started,
)
from tests.e2e.execs.steps import run as exec_in
from tests.support.engine import Engine

HAS = {"apparmor": probe.has_apparmor(), "selinux": probe.has_selinux()}


def profile(**document: Any) -> security_pb2.SecuritySpec:
    text = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", **document})
    return security_pb2.SecuritySpec(seccomp=security_pb2.SeccompProfile(json=text))


NO_DIRECTORIES = profile(
    syscalls=[{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
    architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
)


def test_a_profile_of_ones_own_decides_which_calls_there_are(engine: Engine) -> None:
    script = "mkdir /x 2>&1; echo $?; grep Seccomp: /proc/self/status | cut -f2"
    assert shell(engine, script, security=NO_DIRECTORIES).split("\n")[0].endswith("No space left on device")
    assert shell(engine, script, security=NO_DIRECTORIES).split()[-2:] == ["1", "2"]
    # What the default profile forbids, this one allows.
    assert shell(engine, "unshare -U true && echo made", security=NO_DIRECTORIES) == "made\n"
    only = profile(
        defaultAction="SCMP_ACT_ALLOW",
        syscalls=[
            {
                "names": ["kill"],
                "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 1, "value": 12, "op": "SCMP_CMP_EQ"}],
            }
        ],
    )
    script = "sleep 9 & kill -USR2 $! 2>/dev/null || echo refused; kill -KILL $! && echo sent"
    assert shell(engine, script, security=only).split() == ["refused", "sent"]


def test_a_profile_holds_for_further_processes_and_is_shown_as_it_was_given(engine: Engine) -> None:
    made = sleeper(engine, "filtered", security=NO_DIRECTORIES)
    assert get(engine, made.id).spec.security == NO_DIRECTORIES
    spec = execs_pb2.ExecSpec(args=["mkdir", "/x"])
    request = execs_pb2.ExecRequest(start=execs_pb2.ExecStart(container="filtered", spec=spec))
    events = list(execs_pb2_grpc.ExecServiceStub(engine.channel).Exec(iter([request])))
    assert events[-1].exited.exit_code == 1
    assert b"No space" in b"".join(event.stderr.data for event in events if event.WhichOneof("event") == "stderr")


def test_a_profile_that_is_none_is_refused_when_the_container_is_made(engine: Engine) -> None:
    for security, word in (
        (profile(defaultAction="ALLOW"), "the action"),
        (profile(defaultAction="SCMP_ACT_NOTIFY"), "SCMP_ACT_NOTIFY"),
        (profile(listenerPath="/run/x"), "listener"),
        (profile(syscalls=[{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5000}]), "4095"),
        (profile(comment="x" * (256 * 1024)), "MAX_SECCOMP_BYTES"),
        (security_pb2.SecuritySpec(seccomp=security_pb2.SeccompProfile(json="{")), "cannot be read"),
        (security_pb2.SecuritySpec(seccomp=security_pb2.SeccompProfile(json="unconfined")), "JSON object"),
    ):
        refusal = refused(lambda security=security: create(engine, "true", security=security))  # type: ignore[misc]
        assert (*refusal[:2], refusal[2]["field"]) == (INVALID, "FIELD_INVALID", "spec.security.seccomp.json"), word
        assert word in refusal[2]["rule"], refusal


def test_without_masks_the_system_paths_are_as_the_kernel_has_them(engine: Engine) -> None:
    none = security_pb2.PathList()
    open_paths = security_pb2.SecuritySpec(masked_paths=none, read_only_paths=none)
    script = "wc -c < /proc/interrupts; grep -c ' /proc/' /proc/self/mounts; true"
    masked, mounts = shell(engine, script).split()
    assert (int(masked), int(mounts) > 0) == (0, True)
    shown, mounts = shell(engine, script, security=open_paths).split()
    assert (int(shown) > 0, int(mounts)) == (True, 0)


def test_a_security_module_that_the_host_lacks_is_told_and_to_be_without_it_is_fine(engine: Engine) -> None:
    without = security_pb2.SecuritySpec(apparmor_profile="unconfined", selinux_label="disable")
    assert shell(engine, "echo ok", security=without) == "ok\n"
    for security, feature in (
        (security_pb2.SecuritySpec(apparmor_profile="docker-default"), "apparmor"),
        (security_pb2.SecuritySpec(selinux_label="type:spc_t"), "selinux"),
    ):
        if not HAS[feature]:
            refusal = refused_run(engine, "true", security=security)
            assert (refusal[:2], refusal[2]["feature"]) == ((WRONG_STATE, "KERNEL_FEATURE_MISSING"), feature)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("apparmor_profile", value) for value in ("two words", "line\nexec unconfined", "ü", "x" * 256)),
        *(("selinux_label", value) for value in ("type:", "type:a b", "colour:red\n", "x" * 256)),
    ],
)
def test_what_is_no_profile_and_no_label_is_refused(engine: Engine, field: str, value: str) -> None:
    security = security_pb2.SecuritySpec(**{field: value})  # type: ignore[arg-type]
    refusal = refused_run(engine, "true", security=security)
    assert (*refusal[:2], refusal[2]["field"]) == (INVALID, "FIELD_INVALID", f"spec.security.{field}")


@pytest.mark.needs("apparmor", "apparmor_parser")
def test_a_profile_of_the_host_holds_for_every_process_of_the_container(engine: Engine, tmp_path: Path) -> None:
    name = "fluyt-test-profile"
    (tmp_path / "profile").write_text(
        f"profile {name} flags=(attach_disconnected,mediate_deleted) {{\n"
        "  file, capability, network, signal, umount,\n  deny /forbidden rwklx,\n}\n"
    )
    subprocess.run(["apparmor_parser", "--replace", "--skip-cache", str(tmp_path / "profile")], check=True)
    try:
        spec: dict[str, Any] = {"security": security_pb2.SecuritySpec(apparmor_profile=name)}
        look = "cat /proc/self/attr/current; echo x > /forbidden && echo wrote; true"
        for own in (HOST_USERS, None):
            assert shell(engine, look, namespaces=own, **spec) == f"{name} (enforce)\n"
        assert "wrote" in shell(engine, look)
        running = started(engine, "sleep", "100", **spec)
        assert exec_in(engine, running.id, "sh", "-c", look).out == f"{name} (enforce)\n".encode()
        absent = security_pb2.SecuritySpec(apparmor_profile="fluyt-test-absent")
        refusal = refused_run(engine, "true", security=absent)
        assert (refusal[1], refusal[2]["step"]) == ("PROCESS_START_FAILED", "apparmor")
        assert "no profile of this name" in refusal[2]["detail"]
    finally:
        subprocess.run(["apparmor_parser", "--remove", str(tmp_path / "profile")], check=True)
