"""Exports and lists of changes: pages, slow readers, deletions meanwhile, and content that means harm."""

import contextlib
import time
from pathlib import Path

import grpc
import pytest

from fluyt.v1 import container_files_pb2
from fluyt.v1.types import security_pb2
from tests.e2e.containers import file_steps as files
from tests.e2e.containers.steps import HOST_USERS, IMAGE, INVALID, NOT_FOUND, create, delete, refusal, refused, started
from tests.support.engine import Engine
from tests.support.wait import until_now

MIB = 1024 * 1024
PRIVILEGED = security_pb2.SecuritySpec(privileged=True)


def test_an_export_of_a_running_container_has_its_files_and_not_what_is_mounted(engine: Engine) -> None:
    running = started(engine, "sh", "-c", "echo data > /data; echo ready; sleep 1000")
    until_now(lambda: b"ready" in engine.logs(running.id), "it is ready")
    exported = files.members(files.export(engine, running.id))
    assert {"data", "bin/busybox"} <= set(exported)
    # What the engine mounts on where the image has nothing is neither the image's nor the container's.
    assert "etc/hosts" not in exported
    assert not any(name.startswith(("proc/", "sys/", "dev/")) for name in exported)


def test_a_start_makes_nothing_in_the_writable_layer(engine: Engine) -> None:
    container = files.ended(engine, "test -e /etc/hosts && test -d /proc/self && test -c /dev/null")
    writable = engine.root / "data" / "containers" / container / "upper"
    assert list(writable.iterdir()) == []
    assert files.changes(engine, container) == []
    changed = files.ended(engine, "echo mine > /etc/mine")
    assert sorted(files.changes(engine, changed)) == ["A /etc/mine", "C /etc"]


def test_the_places_that_are_mounted_on_are_shared_and_cannot_be_changed(engine: Engine) -> None:
    shared = engine.root / "data" / "mount_targets"
    before = sorted((path, path.stat().st_size, path.stat().st_mode) for path in shared.rglob("*"))
    script = "umount /etc/hosts; echo mine > /etc/hosts; rm /etc/hosts; mkdir /etc/hosts; > /etc/hosts/own"
    container = files.ended(engine, script, security=PRIVILEGED)
    assert sorted((path, path.stat().st_size, path.stat().st_mode) for path in shared.rglob("*")) == before
    assert {"A /etc/hosts", "A /etc/hosts/own"} <= set(files.changes(engine, container))


def test_an_export_follows_no_link_and_opens_no_device(engine: Engine) -> None:
    script = "ln -s / /host; ln -s /etc /dir; mknod /tty0 c 5 0; mkfifo /pipe; ln -s /host/etc/shadow /shadow"
    container = files.ended(engine, script, namespaces=HOST_USERS)
    exported = files.members(files.export(engine, container))
    assert {exported[name].linkname for name in ("host", "dir", "shadow")} == {"/", "/etc", "/host/etc/shadow"}
    assert not any(name.startswith(("host/", "dir/")) for name in exported)
    assert exported["tty0"].ischr()
    assert exported["pipe"].isfifo()


def test_a_slow_reader_holds_up_nobody_and_costs_no_memory(engine: Engine) -> None:
    container = files.ended(engine, "dd if=/dev/zero of=/big bs=1M count=96 2>/dev/null; echo x >> /big")
    before = _peak_bytes(engine)
    request = container_files_pb2.ExportContainerRequest(container=container)
    stream = engine.containers.ExportContainer(request, timeout=50)
    first = next(stream)
    assert engine.run(IMAGE, "echo", "served")[0] == b"served\n"
    time.sleep(0.2)
    size = len(first.chunk) + sum(len(part.chunk) for part in stream)
    assert size > 96 * MIB
    assert _peak_bytes(engine) - before < 24 * MIB


def _peak_bytes(engine: Engine) -> int:
    lines = Path(f"/proc/{engine.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def test_an_export_that_is_cancelled_ends_and_leaves_nothing_open(engine: Engine) -> None:
    container = files.ended(engine, "dd if=/dev/zero of=/big bs=1M count=32 2>/dev/null")
    request = container_files_pb2.ExportContainerRequest(container=container)

    def open_files() -> list[str]:
        found: list[str] = []
        for path in Path(f"/proc/{engine.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                found.append(str(path.readlink()))
        return [target for target in found if container in target]

    stream = engine.containers.ExportContainer(request, timeout=50)
    next(stream)
    stream.cancel()
    until_now(lambda: open_files() == [], "its files are closed")


def test_an_export_of_a_container_that_is_deleted_meanwhile_is_not_told_as_whole(engine: Engine) -> None:
    container = files.ended(engine, "for i in $(seq 300); do dd if=/dev/zero of=/$i bs=64k count=2 2>/dev/null; done")
    request = container_files_pb2.ExportContainerRequest(container=container)
    stream = engine.containers.ExportContainer(request, timeout=50)
    next(stream)
    delete(engine, container)
    parts: list[str] = []
    with pytest.raises(grpc.RpcError) as caught:
        parts.extend(part.WhichOneof("part") for part in stream)
    assert refusal(caught.value)[1] in {"CONTAINER_NOT_FOUND", "CONTAINER_WRONG_STATE"}
    assert "complete" not in parts


def test_changes_are_told_page_by_page_in_one_order(engine: Engine) -> None:
    made = (
        "mkdir /many; for i in $(seq 120); do touch /many/$i; done; touch /many-more; rm /bin/vi; echo x >> /etc/passwd"
    )
    container = files.ended(engine, made)
    whole = files.changes(engine, container)
    assert len(whole) == 126
    assert {"A /many", "A /many-more", "C /bin", "D /bin/vi", "C /etc", "C /etc/passwd"} <= set(whole)
    paths = [line[2:].split("/") for line in whole]
    assert paths == sorted(paths)
    for page_size in (1, 7, 125, 10_000):
        assert files.changes(engine, container, page_size=page_size) == whole


def test_a_container_that_never_ran_has_changed_nothing(engine: Engine) -> None:
    made = create(engine, "true")
    assert files.changes(engine, made.id) == []
    assert "bin/busybox" in files.members(files.export(engine, made.id))


def test_what_is_asked_wrongly_is_refused(engine: Engine) -> None:
    made = create(engine, "true")
    for token in ("nonsense", "bm90IGhleA=="):
        code, reason, metadata = refused(lambda token=token: files.changes_page(engine, made.id, token))  # type: ignore[misc]
        assert (code, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", "page_token")
    for call in (files.export, files.changes):
        told = refused(lambda call=call: call(engine, "nobody"))  # type: ignore[misc]
        assert told == (NOT_FOUND, "CONTAINER_NOT_FOUND", {"id": "nobody"})
