"""Bounds of volumes and writable layers, on file systems that keep them: what is above is refused inside, and nothing
outside is the worse for it."""

import io
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from fluyt import execs
from fluyt.v1 import containers_pb2, volumes_pb2
from fluyt.v1.types import mount_pb2
from fluytd._core import host
from fluytd.host.projects import FIRST_PROJECT_ID, MIN_BOUND_INODES, PROJECT_COUNT
from tests.e2e.containers import steps as containers
from tests.e2e.containers.copy_steps import copy_to
from tests.e2e.containers.steps import HOST_USERS, IMAGE, INVALID, WRONG_STATE, refused
from tests.e2e.volumes.steps import create, delete, get, import_tar, names, output, remove, volume
from tests.support import image_files, images, tarball
from tests.support.engine import Engine
from tests.support.quota_disks import quota_disk

MIB = 1024**2
BOUND = 8 * MIB
FULL = ("No space left on device", "Disk quota exceeded")
#: Writes more than the bound; what `dd` says goes to its output.
OVERFILL = "dd if=/dev/zero of={}/big bs=64k count=160 2>&1; ls -ln {}/big"
#: Asks that a file be counted for no project.
LEAVER = r"""
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
int main(int argc, char **argv) {
    struct fsxattr found = {0};
    int file = open(argv[argc - 1], O_RDONLY);
    if (ioctl(file, FS_IOC_FSGETXATTR, &found)) return printf("unreadable %d\n", errno), 0;
    found.fsx_projid = 0;
    if (ioctl(file, FS_IOC_FSSETXATTR, &found)) return printf("refused %d\n", errno), 0;
    printf("left\n");
    return 0;
}
"""
#: Users of their own, and the host's.
USERS = [
    pytest.param({}, id="own", marks=pytest.mark.needs("own-users")),
    pytest.param({"namespaces": HOST_USERS}, id="host"),
]


@dataclass(frozen=True)
class Bounded:
    """An engine whose data root keeps bounds."""

    engine: Engine
    root: Path

    def idle(self) -> list[int]:
        """Projects that are bounded for nothing."""
        return host.idle_projects(str(self.root), FIRST_PROJECT_ID, FIRST_PROJECT_ID + PROJECT_COUNT - 1)

    def has_none(self) -> bool:
        """No project of the engine's is bounded."""
        usages = (host.project_usage(str(self.root), FIRST_PROJECT_ID + number) for number in range(32))
        return all(usage[2:] == (0, 0) for usage in usages)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("ext4", marks=pytest.mark.needs("quota-ext4")),
        pytest.param("xfs", marks=pytest.mark.needs("quota-xfs")),
    ],
)
def bounded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bounded]:
    """A daemon with busybox on such a file system; nothing of a bound is left at its end."""
    with quota_disk(request.param, tmp_path_factory.mktemp("disk")) as root:
        with Engine(root) as engine:
            engine.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
            found = Bounded(engine, root)
            yield found
            engine.stop()
        assert found.has_none()


def at(target: str, name: str) -> mount_pb2.Mount:
    """The volume at a place; what the image has there is no matter here, nor can every kernel show it."""
    return volume(target, name, no_copy=True)


def inside(engine: Engine, container: str, *command: str) -> str:
    """What a command wrote in a running container, however it ended."""
    return execs.run(engine.channel, container, list(command)).stdout.decode()


def size_of_tar(size: int) -> bytes:
    """A tar with one file of so many bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("large")
        member.size = size
        tar.addfile(member, io.BytesIO(b"\0" * size))
    return buffer.getvalue()


@pytest.mark.parametrize("users", USERS)
def test_a_volume_takes_no_more_than_its_bound(bounded: Bounded, users: dict[str, object]) -> None:
    engine = bounded.engine
    made = create(engine, "small", driver_options={"size": "8m"})
    assert (made.limit_bytes, dict(made.driver_options)) == (BOUND, {})
    create(engine, "other")
    mounts = [at("/v", "small"), at("/o", "other")]
    said = output(engine, IMAGE, OVERFILL.format("/v", "/v"), mounts=mounts, **users)
    assert any(word in said for word in FULL), said
    assert 6 * MIB < int(said.splitlines()[-1].split()[4]) <= BOUND
    shown = get(engine, "small")
    assert (6 * MIB < shown.size_bytes <= BOUND, shown.size_is_estimate) == (True, False)
    # What is beside it has all the room there is, and what is deleted inside can be written again.
    output(engine, IMAGE, "dd if=/dev/zero of=/o/big bs=64k count=320 && rm /o/big", mounts=mounts, **users)
    output(engine, IMAGE, "rm /v/big; dd if=/dev/zero of=/v/again bs=64k count=96", mounts=mounts, **users)
    for name in ("small", "other"):
        delete(engine, name)


def test_a_volume_has_a_bound_of_files_too(bounded: Bounded) -> None:
    create(bounded.engine, "few", limit_bytes=MIB)
    loop = f"while [ $i -lt {MIN_BOUND_INODES + 50} ] && true >/v/$i; do i=$((i+1)); done"
    script = f"i=0; {loop} 2>/tmp/e; echo $i; cat /tmp/e"
    said = output(bounded.engine, IMAGE, script, mounts=[at("/v", "few")])
    assert int(said.splitlines()[0]) < MIN_BOUND_INODES
    assert any(word in said for word in FULL), said
    delete(bounded.engine, "few")


@pytest.mark.parametrize("users", USERS)
def test_a_writable_layer_takes_no_more_than_its_bound_and_others_go_on(
    bounded: Bounded, users: dict[str, object]
) -> None:
    engine = bounded.engine
    beside = containers.started(engine, "sh", "-c", "while :; do echo on >>/lines; sleep 0.1; done")
    full = containers.started(engine, "sleep", "1000", storage_size_bytes=BOUND, **users)
    assert full.spec.storage_size_bytes == BOUND
    # Copying up, and moving between directories of the image and new ones, crosses no border.
    script = (
        "echo more >>/etc/passwd && mkdir /d && mv /etc/group /d/g && mv /d /e && ln /e/g /e/h && cat /e/h >/dev/null"
        " && chmod 700 /etc && echo moved; " + OVERFILL.format("", "")
    )
    said = inside(engine, full.id, "sh", "-c", script)
    assert said.startswith("moved\n"), said
    assert any(word in said for word in FULL), said
    assert int(said.splitlines()[-1].split()[4]) <= BOUND
    request = containers_pb2.GetContainerRequest(container=full.id, include_size=True)
    shown = engine.containers.GetContainer(request).container
    assert (6 * MIB < shown.writable_size_bytes <= BOUND, shown.writable_size_is_estimate) == (True, False)
    # The full one still runs, deletes and writes again; who is beside it writes on, and as much as it likes.
    inside(engine, full.id, "sh", "-c", "rm /big && echo small >/small && cat /small")
    lines = int(inside(engine, beside.id, "sh", "-c", "wc -l </lines"))
    output(engine, IMAGE, "dd if=/dev/zero of=/big bs=64k count=320 2>&1")
    assert int(inside(engine, beside.id, "sh", "-c", "sleep 0.5; wc -l </lines")) > lines
    for container in (full, beside):
        remove(engine, container.id, force=True)


def test_a_container_that_removes_itself_is_bounded_and_leaves_no_bound(bounded: Bounded) -> None:
    for _ in range(2):
        said = output(bounded.engine, IMAGE, OVERFILL.format("", ""), storage_size_bytes=BOUND)
        assert any(word in said for word in FULL), said
    assert bounded.has_none()


@pytest.mark.needs("gcc", "own-users")
def test_nobody_inside_gets_out_of_the_project(bounded: Bounded, tmp_path: Path) -> None:
    leaver, source = tmp_path / "leaver", tmp_path / "leaver.c"
    source.write_text(LEAVER)
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Werror", "-o", str(leaver), str(source)], check=True)
    image = containers.load(bounded.engine, tarball.file("leaver", leaver.read_bytes(), 0o755))
    create(bounded.engine, "kept", limit_bytes=BOUND)
    script = "echo x >/v/f; echo x >/f; for f in /v/f /v /f; do /leaver $f; done"
    said = output(bounded.engine, image, script, mounts=[at("/v", "kept")], storage_size_bytes=BOUND)
    assert said.split("\n") == ["refused 22"] * 3
    delete(bounded.engine, "kept")


def test_the_daemon_itself_writes_no_more_either(bounded: Bounded) -> None:
    engine = bounded.engine
    create(engine, "fed", limit_bytes=BOUND)
    create(engine, "large")
    archive = size_of_tar(BOUND + 4 * MIB)
    with pytest.raises(grpc.RpcError) as caught:
        import_tar(engine, "fed", archive)
    assert containers.refusal(caught.value)[1] == "STORAGE_FULL"
    assert get(engine, "fed").size_bytes <= BOUND
    # A clone has the bound of what it was made of.
    import_tar(engine, "large", size_of_tar(MIB))
    delete(engine, "fed")
    create(engine, "fed", limit_bytes=BOUND)
    import_tar(engine, "fed", size_of_tar(6 * MIB))
    request = volumes_pb2.CloneVolumeRequest(source="fed", name="fed-2")
    assert engine.volumes.CloneVolume(request).volume.limit_bytes == BOUND
    said = output(engine, IMAGE, OVERFILL.format("/v", "/v"), mounts=[at("/v", "fed-2")])
    assert any(word in said for word in FULL), said
    into = containers.started(engine, "sleep", "1000", mounts=[at("/v", "fed")], storage_size_bytes=BOUND)
    for place in ("/v", "/"):
        assert refused(lambda place=place: copy_to(engine, into.id, place, archive))[1] == "STORAGE_FULL"  # type: ignore[misc]
    assert get(engine, "fed").size_bytes <= BOUND
    remove(engine, into.id, force=True)
    for name in ("fed", "fed-2", "large"):
        delete(engine, name)


def test_bounds_outlive_the_daemon_and_are_given_back(bounded: Bounded) -> None:
    engine = bounded.engine
    create(engine, "lasting", limit_bytes=BOUND)
    made = containers.create(engine, "sleep", "1000", storage_size_bytes=BOUND)
    engine.kill()
    engine.start()
    assert get(engine, "lasting").limit_bytes == BOUND
    said = output(engine, IMAGE, OVERFILL.format("/v", "/v"), mounts=[at("/v", "lasting")])
    assert any(word in said for word in FULL), said
    remove(engine, made.id)
    delete(engine, "lasting")
    assert bounded.has_none()
    assert bounded.idle() == []


def test_what_cannot_be_bounded_is_refused_with_the_file_system_and_what_to_do(engine: Engine) -> None:
    if host.project_quota(str(engine.root)).is_available:
        pytest.skip("the file system of the tests keeps bounds")
    for call in (
        lambda: create(engine, "bb", limit_bytes=BOUND),
        lambda: create(engine, "bb", driver_options={"size": "8m"}),
        lambda: containers.create(engine, "true", storage_size_bytes=BOUND),
        lambda: containers.create(engine, "true", mounts=[volume("/v", "bb", driver_options={"size": "8m"})]),
    ):
        code, reason, metadata = refused(call)
        assert (code, reason) == (WRONG_STATE, "PROJECT_QUOTA_UNAVAILABLE")
        assert metadata["path"] == str(engine.root / "data")
        assert metadata["detail"]
    assert names(engine) == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"limit_bytes": -1}, "limit_bytes"),
        ({"limit_bytes": MIB - 1}, "limit_bytes"),
        ({"driver_options": {"size": "1k"}}, "limit_bytes"),
        ({"driver_options": {"size": "much"}}, "driver_options"),
        ({"driver_options": {"size": "8m"}, "limit_bytes": MIB}, "limit_bytes"),
        ({"driver_options": {"type": "tmpfs", "device": "tmpfs"}, "limit_bytes": BOUND}, "limit_bytes"),
        ({"driver_options": {"type": "tmpfs", "device": "tmpfs", "size": "8m"}}, "driver_options"),
    ],
)
def test_a_bound_that_is_none_is_refused_on_any_host(engine: Engine, fields: dict[str, object], field: str) -> None:
    code, reason, metadata = refused(lambda: create(engine, "bb", **fields))
    assert (code, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", field)


@pytest.mark.parametrize("size", [-1, MIB - 1])
def test_a_layers_bound_that_is_none_is_refused(engine: Engine, size: int) -> None:
    code, reason, metadata = refused(lambda: containers.create(engine, "true", storage_size_bytes=size))
    assert (code, metadata["field"]) == (INVALID, "spec.storage_size_bytes"), reason
