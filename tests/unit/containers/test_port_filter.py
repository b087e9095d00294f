"""Ports by which lists choose containers."""

import pytest

from fluytd.containers.port_filter import PortRange, from_text
from fluytd.containers.query import ContainerFilter
from fluytd.containers.spec import ContainerSpec, NetworkMode, NetworkSpec, PortSpec
from fluytd.errors import FieldInvalid
from tests.support.fakes.containers import Bench


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", PortRange(80, 80)),
        ("53/udp", PortRange(53, 53, "udp")),
        ("53/UDP", PortRange(53, 53, "udp")),
        ("8000-8010/sctp", PortRange(8000, 8010, "sctp")),
        ("1-65535", PortRange(1, 65_535)),
    ],
)
def test_ports_are_read_as_people_write_them(text: str, expected: PortRange) -> None:
    assert from_text(text, "filter") == expected


@pytest.mark.parametrize("text", ["", "0", "65536", "9-8", "80/icmp", "80/", "-1", "80-", "x", "1-2-3", "8\n", "٣"])
def test_what_is_no_port_is_refused_by_the_field(text: str) -> None:
    with pytest.raises(FieldInvalid) as refused:
        from_text(text, "filter.exposed_ports[0]")
    assert refused.value.metadata["field"] == "filter.exposed_ports[0]"


async def test_lists_choose_by_published_and_by_exposed_ports(bench: Bench) -> None:
    def spec(**network: object) -> ContainerSpec:
        return ContainerSpec(image="busybox", network=NetworkSpec(mode=NetworkMode.BRIDGE, **network))  # type: ignore[arg-type]

    await bench.service.create(spec(published_ports=(PortSpec(80, 8080, port_count=3),)), "published")
    await bench.service.create(spec(exposed_ports=("81/tcp", "53/udp")), "exposed")
    await bench.service.create(spec(), "neither")

    def names(**chosen: str) -> list[str]:
        ports = {name: (from_text(text, name),) for name, text in chosen.items()}
        return [one.name for one in bench.service.list(ContainerFilter(**ports))]  # type: ignore[arg-type]

    assert names(published_ports="81") == ["published"]
    assert names(published_ports="83") == []
    assert names(published_ports="70-80") == ["published"]
    assert names(published_ports="80/udp") == []
    assert names(exposed_ports="81") == ["exposed", "published"]
    assert names(exposed_ports="53/udp") == ["exposed"]
    assert names(exposed_ports="53") == []
    assert names(published_ports="80-90", exposed_ports="82") == ["published"]
