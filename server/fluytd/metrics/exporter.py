"""Serves metrics in Prometheus' text form by HTTP on a loopback address. It decides nothing.

One thread and one connection at a time: who collects does so every some seconds, and nothing that comes by HTTP can
take more of the engine than that. There is no protection: hence only loopback.
"""

import asyncio
import ipaddress
import itertools
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from fluytd.errors import FieldInvalid, IoFailed
from fluytd.metrics.model import Family, Kind

_log = logging.getLogger(__name__)

#: How long a caller may take to send its request.
REQUEST_TIMEOUT_SECONDS: Final = 5
#: How long the event loop may take to answer a collection.
COLLECT_TIMEOUT_SECONDS: Final = 10

Collect = Callable[[], Awaitable[Sequence[Family]]]


class Exporter:
    """Made once; `start` and `close` belong to the event loop."""

    def __init__(self, collect: Collect) -> None:
        """`collect` is called on the loop for each request."""
        self._collect = collect
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None
        #: Port that is listened on, 0 before `start`.
        self.port = 0

    def start(self, address: str) -> None:
        """Metrics are served at `http://address/metrics`. Raises FIELD_INVALID, IO_FAILED."""
        host, port = split_address(address)
        self._loop = asyncio.get_running_loop()
        registry = CollectorRegistry()
        registry.register(self)
        try:
            self._server = make_server(host, port, make_wsgi_app(registry), _server_of(host), _Handler)
        except OSError as error:
            raise IoFailed(operation="bind", path=address, errno=error.errno) from error
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()
        _log.info("metrics are served at http://%s:%d/metrics", f"[{host}]" if ":" in host else host, self.port)

    async def close(self) -> None:
        """Nothing is served any more. Idempotent."""
        server, self._server = self._server, None
        if server is None or self._thread is None:
            return
        # Not awaited on this thread: a collection under way needs the loop.
        await asyncio.to_thread(server.shutdown)
        await asyncio.to_thread(self._thread.join)
        server.server_close()

    def describe(self) -> Iterator[Metric]:
        """Nothing is known before it is collected. Source: prometheus_client.registry.Collector."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`; called in the server's thread."""
        if self._loop is None:
            return
        asked = asyncio.run_coroutine_threadsafe(_awaited(self._collect()), self._loop)
        for family in asked.result(COLLECT_TIMEOUT_SECONDS):
            yield _metric(family)


async def _awaited(work: Awaitable[Sequence[Family]]) -> Sequence[Family]:
    return await work


def _metric(family: Family) -> Metric:
    if family.kind is Kind.HISTOGRAM:
        return _histogram(family)
    kind = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, value in family.samples:
        metric.add_metric(list(labels), value)
    return metric


def _histogram(family: Family) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    for labels, samples in itertools.groupby(family.samples, key=lambda sample: sample[0][:-1]):
        *classes, (_, total) = [(bounds[-1], value) for bounds, value in samples]
        metric.add_metric(list(labels), classes, total)
    return metric


def split_address(address: str) -> tuple[str, int]:
    """(IP address, port). Raises FIELD_INVALID unless it is a loopback one."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback or not port.isdecimal() or int(port) > 65_535:
        rule = "must be a loopback address with a port, such as 127.0.0.1:9323; metrics are not protected"
        raise FieldInvalid(field="metrics_address", rule=rule)
    return host, int(port)


def _server_of(host: str) -> type[WSGIServer]:
    class Server(WSGIServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def handle_error(self, request: Any, client_address: Any) -> None:
            _log.warning("metrics could not be told to %s", client_address, exc_info=True)

    return Server


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)
