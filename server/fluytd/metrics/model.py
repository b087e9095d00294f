"""Which metrics there are and what they say of a moment. Pure.

Names follow Prometheus: base units, `_total` for what only grows. Source: https://prometheus.io/docs/practices/naming/.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from fluytd.containers.model import Container, State
from fluytd.containers.process_ports import Stats

_NANOS_PER_SECOND: Final = 1e9


class Kind(Enum):
    """What a metric's values do."""

    COUNTER = "counter"
    GAUGE = "gauge"
    #: Samples have one label more: the upper bound of a class, `+Inf` last, then `sum`; classes count those below too.
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its values by the values of its labels, in their order."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    samples: Sequence[tuple[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True)
class Moment:
    """What there was to see at one moment."""

    version: str
    engine_id: str
    start_time_unix_nanos: int
    image_count: int
    #: Bytes on disk by what takes them.
    disk_usage_bytes: Mapping[str, int]
    head_sequence: int
    #: Containers with the figures of those that run.
    containers: Sequence[tuple[Container, Stats | None]]


_CONTAINER_LABELS: Final = ("id", "name", "image")


def _seconds(nanos: int | None) -> float | None:
    return None if nanos is None else nanos / _NANOS_PER_SECOND


def _working_set(stats: Stats) -> float | None:
    if stats.memory_current_bytes is None:
        return None
    return max(0, stats.memory_current_bytes - (stats.memory_inactive_file_bytes or 0))


_COUNTER, _GAUGE = Kind.COUNTER, Kind.GAUGE
#: Name after `fluyt_container_`, kind, what it is, how it is read; None where the host does not count it.
_FIGURES: Final[tuple[tuple[str, Kind, str, Callable[[Stats], float | None]], ...]] = (
    ("cpu_usage_seconds_total", _COUNTER, "Processor time used.", lambda s: _seconds(s.cpu_usage_nanos)),
    ("cpu_user_seconds_total", _COUNTER, "Of it, outside the kernel.", lambda s: _seconds(s.cpu_user_nanos)),
    ("cpu_system_seconds_total", _COUNTER, "Of it, in the kernel.", lambda s: _seconds(s.cpu_system_nanos)),
    ("cpu_throttled_periods_total", _COUNTER, "Periods cut short by the limit.", lambda s: s.cpu_throttled_periods),
    ("cpu_throttled_seconds_total", _COUNTER, "Time held back by it.", lambda s: _seconds(s.cpu_throttled_nanos)),
    ("memory_usage_bytes", _GAUGE, "Memory in use, page cache included.", lambda s: s.memory_current_bytes),
    ("memory_working_set_bytes", _GAUGE, "Memory without inactive file pages.", _working_set),
    ("memory_limit_bytes", _GAUGE, "Its limit, absent without one.", lambda s: s.memory_limit_bytes),
    ("swap_usage_bytes", _GAUGE, "Swap in use.", lambda s: s.swap_current_bytes),
    ("oom_kills_total", _COUNTER, "Processes killed for want of memory.", lambda s: s.oom_kill_count),
    ("processes", _GAUGE, "Processes and threads.", lambda s: s.pids_current),
    ("processes_limit", _GAUGE, "Most of them, absent without a limit.", lambda s: s.pids_limit),
    ("io_read_bytes_total", _COUNTER, "Read from block devices.", lambda s: s.io_read_bytes),
    ("io_write_bytes_total", _COUNTER, "Written to block devices.", lambda s: s.io_write_bytes),
    ("network_receive_bytes_total", _COUNTER, "Received by its network.", lambda s: s.network_receive_bytes),
    ("network_transmit_bytes_total", _COUNTER, "Sent by its network.", lambda s: s.network_transmit_bytes),
    ("cpu_pressure_percent", _GAUGE, "Time some process waited for a processor.", lambda s: s.cpu_pressure_percent),
    ("memory_pressure_percent", _GAUGE, "Time some waited for memory.", lambda s: s.memory_pressure_percent),
    ("io_pressure_percent", _GAUGE, "Time some waited for a device.", lambda s: s.io_pressure_percent),
)


def families(moment: Moment) -> Iterator[Family]:
    """Every metric of the engine, then those of its containers; one without a value is left out."""
    yield Family(
        "fluyt_engine_info",
        _GAUGE,
        "1; the labels tell which engine this is.",
        ("version", "engine_id"),
        [((moment.version, moment.engine_id), 1)],
    )
    begun = moment.start_time_unix_nanos / _NANOS_PER_SECOND
    yield _one("fluyt_engine_start_time_seconds", _GAUGE, "When the engine started, since the epoch.", begun)
    states = dict.fromkeys((state.value for state in State), 0)
    for container, _ in moment.containers:
        states[container.state.value] += 1
    yield Family(
        "fluyt_containers",
        _GAUGE,
        "Containers by state.",
        ("state",),
        [((state.lower(),), count) for state, count in states.items()],
    )
    yield _one("fluyt_images", _GAUGE, "Images.", moment.image_count)
    yield Family(
        "fluyt_disk_usage_bytes",
        _GAUGE,
        "Bytes on disk by kind of thing, as they were counted last.",
        ("kind",),
        [((kind,), size) for kind, size in moment.disk_usage_bytes.items()],
    )
    yield _one("fluyt_events_total", _COUNTER, "Events ever recorded.", moment.head_sequence)
    yield from _container_families(moment.containers)


def _one(name: str, kind: Kind, text: str, value: float) -> Family:
    return Family(name, kind, text, (), [((), value)])


def _container_families(containers: Iterable[tuple[Container, Stats | None]]) -> Iterator[Family]:
    named = [(_labels(container), container, stats) for container, stats in containers]
    restarts = [(labels, float(container.restart_count)) for labels, container, _ in named]
    if restarts:
        text = "Starts by its restart policy."
        yield Family("fluyt_container_restarts_total", _COUNTER, text, _CONTAINER_LABELS, restarts)
    for name, kind, text, read in _FIGURES:
        samples = [
            (labels, float(value))
            for labels, _, stats in named
            if stats is not None and (value := read(stats)) is not None
        ]
        if samples:
            yield Family(f"fluyt_container_{name}", kind, text, _CONTAINER_LABELS, samples)


def _labels(container: Container) -> tuple[str, ...]:
    return container.id, container.name, container.spec.image
