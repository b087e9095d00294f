"""What the engine tells of itself."""

from fluytd import __version__, _core
from fluytd.api.engine_service import EngineFacts
from fluytd.bootstrap.base import Base
from fluytd.bootstrap.containers import ContainerParts
from fluytd.bootstrap.images import ImageParts
from fluytd.config import Config
from fluytd.gc.settings import collection_limits
from fluytd.host.model import HostFacts
from fluytd.images.usage import usage
from fluytd.volumes.service import VolumeService


def engine_facts_of(
    base: Base, host: HostFacts, images: ImageParts, containers: ContainerParts, volumes: VolumeService
) -> EngineFacts:
    """What GetVersion, GetInfo and GetDiskUsage answer; what changes is asked for each time, in constant time."""
    config, catalogue = base.config, images.catalogue
    return EngineFacts(
        engine_id=base.identity,
        version=__version__,
        core_version=_core.build_info().version,
        build_profile=_core.build_info().profile,
        architecture=host.architecture,
        kernel_release=host.kernel_release,
        start_time_unix_nanos=base.clock.now_unix_nanos(),
        data_root=str(config.data_root),
        run_root=str(config.run_root),
        layer_store=images.layers.core.kind,
        limits=limits_of(config),
        has_own_users=containers.service.ctx.id_settings.has_own_users,
        clamps=(),
        container_counts=containers.counts,
        image_count=lambda: sum(1 for _ in catalogue.table),
        image_usage=lambda: usage(
            catalogue.table,
            (image.image_id for entry in containers.service.ctx.table for image in entry.container.all_images),
        ),
        container_usage=containers.meter.usage,
        volume_usage=volumes.ctx.meter.usage,
    )


def limits_of(config: Config) -> list[tuple[str, int, str, str]]:
    """The settings that bound input and use, as GetInfo tells them."""
    return [
        ("load_max_bytes", config.load_max_bytes, "bytes", "largest image archive taken from a client"),
        ("log_segment_bytes", config.log_segment_bytes, "bytes", "size of one segment of a container's log"),
        ("log_segment_count", config.log_segment_count, "count", "segments of a container's log that are kept"),
        ("event_log_events", config.event_log_events, "count", "events that are kept"),
        ("operation_history", config.operation_history, "count", "ended operations that are kept"),
        *registry_limits(config),
        *collection_limits(config),
    ]


def registry_limits(config: Config) -> list[tuple[str, int, str, str]]:
    """The settings that bound how long a registry is waited for."""
    connect, header, idle = (
        config.registry_connect_timeout_seconds,
        config.registry_header_timeout_seconds,
        config.registry_idle_timeout_seconds,
    )
    return [
        ("registry_connect_timeout_seconds", connect, "seconds", "for a connection to a registry to stand, with TLS"),
        ("registry_header_timeout_seconds", header, "seconds", "for the head of a registry's answer"),
        ("registry_idle_timeout_seconds", idle, "seconds", "without a byte after which a transfer is broken off"),
    ]
