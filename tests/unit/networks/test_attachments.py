"""What containers take of networks and give back."""

from dataclasses import replace

import pytest

from fluytd.containers.model import Container, ImageFacts, Resolved, State
from fluytd.containers.publishing import PortChanges, changed
from fluytd.containers.spec import AttachmentSpec, ContainerSpec, NetworkMode, NetworkSpec, PortSpec
from fluytd.errors import AddressInUse, FieldInvalid, LimitExceeded, NetworkNotFound, PortInUse
from fluytd.networks.attachments import Attachments
from fluytd.networks.elements import port_elements, with_default_route
from fluytd.networks.kernel_spec import Element
from fluytd.networks.model import MAX_PUBLISHED_PORTS, Endpoint, Network, PublishedPort, Subnet
from tests.support.fakes.networks import (
    PREFIX,
    FakeHostPorts,
    FakeKernel,
    FakeNamespace,
    FakeResolver,
    attachments,
)


def container(name: str = "c", *, exposed: tuple[str, ...] = (), **network: object) -> Container:
    """A container on networks."""
    spec = ContainerSpec("image", network=NetworkSpec(NetworkMode.BRIDGE, **network))  # type: ignore[arg-type]
    image = ImageFacts("image", "sha256:1", "sha256:2", "linux", "amd64", "", (), 0, exposed_ports=exposed)
    resolved = Resolved((), (), "/", "", name, 15, 0, {})
    return Container((name * 64)[:64], name, spec, image, resolved, 1, state=State.STARTING)


def attached(service: Attachments, one: Container) -> Container:
    """The container with its networks, which the kernel has been told of."""
    endpoints, ports = service.join(one)
    joined = replace(one, endpoints=endpoints, published_ports=ports)
    service.attach(joined, FakeNamespace())
    return joined


def test_nothing_is_left_of_a_container_that_left() -> None:
    kernel, host_ports = FakeKernel(), FakeHostPorts()
    service = attachments(kernel, host_ports)
    before = set(kernel.elements)
    one = attached(service, container(published_ports=(PortSpec(80, 8080), PortSpec(53, protocol="udp"))))
    assert host_ports.held == {(8080, "tcp"), (40000, "udp")}
    assert {element.host_port for element in kernel.elements if element.kind == "published"} == {8080, 40000}
    service.detach(one.id)
    service.remove_links(service.leave(one.id))
    assert (host_ports.held, kernel.links) == (set(), {})
    assert {element for element in kernel.elements if element.kind == "published"} == before
    assert service.leave(one.id) == []


def test_a_join_that_fails_takes_nothing() -> None:
    host_ports = FakeHostPorts({(81, "tcp")})
    service = attachments(host_ports=host_ports)
    with pytest.raises(PortInUse):
        service.join(container(published_ports=(PortSpec(80, 80), PortSpec(81, 81))))
    assert host_ports.held == {(81, "tcp")}
    endpoints, _ = service.join(container("d", attachments=(AttachmentSpec("bridge", ipv4_address="10.208.0.2"),)))
    assert endpoints[0].ipv4_address == "10.208.0.2/20"
    with pytest.raises(AddressInUse, match="container d"):
        service.join(container("e", attachments=(AttachmentSpec("bridge", ipv4_address="10.208.0.2"),)))
    with pytest.raises(NetworkNotFound):
        service.join(container("f", attachments=(AttachmentSpec("none such"),)))


def test_the_holder_of_a_port_is_named_where_it_is_ours() -> None:
    service = attachments()
    holder = attached(service, container("holder", published_ports=(PortSpec(80, 80),)))
    with pytest.raises(PortInUse, match=f"container {holder.id[:12]}"):
        service.join(container("other", published_ports=(PortSpec(80, 80),)))


def test_ports_of_a_number_come_before_those_of_any() -> None:
    service = attachments()
    _, ports = service.join(container(published_ports=(PortSpec(80), PortSpec(81, 40000))))
    assert [(one.container_port, one.host_port) for one in ports] == [(81, 40000), (80, 40001)]


def test_of_a_range_the_first_that_is_free_is_taken_after_those_of_a_number() -> None:
    host_ports = FakeHostPorts({(8001, "tcp")})
    service = attachments(host_ports=host_ports)
    asked = PortSpec(80, 8000, host_port_count=4)
    _, ports = service.join(container("a", published_ports=(asked, PortSpec(81, 8000))))
    assert [(one.container_port, one.host_port) for one in ports] == [(81, 8000), (80, 8002)]
    _, ports = service.join(container("b", published_ports=(asked,)))
    assert [one.host_port for one in ports] == [8003]
    before = set(host_ports.held)
    with pytest.raises(PortInUse, match="port 8000-8003/tcp") as caught:
        service.join(container("c", published_ports=(asked,)))
    assert caught.value.field == "spec.network.published_ports[0].host_port"
    assert host_ports.held == before


def test_a_port_of_a_range_goes_by_its_number_by_the_range_or_by_the_containers_alone() -> None:
    service = attachments()
    asked = PortSpec(80, 8000, host_port_count=4)
    joined = container("a", published_ports=(PortSpec(81, 8000), asked))
    endpoints, ports = service.join(joined)
    running = replace(joined, endpoints=endpoints, published_ports=ports)
    for removed in (PortSpec(80, 8001), asked, PortSpec(80)):
        left, gone = changed(running, PortChanges(removed=(removed,)))
        assert ([one.container_port for one in left], [one.host_port for one in gone]) == ([81], [8001])
    for removed in (PortSpec(80, 8000), PortSpec(80, 8002, host_port_count=2)):
        with pytest.raises(FieldInvalid, match="is no port"):
            changed(running, PortChanges(removed=(removed,)))
    # What takes its place may have its number.
    change = service.publisher.change(running, [asked], [port for port in ports if port.container_port == 80])
    assert [one.host_port for one in change.added] == [8001]


def test_the_number_of_ports_is_bounded() -> None:
    half = PortSpec(1, port_count=MAX_PUBLISHED_PORTS // 2 + 1)
    with pytest.raises(LimitExceeded, match="MAX_PUBLISHED_PORTS"):
        attachments().join(container(published_ports=(half, half)))


def test_exposed_ports_are_published_once() -> None:
    one = container(
        exposed=("80/tcp", "53/udp", "90", "x/tcp"), publish_all_ports=True, published_ports=(PortSpec(80, 80),)
    )
    _, ports = attachments().join(one)
    assert [(port.container_port, port.protocol, port.host_port) for port in ports] == [
        (80, "tcp", 80),
        (53, "udp", 40000),
        (90, "tcp", 40000),
    ]


def test_an_adopted_container_has_what_its_record_says_and_the_rest_is_swept() -> None:
    kernel = FakeKernel()
    first = attachments(kernel)
    kept = attached(first, container("kept", published_ports=(PortSpec(80, 80),)))
    gone = attached(first, container("gone", published_ports=(PortSpec(81, 81),)))
    foreign = replace(kernel.links[kept.endpoints[0].host_interface], host_name="veth0")
    kernel.links["veth0"] = foreign
    host_ports = FakeHostPorts()
    second = attachments(kernel, host_ports)
    second.adopt(kept)
    second.settle()
    assert set(kernel.links) == {kept.endpoints[0].host_interface, "veth0"}
    assert {one.host_port for one in kernel.elements if one.kind == "published"} == {80}
    assert host_ports.held == {(80, "tcp")}
    with pytest.raises(AddressInUse):
        second.join(
            container("x", attachments=(AttachmentSpec("bridge", ipv4_address=kept.endpoints[0].ipv4_address[:-3]),))
        )
    wanted = gone.endpoints[0].ipv4_address.partition("/")[0]
    second.join(container("y", attachments=(AttachmentSpec("bridge", ipv4_address=wanted),)))


def test_names_of_interfaces_are_short_enough_and_begin_with_the_engines_mark() -> None:
    (endpoint,), _ = attachments().join(container())
    assert endpoint.host_interface.startswith(PREFIX)
    assert len(endpoint.host_interface) == 15


def endpoint(name: str, *, is_internal: bool = False, ipv6: str = "") -> Endpoint:
    """A container's place on a network."""
    return Endpoint(name, name, "10.0.0.2/24", ipv6, "10.0.0.1", "", "", name, name, is_internal=is_internal)


@pytest.mark.parametrize(
    ("internal", "priorities", "best"),
    [
        ((False,), (0,), 0),
        ((False, False), (0, 0), 0),
        ((False, False), (0, 1), 1),
        ((False, False), (-1, -2), 0),
        ((True, False), (9, 0), 1),
        ((True,), (0,), None),
    ],
)
def test_the_way_out_is_the_first_of_the_highest_priority_that_has_one(
    internal: tuple[bool, ...], priorities: tuple[int, ...], best: int | None
) -> None:
    endpoints = [endpoint(f"n{index}", is_internal=one) for index, one in enumerate(internal)]
    wanted = [AttachmentSpec("n", gateway_priority=one) for one in priorities]
    found = with_default_route(endpoints, wanted)
    assert [index for index, one in enumerate(found) if one.is_default_route] == ([] if best is None else [best])


def test_a_port_is_one_element_a_family() -> None:
    both = replace(endpoint("n", ipv6="fd00::2/64"), is_default_route=True)
    four, six = {"address": "10.0.0.2", "protocol": 6, "port": 80}, {"address": "fd00::2", "protocol": 6, "port": 80}

    def of(address: str, sources: tuple[str, ...] = ()) -> list[Element]:
        return port_elements(PublishedPort(80, 8080, address, "tcp", sources), [both])

    assert of("") == [Element("published", host_port=8080, **four), Element("published", host_port=8080, **six)]  # type: ignore[arg-type]
    assert of("127.0.0.1") == [Element("published", host_address="127.0.0.1", host_port=8080, **four)]  # type: ignore[arg-type]
    assert of("::1") == [Element("published", host_address="::1", host_port=8080, **six)]  # type: ignore[arg-type]
    assert [(one.kind, one.address, one.source) for one in of("", ("192.0.2.0/24",))] == [
        ("published", "10.0.0.2", ""),
        ("restricted", "10.0.0.2", ""),
        ("allowed", "10.0.0.2", "192.0.2.0/24"),
        ("published", "fd00::2", ""),
        ("restricted", "fd00::2", ""),
    ]


FRONT = Network("f" * 64, "front", "fl-f", (Subnet("10.1.0.0/24", "10.1.0.1"),), 1)
CLOSED = Network("c" * 64, "closed", "fl-c", (Subnet("10.2.0.0/24", "10.2.0.1"),), 1, is_internal=True)


def test_names_are_known_on_networks_but_the_engines_own_while_a_container_is_there() -> None:
    resolver = FakeResolver()
    service = attachments(None, None, resolver, FRONT, CLOSED)
    wanted = (AttachmentSpec("bridge"), AttachmentSpec("front", aliases=("www",)))
    one = attached(service, container("a", attachments=wanted))
    assert resolver.names == {(FRONT.id, one.id): ["a", "www", "a" * 12, "a"]}
    assert resolver.clients == {one.id: ([FRONT.id], ["192.0.2.53"])}
    service.rename(replace(one, name="b"))
    assert resolver.names[FRONT.id, one.id][0] == "b"
    gone = service.disconnect(one.id, FRONT.id)
    assert (gone is not None, resolver.names) == (True, {})
    service.detach(one.id)
    service.leave(one.id)
    service.rename(one)
    assert (resolver.names, resolver.clients, resolver.served) == ({}, {}, {})


def test_a_container_on_the_engines_own_network_is_not_served() -> None:
    resolver = FakeResolver()
    attached(attachments(None, None, resolver), container("a"))
    assert (resolver.names, resolver.served) == ({}, {})


def test_who_has_no_way_out_asks_no_server_until_it_is_connected_to_one() -> None:
    resolver = FakeResolver()
    service = attachments(None, None, resolver, FRONT, CLOSED)
    one = attached(service, container("a", attachments=(AttachmentSpec("closed"),)))
    assert resolver.clients == {one.id: ([CLOSED.id], [])}
    endpoint = service.connect(one, AttachmentSpec("front"))
    service.attach_live(one, endpoint)
    assert resolver.clients == {one.id: ([CLOSED.id, FRONT.id], ["192.0.2.53"])}
    assert resolver.served == {one.id: 1}


def test_an_adopted_container_is_served_again() -> None:
    one = attached(attachments(None, None, None, FRONT), container("a", attachments=(AttachmentSpec("front"),)))
    resolver = FakeResolver()
    service = attachments(None, None, resolver, FRONT)
    gone = replace(one, id="g" * 64, name="gone")
    for adopted in (one, gone):
        service.adopt(adopted)
    service.settle()
    service.leave(gone.id)
    service.serve_again()
    assert ([*resolver.names], resolver.served) == ([(FRONT.id, one.id)], {one.id: 1})
