"""A forced removal of what cannot end yet goes on with the next daemon, once its caller was told that it will."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_spec_pb2, mount_pb2
from tests.e2e.containers.steps import HOST_USERS, refused
from tests.recovery.crash import CrashedEngine, die_at, find, until_nothing_unowned, wait_for_end
from tests.support.unanswering_files import NAME, UnansweringFiles, unanswering_files
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("fuse")

#: The second removal that waits too long dies before that is stored.
FAILPOINT = "container.delete.put_off"
TOLD, UNTOLD = "told", "untold"


@pytest.fixture
def files(tmp_path: Path) -> Iterator[UnansweringFiles]:
    """A file system that answers yet."""
    with unanswering_files(tmp_path / "files") as files:
        yield files


def hold(engine: CrashedEngine, name: str, files: UnansweringFiles) -> None:
    """A container runs that has to ask the file system before it can end, and has an anonymous volume."""
    bind = mount_pb2.Mount(target="/b", bind=mount_pb2.BindMount(source=str(files.place)))
    spec = container_spec_pb2.ContainerSpec(
        image="busybox:1",
        args=["sh", "-c", f"exec 3</b/{NAME}; echo open; while :; do sleep 1000; done"],
        mounts=[bind, mount_pb2.Mount(target="/v", volume=mount_pb2.VolumeMount())],
        namespaces=HOST_USERS,
    )
    engine.containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec, name=name))
    engine.containers.StartContainer(containers_pb2.StartContainerRequest(container=name))
    until_now(lambda: engine.logs(name) == b"open\n", "the file is open")


def remove(engine: CrashedEngine, name: str) -> None:
    """A forced removal, with volumes."""
    request = containers_pb2.DeleteContainerRequest(container=name, force=True, delete_volumes=True)
    engine.containers.DeleteContainer(request)


def test_a_removal_that_was_put_off_is_completed_by_the_next_daemon(
    engine: CrashedEngine, files: UnansweringFiles
) -> None:
    for name in (TOLD, UNTOLD):
        hold(engine, name, files)
    engine.kill()

    def put_off(engine: CrashedEngine) -> None:
        files.mute()
        # One after the other: the daemon dies in the second, by when the first has its answer.
        assert refused(lambda: remove(engine, TOLD))[:2] == (grpc.StatusCode.UNAVAILABLE, "CONTAINER_NOT_ENDING")
        with pytest.raises(grpc.RpcError):
            remove(engine, UNTOLD)

    die_at(engine, f"{FAILPOINT}:2", put_off)
    engine.start()
    assert find(engine, TOLD) is not None
    files.end()
    until_now(lambda: find(engine, TOLD) is None, "the removal goes on")
    assert wait_for_end(engine, UNTOLD).signal == 9
    remove(engine, UNTOLD)
    until_nothing_unowned(engine)
