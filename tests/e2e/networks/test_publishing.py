"""Ports that come to running containers and go from them."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_pb2, network_pb2, resources_pb2
from tests.e2e.containers.steps import EXISTS, INVALID, refused
from tests.e2e.networks.steps import (
    SERVE,
    Listener,
    create,
    fetch,
    get,
    is_refused,
    make_network,
    on,
    port,
    served,
    start,
    stop,
)
from tests.support.namespaces import Machine, NetworkEngine

pytestmark = pytest.mark.needs("root", "busybox", "nft", "ip")
Ports = Sequence[network_pb2.PublishedPort]


def publish(
    engine: NetworkEngine, name: str, add: Ports = (), remove: Ports = (), **fields: Any
) -> container_pb2.Container:
    """UpdateContainer's answer."""
    request = containers_pb2.UpdateContainerRequest(
        container=name, add_published_ports=add, remove_published_ports=remove, **fields
    )
    return engine.containers.UpdateContainer(request).container  # type: ignore[no-any-return]


def numbers(ports: Ports) -> list[tuple[int, int]]:
    """Host's and container's numbers."""
    return [(one.host_port, one.container_port) for one in ports]


def test_a_running_container_publishes_what_is_added_until_it_is_removed(
    engine: NetworkEngine, other_machine: Machine
) -> None:
    web = served(engine, "web", published_ports=[port(80, 8101)])
    added = publish(engine, "web", [port(80, 8102), port(80, host_address="127.0.0.1")])
    assert (added.host_pid, numbers(added.published_ports)[:2]) == (web.host_pid, [(8101, 80), (8102, 80)])
    free = added.published_ports[2].host_port
    assert fetch(other_machine, "192.0.2.1", 8102) == fetch(engine.host, "127.0.0.1", free) == "web"
    with pytest.raises(OSError, match="in use"):
        Listener(engine.host, "0.0.0.0", 8102)  # noqa: S104 - what others try to take
    left = publish(engine, "web", remove=[port(80, 8101), port(80, free)])
    assert numbers(left.published_ports) == numbers(left.spec.network.published_ports) == [(8102, 80)]
    assert is_refused(engine.host, "127.0.0.1", 8101)
    with closing(Listener(engine.host, "0.0.0.0", 8101)):  # noqa: S104
        assert fetch(engine.host, "127.0.0.1", 8102) == "web"
    # So it is with the daemon that comes next, and with the next run.
    engine.kill()
    engine.start()
    assert get(engine, "web").published_ports == left.published_ports
    assert fetch(other_machine, "192.0.2.1", 8102) == "web"
    stop(engine, "web")
    assert numbers(start(engine, "web").published_ports) == [(8102, 80)]


def test_one_call_gives_a_number_of_the_host_to_another_port_of_the_container(engine: NetworkEngine) -> None:
    script = f"mkdir -p /a; echo other > /a/index.html; httpd -p 81 -h /a; {SERVE}"
    served(engine, "web", script, published_ports=[port(80, 8103)])
    changed = publish(engine, "web", [port(81, 8103)], [port(80)])
    assert numbers(changed.published_ports) == [(8103, 81)]
    assert fetch(engine.host, "127.0.0.1", 8103) == "other"
    with pytest.raises(OSError, match="in use"):
        Listener(engine.host, "0.0.0.0", 8103)  # noqa: S104


def test_a_container_that_does_not_run_publishes_it_with_its_next_run(engine: NetworkEngine) -> None:
    create(engine, "web", "sleep", "1000", published_ports=[port(80, 8104, port_count=3)])
    changed = publish(engine, "web", [port(90)], [port(81)])
    assert numbers(changed.spec.network.published_ports) == [(8104, 80), (8106, 82), (0, 90)]
    assert not changed.published_ports
    assert numbers(start(engine, "web").published_ports)[:2] == [(8104, 80), (8106, 82)]


def test_what_is_refused_changes_nothing(engine: NetworkEngine) -> None:
    web = served(engine, "web", published_ports=[port(80, 8105)])
    served(engine, "other", published_ports=[port(80, 8107)])
    resources = resources_pb2.Resources(pids_limit=77)
    wanted = [port(80, 8108), port(80, 8107)]
    code, reason, facts = refused(lambda: publish(engine, "web", wanted, resources=resources))
    assert (code, reason, facts["port"]) == (EXISTS, "PORT_IN_USE", "8107")
    assert facts["holder"].startswith("container ")
    for absent in (port(81), port(80, 8107), port(80, protocol=network_pb2.TRANSPORT_PROTOCOL_UDP)):
        code, reason, facts = refused(lambda gone=absent: publish(engine, "web", remove=[gone]))  # type: ignore[misc]
        assert (code, reason, facts["field"]) == (INVALID, "FIELD_INVALID", "remove_published_ports[0]")
    assert refused(lambda: publish(engine, "web", [port(1, 1024, port_count=4097)]))[1] == "LIMIT_EXCEEDED"
    assert refused(lambda: publish(engine, "web", [port(1, 1024, port_count=4096)]))[1] == "LIMIT_EXCEEDED"
    after = get(engine, "web")
    assert (after.published_ports, after.spec) == (web.published_ports, web.spec)
    with closing(Listener(engine.host, "0.0.0.0", 8108)):  # noqa: S104
        assert fetch(engine.host, "127.0.0.1", 8105) == "web"


def test_nothing_leads_to_a_network_without_a_way_out(engine: NetworkEngine) -> None:
    make_network(engine, "closed", internal=True)
    served(engine, "web", attachments=on("closed"))
    assert not publish(engine, "web", [port(80, 8109)]).published_ports
    assert is_refused(engine.host, "127.0.0.1", 8109)
