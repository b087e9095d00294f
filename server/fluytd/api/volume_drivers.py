"""Calls to volume drivers: programs that keep volumes elsewhere and listen on a unix socket each, `<name>.sock`.

The one place where the engine is a caller of gRPC. Whether a call makes sense, the caller decides.
"""

import re
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import grpc

from fluyt.v1 import volume_drivers_pb2 as messages
from fluyt.v1 import volume_drivers_pb2_grpc
from fluytd.errors import VolumeDriverFailed, VolumeDriverNotFound
from fluytd.volumes.model import Volume

#: How long one call to a driver may take.
DRIVER_CALL_SECONDS: Final = 60.0
#: Bytes of a driver's answer; it holds a path.
MAX_DRIVER_MESSAGE_BYTES: Final = 64 * 1024
#: Source: linux/limits.h, PATH_MAX.
MAX_PATH_BYTES: Final = 4_095
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}", re.ASCII)


class SocketDrivers:
    """Implements `volumes.ports.VolumeDrivers`. A driver is known as long as its socket stands in the directory."""

    def __init__(self, directory: Path) -> None:
        """Looks at nothing yet; the directory may be absent."""
        self._directory = directory

    def check(self, driver: str) -> None:
        """See `VolumeDrivers.check`."""
        self._socket(driver)

    async def provision(self, volume: Volume) -> None:
        """See `VolumeDrivers.provision`."""
        request = messages.ProvisionVolumeRequest(
            volume_id=volume.id, name=volume.name, options=volume.driver_options, limit_bytes=volume.limit_bytes
        )
        await self._call(volume.driver, "provision", lambda stub: stub.ProvisionVolume(request, **_BOUNDS))

    async def discard(self, driver: str, volume_id: str) -> None:
        """See `VolumeDrivers.discard`."""
        request = messages.DiscardVolumeRequest(volume_id=volume_id)
        await self._call(driver, "discard", lambda stub: stub.DiscardVolume(request, **_BOUNDS))

    async def attach(self, driver: str, volume_id: str, container_id: str) -> str:
        """See `VolumeDrivers.attach`."""
        request = messages.AttachVolumeRequest(volume_id=volume_id, container_id=container_id)
        answer = await self._call(driver, "attach", lambda stub: stub.AttachVolume(request, **_BOUNDS))
        path: str = answer.path
        if not path.startswith("/") or "\0" in path or len(path.encode()) > MAX_PATH_BYTES:
            raise VolumeDriverFailed(driver=driver, operation="attach", detail=f"{path!r} is no absolute path")
        return path

    async def detach(self, driver: str, volume_id: str, container_id: str) -> None:
        """See `VolumeDrivers.detach`."""
        request = messages.DetachVolumeRequest(volume_id=volume_id, container_id=container_id)
        await self._call(driver, "detach", lambda stub: stub.DetachVolume(request, **_BOUNDS))

    async def _call(self, driver: str, operation: str, call: Callable[[Any], Awaitable[Any]]) -> Any:
        options = [("grpc.max_receive_message_length", MAX_DRIVER_MESSAGE_BYTES)]
        async with grpc.aio.insecure_channel(f"unix:{self._socket(driver)}", options=options) as channel:
            try:
                return await call(volume_drivers_pb2_grpc.VolumeDriverServiceStub(channel))
            except grpc.aio.AioRpcError as error:
                detail = error.details() or error.code().name
                raise VolumeDriverFailed(driver=driver, operation=operation, detail=detail) from error

    def _socket(self, driver: str) -> Path:
        # The name becomes a path, so that nothing but a plain name may be one.
        if not _NAME.fullmatch(driver):
            raise VolumeDriverNotFound(driver=driver)
        path = self._directory / f"{driver}.sock"
        try:
            is_socket = stat.S_ISSOCK(path.stat().st_mode)
        except OSError:
            is_socket = False
        if not is_socket:
            raise VolumeDriverNotFound(driver=driver)
        return path


_BOUNDS: Final = {"timeout": DRIVER_CALL_SECONDS}
