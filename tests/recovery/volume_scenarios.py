"""How each failpoint on the way of a volume is reached, and what must hold after it."""

from pathlib import Path
from typing import Any

from fluyt.v1 import containers_pb2, volumes_pb2
from fluyt.v1.types import container_spec_pb2
from tests.e2e.volumes.steps import import_tar, volume
from tests.recovery.crash import CALL_SECONDS, IMAGE, CrashedEngine, Scenario, delete, find, nothing
from tests.support import tarball

NAME = "half-volume"
OTHER = "other-half-volume"
CONTAINER = "half"
#: What the image has where the volume is mounted.
CONTENT = {"group", "passwd"}


def create(engine: CrashedEngine) -> None:
    """CreateVolume."""
    engine.volumes.CreateVolume(volumes_pb2.CreateVolumeRequest(name=NAME), timeout=CALL_SECONDS)


def create_with_data(engine: CrashedEngine) -> None:
    """A volume with a file in it."""
    create(engine)
    (data(engine, NAME) / "f").write_text("kept\n")


def data(engine: CrashedEngine, name: str) -> Path:
    """Where a volume's data is."""
    return Path(engine.volumes.GetVolume(volumes_pb2.GetVolumeRequest(name=name)).volume.mountpoint)


def names(engine: CrashedEngine) -> set[str]:
    """Names of all volumes."""
    return {one.name for one in engine.volumes.ListVolumes(volumes_pb2.ListVolumesRequest()).volumes}


def remove(engine: CrashedEngine, name: str = NAME) -> None:
    """DeleteVolume."""
    engine.volumes.DeleteVolume(volumes_pb2.DeleteVolumeRequest(name=name), timeout=CALL_SECONDS)


def make_container(engine: CrashedEngine, *mounts: Any) -> None:
    """CreateContainer with these mounts."""
    spec = container_spec_pb2.ContainerSpec(image=IMAGE, args=["true"], mounts=mounts)
    engine.containers.CreateContainer(
        containers_pb2.CreateContainerRequest(spec=spec, name=CONTAINER), timeout=CALL_SECONDS
    )


def fill(engine: CrashedEngine) -> None:
    """CreateContainer with a fresh volume where the image has content."""
    make_container(engine, volume("/etc", NAME))


def with_anonymous(engine: CrashedEngine) -> None:
    """CreateContainer with an anonymous volume."""
    make_container(engine, volume("/etc"))


def delete_with_volumes(engine: CrashedEngine) -> None:
    """DeleteContainer that takes anonymous volumes along."""
    request = containers_pb2.DeleteContainerRequest(container=CONTAINER, delete_volumes=True)
    engine.containers.DeleteContainer(request, timeout=CALL_SECONDS)


def run_with_anonymous(engine: CrashedEngine) -> None:
    """RunContainer of one that removes itself, with an anonymous volume."""
    _, _, ended = engine.run(IMAGE, "test", "-s", "/etc/passwd", mounts=[volume("/etc")])
    assert ended.exit_code == 0


def rename(engine: CrashedEngine) -> None:
    """RenameVolume."""
    request = volumes_pb2.RenameVolumeRequest(name=NAME, new_name=OTHER)
    engine.volumes.RenameVolume(request, timeout=CALL_SECONDS)


def clone(engine: CrashedEngine) -> None:
    """CloneVolume."""
    request = volumes_pb2.CloneVolumeRequest(source=NAME, name=OTHER)
    engine.volumes.CloneVolume(request, timeout=CALL_SECONDS)


def take_in(engine: CrashedEngine) -> None:
    """ImportVolume."""
    import_tar(engine, NAME, tarball.write_tar([tarball.file("f", "kept\n")]))


def whole_or_absent(engine: CrashedEngine) -> None:
    """It is there and empty, or can be made."""
    create(engine)
    assert list(data(engine, NAME).iterdir()) == []
    remove(engine)
    assert names(engine) == set()


def filled_or_to_be_filled(engine: CrashedEngine) -> None:
    """No container is left of it, the volume has all of the image's content or none, and a container fills it."""
    assert find(engine, CONTAINER) is None
    if NAME in names(engine):
        assert {path.name for path in data(engine, NAME).iterdir()} in (set(), CONTENT)
        assert [path.name for path in data(engine, NAME).parent.iterdir()] == ["_data"]
    fill(engine)
    assert {path.name for path in data(engine, NAME).iterdir()} == CONTENT
    delete(engine, CONTAINER)
    remove(engine)


def nothing_of_it(engine: CrashedEngine) -> None:
    """Neither container nor volume is left."""
    assert find(engine, CONTAINER) is None
    assert names(engine) == set()
    run_with_anonymous(engine)
    assert names(engine) == set()


def container_gone_with_its_volume(engine: CrashedEngine) -> None:
    """Both are there, or neither."""
    if find(engine, CONTAINER) is not None:
        assert len(names(engine)) == 1
        delete_with_volumes(engine)
    nothing_of_it(engine)


def gone_or_whole(engine: CrashedEngine) -> None:
    """It is gone, or there with its data and can be deleted."""
    if NAME in names(engine):
        assert (data(engine, NAME) / "f").read_text() == "kept\n"
        remove(engine)
    whole_or_absent(engine)


def of_either_name(engine: CrashedEngine) -> None:
    """It has one of the names, and its data."""
    (name,) = names(engine)
    if name == NAME:
        rename(engine)
    assert (data(engine, OTHER) / "f").read_text() == "kept\n"
    remove(engine, OTHER)


def cloned_again(engine: CrashedEngine) -> None:
    """There is no copy, or a whole one."""
    if OTHER not in names(engine):
        clone(engine)
    assert (data(engine, OTHER) / "f").read_text() == "kept\n"
    for name in (NAME, OTHER):
        remove(engine, name)


def taken_in_again(engine: CrashedEngine) -> None:
    """The archive can be unpacked once more."""
    take_in(engine)
    assert (data(engine, NAME) / "f").read_text() == "kept\n"
    remove(engine)


CREATING = Scenario(create, whole_or_absent)
FILLING = Scenario(fill, filled_or_to_be_filled)
MAKING_ANONYMOUS = Scenario(with_anonymous, nothing_of_it)
RUNNING_WITH_ANONYMOUS = Scenario(run_with_anonymous, nothing_of_it)
DELETING = Scenario(remove, gone_or_whole, create_with_data)
DELETING_CONTAINER = Scenario(delete_with_volumes, container_gone_with_its_volume, with_anonymous)
RENAMING = Scenario(rename, of_either_name, create_with_data)
CLONING = Scenario(clone, cloned_again, create_with_data)
IMPORTING = Scenario(take_in, taken_in_again)
STARTING = Scenario(nothing, gone_or_whole, create_with_data)

#: Failpoint of the daemon -> how it is reached.
SCENARIOS = {
    "volume.create.record": CREATING,
    "volume.create.directory": CREATING,
    "volume.create.ready": CREATING,
    "volume.record.creating": CREATING,
    "volume.record.ready": CREATING,
    "volume.fill.copy": FILLING,
    "volume.fill.settle": FILLING,
    "volume.clone.copy": CLONING,
    "volume.import.unpack": IMPORTING,
    "volume.rename.record": RENAMING,
    "volume.delete.record": DELETING,
    "volume.delete.data": DELETING,
    "volume.delete.forget": DELETING,
    "volume.record.deleting": DELETING,
    "volume.record.deleted": DELETING,
    "volume.recover": STARTING,
    "container.delete.volumes": DELETING_CONTAINER,
}

#: Further ways to failpoints that stand on several.
FURTHER = [
    ("container.create.created", MAKING_ANONYMOUS),
    ("volume.create.directory", MAKING_ANONYMOUS),
    ("volume.record.ready", MAKING_ANONYMOUS),
    ("volume.fill.settle", RUNNING_WITH_ANONYMOUS),
    ("container.start.process", RUNNING_WITH_ANONYMOUS),
    ("container.delete.volumes", RUNNING_WITH_ANONYMOUS),
    ("volume.delete.data", RUNNING_WITH_ANONYMOUS),
    ("volume.record.deleted", DELETING_CONTAINER),
    ("container.delete.forget", DELETING_CONTAINER),
]

#: Failpoint of the core in the daemon -> how it is reached.
CORE_SCENARIOS = {"volume.fill.entry": FILLING}
