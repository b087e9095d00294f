"""Volumes and filters <-> messages. Pure."""

from fluyt.v1 import volumes_pb2
from fluytd.api.convert.values import timestamp_of
from fluytd.errors import LimitExceeded
from fluytd.volumes.model import MAX_FILTER_VALUES, VolumeFilter, VolumeWish
from fluytd.volumes.service import Shown

#: Options of drivers whose values are not shown: they may hold a password.
SECRET_WORDS = ("password", "passwd", "secret", "credential", "token")


def to_volume(shown: Shown) -> volumes_pb2.Volume:
    """The message of a volume."""
    volume = shown.volume
    message = volumes_pb2.Volume(
        name=volume.name,
        version=volume.version,
        driver=volume.driver,
        driver_options={key: _shown(key, value) for key, value in volume.driver_options.items()},
        labels=volume.labels,
        is_anonymous=volume.is_anonymous,
        mountpoint=shown.data_path,
        create_time=timestamp_of(volume.create_time_unix_nanos),
        limit_bytes=volume.limit_bytes,
        container_ids=shown.container_ids,
    )
    if shown.size is not None:
        message.size_bytes, message.size_is_estimate = shown.size.bytes, shown.size.is_estimate
    return message


def _shown(key: str, value: str) -> str:
    """The value without what a password may be, in a key of its own or among mount options (`o`)."""
    if any(word in key.lower() for word in SECRET_WORDS):
        return "***"
    parts = value.split(",")
    for index, part in enumerate(parts):
        name, separator, _ = part.partition("=")
        if separator and any(word in name.lower() for word in (*SECRET_WORDS, "pass")):
            parts[index] = f"{name}=***"
    return ",".join(parts)


def from_create(request: volumes_pb2.CreateVolumeRequest) -> VolumeWish:
    """What is wished."""
    return VolumeWish(
        request.name, request.driver, dict(request.driver_options), dict(request.labels), request.limit_bytes
    )


def from_filter(message: volumes_pb2.VolumeFilter) -> VolumeFilter:
    """The filter. Raises LIMIT_EXCEEDED."""
    for name in ("names", "labels", "drivers"):
        count = len(getattr(message, name))
        if count > MAX_FILTER_VALUES:
            raise LimitExceeded(
                limit="MAX_FILTER_VALUES", limit_value=MAX_FILTER_VALUES, actual=count, subject=f"filter.{name}"
            )
    return VolumeFilter(
        names=tuple(message.names),
        labels=tuple(message.labels),
        drivers=frozenset(message.drivers),
        is_dangling=message.is_dangling if message.HasField("is_dangling") else None,
    )
