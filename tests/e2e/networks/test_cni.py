"""Containers on networks of CNI plugins: Debian's, and some of the test's own that fail in all ways."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fluyt.v1 import containers_pb2, networks_pb2
from fluyt.v1.types import network_pb2
from tests.e2e.networks.steps import (
    IMAGE,
    SERVE,
    containers,
    create,
    delete,
    exec_in,
    fetch,
    get,
    ipv4,
    is_refused,
    make_network,
    networks,
    on,
    port,
    served,
    shell,
    start,
    stop,
)
from tests.support import image_files, images
from tests.support.cni import BRIDGE, PORTMAP, Lists, left_in
from tests.support.namespaces import Machine, NetworkEngine
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("cni-plugins", "iptables", "ip", "nft")
#: Notes each execution as `command container's-beginning previous-result?`, and answers as it was told.
NOTING = """
echo "$CNI_COMMAND $(echo $CNI_CONTAINERID | cut -c1-12) $(echo "$given" | grep -c prevResult)" >> {log}
case $CNI_COMMAND in ADD) echo '{answer}';; esac
"""
ANSWER = {
    "cniVersion": "0.4.0",
    "interfaces": [{"name": "host"}, {"name": "eth0", "mac": "02:00:00:00:00:07", "sandbox": "/proc/1/fd/1"}],
    "ips": [
        {"version": "4", "address": "203.0.113.1/24", "interface": 0},
        {"version": "4", "address": "203.0.113.9/24", "gateway": "203.0.113.1", "interface": 1},
        {"version": "6", "address": "2001:db8:9::9/64", "interface": 1},
    ],
}


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Lists:
    """Lists that the engine of this module reads."""
    return Lists(tmp_path_factory.mktemp("cni"))


@pytest.fixture(scope="module")
def cni_engine(lists: Lists, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkEngine]:
    """An engine of its own, since plugins leave their bridge and chains on its host."""
    with NetworkEngine(tmp_path_factory.mktemp("cniengine"), options=lists.options) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield running


@pytest.fixture
def engine(cni_engine: NetworkEngine, lists: Lists) -> Iterator[NetworkEngine]:
    """The engine without containers and networks; afterwards plugins have nothing left of them."""
    lists.write("front", lists.bridge("front"), PORTMAP)
    yield cni_engine
    for container in containers(cni_engine):
        delete(cni_engine, container.id)
    for network in networks(cni_engine):
        if network.name != "bridge":
            cni_engine.networks.DeleteNetwork(networks_pb2.DeleteNetworkRequest(network=network.id))
    assert cni_engine.process.poll() is None
    # A plugin that failed on a loaded machine is executed again a little later.
    until_now(lambda: left_in(cni_engine.host) == [], "plugins have nothing left")
    until_now(lambda: lists.leased("front") == set(), "no address is leased")
    shutil.rmtree(lists.leases, ignore_errors=True)  # else host-local goes on behind the last address
    run_files = cni_engine.root / "run" / "cni"
    until_now(lambda: not run_files.exists() or [*run_files.iterdir()] == [], "no input of a plugin is left")


def make(engine: NetworkEngine, name: str = "front", **options: str) -> networks_pb2.Network:
    """A network of plugins."""
    return make_network(engine, name, driver="cni", driver_options=options)


def test_a_container_has_what_plugins_gave_it_and_is_reached_there(engine: NetworkEngine, lists: Lists) -> None:
    network = make(engine)
    assert (network.driver, network.bridge_name, [*network.subnets]) == ("cni", "", [])
    web = served(engine, "web", attachments=on("front"))
    assert (web.networks[0].network_name, web.networks[0].interface_name) == ("front", "eth0")
    assert web.networks[0].ipv4_address == "10.66.0.2/24"
    assert web.networks[0].ipv4_gateway == "10.66.0.1"
    assert fetch(engine.host, "10.66.0.2", 80) == "web"
    assert "10.66.0.2" in exec_in(engine, web, "ip", "-4", "-o", "address", "show", "eth0")
    assert web.networks[0].mac_address in exec_in(engine, web, "ip", "link", "show", "eth0")
    assert lists.leased("front") == {"10.66.0.2"}
    out, code = shell(engine, "cat /etc/hosts; wget -qO- http://10.66.0.2", attachments=on("front"))
    assert code == 0
    assert out.splitlines()[-1] == "web"
    assert any(line.startswith("10.66.0.") for line in out.splitlines()), out
    stop(engine, "web")
    assert lists.leased("front") == set()
    assert BRIDGE in engine.host.links()


def test_published_ports_are_the_plugins_affair(engine: NetworkEngine) -> None:
    make(engine)
    web = served(engine, "web", attachments=on("front"), published_ports=[port(80, 8081)])
    assert fetch(engine.host, "127.0.0.1", 8081) == "web"
    with Machine() as other:
        engine.host.connect_to(other, ["192.0.2.1/24"], ["192.0.2.2/24"])
        assert fetch(other, "192.0.2.1", 8081) == "web"
    with pytest.raises(grpc.RpcError, match="held by container"):
        created_and_started(engine, "second", published_ports=[port(80, 8081)])
    request = containers_pb2.UpdateContainerRequest(container=web.id, add_published_ports=[port(80, 8082)])
    with pytest.raises(grpc.RpcError, match="told of ports at the start"):
        engine.containers.UpdateContainer(request)
    stop(engine, "web")
    assert is_refused(engine.host, "127.0.0.1", 8081)


def created_and_started(engine: NetworkEngine, name: str, **network: object) -> None:
    """A container on the plugins' network."""
    create(engine, name, "sleep", "1000", attachments=on("front"), **network)
    start(engine, name)


def test_an_address_is_taken_where_a_plugin_can_be_told(engine: NetworkEngine, lists: Lists) -> None:
    make(engine)
    one = served(engine, "one", attachments=on("front", ipv4_address="10.66.0.77", mac_address="02:11:22:33:44:55"))
    assert one.networks[0].ipv4_address == "10.66.0.77/24"
    assert one.networks[0].mac_address == "02:11:22:33:44:55"
    lists.write("front", {key: value for key, value in lists.bridge("front").items() if key != "capabilities"})
    create(engine, "two", "true", attachments=on("front", ipv4_address="10.66.0.78"))
    with pytest.raises(grpc.RpcError, match=r"no plugin of front .* has the capability ips"):
        start(engine, "two")
    create(engine, "three", "true", attachments=on("front"), published_ports=[port(80, 8083)])
    with pytest.raises(grpc.RpcError, match="capability portMappings"):
        start(engine, "three")
    # What was added by the list as it stood is taken away by it.
    stop(engine, "one")
    assert lists.leased("front") == set()


def test_networks_with_a_bridge_and_of_plugins_are_connected_live(engine: NetworkEngine, lists: Lists) -> None:
    make(engine)
    make_network(engine, "back")
    web = served(engine, "web", attachments=on("back"))
    attachment = network_pb2.NetworkAttachment(network="front")
    answer = engine.networks.ConnectContainer(
        networks_pb2.ConnectContainerRequest(container="web", attachment=attachment)
    )
    assert answer.endpoint.ipv4_address == "10.66.0.2/24"
    assert get(engine, "web").networks[1].ipv4_address == "10.66.0.2/24"
    assert fetch(engine.host, "10.66.0.2", 80) == "web" == fetch(engine.host, ipv4(web), 80)
    engine.networks.DisconnectContainer(networks_pb2.DisconnectContainerRequest(container="web", network="front"))
    assert lists.leased("front") == set()
    assert "eth1" not in exec_in(engine, web, "ip", "-o", "link")
    assert fetch(engine.host, ipv4(web), 80) == "web"


def test_a_daemon_that_comes_up_asks_plugins_and_takes_all_away_at_the_end(
    engine: NetworkEngine, lists: Lists, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    lists.script("noting", NOTING.format(log=log, answer=json.dumps(ANSWER)))
    lists.write("noted", {"type": "noting"})
    make(engine, "noted")
    make(engine)
    web = served(engine, "web", attachments=on("front"), published_ports=[port(80, 8084)])
    noted = served(engine, "noted", attachments=on("noted"))
    assert [noted.networks[0].ipv4_address, noted.networks[0].ipv6_address] == ["203.0.113.9/24", "2001:db8:9::9/64"]
    assert [noted.networks[0].ipv4_gateway, noted.networks[0].mac_address] == ["203.0.113.1", "02:00:00:00:00:07"]
    (lists.config / "noted.conflist").unlink()
    engine.kill()
    engine.start()
    until_now(lambda: "CHECK" in log.read_text(), "plugins are asked")
    assert get(engine, "web").networks[0] == web.networks[0]
    assert fetch(engine.host, "127.0.0.1", 8084) == "web"
    for name in ("web", "noted"):
        stop(engine, name)
    short = noted.id[:12]
    # ADD knows of no result, CHECK and DEL have the one that was stored.
    assert log.read_text().splitlines() == [f"ADD {short} 0", f"CHECK {short} 1", f"DEL {short} 1"]
    assert left_in(engine.host) == []


def test_what_ended_while_no_daemon_looked_is_taken_away(engine: NetworkEngine, lists: Lists) -> None:
    make(engine)
    create(engine, "short", "sleep", "1000", attachments=on("front"), published_ports=[port(80, 8085)])
    running = start(engine, "short")
    assert lists.leased("front") == {"10.66.0.2"}
    engine.kill()
    with_pid = Path(f"/proc/{running.host_pid}")
    os.kill(running.host_pid, signal.SIGKILL)
    until_now(lambda: not with_pid.exists(), "it has ended")
    engine.start()
    until_now(lambda: lists.leased("front") == set(), "its address is free")


@pytest.mark.parametrize(
    ("script", "detail"),
    [
        ('echo \'{"code": 7, "msg": "no cable", "details": "port 3"}\'; exit 1', "exit code 1: no cable: port 3"),
        ("echo on its errors >&2; exit 9", "exit code 9: on its errors"),
        ("kill -9 $$", "killed by signal 9"),
        ("echo nonsense", "no JSON"),
        ("echo '[]'", "no object"),
        ('echo \'{"ips": [{"address": "10.0.0.999/8"}]}\'', "10.0.0.999"),
        ("exec head -c 300000 /dev/zero", "it printed too much"),
    ],
)
def test_a_plugin_that_fails_is_named_with_what_it_says_and_nothing_is_left(
    engine: NetworkEngine, lists: Lists, script: str, detail: str
) -> None:
    lists.script("failing", f'case "$CNI_COMMAND" in ADD) {script};; esac')
    lists.write("front", lists.bridge("front"), {"type": "failing"})
    make(engine)
    create(engine, "one", "true", attachments=on("front"))
    with pytest.raises(grpc.RpcError) as caught:
        start(engine, "one")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "the CNI plugin failing of network front failed at ADD" in caught.value.details()
    assert detail in caught.value.details()
    # The first had been added already.
    assert lists.leased("front") == set()


@pytest.mark.parametrize(
    ("whole", "rule"),
    [
        ('{"name": "odd", "cniVersion": "0.1.0", "plugins": [{"type": "bridge"}]}', "cniVersion must be one of"),
        ('{"name": "odd", "cniVersion": "1.0.0", "plugins": []}', "MAX_PLUGINS"),
        ('{"name": "odd", "cniVersion": "1.0.0", "plugins": [{"type": "../../bin/sh"}]}', "the name of a program"),
        ('{"name": "odd", "cniVersion": "1.0.0", "plugins": [{"type": "absent"}]}', "'absent' is in none of"),
        ('{"name": "odd"', "no list of the name 'odd' stands in .*; not readable: odd.conflist"),
        ('{"name": "odd", "x": "' + "x" * 70_000 + '"}', "not readable: odd.conflist"),
    ],
)
def test_a_list_that_is_not_right_is_refused(engine: NetworkEngine, lists: Lists, whole: str, rule: str) -> None:
    path = lists.config / "odd.conflist"
    path.write_text(whole)
    try:
        with pytest.raises(grpc.RpcError, match=rule) as caught:
            make(engine, "odd")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    finally:
        path.unlink()


def test_what_is_the_plugins_affair_is_refused(engine: NetworkEngine) -> None:
    for fields in (
        {"internal": True},
        {"enable_ipv6": True},
        {"mtu": 1400},
        {"subnets": [networks_pb2.Subnet(cidr="10.1.0.0/24")]},
        {"driver_options": {"isolation": "false"}},
    ):
        with pytest.raises(grpc.RpcError) as caught:
            make_network(engine, "front", driver="cni", **fields)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    make(engine, "named", conflist="front")
    one = served(engine, "one", SERVE, attachments=on("named"))
    assert one.networks[0].ipv4_address.startswith("10.66.0.")


def test_a_plugin_that_fails_to_take_away_is_told_again(engine: NetworkEngine, lists: Lists, tmp_path: Path) -> None:
    log, fails = tmp_path / "log", tmp_path / "fails"
    fails.touch()
    lists.script(
        "flaky",
        f"echo $CNI_COMMAND $(ls -d /proc/self/root$CNI_NETNS) >> {log}\n"
        f"[ $CNI_COMMAND = DEL ] && [ -e {fails} ] && rm {fails} && exit 1\n"
        '[ $CNI_COMMAND != ADD ] || echo "$given" | sed \'s/.*"prevResult"://; s/}$//\'',
    )
    lists.write("front", lists.bridge("front"), {"type": "flaky"})
    make(engine)
    served(engine, "web", attachments=on("front"))
    stop(engine, "web")
    until_now(lambda: log.read_text().count("DEL") == 2, "it is told a second time")
    # Both times it found a namespace, and what others had given was taken away at once.
    assert [len(line.split()) for line in log.read_text().splitlines()] == [2, 2, 2]
    assert lists.leased("front") == set()


def test_containers_find_each_other_by_name_on_a_network_of_plugins(engine: NetworkEngine) -> None:
    make(engine)
    served(engine, "web", attachments=on("front", aliases=["store"]))
    for name in ("web", "store", "web.front"):
        out, code = shell(engine, f"wget -qO- http://{name}/", attachments=on("front"))
        assert (out.strip(), code) == ("web", 0), name
    engine.kill()
    engine.start()
    out, _ = shell(engine, "wget -qO- http://web/", attachments=on("front"))
    assert out.strip() == "web"
