"""The engine itself."""

import grpc

from fluyt.errors import translated
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
