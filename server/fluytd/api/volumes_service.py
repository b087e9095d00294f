"""RPC bodies of VolumeService: convert in, call the service, convert out."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from fluyt.v1 import volumes_pb2, volumes_pb2_grpc
from fluyt.v1.types import archive_pb2
from fluytd.api.convert import volumes as convert
from fluytd.api.convert.values import from_page_token, page_size, to_page_token
from fluytd.errors import FieldInvalid
from fluytd.images.spool import Spool
from fluytd.volumes.model import Volume
from fluytd.volumes.service import Exported, VolumeService

#: Volumes of a page where the caller names no number, and the most that one has.
DEFAULT_PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1_000
#: A page ends early at about so many bytes, so that no message exceeds 1 MiB.
MAX_PAGE_BYTES: Final = 512 * 1024


class VolumeServicer(volumes_pb2_grpc.VolumeServiceServicer):
    """Makes, shows, copies and removes volumes for callers."""

    def __init__(self, volumes: VolumeService, spool: Spool) -> None:
        """Serves `volumes`. `spool`: where archives are kept while they are read."""
        self._volumes = volumes
        self._spool = spool

    async def CreateVolume(
        self, request: volumes_pb2.CreateVolumeRequest, context: Any
    ) -> volumes_pb2.CreateVolumeResponse:
        volume = await self._volumes.create(convert.from_create(request))
        return volumes_pb2.CreateVolumeResponse(volume=await self._message(volume))

    async def GetVolume(self, request: volumes_pb2.GetVolumeRequest, context: Any) -> volumes_pb2.GetVolumeResponse:
        return volumes_pb2.GetVolumeResponse(volume=await self._message(self._volumes.get(_given(request.name))))

    async def ListVolumes(
        self, request: volumes_pb2.ListVolumesRequest, context: Any
    ) -> volumes_pb2.ListVolumesResponse:
        limit = page_size(request.page_size, default=DEFAULT_PAGE_SIZE, maximum=MAX_PAGE_SIZE)
        after = from_page_token(request.page_token)
        response, size_bytes = volumes_pb2.ListVolumesResponse(), 0
        for shown in await self._volumes.list(convert.from_filter(request.filter)):
            if after and shown.volume.name <= after:
                continue
            if len(response.volumes) == limit or size_bytes > MAX_PAGE_BYTES:
                response.next_page_token = to_page_token(response.volumes[-1].name)
                break
            message = convert.to_volume(shown)
            size_bytes += message.ByteSize()
            response.volumes.append(message)
        return response

    async def DeleteVolume(
        self, request: volumes_pb2.DeleteVolumeRequest, context: Any
    ) -> volumes_pb2.DeleteVolumeResponse:
        size = await self._volumes.delete(
            _given(request.name), expected_version=request.expected_version, force=request.force
        )
        return volumes_pb2.DeleteVolumeResponse(name=request.name, reclaimed_bytes=size)

    async def RenameVolume(
        self, request: volumes_pb2.RenameVolumeRequest, context: Any
    ) -> volumes_pb2.RenameVolumeResponse:
        volume = await self._volumes.rename(
            _given(request.name), request.new_name, expected_version=request.expected_version
        )
        return volumes_pb2.RenameVolumeResponse(volume=await self._message(volume))

    async def CloneVolume(
        self, request: volumes_pb2.CloneVolumeRequest, context: Any
    ) -> volumes_pb2.CloneVolumeResponse:
        volume = await self._volumes.clone(_given(request.source, "source"), request.name, dict(request.labels))
        return volumes_pb2.CloneVolumeResponse(volume=await self._message(volume))

    async def ExportVolume(
        self, request: volumes_pb2.ExportVolumeRequest, context: Any
    ) -> AsyncIterator[volumes_pb2.ExportVolumeResponse]:
        async with aclosing(self._volumes.export(_given(request.name))) as parts:
            async for part in parts:
                if isinstance(part, Exported):
                    complete = archive_pb2.ArchiveComplete(size_bytes=part.size_bytes, entry_count=part.entry_count)
                    yield volumes_pb2.ExportVolumeResponse(complete=complete)
                else:
                    yield volumes_pb2.ExportVolumeResponse(chunk=part)

    async def ImportVolume(
        self, request_iterator: AsyncIterator[volumes_pb2.ImportVolumeRequest], context: Any
    ) -> volumes_pb2.ImportVolumeResponse:
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("part") != "options":
            raise FieldInvalid(field="options", rule="must be the first message")
        archive = await self._spool.receive(_chunks(request_iterator), "import")
        try:
            volume, count = await self._volumes.import_archive(_given(first.options.name, "options.name"), archive.fd)
        finally:
            archive.close()
        return volumes_pb2.ImportVolumeResponse(volume=await self._message(volume), entry_count=count)

    async def PruneVolumes(
        self, request: volumes_pb2.PruneVolumesRequest, context: Any
    ) -> volumes_pb2.PruneVolumesResponse:
        wanted = convert.from_filter(request.filter)
        pruned = await self._volumes.prune(wanted, has_all=request.all, dry_run=request.dry_run)
        return volumes_pb2.PruneVolumesResponse(deleted=pruned.names, reclaimed_bytes=pruned.reclaimed_bytes)

    async def _message(self, volume: Volume) -> volumes_pb2.Volume:
        return convert.to_volume(await self._volumes.show(volume))


def _given(name: str, field: str = "name") -> str:
    if not name:
        raise FieldInvalid(field=field, rule="must be given")
    return name


async def _chunks(requests: AsyncIterator[volumes_pb2.ImportVolumeRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise FieldInvalid(field="chunk", rule="must be all messages after the first")
        yield request.chunk
