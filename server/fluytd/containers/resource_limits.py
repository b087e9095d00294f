"""Limits as the kernel takes them. Pure."""

from typing import Final

from fluytd.containers import process_spec as core
from fluytd.containers.checks import swap_default
from fluytd.containers.spec import ResourcesSpec

DEFAULT_CPU_PERIOD_MICROS: Final = 100_000
_NANOS_PER_CPU: Final = 1_000_000_000


def limits(resources: ResourcesSpec) -> core.ResourceLimits:
    """The limits as the kernel takes them. Sources: moby `daemon/daemon_unix.go`; case C02 for swap, C05 for pids."""
    memory = resources.memory_limit_bytes or None
    quota, period = resources.cpu_quota_micros, resources.cpu_period_micros
    if resources.nano_cpus:
        period = DEFAULT_CPU_PERIOD_MICROS
        quota = resources.nano_cpus * period // _NANOS_PER_CPU
    pids = resources.pids_limit
    return core.ResourceLimits(
        memory_limit_bytes=memory,
        memory_swap_limit_bytes=swap_default(memory, resources.memory_swap_limit_bytes),
        memory_reservation_bytes=resources.memory_reservation_bytes or None,
        cpu_quota_micros=quota or None,
        cpu_period_micros=period or None,
        cpu_shares=resources.cpu_shares or None,
        cpuset_cpus=resources.cpuset_cpus or None,
        cpuset_mems=resources.cpuset_mems or None,
        pids_limit=None if pids is None else (-1 if pids <= 0 else pids),
        cpu_burst_micros=resources.cpu_burst_micros,
        cpu_real_time_period_micros=resources.cpu_real_time_period_micros or None,
        cpu_real_time_runtime_micros=resources.cpu_real_time_runtime_micros,
        memory_swappiness=resources.memory_swappiness,
        oom_kill_disabled=resources.oom_kill_disabled,
        io_weight=resources.io_weight or None,
        io_devices=[
            core.IoDevice(
                device.path,
                device.read_bytes_per_second,
                device.write_bytes_per_second,
                device.read_ops_per_second,
                device.write_ops_per_second,
                device.weight,
            )
            for device in resources.io_devices
        ],
        huge_pages=[(bound.page_size, bound.limit_bytes) for bound in resources.hugetlb],
    )
