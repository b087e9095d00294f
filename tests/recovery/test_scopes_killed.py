"""The daemon is killed at every failpoint of scopes: systemd has none that no running container has."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from fluyt.v1 import containers_pb2
from fluyt.v1.types import resources_pb2
from tests.e2e.containers.steps import IMAGE, create, delete, get, listed, start
from tests.support import image_files, images
from tests.support.engine import PATIENCE_SECONDS
from tests.support.scopes import ScopedEngine, scope, scope_group, scopes
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("systemd")
NAME, BYSTANDER = "half", "bystander"
Step = Callable[[ScopedEngine], object]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScopedEngine]:
    """An engine with a container that runs all the time."""
    with ScopedEngine(tmp_path_factory.mktemp("scopecrash")) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        create(running, "sleep", "100000", name=BYSTANDER)
        start(running, BYSTANDER)
        yield running
        if running.process.poll() is not None:
            running.start()


def made(engine: ScopedEngine) -> None:
    """A container that was not started."""
    create(engine, "sleep", "1000", name=NAME, resources=resources_pb2.Resources(pids_limit=40))


def running(engine: ScopedEngine) -> None:
    """It runs."""
    made(engine)
    start(engine, NAME)


def start_it(engine: ScopedEngine) -> None:
    """StartContainer."""
    start(engine, NAME)


def update_it(engine: ScopedEngine) -> None:
    """UpdateContainer."""
    resources = resources_pb2.Resources(pids_limit=50)
    engine.containers.UpdateContainer(containers_pb2.UpdateContainerRequest(container=NAME, resources=resources))


def stop_it(engine: ScopedEngine) -> None:
    """StopContainer, which kills at once."""
    engine.containers.StopContainer(containers_pb2.StopContainerRequest(container=NAME, timeout=Duration()))


#: Failpoint -> what stands before, and the call that the daemon dies in.
SCENARIOS: dict[str, tuple[Step, Step]] = {
    "container.scope.start": (made, start_it),
    "container.scope.attach": (made, start_it),
    "container.scope.update": (running, update_it),
    "container.scope.stop": (running, stop_it),
}
#: Those of the core on the way, with which the scope stands.
CORE: dict[str, tuple[Step, Step]] = {
    "control.before_proceed": (made, start_it),
    "cgroup.made": (made, start_it),
    "cgroup.update": (running, update_it),
}


@pytest.mark.parametrize("failpoint", [*SCENARIOS, *CORE])
def test_nothing_is_left_and_the_same_call_succeeds(engine: ScopedEngine, failpoint: str) -> None:
    before, act = (SCENARIOS | CORE)[failpoint]
    bystander = get(engine, BYSTANDER)
    before(engine)
    engine.kill()
    engine.start(FLUYT_FAILPOINT=failpoint)
    with suppress(grpc.RpcError):
        act(engine)
    engine.process.wait(PATIENCE_SECONDS)
    engine.channel.close()
    engine.start()
    half = get(engine, NAME)
    is_live = bool(half.host_pid)
    until_now(lambda: sorted(scopes()) == sorted({scope(one) for one in listed(engine) if one.host_pid}))
    assert is_live == (act is update_it)
    assert (get(engine, BYSTANDER).host_pid, get(engine, BYSTANDER).id) == (bystander.host_pid, bystander.id)
    if act is update_it:
        # An update that was not told is undone, with systemd too.
        assert (scope_group(half) / "payload" / "pids.max").read_text() == "40\n"
        assert (scope_group(half) / "pids.max").read_text() == "56\n"
    if act is not stop_it:
        act(engine)
    assert bool(get(engine, NAME).host_pid) == (act is not stop_it)
    delete(engine, NAME, force=True)
    assert scopes() == [scope(bystander)]
