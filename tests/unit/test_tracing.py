"""Spans of calls and steps, collected in memory; and that nothing is imported where nothing is traced."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from fluyt.v1 import engine_pb2, engine_pb2_grpc
from fluytd import tracing
from fluytd.api.calls import Wrapper
from fluytd.api.gate import Gate
from fluytd.bootstrap.tracing import begin_tracing
from fluytd.config import Config, load
from fluytd.errors import ContainerNotFound, FieldInvalid
from fluytd.tracing.otel import MAX_HEADER_BYTES, OpenTelemetry
from fluytd.workers import Workers

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
RPC = "/fluyt.v1.EngineService/GetVersion"


@dataclass
class Traced:
    """A tracer and what it has ended, by name."""

    tracer: OpenTelemetry
    exporter: InMemorySpanExporter

    def spans(self) -> dict[str, ReadableSpan]:
        """The last of each name."""
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def traced() -> Iterator[Traced]:
    exporter = InMemorySpanExporter()
    tracer = OpenTelemetry(SimpleSpanProcessor(exporter), version="1", identity="engine", sample_percent=100)
    tracing.install(tracer)
    yield Traced(tracer, exporter)
    tracing.install(None)


@dataclass
class Context:
    """As much of grpc's context as a call needs."""

    metadata: tuple[tuple[str, str | bytes], ...] = ()
    ended: list[Any] = field(default_factory=list)

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self.metadata

    def code(self) -> int:
        return int(self.ended[-1].value[0])

    async def abort(self, code: grpc.StatusCode, message: str, trailing: object) -> None:
        self.ended.append(code)
        raise grpc.aio.AbortError


def call_of(body: Any) -> Any:
    """The body as the server wraps it."""

    class Servicer(engine_pb2_grpc.EngineServiceServicer):
        GetVersion = body

    gate = Gate()
    gate.open()
    [(_, handler)] = Wrapper(gate, None, None).handlers([(engine_pb2, engine_pb2_grpc)], [Servicer()])
    return handler.service(_Details()).unary_unary


class _Details:
    method = RPC
    invocation_metadata = ()


async def test_a_call_is_a_span_below_the_one_that_its_headers_name_and_its_steps_are_below_it(traced: Traced) -> None:
    workers = Workers(1, 1)

    def work() -> str:
        with tracing.step("noun.inner", container_id="c1"):
            return "done"

    async def body(self: object, request: object, context: object) -> str:
        with tracing.step("noun.outer"):
            return await workers.run(work)

    header = f"00-{TRACE}-{PARENT}-01"
    context = Context((("traceparent", header), ("tracestate", "a=b"), ("other-bin", b"\xff")))
    assert await call_of(body)(None, context) == "done"
    workers.close()
    spans = traced.spans()
    call = spans["fluyt.v1.EngineService/GetVersion"]
    assert call.parent is not None
    assert call.context is not None
    assert (f"{call.context.trace_id:032x}", f"{call.parent.span_id:016x}", call.kind) == (
        TRACE,
        PARENT,
        SpanKind.SERVER,
    )
    assert call.context.trace_state.get("a") == "b"
    assert dict(call.attributes or {}) == {
        "rpc.system": "grpc",
        "rpc.service": "fluyt.v1.EngineService",
        "rpc.method": "GetVersion",
        "rpc.grpc.status_code": 0,
    }
    chain = ["fluyt.v1.EngineService/GetVersion", "noun.outer", "work.work", "noun.inner"]
    for above, below in pairwise(chain):
        parent = spans[below].parent
        assert parent is not None
        assert parent.span_id == spans[above].context.span_id, below
    assert dict(spans["noun.inner"].attributes or {}) == {"container_id": "c1"}
    assert call.resource.attributes["service.name"] == "fluytd"


async def test_a_refusal_is_no_failure_of_the_engine_and_its_step_names_the_reason(traced: Traced) -> None:
    async def body(self: object, request: object, context: object) -> None:
        with tracing.step("noun.look"):
            raise ContainerNotFound(id="secret-looking-name")

    with pytest.raises(grpc.aio.AbortError):
        await call_of(body)(None, Context())
    spans = traced.spans()
    call, step = spans["fluyt.v1.EngineService/GetVersion"], spans["noun.look"]
    assert (call.attributes or {})["rpc.grpc.status_code"] == grpc.StatusCode.NOT_FOUND.value[0]
    assert call.status.status_code is StatusCode.UNSET
    assert ((step.attributes or {})["error.type"], step.status.status_code) == ("CONTAINER_NOT_FOUND", StatusCode.ERROR)


async def test_what_was_not_foreseen_is_a_failure_and_its_text_is_not_sent(traced: Traced) -> None:
    async def body(self: object, request: object, context: object) -> None:
        with tracing.step("noun.break"):
            raise ValueError("a password")

    with pytest.raises(grpc.aio.AbortError):
        await call_of(body)(None, Context())
    spans = traced.spans()
    assert spans["fluyt.v1.EngineService/GetVersion"].status.status_code is StatusCode.ERROR
    assert "password" not in "".join(span.to_json() for span in spans.values())


@pytest.mark.parametrize(
    "header", ["", "00", "nonsense", "ff-" + TRACE + "-" + PARENT + "-01", "0" * 100_000, f"00-{'0' * 32}-{PARENT}-01"]
)
async def test_headers_that_name_no_span_begin_a_trace(traced: Traced, header: str) -> None:
    async def body(self: object, request: object, context: object) -> None: ...

    await call_of(body)(None, Context((("traceparent", header), ("tracestate", "x=" + "y" * MAX_HEADER_BYTES))))
    assert traced.spans()["fluyt.v1.EngineService/GetVersion"].parent is None


async def test_a_step_that_no_caller_is_behind_begins_a_trace(traced: Traced) -> None:
    with tracing.step("noun.call"):
        await asyncio.create_task(_root())
    spans = traced.spans()
    assert (spans["noun.root"].parent, spans["noun.call"].parent) == (None, None)


async def _root() -> None:
    with tracing.step("noun.root", is_root=True):
        await asyncio.sleep(0)


def test_traces_that_no_caller_began_are_kept_as_often_as_asked() -> None:
    exporter = InMemorySpanExporter()
    tracer = OpenTelemetry(SimpleSpanProcessor(exporter), version="1", identity="e", sample_percent=0)
    with tracer.call(RPC, {}):
        pass
    with tracer.call(RPC, {"traceparent": f"00-{TRACE}-{PARENT}-01"}):
        pass
    assert len(exporter.get_finished_spans()) == 1


def test_without_a_tracer_a_step_is_nothing() -> None:
    with tracing.step("noun.verb", container_id="x"):
        pass

    def call() -> None: ...

    assert tracing.carried(call) is call


def test_nothing_is_imported_where_nothing_is_traced() -> None:
    script = (
        "import sys, fluytd.__main__, fluytd.bootstrap.engine;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_a_collector_without_the_extra_is_refused_by_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fluytd.tracing.otel", "opentelemetry"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr(tracing, "otel", raising=False)
    base = SimpleNamespace(config=Config(trace_endpoint="http://127.0.0.1:4317"), identity="e")
    with pytest.raises(FieldInvalid, match="otel") as refused:
        begin_tracing(base)  # type: ignore[arg-type] # it looks at these alone
    assert refused.value.metadata["field"] == "trace_endpoint"


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4317", "http://host", "ftp://host:1", "http://host:1/x", "http://:1"])
def test_what_names_no_collector_is_refused(endpoint: str) -> None:
    with pytest.raises(FieldInvalid):
        load(["--trace-endpoint", endpoint])


def test_a_collector_is_named_by_its_address() -> None:
    assert load(["--trace-endpoint", "https://[::1]:4317"]).trace_endpoint == "https://[::1]:4317"
