"""Assembles the gRPC server (every service of fluyt.v1, health, reflection) on its listeners, starts and drains it."""

from collections.abc import Iterable
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from fluyt.v1 import (
    builds_pb2,
    builds_pb2_grpc,
    containers_pb2,
    containers_pb2_grpc,
    engine_pb2,
    engine_pb2_grpc,
    events_pb2,
    events_pb2_grpc,
    execs_pb2,
    execs_pb2_grpc,
    images_pb2,
    images_pb2_grpc,
    logs_pb2,
    logs_pb2_grpc,
    networks_pb2,
    networks_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
    volumes_pb2,
    volumes_pb2_grpc,
)
from fluytd.api import listeners
from fluytd.api.calls import Observe, Wrapper, unobserved
from fluytd.api.gate import Gate
from fluytd.api.interceptors.policy import Policy
from fluytd.config import Config
from fluytd.requests.service import RequestService

#: Every file of the API that declares a service.
SERVICE_MODULES: Final = (
    (builds_pb2, builds_pb2_grpc),
    (containers_pb2, containers_pb2_grpc),
    (engine_pb2, engine_pb2_grpc),
    (events_pb2, events_pb2_grpc),
    (execs_pb2, execs_pb2_grpc),
    (images_pb2, images_pb2_grpc),
    (logs_pb2, logs_pb2_grpc),
    (networks_pb2, networks_pb2_grpc),
    (operations_pb2, operations_pb2_grpc),
    (volumes_pb2, volumes_pb2_grpc),
)

#: Largest message taken from a client.
MAX_RECEIVE_BYTES: Final = 1024 * 1024
#: Largest message sent: lists are bounded at 1 MiB, a single container may echo a request of that size.
MAX_SEND_BYTES: Final = 4 * 1024 * 1024
#: Calls of one connection at a time; further ones wait in the client.
MAX_STREAMS_PER_CONNECTION: Final = 512
#: Calls that have come and were not looked at yet. gRPC cancels calls of whomever beyond 1,000 of them by chance and
#: beyond 3,000 all: a caller on many connections would have others' calls cancelled. So many wait instead.
MAX_PENDING_CALLS: Final = 16_384
#: How often a silent client is asked whether it is still there, and how long it may take to answer.
_KEEPALIVE_MILLIS: Final = 60_000
_KEEPALIVE_TIMEOUT_MILLIS: Final = 20_000

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    ("grpc.max_send_message_length", MAX_SEND_BYTES),
    ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
    ("grpc.server.max_pending_requests", MAX_PENDING_CALLS),
    ("grpc.server.max_pending_requests_hard_limit", 2 * MAX_PENDING_CALLS),
    ("grpc.keepalive_time_ms", _KEEPALIVE_MILLIS),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MILLIS),
    ("grpc.so_reuseport", 0),
)


class Server:
    """The listening server. Until `open` it refuses all calls but those that tell what is going on."""

    def __init__(
        self, config: Config, requests: RequestService | None, servicers: Iterable[Any], observe: Observe = unobserved
    ) -> None:
        """Listens on nothing yet. `servicers`: one of each service that is built; the rest answers NOT_BUILT.
        `observe`: told of each call that has ended.

        Raises TypeError for a servicer that fits no service.
        """
        self._config = config
        self._gate = Gate()
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(options=_OPTIONS)
        policy = Policy(_names(config.tcp_administrators), _names(config.tcp_readers)) if config.tcp_address else None
        wrapper = Wrapper(self._gate, requests, policy, observe)
        self._names: list[str] = []
        for name, handler in wrapper.handlers(SERVICE_MODULES, servicers):
            self._server.add_generic_rpc_handlers((handler,))
            self._names.append(name)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        served = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(served, self._server)
        #: Port of the TCP listener, 0 without one.
        self.tcp_port = 0

    async def start(self) -> None:
        """The sockets are open; health says NOT_SERVING. Raises FIELD_INVALID, IO_FAILED (see `listeners`)."""
        config = self._config
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        listeners.add_unix(self._server, config.socket_path, config.socket_group)
        if config.tcp_address:
            self.tcp_port = listeners.add_tcp(
                self._server,
                config.tcp_address,
                certificate=config.tls_certificate_path,
                key=config.tls_key_path,
                client_ca=config.tls_client_ca_path,
            )
        await self._server.start()

    async def open(self) -> None:
        """All calls are let in; health says SERVING. Called once recovery has ended."""
        self._gate.open()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, drain_seconds: float) -> None:
        """No call is under way any more and nothing listens; streams ended at once, short calls had `drain_seconds`."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._gate.stop()
        await self._server.stop(drain_seconds)
        self._config.socket_path.unlink(missing_ok=True)

    async def _set_health(self, status: "health_pb2.HealthCheckResponse.ServingStatus") -> None:
        for name in ("", *self._names):
            await self._health.set(name, status)


def _names(setting: str) -> list[str]:
    return [name.strip() for name in setting.split(",") if name.strip()]
