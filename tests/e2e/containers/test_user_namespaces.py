"""Containers in a user namespace: root inside is nobody on the host, and nothing on disk changes its owner."""

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import duration_pb2

from fluyt.v1 import containers_pb2, engine_pb2, engine_pb2_grpc
from fluyt.v1.types import network_pb2, resources_pb2, security_pb2
from tests.e2e.containers.copy_steps import copy_from, copy_to, members, tar
from tests.e2e.containers.copy_steps import member as tar_member
from tests.e2e.containers.file_steps import changes, commit, ended, export
from tests.e2e.containers.file_steps import members as by_name
from tests.e2e.containers.health_steps import Health, check, checked, health, until_state
from tests.e2e.containers.steps import (
    HOST_USERS,
    IMAGE,
    INVALID,
    WRONG_STATE,
    cgroup_file,
    create,
    get,
    group,
    load,
    refused,
    refused_run,
    start,
    started,
    wait,
)
from tests.e2e.execs.steps import Caller
from tests.e2e.execs.steps import run as exec_in
from tests.e2e.volumes.steps import bind, output, tmpfs, volume
from tests.support import image_files, images, tarball
from tests.support.engine import Engine
from tests.support.wait import until_now

USERS = security_pb2.UserNamespaceSpec
NAMESPACE = security_pb2.NamespaceSpec
#: The engine's defaults. Source: server/fluytd/config.py.
FIRST, COUNT = 2**30, 65_536
HEALTHY = Health.STATE_HEALTHY


def auto(size: int = 0, **kinds: Any) -> security_pb2.NamespacesSpec:
    return security_pb2.NamespacesSpec(user=USERS(mode=USERS.MODE_AUTO, size=size), **kinds)


def host_ids(pid: int) -> tuple[int, int]:
    """First id outside and number of ids of a process."""
    inside, outside, count = map(int, Path(f"/proc/{pid}/uid_map").read_text().split())
    assert inside == 0
    assert Path(f"/proc/{pid}/gid_map").read_text() == Path(f"/proc/{pid}/uid_map").read_text()
    return outside, count


def owner(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


def test_root_inside_is_nobody_on_the_host_and_each_container_somebody_else(engine: Engine) -> None:
    one, two = (started(engine, "sleep", "100", namespaces=auto()) for _ in range(2))
    first, second = host_ids(one.host_pid), host_ids(two.host_pid)
    assert first[1] == second[1] == COUNT
    assert first[0] >= FIRST
    assert abs(first[0] - second[0]) >= COUNT
    status = Path(f"/proc/{one.host_pid}/status").read_text()
    assert f"Uid:\t{first[0]}\t{first[0]}\t{first[0]}\t{first[0]}" in status
    # A further process and a health check are in the same namespace.
    assert exec_in(engine, one.id, "sh", "-c", "id -u; readlink /proc/self/ns/user").out.decode().split() == [
        "0",
        str(Path(f"/proc/{one.host_pid}/ns/user").readlink()),
    ]
    probed = checked(engine, check("test $(id -u) = 0 && touch /healthy"), namespaces=auto())
    until_state(engine, probed.id, HEALTHY)
    assert health(engine, probed.id).state == HEALTHY


def test_nothing_that_a_start_has_used_is_kept(engine: Engine) -> None:
    made = started(engine, "sleep", "100", namespaces=auto())
    status = Path(f"/proc/{made.host_pid}/status").read_text()
    (parent,) = (line.split()[1] for line in status.splitlines() if line.startswith("PPid:"))

    def is_let_go() -> bool:
        # Shifted mounts of layers are their own roots; who kept the user namespace until it had its ids was a child.
        open_files = set()
        for entry in Path(f"/proc/{parent}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it is let go right now
                open_files.add(str(entry.readlink()))
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        kept = {path for path in open_files if path == "/" or path.endswith(("/upper", "/work")) or "user:[" in path}
        return children == [str(made.host_pid)] and not kept

    until_now(is_let_go, "mounts of layers and the keeper of the namespace go")


def test_a_container_has_its_ids_until_it_goes(engine: Engine) -> None:
    made = started(engine, "sh", "-c", "touch /kept; sleep 100", namespaces=auto(2000))
    before = host_ids(made.host_pid)
    assert before[1] == 2000
    engine.kill()
    engine.start()
    assert host_ids(started(engine, "sleep", "100", namespaces=auto()).host_pid)[0] != before[0]
    engine.containers.StopContainer(
        containers_pb2.StopContainerRequest(container=made.id, timeout=duration_pb2.Duration())
    )
    again = start(engine, made.id)
    assert host_ids(again.host_pid) == before
    assert exec_in(engine, made.id, "stat", "-c", "%u:%g", "/kept").out == b"0:0\n"


def test_files_have_the_owners_of_inside_wherever_they_are_seen(engine: Engine) -> None:
    image = load(engine, tarball.file("etc/of5", b"x", uid=5, gid=6))
    script = "chown 7:8 /etc/of5; touch /mine; mkdir /d; chown 9:9 /d; chown -h 3:4 /bin/ls"
    container = ended(engine, script, image=image, namespaces=auto())
    upper = engine.root / "data" / "containers" / container / "upper"
    assert (owner(upper / "etc/of5"), owner(upper / "mine"), owner(upper / "d")) == ((7, 8), (0, 0), (9, 9))
    assert changes(engine, container) == ["C /bin", "C /bin/ls", "A /d", "C /etc", "C /etc/of5", "A /mine"]
    exported = by_name(export(engine, container))
    assert [(exported[name].uid, exported[name].gid) for name in ("etc/of5", "mine", "d", "bin/ls")] == [
        (7, 8),
        (0, 0),
        (9, 9),
        (3, 4),
    ]
    commit(engine, container, "mapped:committed")
    # The same layer for one with a range, and one without.
    for spaces in (auto(), security_pb2.NamespacesSpec(user=USERS(mode=USERS.MODE_HOST))):
        seen = output(engine, "mapped:committed", "stat -c %u:%g /etc/of5 /mine /d", namespaces=spaces)
        assert seen.split() == ["7:8", "0:0", "9:9"]


@pytest.mark.parametrize("is_running", [True, False])
def test_copies_in_and_out_have_the_owners_of_inside(engine: Engine, is_running: bool) -> None:
    mounts = [tmpfs("/memory")]
    made = create(engine, "sleep", "100", namespaces=auto(), mounts=mounts)
    if is_running:
        start(engine, made.id)
    data = tar(tar_member("a", b"1", uid=33, gid=34), tar_member("d/b", b"2", uid=0, gid=0))
    copy_to(engine, made.id, "/tmp", data, keep_owners=True)
    copy_to(engine, made.id, "/tmp", tar(tar_member("root", b"3", uid=33, gid=34)))
    _, back = copy_from(engine, made.id, "/tmp")
    found = {entry.name: (entry.uid, entry.gid) for entry in members(back)}
    assert found["tmp/a"] == (33, 34)
    assert found["tmp/d/b"] == (0, 0)
    assert found["tmp/root"] == (0, 0)
    assert found["tmp/d"] == (0, 0)
    if is_running:
        copy_to(engine, made.id, "/memory", data, keep_owners=True)
        seen = exec_in(engine, made.id, "stat", "-c", "%u:%g", "/tmp/a", "/tmp/root", "/memory/a", "/memory/d/b")
        assert seen.out.decode().split() == ["33:34", "0:0", "33:34", "0:0"]
        wrong = tar(tar_member("x", b"", uid=70_000, gid=0))
        code, reason, metadata = refused(lambda: copy_to(engine, made.id, "/tmp", wrong, keep_owners=True))
        assert (code, reason) == (INVALID, "ENTRY_REJECTED")
        assert "70000" in str(metadata)


def test_no_file_anywhere_has_an_id_of_a_range_so_that_the_next_holder_finds_none(tmp_path: Path) -> None:
    """A range is given out again once its container has gone; what it wrote must not be its next holder's."""
    (tmp_path / "e").mkdir()
    (tmp_path / "bound").mkdir()
    # One range and no more, so that the second container has the first one's.
    options = ["--userns-pool-count", str(COUNT)]
    with Engine(tmp_path / "e", options=options) as engine:
        engine.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        mounts = [bind("/bound", tmp_path / "bound"), volume("/kept", "kept"), volume("/any"), tmpfs("/memory")]
        write = "for at in / /bound /kept /any /memory /dev/shm /etc; do : > $at/f; mkdir $at/d; chown 7:8 $at/d; done"
        script = f"{write}; ln -s x /l; mkfifo /p; chown -h 9:9 /l /p /etc/hosts; echo logged; sleep 100"
        first = started(engine, "sh", "-c", script, namespaces=auto(), mounts=mounts, tty=True)
        until_now(lambda: b"logged" in engine.logs(first.id), "all is written")
        exec_in(engine, first.id, "sh", "-c", ": > /of-an-exec")
        ids = host_ids(first.host_pid)
        copy_to(engine, first.id, "/tmp", tar(tar_member("copied", b"x", uid=33, gid=34)), keep_owners=True)
        commit(engine, first.id, "range:1")
        held = refused_run(engine, "true", namespaces=auto())
        assert (held[1], held[2]["limit"]) == ("LIMIT_EXCEEDED", "userns_pool_count")

        def owned() -> list[Path]:
            # Terminals and proc files of a running container are its users'; they are nowhere on the host.
            places = (path for root in (tmp_path, engine.root / "run") for path in root.rglob("*"))
            return [path for path in places if any(ids[0] <= one < ids[0] + ids[1] for one in owner(path))]

        assert owned() == []
        engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=first.id, force=True))
        assert owned() == []
        second = started(engine, "sleep", "100", namespaces=auto(), mounts=mounts[:2])
        assert host_ids(second.host_pid) == ids
        # What it shares with the first it shares by being given it, with the owners that the first saw.
        assert exec_in(engine, second.id, "stat", "-c", "%u:%g", "/bound/d", "/kept/d").out.split() == [b"7:8"] * 2


@pytest.mark.parametrize("spaces", [auto(), HOST_USERS], ids=["own", "host"])
def test_limits_hold_whoever_its_users_are(engine: Engine, spaces: security_pb2.NamespacesSpec) -> None:
    """CVE-2025-47291: containers with users of their own were outside of the group whose limits were theirs."""
    limits = resources_pb2.Resources(pids_limit=40, memory_limit_bytes=64 << 20)
    made = started(engine, "sleep", "100", namespaces=spaces, resources=limits)
    assert cgroup_file(engine, made.id, "pids", "pids.max") == "40"
    caller = Caller(engine, made.id, "sleep", "99")
    caller.started()
    for controller in ("pids", "memory"):
        groups = group(engine, controller) / made.id
        inside = {int(pid) for path in groups.rglob("cgroup.procs") for pid in path.read_text().split()}
        assert made.host_pid in inside, controller
        assert len(inside) == 2, controller
    caller.half_close()


def test_volumes_and_binds_keep_the_owners_of_the_host(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    os.chown(tmp_path / "mine", 41, 42)
    script = "stat -c %u:%g /bound/mine && touch /bound/new /kept/new && chown 5:5 /kept/new && stat -c %u:%g /memory"
    mounts = [bind("/bound", tmp_path), volume("/kept", "mapped-volume"), tmpfs("/memory", uid=3, gid=4)]
    assert output(engine, IMAGE, script, namespaces=auto(), mounts=mounts).split() == ["41:42", "3:4"]
    assert owner(tmp_path / "new") == (0, 0)
    host = security_pb2.NamespacesSpec(user=USERS(mode=USERS.MODE_HOST))
    for spaces in (auto(), host):
        assert output(engine, IMAGE, "stat -c %u:%g /kept/new", namespaces=spaces, mounts=mounts[1:]) == "5:5"


def test_a_bind_that_cannot_show_other_owners_is_refused_by_name(engine: Engine) -> None:
    told = refused_run(engine, "true", namespaces=auto(), mounts=[bind("/x", "/proc/sys")])
    assert told[:2] == (WRONG_STATE, "PROCESS_START_FAILED")
    assert told[2]["path"] == "/proc/sys"
    assert "other owners" in told[2]["detail"]
    assert "--userns host" in told[2]["detail"]
    assert output(engine, IMAGE, "cat /x/kernel/ostype", namespaces=HOST_USERS, mounts=[bind("/x", "/proc/sys")]) == (
        "Linux"
    )


def test_file_capabilities_of_layers_count_and_are_those_of_the_container(engine: Engine) -> None:
    # cap_net_raw=ep, as `setcap` writes it.
    capability = bytes([1, 0, 0, 2, 0, 0x20, 0, 0]) + bytes(12)
    program = tarball.file("usr/busybox", Path("/bin/busybox").read_bytes(), 0o755)
    image = load(engine, replace(program, xattrs={"security.capability": capability}))
    script = "cp /bin/busybox /tmp/cat; grep CapEff /proc/self/status; /usr/busybox grep CapEff /proc/self/status"
    told = output(engine, image, script, namespaces=auto(), user="1000")
    assert [line.split()[1] for line in told.splitlines()] == ["0" * 16, "0000000000002000"]
    container = ended(engine, "touch /usr/busybox", image=image, namespaces=auto())
    commit(engine, container, "mapped:capable")
    told = output(
        engine, "mapped:capable", "/usr/busybox grep CapEff /proc/self/status", namespaces=auto(), user="1000"
    )
    assert told.split()[1] == "0000000000002000"


def test_who_shares_a_namespace_shares_the_users(engine: Engine) -> None:
    shareable = NAMESPACE(mode=NAMESPACE.MODE_SHAREABLE)
    first = started(engine, "sleep", "100", name="users-a", namespaces=auto(ipc=shareable))
    ids = str(host_ids(first.host_pid)[0])
    told = "readlink /proc/self/ns/user; awk '{print $2}' /proc/self/uid_map; touch /f && stat -c %u /f"
    joined = NAMESPACE(mode=NAMESPACE.MODE_CONTAINER, container="users-a")
    network = network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_CONTAINER, container="users-a")
    expected = [str(Path(f"/proc/{first.host_pid}/ns/user").readlink()), ids, "0"]
    spaces = security_pb2.NamespacesSpec
    assert output(engine, IMAGE, told, network=network).split() == expected
    assert output(engine, IMAGE, told, namespaces=spaces(ipc=joined)).split() == expected
    # In another's process ids, ps shows its processes, which are ours to signal.
    script = f"{told}; kill -0 1 && echo mine"
    assert output(engine, IMAGE, script, namespaces=spaces(pid=joined)).split() == [*expected, "mine"]
    host = USERS(mode=USERS.MODE_HOST)
    started(engine, "sleep", "100", name="users-b", namespaces=spaces(user=host))
    other = NAMESPACE(mode=NAMESPACE.MODE_CONTAINER, container="users-b")
    for wrong in (spaces(pid=joined, uts=other), auto(pid=other)):
        assert refused_run(engine, "true", namespaces=wrong)[2]["field"] == "spec.namespaces.user"


def test_who_has_the_hosts_users_can_look_into_who_has_its_own(engine: Engine) -> None:
    first = started(
        engine, "sleep", "100", name="watched", namespaces=auto(ipc=NAMESPACE(mode=NAMESPACE.MODE_SHAREABLE))
    )
    joined = NAMESPACE(mode=NAMESPACE.MODE_CONTAINER, container="watched")
    network = network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_CONTAINER, container="watched")
    script = "for kind in user net pid ipc; do readlink /proc/self/ns/$kind; done; kill -0 1 && echo mine"
    told = [
        Path(f"/proc/{pid}/ns/{kind}").readlink() for pid, kind in ((first.host_pid, "net"), (first.host_pid, "pid"))
    ]
    expected = [Path("/proc/self/ns/user").readlink(), *told, Path(f"/proc/{first.host_pid}/ns/ipc").readlink(), "mine"]
    spaces = security_pb2.NamespacesSpec(pid=joined, ipc=joined)
    privileged = security_pb2.SecuritySpec(privileged=True)
    assert output(engine, IMAGE, script, network=network, namespaces=spaces, security=privileged).split() == [
        *map(str, expected)
    ]
    spaces.user.mode = USERS.MODE_HOST
    assert output(engine, IMAGE, script, network=network, namespaces=spaces).split() == [*map(str, expected)]


def test_the_ids_of_a_container_and_what_holds_unasked_are_told(engine: Engine, tmp_path: Path) -> None:
    made = create(engine, "true", namespaces=auto(3000))
    assert (get(engine, made.id).host_ids.first_id >= FIRST, made.host_ids.count) == (True, 3000)
    assert not create(engine, "true", namespaces=HOST_USERS).HasField("host_ids")
    for name, mode in (("auto", USERS.MODE_AUTO), ("host", USERS.MODE_HOST)):
        (tmp_path / name).mkdir()
        with Engine(tmp_path / name, options=["--default-userns", name]) as other:
            other.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
            info = engine_pb2_grpc.EngineServiceStub(other.channel).GetInfo(engine_pb2.GetInfoRequest())
            assert info.default_users == mode
            assert create(other, "true").HasField("host_ids") == (name == "auto")
            own = str(Path("/proc/self/ns/user").readlink())
            assert (output(other, IMAGE, "readlink /proc/self/ns/user").strip() == own) == (name == "host")
            # Privileged, or in the host's network, containers have its users.
            for spec in (
                {"security": security_pb2.SecuritySpec(privileged=True)},
                {"network": network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_HOST)},
            ):
                assert not create(other, "true", **spec).HasField("host_ids")


def test_an_image_with_files_of_ids_that_do_not_fit_is_refused_by_the_id(engine: Engine) -> None:
    image = load(engine, tarball.file("etc/high", b"x", uid=70_000, gid=1_048_575))
    code, reason, metadata = refused_run(engine, "true", image=image, namespaces=auto(65_536))
    assert (code, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", "spec.namespaces.user")
    assert "id 1048575" in metadata["rule"]
    higher = load(engine, tarball.file("etc/high", b"x", uid=3_000_000))
    assert output(engine, higher, "stat -c %u /etc/high", namespaces=auto(3_000_001)) == "3000000"
    assert output(engine, higher, "stat -c %u /etc/high", namespaces=HOST_USERS) == "3000000"
    # What a commit adds counts too.
    container = ended(engine, "touch /x && chown 90000 /x", namespaces=auto(100_000))
    commit(engine, container, "mapped:high")
    assert "id 90000" in refused_run(engine, "true", image="mapped:high", namespaces=auto(65_536))[2]["rule"]


def test_an_image_gets_as_many_ids_as_its_files_need_where_nothing_is_said(tmp_path: Path) -> None:
    with Engine(tmp_path, options=["--default-userns", "auto"]) as engine:
        image = load(engine, tarball.file("etc/high", b"x", uid=70_000, gid=1_048_575))
        script = "stat -c %u:%g /etc/high; chown 1:1 /etc/high; stat -c %u:%g /etc/high"
        assert output(engine, image, script).split() == ["70000:1048575", "1:1"]
        higher = load(engine, tarball.file("etc/high", b"x", uid=3_000_000))
        code, reason, metadata = refused_run(engine, "true", image=higher)
        assert (code, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", "spec.namespaces.user")
        assert "id 3000000" in metadata["rule"]


def test_what_needs_the_hosts_users_has_them_and_is_refused_together_with_others(engine: Engine) -> None:
    host = NAMESPACE(mode=NAMESPACE.MODE_HOST)
    of_host = network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_HOST)
    wrong: list[dict[str, Any]] = [
        {"namespaces": auto(), "security": security_pb2.SecuritySpec(privileged=True)},
        {"namespaces": auto(), "network": of_host},
        *({"namespaces": auto(0, **{kind: host})} for kind in ("pid", "ipc", "uts", "cgroup")),
    ]
    for spec in wrong:
        code, reason, metadata = refused_run(engine, "true", **spec)
        assert (code, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", "spec.namespaces.user")
    for size in (999, 2**32 - 1):
        assert refused_run(engine, "true", namespaces=auto(size))[2]["field"] == "spec.namespaces.user.size"
    code, reason, metadata = refused_run(engine, "true", namespaces=auto(2**31))
    assert (reason, metadata["limit"]) == ("LIMIT_EXCEEDED", "userns_pool_count")
    sized = security_pb2.NamespacesSpec(user=USERS(mode=USERS.MODE_HOST, size=5000))
    assert refused_run(engine, "true", namespaces=sized)[2]["field"] == "spec.namespaces.user.size"


def test_a_user_outside_of_the_range_is_named(engine: Engine) -> None:
    code, reason, metadata = refused_run(engine, "true", namespaces=auto(), user="70000")
    assert (code, reason) == (INVALID, "USER_INVALID")
    assert "the id 70000 is none of the container's 65536 ids; --userns auto:70001 or host has it" in str(metadata)
    assert output(engine, IMAGE, "id -u", namespaces=auto(131_072), user="70000") == "70000"


def test_a_terminal_is_its_users(engine: Engine) -> None:
    made = create(engine, "sh", "-c", "stat -c %u:%g $(tty); stat -c %u /dev/console", tty=True, namespaces=auto())
    start(engine, made.id)
    assert wait(engine, made.id).exit_code == 0
    assert engine.logs(made.id).split() == [b"0:5", b"0"]
