"""What the tests of volumes do again and again, by gRPC alone."""

from collections.abc import Iterator
from typing import Any

from fluyt.v1 import containers_pb2, volumes_pb2
from fluyt.v1.types import mount_pb2
from tests.e2e.containers import steps as containers
from tests.support.engine import Engine


def create(engine: Engine, name: str = "", **fields: Any) -> volumes_pb2.Volume:
    """A new volume."""
    return engine.volumes.CreateVolume(volumes_pb2.CreateVolumeRequest(name=name, **fields)).volume  # type: ignore[no-any-return]


def get(engine: Engine, name: str) -> volumes_pb2.Volume:
    """GetVolume's answer."""
    return engine.volumes.GetVolume(volumes_pb2.GetVolumeRequest(name=name)).volume  # type: ignore[no-any-return]


def names(engine: Engine, **fields: Any) -> list[str]:
    """Names of the volumes that fit."""
    request = volumes_pb2.ListVolumesRequest(filter=volumes_pb2.VolumeFilter(**fields))
    return [volume.name for volume in engine.volumes.ListVolumes(request).volumes]


def delete(engine: Engine, name: str, **fields: Any) -> None:
    """The volume is gone."""
    engine.volumes.DeleteVolume(volumes_pb2.DeleteVolumeRequest(name=name, **fields))


def volume(target: str, name: str = "", *, read_only: bool = False, **fields: Any) -> mount_pb2.Mount:
    """A volume at a place."""
    return mount_pb2.Mount(target=target, read_only=read_only, volume=mount_pb2.VolumeMount(volume=name, **fields))


def bind(target: str, source: object, *, read_only: bool = False, **fields: Any) -> mount_pb2.Mount:
    """A path of the host at a place."""
    return mount_pb2.Mount(target=target, read_only=read_only, bind=mount_pb2.BindMount(source=str(source), **fields))


def tmpfs(target: str, **fields: Any) -> mount_pb2.Mount:
    """A file system in memory at a place."""
    return mount_pb2.Mount(target=target, tmpfs=mount_pb2.TmpfsMount(**fields))


def image(target: str, name: str, **fields: Any) -> mount_pb2.Mount:
    """An image's tree at a place."""
    return mount_pb2.Mount(target=target, image=mount_pb2.ImageMount(image=name, **fields))


def output(engine: Engine, image_name: str, script: str, **spec: Any) -> str:
    """What a shell script in a container that is removed afterwards wrote; fails the test if it failed."""
    out, err, ended = engine.run(image_name, "sh", "-c", script, **spec)
    assert containers.exit_of(ended) == ("exit_code", 0), (out, err)
    return out.decode().strip()


def remove(engine: Engine, container: str, *, volumes: bool = False, force: bool = False) -> None:
    """The container is gone, with `volumes` its anonymous ones too."""
    request = containers_pb2.DeleteContainerRequest(container=container, delete_volumes=volumes, force=force)
    engine.containers.DeleteContainer(request)


def import_tar(engine: Engine, name: str, data: bytes) -> volumes_pb2.ImportVolumeResponse:
    """ImportVolume's answer."""

    def requests() -> Iterator[volumes_pb2.ImportVolumeRequest]:
        yield volumes_pb2.ImportVolumeRequest(options=volumes_pb2.ImportVolumeOptions(name=name))
        for offset in range(0, len(data), 64 * 1024):
            yield volumes_pb2.ImportVolumeRequest(chunk=data[offset : offset + 64 * 1024])

    answer: volumes_pb2.ImportVolumeResponse = engine.volumes.ImportVolume(requests())
    return answer


def export_tar(engine: Engine, name: str) -> tuple[bytes, int]:
    """(tar, entries that it is said to have) of ExportVolume; fails the test if the end is missing."""
    data = b""
    for part in engine.volumes.ExportVolume(volumes_pb2.ExportVolumeRequest(name=name)):
        if part.WhichOneof("part") == "chunk":
            data += part.chunk
        else:
            assert part.complete.size_bytes == len(data)
            return data, part.complete.entry_count
    raise AssertionError("the stream ended without `complete`")
