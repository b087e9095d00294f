"""Volumes: make, list, look at, rename, copy, send, take in, prune, delete."""

from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO, Final

import grpc

from fluyt.errors import DataCorrupt, iterate, translated
from fluyt.v1 import volumes_pb2, volumes_pb2_grpc
from fluyt.v1.types import archive_pb2

#: Bytes of an archive sent in one message.
CHUNK_BYTES: Final = 512 * 1024


def _stub(connection: grpc.Channel) -> volumes_pb2_grpc.VolumeServiceStub:
    return volumes_pb2_grpc.VolumeServiceStub(connection)


def create(
    connection: grpc.Channel,
    name: str = "",
    *,
    driver: str = "",
    driver_options: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    request_id: str = "",
) -> volumes_pb2.Volume:
    """The volume is there; without a name an anonymous one. An equal one of that name is answered as it is.

    Raises:
        AlreadyExists: one of another driver or other options has the name.
    """
    request = volumes_pb2.CreateVolumeRequest(
        name=name, driver=driver, driver_options=driver_options, labels=labels, request_id=request_id
    )
    with translated():
        answer: volumes_pb2.CreateVolumeResponse = _stub(connection).CreateVolume(request)
    return answer.volume


def get(connection: grpc.Channel, name: str) -> volumes_pb2.Volume:
    """The volume. Raises NotFound."""
    with translated():
        answer: volumes_pb2.GetVolumeResponse = _stub(connection).GetVolume(volumes_pb2.GetVolumeRequest(name=name))
    return answer.volume


def list_all(connection: grpc.Channel, wanted: volumes_pb2.VolumeFilter | None = None) -> Iterator[volumes_pb2.Volume]:
    """Volumes by name, fetched page by page as they are asked for. `wanted`: None for all."""
    token = ""
    while True:
        with translated():
            page = _stub(connection).ListVolumes(volumes_pb2.ListVolumesRequest(page_token=token, filter=wanted))
        yield from page.volumes
        token = page.next_page_token
        if not token:
            return


def delete(connection: grpc.Channel, name: str, *, force: bool = False, expected_version: int = 0) -> int:
    """The volume is gone with its data; the bytes freed. `force`: one that is not there is no failure.

    Raises:
        NotFound: it is not there.
        FailedPrecondition: a container has it, running or not.
    """
    request = volumes_pb2.DeleteVolumeRequest(name=name, force=force, expected_version=expected_version)
    with translated():
        answer: volumes_pb2.DeleteVolumeResponse = _stub(connection).DeleteVolume(request)
    return answer.reclaimed_bytes


def rename(connection: grpc.Channel, name: str, new_name: str, *, expected_version: int = 0) -> volumes_pb2.Volume:
    """It has the new name, and containers keep it. Raises NotFound, AlreadyExists, FailedPrecondition if one runs."""
    request = volumes_pb2.RenameVolumeRequest(name=name, new_name=new_name, expected_version=expected_version)
    with translated():
        answer: volumes_pb2.RenameVolumeResponse = _stub(connection).RenameVolume(request)
    return answer.volume


def clone(
    connection: grpc.Channel, source: str, name: str, *, labels: Mapping[str, str] | None = None, request_id: str = ""
) -> volumes_pb2.Volume:
    """A volume of this name has all that `source` has now. Raises NotFound, AlreadyExists."""
    request = volumes_pb2.CloneVolumeRequest(source=source, name=name, labels=labels, request_id=request_id)
    with translated():
        answer: volumes_pb2.CloneVolumeResponse = _stub(connection).CloneVolume(request)
    return answer.volume


def export(connection: grpc.Channel, name: str, target: BinaryIO) -> archive_pb2.ArchiveComplete:
    """The volume's data is written to `target` as tar; whole only if no exception was raised.

    Raises:
        NotFound: it is not there, or was deleted meanwhile.
        DataCorrupt: the engine closed the stream before its end.
    """
    size = 0
    for part in iterate(_stub(connection).ExportVolume(volumes_pb2.ExportVolumeRequest(name=name))):
        if part.HasField("complete"):
            complete: archive_pb2.ArchiveComplete = part.complete
            if complete.size_bytes == size:
                return complete
            break
        target.write(part.chunk)
        size += len(part.chunk)
    raise DataCorrupt(grpc.StatusCode.DATA_LOSS, f"the stream ended after {size} bytes")


def import_archive(connection: grpc.Channel, name: str, source: BinaryIO) -> volumes_pb2.ImportVolumeResponse:
    """The tar that `source` reads, compressed or not, is unpacked into the volume, which is made if absent."""

    def requests() -> Iterable[volumes_pb2.ImportVolumeRequest]:
        yield volumes_pb2.ImportVolumeRequest(options=volumes_pb2.ImportVolumeOptions(name=name))
        while chunk := source.read(CHUNK_BYTES):
            yield volumes_pb2.ImportVolumeRequest(chunk=chunk)

    with translated():
        answer: volumes_pb2.ImportVolumeResponse = _stub(connection).ImportVolume(iter(requests()))
        return answer


def prune(
    connection: grpc.Channel,
    wanted: volumes_pb2.VolumeFilter | None = None,
    *,
    all: bool = False,
    dry_run: bool = False,
) -> volumes_pb2.PruneVolumesResponse:
    """Volumes that no container has are gone, or with `dry_run` told; only anonymous ones unless `all`."""
    request = volumes_pb2.PruneVolumesRequest(filter=wanted, all=all, dry_run=dry_run)
    with translated():
        answer: volumes_pb2.PruneVolumesResponse = _stub(connection).PruneVolumes(request)
    return answer
