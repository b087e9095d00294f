"""Figures and processes of containers -> messages. Pure."""

from typing import Any, Final

from fluyt.v1 import containers_pb2
from fluyt.v1.types import stats_pb2
from fluytd.api.convert.values import from_duration, timestamp_of
from fluytd.containers.process_ports import ProcessInfo
from fluytd.containers.stats import (
    DEFAULT_INTERVAL_MILLIS,
    MAX_INTERVAL_MILLIS,
    MIN_INTERVAL_MILLIS,
    Sample,
)
from fluytd.errors import FieldInvalid

#: Fields that have the same name and meaning in the figures and in their message.
_SAME: Final = (
    "cpu_usage_nanos",
    "cpu_user_nanos",
    "cpu_system_nanos",
    "cpu_throttled_periods",
    "cpu_throttled_nanos",
    "pids_limit",
    "io_read_bytes",
    "io_write_bytes",
    "network_receive_bytes",
    "network_transmit_bytes",
    "oom_kill_count",
)


def to_stats(sample: Sample, host_memory_bytes: int) -> stats_pb2.ContainerStats:
    """The message; what the host does not count is 0."""
    stats = sample.stats
    usage = stats.memory_current_bytes or 0
    same: dict[str, Any] = {name: getattr(stats, name) or 0 for name in _SAME}
    message = stats_pb2.ContainerStats(
        container_id=sample.container_id,
        time=timestamp_of(stats.time_unix_nanos),
        memory_usage_bytes=usage,
        memory_working_set_bytes=max(0, usage - (stats.memory_inactive_file_bytes or 0)),
        memory_limit_bytes=min(stats.memory_limit_bytes or host_memory_bytes, host_memory_bytes),
        swap_usage_bytes=stats.swap_current_bytes or 0,
        pids_count=stats.pids_current or 0,
        **same,
    )
    cpu, memory, io = stats.cpu_pressure_percent, stats.memory_pressure_percent, stats.io_pressure_percent
    if cpu is not None or memory is not None or io is not None:
        pressure = stats_pb2.Pressure(cpu_percent=cpu or 0.0, memory_percent=memory or 0.0, io_percent=io or 0.0)
        message.pressure.CopyFrom(pressure)
    return message


def from_interval(request: containers_pb2.WatchStatsRequest) -> int:
    """Milliseconds between rounds. Raises FIELD_INVALID."""
    if not request.HasField("interval"):
        return DEFAULT_INTERVAL_MILLIS
    millis = from_duration(request.interval, "interval")
    if not MIN_INTERVAL_MILLIS <= millis <= MAX_INTERVAL_MILLIS:
        rule = f"must be {MIN_INTERVAL_MILLIS} to {MAX_INTERVAL_MILLIS} ms (MIN_INTERVAL_MILLIS, MAX_INTERVAL_MILLIS)"
        raise FieldInvalid(field="interval", rule=rule)
    return millis


def to_process(process: ProcessInfo, uid: int) -> stats_pb2.ProcessInfo:
    """The message; `uid` is its user as the container sees it."""
    return stats_pb2.ProcessInfo(
        host_pid=process.host_pid,
        pid=process.pid,
        parent_host_pid=process.parent_host_pid,
        uid=uid,
        process_state=process.state,
        start_time=timestamp_of(process.start_time_unix_nanos),
        cpu_usage_nanos=process.cpu_usage_nanos,
        resident_bytes=process.resident_bytes,
        args=process.args,
    )
