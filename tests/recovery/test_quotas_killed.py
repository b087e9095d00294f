"""The daemon is killed at every failpoint of bounds: no directory is without its bound, and no bound without what it is
for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt.v1 import containers_pb2, volumes_pb2
from fluyt.v1.types import container_spec_pb2
from fluytd._core import host
from fluytd.host.projects import FIRST_PROJECT_ID, PROJECT_COUNT
from tests.recovery.crash import (
    BYSTANDER,
    CALL_SECONDS,
    COUNT,
    IMAGE,
    CrashedEngine,
    Scenario,
    crash,
    delete,
    find,
    nothing,
    start_ready,
)
from tests.recovery.volume_scenarios import names
from tests.support import image_files, images
from tests.support.preloaded_fluytd import Preloaded
from tests.support.quota_disks import quota_disk

NAME, BOUND = "half", 4 * 1024**2
LAST_PROJECT_ID = FIRST_PROJECT_ID + PROJECT_COUNT - 1
#: A number that the engine does not come to in these tests.
LEFT_PROJECT_ID = FIRST_PROJECT_ID + 1000
OVERFILL = "dd if=/dev/zero of=/big bs=64k count=80 2>/dev/null; wc -c </big"


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("ext4", marks=pytest.mark.needs("quota-ext4")),
        pytest.param("xfs", marks=pytest.mark.needs("quota-xfs")),
    ],
)
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded, registry: str
) -> Iterator[CrashedEngine]:
    """An engine on a file system that keeps bounds, with the bystander."""
    disk = quota_disk(request.param, tmp_path_factory.mktemp("quotacrash"))
    with disk as place:
        # Below the disk, whose own mount is none that the engine has left.
        root = place / "engine"
        root.mkdir()
        with CrashedEngine(root, preloaded, registry) as running:
            running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
            start_ready(running, BYSTANDER, COUNT)
            yield running
            if running.process.poll() is not None:
                running.start()


def bounds(engine: CrashedEngine) -> list[int]:
    """Bounded projects among the first of the range, and all that are bounded for nothing."""
    root = str(engine.root)
    first = range(FIRST_PROJECT_ID, FIRST_PROJECT_ID + 100)
    bounded = {number for number in first if any(host.project_usage(root, number)[2:])}
    return sorted(bounded | set(host.idle_projects(root, FIRST_PROJECT_ID, LAST_PROJECT_ID)))


def create_volume(engine: CrashedEngine) -> None:
    """CreateVolume with a bound."""
    request = volumes_pb2.CreateVolumeRequest(name=NAME, limit_bytes=BOUND)
    engine.volumes.CreateVolume(request, timeout=CALL_SECONDS)


def delete_volume(engine: CrashedEngine) -> None:
    """DeleteVolume."""
    engine.volumes.DeleteVolume(volumes_pb2.DeleteVolumeRequest(name=NAME), timeout=CALL_SECONDS)


def create_container(engine: CrashedEngine) -> None:
    """CreateContainer with a bound."""
    spec = container_spec_pb2.ContainerSpec(image=IMAGE, args=["true"], storage_size_bytes=BOUND)
    request = containers_pb2.CreateContainerRequest(spec=spec, name=NAME)
    engine.containers.CreateContainer(request, timeout=CALL_SECONDS)


def delete_container(engine: CrashedEngine) -> None:
    """DeleteContainer."""
    delete(engine, NAME)


def run(engine: CrashedEngine) -> None:
    """RunContainer of one that removes itself, has a bound and writes more."""
    out, _, _ = engine.run(IMAGE, "sh", "-c", OVERFILL, storage_size_bytes=BOUND)
    assert 0 < int(out) <= BOUND  # xfs takes it to the last byte


def leave(engine: CrashedEngine) -> None:
    """A bound stands that nothing is counted for."""
    directory = engine.root / "left"
    directory.mkdir()
    host.limit_project([str(directory)], LEFT_PROJECT_ID, BOUND, 100)
    directory.rmdir()
    assert bounds(engine) == [LEFT_PROJECT_ID]


def no_volume(engine: CrashedEngine) -> None:
    """It is gone with its bound, or can be deleted; so it is once it was made again."""
    if NAME in names(engine):
        delete_volume(engine)
    assert bounds(engine) == []
    create_volume(engine)
    assert len(bounds(engine)) == 1
    delete_volume(engine)
    assert bounds(engine) == []


def no_container(engine: CrashedEngine) -> None:
    """As `no_volume`."""
    if find(engine, NAME) is not None:
        delete_container(engine)
    assert bounds(engine) == []
    run(engine)
    assert bounds(engine) == []


def swept(engine: CrashedEngine) -> None:
    """No bound is left."""
    assert bounds(engine) == []


CREATING = Scenario(create_volume, no_volume)
#: Failpoint of the daemon -> how it is reached.
SCENARIOS = {
    "volume.quota.bind": CREATING,
    "volume.quota.release": Scenario(delete_volume, no_volume, create_volume),
    "container.quota.bind": Scenario(create_container, no_container),
    "container.quota.release": Scenario(delete_container, no_container, create_container),
    "host.quota.sweep": Scenario(nothing, swept, leave),
}
#: Further ways.
FURTHER = [
    ("container.quota.bind", Scenario(run, no_container)),
    ("container.quota.release", Scenario(run, no_container)),
    ("container.delete.directories", Scenario(run, no_container)),
    ("volume.create.ready", CREATING),
]
#: Failpoint of the core in the daemon -> how it is reached: between the project of a directory and its bound.
CORE_SCENARIOS = {"host.quota.limit": CREATING, "host.quota.limit:2": Scenario(create_container, no_container)}
CASES = [*SCENARIOS.items(), *FURTHER, *CORE_SCENARIOS.items()]


@pytest.mark.parametrize(
    ("failpoint", "scenario"), CASES, ids=[f"{name}-{scenario.act.__name__}" for name, scenario in CASES]
)
def test_no_bound_is_lost_or_left_after(engine: CrashedEngine, failpoint: str, scenario: Scenario) -> None:
    crash(engine, failpoint, scenario)
    assert bounds(engine) == []
    assert not Path(engine.root, "left").exists()
