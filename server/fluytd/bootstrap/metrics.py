"""Metrics: what a collection sees of the engine, and where it is served."""

from collections.abc import Sequence

from fluytd import __version__
from fluytd.bootstrap.base import Base
from fluytd.bootstrap.containers import ContainerParts
from fluytd.bootstrap.images import ImageParts
from fluytd.containers.model import Container
from fluytd.containers.stats import Sample
from fluytd.images.usage import usage
from fluytd.metrics.calls import CallFigures
from fluytd.metrics.exporter import Exporter
from fluytd.metrics.model import Moment
from fluytd.metrics.service import MetricsService


def metrics_of(base: Base, images: ImageParts, containers: ContainerParts, calls: CallFigures) -> MetricsService:
    """The metrics of this engine; a collection reads no file but the figures of control groups."""
    begun = base.clock.now_unix_nanos()

    def moment(found: Sequence[tuple[Container, Sample | None]]) -> Moment:
        stored = usage(images.catalogue.table, (container.image.image_id for container, _ in found))
        written = containers.meter.usage()
        return Moment(
            version=__version__,
            engine_id=base.identity,
            start_time_unix_nanos=begun,
            image_count=sum(1 for _ in images.catalogue.table),
            disk_usage_bytes={
                "blobs": stored.blobs.size_bytes,
                "layers": stored.layers.size_bytes,
                "containers": written.writable.size_bytes,
                "logs": written.logs.size_bytes,
            },
            head_sequence=base.database.log.head_sequence,
            containers=[(container, None if sample is None else sample.stats) for container, sample in found],
        )

    return MetricsService(moment, containers.service.all, containers.service.figures, calls)


def serve_metrics(base: Base, metrics: MetricsService) -> None:
    """Metrics are served, if the settings name an address, until the engine stops. Raises FIELD_INVALID, IO_FAILED."""
    if base.config.metrics_address:
        exporter = Exporter(metrics.collect)
        exporter.start(base.config.metrics_address)
        base.undo.push_async_callback(exporter.close)
