"""What is wrong with one of a list is told by its place in the list of the request."""

from collections.abc import Callable
from typing import Any

import pytest

from fluyt.v1 import builds_pb2, logs_pb2
from fluyt.v1.types import container_filter_pb2, mount_pb2, network_pb2, platform_pb2
from fluytd.api.convert import builds, containers, health, images, logs, mounts, networks
from fluytd.builds.agents import AgentSession
from fluytd.containers import bind_sources, confinement, host_devices
from fluytd.containers.process_spec import IoDevice
from fluytd.containers.spec import BindSpec, HugetlbSpec, IoDeviceSpec, ResourcesSpec
from fluytd.errors import EngineError
from fluytd.events.service import EventFilter

_Filter = container_filter_pb2.ContainerFilter
_Entry = builds_pb2.ContextEntry
#: A value of every enum, and one of none.
NONE: Any = [1, 99]


def offered_chunks() -> object:
    digests = [b"x" * 32, b"x" * 31, b"x" * 33]
    entry = _Entry(path=b"f", kind=_Entry.KIND_FILE, chunk_digests=digests)
    return builds.from_entries([_Entry(path=b"e", kind=_Entry.KIND_FILE), entry])


def interfaces() -> object:
    names = ("eth5", "", "", "eth5")
    attachments = [network_pb2.NetworkAttachment(network="n", interface_name=name) for name in names]
    return networks.from_attachments(attachments)


def devices(*paths: str) -> ResourcesSpec:
    return ResourcesSpec(io_devices=tuple(IoDeviceSpec(path) for path in paths))


def numbered() -> object:
    asked = devices("/dev/sda", "/dev/null")
    # What the kernel is told need not be in the order of the request.
    fields = confinement.io_device_fields(asked.io_devices, "resources")
    return host_devices.numbered([IoDevice("/dev/null"), IoDevice("/dev/sda")], fields)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: images.from_platforms([platform_pb2.Platform(), platform_pb2.Platform(os="a/b")], "p"), "p[1]"),
        (lambda: containers.from_filter(_Filter(states=NONE), {}), "filter.states[1]"),
        (lambda: health.from_health_states([1, 99]), "filter.health_states[1]"),
        (lambda: logs.from_request(logs_pb2.ReadLogsRequest(streams=NONE)), "streams[1]"),
        (lambda: EventFilter(("container", "nonsense")).check(), "filter.facts[1]"),
        (offered_chunks, "offer.entries[1].chunk_digests[1]"),
        (interfaces, "spec.network.attachments[3].interface_name"),
        (lambda: AgentSession(["a", "b", "a"], "me"), "offer.ids[2]"),
        (lambda: AgentSession(["a", ""], "me"), "offer.ids[1]"),
        (
            lambda: mounts.from_mounts([mount_pb2.Mount(tmpfs=mount_pb2.TmpfsMount()), mount_pb2.Mount()]),
            "spec.mounts[1]",
        ),
        (lambda: bind_sources.check([BindSpec("/a", "/absent/x", position=4)]), "spec.mounts[4].bind.source"),
        (lambda: bind_sources.check([BindSpec("/a", "/absent/x")]), "spec.mounts.bind.source"),
        (numbered, "resources.io_device_limits[1].path"),
        (
            lambda: confinement.check_listed_limits(devices("/dev/a", "a"), "resources"),
            "resources.io_device_limits[1].path",
        ),
        (
            lambda: confinement.check_listed_limits(
                ResourcesSpec(hugetlb=(HugetlbSpec("2MB", 1), HugetlbSpec("3MB", 1))), "r"
            ),
            "r.hugetlb_limits[1].page_size",
        ),
    ],
)
def test_one_of_a_list_is_named_by_its_place(call: Callable[[], object], field: str) -> None:
    with pytest.raises(EngineError) as refused:
        call()
    assert refused.value.field == field
