"""Spans by OpenTelemetry's SDK, sent by OTLP. Imported only where the settings name a collector.

Source of names and attributes: OpenTelemetry semantic conventions for gRPC; of the headers: W3C Trace Context.
"""

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeVar

from opentelemetry import context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from fluytd.errors import EngineError
from fluytd.tracing import Headers

T = TypeVar("T")

#: How long a collector may take for a batch, and how long a stopping engine waits for what is left to be sent.
EXPORT_SECONDS: Final = 5
CLOSE_SECONDS: Final = 5.0
#: Spans that wait to be sent; further ones are dropped.
MAX_QUEUED_SPANS: Final = 4_096
#: Headers that are looked at, and how much of each.
_HEADERS: Final = ("traceparent", "tracestate")
MAX_HEADER_BYTES: Final = 512
#: Statuses of a server's span that are its own failures.
_FAILURES: Final = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})


class _CallSpan:
    """Implements `tracing.CallSpan`."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def end(self, code: str, number: int) -> None:
        """See `tracing.CallSpan.end`."""
        self._span.set_attribute("rpc.grpc.status_code", number)
        if code in _FAILURES:
            self._span.set_status(Status(StatusCode.ERROR, code))


class OpenTelemetry:
    """Implements `tracing.Tracer`."""

    def __init__(self, processor: SpanProcessor, *, version: str, identity: str, sample_percent: int) -> None:
        """`processor`: takes the spans over; `sample_percent`: of traces that no caller began."""
        resource = Resource.create(
            {"service.name": "fluytd", "service.version": version, "service.instance.id": identity}
        )
        sampler = ParentBased(TraceIdRatioBased(sample_percent / 100))
        self._provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("fluytd", version)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def step(self, name: str, attributes: Mapping[str, str | int], *, is_root: bool = False) -> Iterator[None]:
        """See `tracing.Tracer.step`."""
        parent = context.Context() if is_root else None
        with self._tracer.start_as_current_span(
            name, parent, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except EngineError as error:
                span.set_attribute("error.type", error.reason)
                span.set_status(Status(StatusCode.ERROR, error.reason))
                raise
            except BaseException as error:
                # Its text may hold anything: the log has it, under an incident id.
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise

    @contextmanager
    def call(self, rpc: str, headers: Headers) -> Iterator[_CallSpan]:
        """See `tracing.Tracer.call`."""
        carrier = {name: headers[name][:MAX_HEADER_BYTES] for name in _HEADERS if name in headers}
        parent = self._propagator.extract(carrier, context.Context())
        service, _, method = rpc.strip("/").rpartition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        with self._tracer.start_as_current_span(
            rpc.strip("/"),
            parent,
            SpanKind.SERVER,
            attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield _CallSpan(span)

    def carried(self, call: Callable[[], T]) -> Callable[[], T]:
        """See `tracing.Tracer.carried`."""
        present = contextvars.copy_context()
        return lambda: present.run(call)

    def close(self) -> None:
        """What was traced is sent, or given up after `CLOSE_SECONDS`. Blocking."""
        closing = threading.Thread(target=self._shut_down, name="tracing", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _shut_down(self) -> None:
        # Whatever a collector that has gone makes it raise, the engine is stopping.
        with contextlib.suppress(Exception):
            self._provider.shutdown()


def exporting(endpoint: str, *, version: str, identity: str, sample_percent: int) -> OpenTelemetry:
    """A tracer whose spans go to the collector at `http://host:port` (plain) or `https://host:port` (TLS) by OTLP over
    gRPC. Nothing is connected yet, and a collector that is not there costs spans alone."""
    exporter: SpanExporter = OTLPSpanExporter(
        endpoint=endpoint, insecure=endpoint.startswith("http://"), timeout=EXPORT_SECONDS
    )
    processor = BatchSpanProcessor(exporter, max_queue_size=MAX_QUEUED_SPANS)
    return OpenTelemetry(processor, version=version, identity=identity, sample_percent=sample_percent)
