"""What is read of CNI's lists and of plugins' answers, and what plugins are given."""

import asyncio
import json
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fluytd.containers.spec import NetworkSpec, PortSpec
from fluytd.errors import CniPluginFailed, FieldInvalid, IoFailed
from fluytd.networks.attachment_parts import check_sources, told_at
from fluytd.networks.cni import model
from fluytd.networks.cni.attachments import RETRY_SECONDS, PluginNetworks
from fluytd.networks.cni.model import MAX_PLUGINS, MAX_RESULT_ADDRESSES, MAX_RESULT_INTERFACES, parse_list, parse_result
from fluytd.networks.cni.plugins import MAX_CONFLIST_BYTES, MAX_CONFLISTS, CorePlugins
from fluytd.networks.model import Endpoint, Network, PublishedPort
from tests.support.fakes.networks import FakeNamespace, FakePluginEnd, FakePluginRecords, FakePlugins

NETWORK = Network("n" * 64, "front", "", (), 1, driver="cni")
ENDPOINT = Endpoint("n" * 64, "front", "", "", "", "", "", "eth0", "", driver="cni", is_default_route=True)
ANSWER = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.9/24", "gateway": "10.1.0.1"}]}


def listed(*plugins: Any, **fields: Any) -> str:
    """A list's text."""
    return json.dumps({"cniVersion": "1.0.0", "name": "front", "plugins": [*plugins], **fields})


def made(text: str) -> tuple[PluginNetworks, FakePlugins, FakePluginRecords]:
    """Networks of one list, whose plugins all answer the same."""
    plugins, records = FakePlugins(lists={"front": text}), FakePluginRecords()
    for kind in ("first", "second"):
        plugins.answers["ADD", kind] = FakePluginEnd(json.dumps(ANSWER).encode())
    return PluginNetworks(plugins, records, FakeNamespace), plugins, records


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        "[]",
        "7",
        listed({"type": "a"}, name=""),
        listed({"type": "a"}, name=7),
        listed({"type": "a"}, cniVersion="9.9.9"),
        listed({"type": "a"}, cniVersion=["1.0.0"]),
        listed(),
        listed(*[{"type": "a"}] * (MAX_PLUGINS + 1)),
        listed({"type": "a"}, plugins={}),
        listed("a"),
        listed({}),
        listed({"type": "../a"}),
        listed({"type": ".."}),
        listed({"type": "a", "capabilities": []}),
    ],
)
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(FieldInvalid, match=r"driver_options"):
        parse_list(text, "driver_options[conflist]")


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b'{"ips": 7}',
        b'{"ips": ["10.0.0.1/8"]}',
        json.dumps({"ips": [{"address": "10.0.0.1/8"}] * (MAX_RESULT_ADDRESSES + 1)}).encode(),
        json.dumps({"interfaces": [{}] * (MAX_RESULT_INTERFACES + 1)}).encode(),
    ],
)
def test_what_is_no_answer_is_told(output: bytes) -> None:
    with pytest.raises(ValueError, match="answer"):
        parse_result(output)


def test_the_containers_addresses_are_the_first_of_each_family() -> None:
    result = {
        "interfaces": [{"name": "br0", "mac": "02:00:00:00:00:01"}, {"name": "eth0", "mac": "x", "sandbox": "/n"}],
        "ips": [
            {"address": "10.1.0.1/24", "interface": 0},
            {"address": "10.1.0.5/24", "interface": 7},
            {"address": "10.1.0.9/24", "interface": 1, "gateway": "10.1.0.1"},
            {"address": "10.1.0.10/24"},
            {"address": "FD00::9/64", "interface": 1},
        ],
    }
    found = model.with_result(ENDPOINT, json.dumps(result))
    assert found.addresses == ("10.1.0.9/24", "fd00::9/64")
    assert (found.ipv4_gateway, found.ipv6_gateway, found.mac_address) == ("10.1.0.1", "", "")


def test_a_container_that_ends_while_a_plugin_checks_it_leaves_no_file() -> None:
    service, plugins, _ = made(listed({"type": "first"}))
    service.add("c" * 64, NETWORK, ENDPOINT, [], FakeNamespace())
    assert len(plugins.files) == 1
    assert service.check("c" * 64) == []
    assert len(plugins.files) == 1
    plugins.meanwhile = lambda command: service.remove("c" * 64) if command == "CHECK" else None
    assert service.check("c" * 64) == []
    assert [command for command, _, _ in plugins.executed] == ["ADD", "CHECK", "DEL", "CHECK"]
    assert plugins.files == set()


def test_each_plugin_is_given_its_part_and_the_answer_so_far() -> None:
    first = {"type": "first", "capabilities": {"portMappings": True, "mac": False}, "x": {"y": 1}}
    service, plugins, records = made(listed(first, {"type": "second"}))
    ports = [PublishedPort(80, 8080, "127.0.0.1", "tcp")]
    assert service.add("c" * 64, NETWORK, ENDPOINT, ports, FakeNamespace()).ipv4_address == "10.1.0.9/24"
    whole = {"cniVersion": "1.0.0", "name": "front"}
    mapping = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1"}
    assert plugins.executed == [
        ("ADD", "first", whole | {"type": "first", "x": {"y": 1}, "runtimeConfig": {"portMappings": [mapping]}}),
        ("ADD", "second", whole | {"type": "second", "prevResult": ANSWER}),
    ]
    plugins.executed.clear()
    # What stands in the directory by then has no part in it.
    plugins.lists["front"] = listed({"type": "other"})
    service.remove("c" * 64)
    assert [(command, kind) for command, kind, _ in plugins.executed] == [("DEL", "second"), ("DEL", "first")]
    assert all(given["prevResult"] == ANSWER for _, _, given in plugins.executed)
    assert records.saved == {}
    service.remove("c" * 64)
    assert len(plugins.executed) == 2


def test_the_record_stands_before_the_first_plugin_and_stays_until_it_is_removed() -> None:
    service, plugins, records = made(listed({"type": "first"}, {"type": "second"}))
    plugins.answers["ADD", "second"] = FakePluginEnd(b'{"msg": "no"}', code=3)
    with pytest.raises(CniPluginFailed, match="exit code 3: no"):
        service.add("c" * 64, NETWORK, ENDPOINT, [], FakeNamespace())
    # What the first gave is known, and that it is not all.
    assert [(json.loads(one.result), one.is_partial) for one in records.saved.values()] == [(ANSWER, True)]
    assert not service.is_complete("c" * 64, NETWORK.id)
    service.sweep(["c" * 64])
    assert len(records.saved) == 1
    service.sweep([])
    assert records.saved == {}


class Clock:
    """Seconds, as a test wants them."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds


def failing(clock: Clock, records: FakePluginRecords | None = None) -> tuple[PluginNetworks, FakePlugins]:
    """A service whose plugin `second` fails at DEL."""
    plugins = FakePlugins(lists={"front": listed({"type": "first"}, {"type": "second"})})
    plugins.answers["ADD", "first"] = plugins.answers["ADD", "second"] = FakePluginEnd(json.dumps(ANSWER).encode())
    plugins.answers["DEL", "second"] = FakePluginEnd(b"", code=1)
    return PluginNetworks(plugins, records or FakePluginRecords(), FakeNamespace, clock.now), plugins


def test_a_plugin_that_fails_to_take_away_is_told_again_and_finds_the_namespace_until_it_does_not_fail() -> None:
    clock, told = Clock(), []
    records = FakePluginRecords()
    service, plugins = failing(clock, records)
    service.on_put_off = lambda: told.append(clock.seconds)
    namespace = FakeNamespace("/proc/1/fd/77")
    service.add("c" * 64, NETWORK, ENDPOINT, [], namespace)
    plugins.executed.clear()
    service.remove("c" * 64)
    assert told == [0.0]
    assert [one.failed_count for one in records.saved.values()] == [1]
    service.remove("c" * 64)  # it is nobody's any more
    assert len(plugins.executed) == 2
    assert service.retry() == RETRY_SECONDS[0]
    clock.seconds = RETRY_SECONDS[0]
    assert service.retry() == RETRY_SECONDS[1]
    assert [(command, kind) for command, kind, _ in plugins.executed] == [("DEL", "second"), ("DEL", "first")] * 2
    del plugins.answers["DEL", "second"]
    clock.seconds += RETRY_SECONDS[1]
    assert service.retry() is None
    assert records.saved == {}
    assert set(plugins.namespaces[2:]) == {namespace.path()}


def test_after_so_many_failures_it_is_let_be() -> None:
    clock, records = Clock(), FakePluginRecords()
    service, plugins = failing(clock, records)
    service.add("c" * 64, NETWORK, ENDPOINT, [], FakeNamespace())
    plugins.executed.clear()
    service.remove("c" * 64)
    while (delay := service.retry()) is not None:
        clock.seconds += delay
    assert len(plugins.executed) == 2 * (len(RETRY_SECONDS) + 1)
    assert clock.seconds == sum(RETRY_SECONDS)
    assert records.saved == {}


def test_the_next_daemon_goes_on_to_tell_it_and_has_a_link_of_the_addresses_in_place_of_the_namespace() -> None:
    clock, records = Clock(), FakePluginRecords()
    service, _ = failing(clock, records)
    service.add("c" * 64, NETWORK, ENDPOINT, [], FakeNamespace())
    service.remove("c" * 64)
    made: list[FakeNamespace] = []

    def new() -> FakeNamespace:
        made.append(FakeNamespace("/proc/1/fd/99"))
        return made[-1]

    plugins = FakePlugins()
    later = PluginNetworks(plugins, records, new, clock.now)
    asyncio.run(later.load())
    assert not later.is_complete("c" * 64, NETWORK.id)
    later.sweep([])
    assert [kind for _, kind, _ in plugins.executed] == ["second", "first"]
    assert [one.links for one in made] == [{"eth0": ["10.1.0.9/24"]}]
    assert set(plugins.namespaces) == {"/proc/1/fd/99"}
    assert records.saved == {}


def test_a_container_that_starts_again_does_not_wait_for_what_fails() -> None:
    clock, records = Clock(), FakePluginRecords()
    service, plugins = failing(clock, records)
    service.add("c" * 64, NETWORK, ENDPOINT, [], FakeNamespace())
    service.remove("c" * 64)
    plugins.executed.clear()
    service.add("c" * 64, NETWORK, ENDPOINT, [], FakeNamespace())
    assert [command for command, _, _ in plugins.executed] == ["DEL", "DEL", "ADD", "ADD"]
    assert service.is_complete("c" * 64, NETWORK.id)
    clock.seconds = sum(RETRY_SECONDS)
    assert service.retry() is None
    assert [one.failed_count for one in records.saved.values()] == [0]


def test_a_source_of_a_port_is_refused_by_the_ports_place() -> None:
    ports = (PortSpec(81), PortSpec(80, allowed_sources=("192.0.2.0/24",)))
    container: Any = SimpleNamespace(spec=SimpleNamespace(network=NetworkSpec(published_ports=ports)))
    with pytest.raises(FieldInvalid, match="has no sources") as refused:
        check_sources(container, "pods")
    assert refused.value.field == "spec.network.published_ports[1].allowed_sources"


def test_what_no_plugin_can_be_told_is_refused_by_the_attachments_place() -> None:
    service, _, _ = made(listed({"type": "first"}))
    wanted = replace(ENDPOINT, mac_address="02:00:00:00:00:05")
    with pytest.raises(FieldInvalid, match="has the capability mac") as refused, told_at("attachment"):
        service.add("c" * 64, NETWORK, wanted, [], FakeNamespace())
    assert refused.value.field == "attachment.mac_address"


def test_lists_are_looked_for_within_bounds(tmp_path: Path) -> None:
    plugins = CorePlugins([str(tmp_path / "absent"), str(tmp_path)], [], tmp_path / "run")
    (tmp_path / "a.conflist").write_text(listed({"type": "a"}))
    (tmp_path / "b.conflist").write_text(listed({"type": "a"}, name="long") + " " * MAX_CONFLIST_BYTES)
    (tmp_path / "c.conflist").mkdir()
    assert plugins.read_list("front") == listed({"type": "a"})
    with pytest.raises(FieldInvalid, match=r"not readable: b\.conflist, c\.conflist"):
        plugins.read_list("long")
    for number in range(MAX_CONFLISTS):
        (tmp_path / f"z{number}.conflist").touch()
    with pytest.raises(FieldInvalid, match="MAX_CONFLISTS"):
        plugins.read_list("front")


def test_what_is_known_is_asked_while_other_containers_come_and_go() -> None:
    networks, _, _ = made(listed({"type": "first"}))
    failures: list[Exception] = []
    is_over = threading.Event()

    def ask() -> None:
        try:
            while not is_over.is_set():
                networks.has("none")
                networks.sweep([f"c{number}" for number in range(400)])
        except Exception as error:  # noqa: BLE001 # whatever it is, it ends the asking
            failures.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for number in range(400):
            networks.add(f"c{number}", NETWORK, ENDPOINT, (), FakeNamespace())
    finally:
        is_over.set()
        asking.join()
        sys.setswitchinterval(before)
    assert failures == []


def test_a_run_root_that_cannot_be_used_is_told_by_its_path(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    (tmp_path / "bin").mkdir()
    plugin = tmp_path / "bin" / "first"
    plugin.write_text("#!/bin/sh\n")
    plugin.chmod(0o755)
    core = CorePlugins([], [str(tmp_path / "bin")], in_the_way / "cni")
    with pytest.raises(IoFailed, match="mkdir"):
        core.run("first", {}, b"{}", "c")
    with pytest.raises(IoFailed, match="unlink"):
        core.forget("c")
