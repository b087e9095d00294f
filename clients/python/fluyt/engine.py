"""The engine itself."""

from collections.abc import Iterable, Iterator

import grpc

from fluyt.errors import iterate, translated
from fluyt.v1 import engine_pb2, engine_pb2_grpc


def version(connection: grpc.Channel) -> engine_pb2.GetVersionResponse:
    """What answers there."""
    with translated():
        response: engine_pb2.GetVersionResponse = engine_pb2_grpc.EngineServiceStub(connection).GetVersion(
            engine_pb2.GetVersionRequest()
        )
    return response


def info(connection: grpc.Channel) -> engine_pb2.GetInfoResponse:
    """The host, what it can do, limits and storage."""
    with translated():
        response: engine_pb2.GetInfoResponse = engine_pb2_grpc.EngineServiceStub(connection).GetInfo(
            engine_pb2.GetInfoRequest()
        )
    return response


def disk_usage(connection: grpc.Channel) -> engine_pb2.GetDiskUsageResponse:
    """Bytes in use by kind."""
    with translated():
        response: engine_pb2.GetDiskUsageResponse = engine_pb2_grpc.EngineServiceStub(connection).GetDiskUsage(
            engine_pb2.GetDiskUsageRequest()
        )
    return response


def check_storage(
    connection: grpc.Channel, subjects: Iterable[str] = (), *, repair: bool = False
) -> Iterator[engine_pb2.CheckStorageResponse]:
    """Each step of a check of stored content, the summary last; `repair` makes whole what is damaged.

    `subjects`: digests of blobs, ids of layers or references of images; none for everything.
    """
    request = engine_pb2.CheckStorageRequest(subjects=list(subjects), repair=repair)
    yield from iterate(engine_pb2_grpc.EngineServiceStub(connection).CheckStorage(request))
