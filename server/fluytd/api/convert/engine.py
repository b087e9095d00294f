"""Facts about engine and host -> messages."""

from fluyt.v1 import engine_pb2
from fluytd.api.convert.values import to_failure
from fluytd.checks.model import Finding, Progress, Summary
from fluytd.host.model import Capability, HostFacts
from fluytd.images.usage import Usage


def to_host(facts: HostFacts) -> engine_pb2.HostInfo:
    """The machine."""
    return engine_pb2.HostInfo(
        hostname=facts.hostname,
        os_name=facts.os_name,
        kernel_release=facts.kernel_release,
        architecture=facts.architecture,
        cpu_count=facts.cpu_count,
        memory_bytes=facts.memory_bytes,
        cgroup_mode=facts.cgroup_mode,
        cgroup_controllers=facts.cgroup_controllers,
    )


def to_capability(capability: Capability) -> engine_pb2.Capability:
    """One line of the capability report."""
    return engine_pb2.Capability(
        name=capability.name,
        is_available=capability.is_available,
        detail=capability.detail,
        need=engine_pb2.Capability.Need.Value(f"NEED_{capability.need.value}"),
        next_step=capability.next_step,
    )


def to_check_event(event: Progress | Finding | Summary) -> engine_pb2.CheckStorageResponse:
    """One step of a check."""
    if isinstance(event, Progress):
        progress = engine_pb2.StorageCheckProgress(
            checked_count=event.checked_count, total_count=event.total_count, checked_bytes=event.checked_bytes
        )
        return engine_pb2.CheckStorageResponse(progress=progress)
    if isinstance(event, Finding):
        finding = engine_pb2.StorageFinding(
            subject=event.subject,
            failure=to_failure(event.failure),
            is_repaired=event.is_repaired,
            action=event.action,
            references=event.references,
        )
        return engine_pb2.CheckStorageResponse(finding=finding)
    summary = engine_pb2.StorageCheckSummary(
        checked_count=event.checked_count,
        damaged_count=event.damaged_count,
        repaired_count=event.repaired_count,
        checked_bytes=event.checked_bytes,
    )
    return engine_pb2.CheckStorageResponse(summary=summary)


def to_disk_usage(usage: Usage) -> engine_pb2.DiskUsage:
    """Bytes in use by one kind of thing."""
    return engine_pb2.DiskUsage(
        count=usage.count,
        active_count=usage.active_count,
        size_bytes=usage.size_bytes,
        reclaimable_bytes=usage.reclaimable_bytes,
        is_estimate=usage.is_estimate,
    )
