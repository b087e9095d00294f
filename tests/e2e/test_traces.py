"""Traces as a collector gets them from a live daemon."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_spec_pb2
from tests.support import image_files, images
from tests.support.engine import Engine

IMAGE = "busybox:1"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
#: A stopping daemon waits no longer for a collector. Source: fluytd/tracing/otel.py, CLOSE_SECONDS.
CLOSE_SECONDS = 5.0


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.spans: list[trace_pb2.Span] = []
        self.services: set[str] = set()

    def Export(  # noqa: N802 - the RPC's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            self.services |= {
                one.value.string_value for one in resource.resource.attributes if one.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    """A collector on a port of its own, and its address."""
    kept = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(kept, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield kept, f"http://127.0.0.1:{port}"
    server.stop(None)


def test_a_start_comes_with_its_steps_below_the_callers_span(collector: tuple[Collector, str], tmp_path: Path) -> None:
    kept, address = collector
    with Engine(tmp_path, options=["--trace-endpoint", address]) as engine:
        engine.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        spec = container_spec_pb2.ContainerSpec(image=IMAGE, args=["true"])
        made = engine.containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec)).container
        engine.containers.StartContainer(
            containers_pb2.StartContainerRequest(container=made.id),
            metadata=[("traceparent", f"00-{TRACE}-{PARENT}-01")],
        )
    # An engine that ends sends what it still has.
    spans = {span.name: span for span in kept.spans if span.trace_id.hex() == TRACE}
    call = spans["fluyt.v1.ContainerService/StartContainer"]
    assert (call.parent_span_id.hex(), call.kind) == (PARENT, trace_pb2.Span.SPAN_KIND_SERVER)
    start = spans["container.start"]
    assert start.parent_span_id == call.span_id
    assert {one.key: one.value.string_value for one in start.attributes} == {"container_id": made.id}
    assert spans["start.work"].parent_span_id == start.span_id
    assert spans["start.process"].parent_span_id == spans["work._work"].span_id
    loads = [span for span in kept.spans if span.name == "fluyt.v1.ImageService/LoadImages"]
    assert [one.trace_id.hex() == TRACE for one in loads] == [False]
    assert kept.services == {"fluytd"}


def test_a_collector_that_is_not_there_costs_spans_alone(tmp_path: Path) -> None:
    with Engine(tmp_path, options=["--trace-endpoint", "http://127.0.0.1:1"]) as engine:
        engine.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        out, _, ended = engine.run(IMAGE, "echo", "served")
        assert (out, ended.exit_code) == (b"served\n", 0)
        engine.channel.close()
        begin = time.monotonic()
        engine.process.terminate()
        assert engine.process.wait(30) == 0
        assert time.monotonic() - begin < CLOSE_SECONDS + 10
