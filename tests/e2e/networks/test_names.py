"""Names of containers resolve on their networks and nowhere else; everything else is asked of the host's servers."""

import ipaddress
import os
import socket

import pytest

from fluyt.v1 import containers_pb2
from tests.e2e.networks.steps import (
    create,
    delete,
    get,
    inside,
    ipv4,
    ipv6,
    make_network,
    on,
    served,
    shell,
    start,
    stop,
)
from tests.e2e.networks.test_networks import connect, disconnect
from tests.support.dns import AAAA, NOERROR, PTR, RESOLVER, SERVFAIL, Answer, NameServer, ask, question
from tests.support.namespaces import Machine, NetworkEngine
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("root", "busybox", "nft", "ip")
#: What the engine's resolv.conf names, in the engine's own namespace.
HOSTS_SERVER = "127.0.0.53"


def found(*values: str) -> Answer:
    """An answer with these."""
    return Answer(NOERROR, tuple(sorted(values)), is_truncated=False)


def test_a_container_is_found_by_names_aliases_id_host_name_and_address(engine: NetworkEngine) -> None:
    make_network(engine, "front", enable_ipv6=True)
    create(engine, "web", "sleep", "1000", attachments=on("front", aliases=["www", "Pool"]))
    create(engine, "web2", "sleep", "1000", attachments=on("front", aliases=["pool"]))
    web, web2 = start(engine, "web"), start(engine, "web2")
    for name in ("web", "WEB", "www", "web.front", "www.front", web.id[:12]):
        assert ask(inside(web2), name) == found(ipv4(web)), name
        assert ask(inside(web2), name, AAAA, by_tcp=True) == found(ipv6(web)), name
    assert ask(inside(web), "pool") == found(ipv4(web), ipv4(web2))
    for address in (ipv4(web), ipv6(web)):
        pointer = ipaddress.ip_address(address).reverse_pointer
        assert ask(inside(web2), pointer, PTR) == found("web.front")
    # There is no MX of it, and none is asked for elsewhere.
    assert ask(inside(web2), "web", 15) == found()
    stop(engine, "web")
    assert ask(inside(web2), "www").code == SERVFAIL
    assert ask(inside(web2), "pool") == found(ipv4(web2))


def test_programs_resolve_names_with_what_stands_in_resolv_conf(engine: NetworkEngine) -> None:
    make_network(engine, "front")
    web = served(engine, "web", attachments=on("front"))
    out, code = shell(
        engine, "cat /etc/resolv.conf; wget -qO- http://web/; nslookup web.front", attachments=on("front")
    )
    assert code == 0, out
    lines = out.splitlines()
    assert [line for line in lines if line.startswith("nameserver")] == [f"nameserver {RESOLVER}"]
    assert {"search lan", "options edns0", "options ndots:0"} <= set(lines)
    assert "web" in lines
    assert any(ipv4(web) in line for line in lines[lines.index("web") :])


def test_names_are_those_of_the_containers_own_networks(engine: NetworkEngine) -> None:
    for network in ("front", "back"):
        make_network(engine, network)
    create(engine, "web", "sleep", "1000", attachments=on("front"))
    create(engine, "db", "sleep", "1000", attachments=on("back"))
    create(engine, "app", "sleep", "1000", attachments=on("front", "back"))
    create(engine, "plain", "sleep", "1000")
    web, db, app = start(engine, "web"), start(engine, "db"), start(engine, "app")
    start(engine, "plain")
    assert ask(inside(app), "web") == found(ipv4(web))
    assert ask(inside(app), "db") == found(ipv4(db))
    assert ask(inside(db), "app") == found(ipv4(app, 1))
    for name in ("db", "db.back", "plain"):
        assert ask(inside(web), name).code == SERVFAIL
    # The engine's own network has no names: its containers ask whom the host asks, as in Docker.
    assert RESOLVER not in shell(engine, "cat /etc/resolv.conf")[0]
    assert connect(engine, "plain", "back").network_name == "back"
    assert ask(inside(get(engine, "plain")), "db") == found(ipv4(db))
    assert connect(engine, "web", "back").network_name == "back"
    assert ask(inside(web), "db") == found(ipv4(db))
    disconnect(engine, "web", "back")
    assert ask(inside(web), "db").code == SERVFAIL
    assert ask(inside(db), "web").code == SERVFAIL


def test_a_renamed_container_is_found_by_its_new_name(engine: NetworkEngine) -> None:
    make_network(engine, "front")
    create(engine, "old", "sleep", "1000", attachments=on("front", aliases=["kept"]))
    container = start(engine, "old")
    engine.containers.RenameContainer(containers_pb2.RenameContainerRequest(container="old", name="new"))
    here = inside(container)
    assert ask(here, "new") == ask(here, "kept") == found(ipv4(container))
    assert ask(here, "old").code == SERVFAIL


@pytest.mark.parametrize("by_tcp", [False, True], ids=["udp", "tcp"])
def test_n06_everything_else_is_asked_of_the_hosts_servers_which_only_the_host_reaches(
    engine: NetworkEngine, by_tcp: bool
) -> None:
    make_network(engine, "front")
    make_network(engine, "closed", internal=True)
    create(engine, "web", "sleep", "1000", attachments=on("front"))
    create(engine, "job", "sleep", "1000", attachments=on("closed"))
    web, job = start(engine, "web"), start(engine, "job")
    with NameServer(engine.host, HOSTS_SERVER) as server:
        assert ask(inside(web), "example.org", by_tcp=by_tcp) == found("192.0.2.1")
        assert server.asked == [f"{'tcp' if by_tcp else 'udp'} example.org"]
        # Who has no way out has none by the host's servers either (CVE-2024-29018).
        assert ask(inside(job), "data.example.org", by_tcp=by_tcp).code == SERVFAIL
        assert ask(inside(job), "job", by_tcp=by_tcp) == found(ipv4(job))
        assert len(server.asked) == 1


def test_a_long_answer_says_so_and_is_whole_by_tcp(engine: NetworkEngine) -> None:
    make_network(engine, "front")
    create(engine, "web", "sleep", "1000", attachments=on("front"))
    here = inside(start(engine, "web"))
    with NameServer(engine.host, HOSTS_SERVER, truncates=True):
        assert ask(here, "example.org") == Answer(NOERROR, (), is_truncated=True)
        assert ask(here, "example.org", by_tcp=True) == found("192.0.2.1")


def test_the_callers_servers_are_asked_and_its_loopback_is_not_the_hosts(engine: NetworkEngine) -> None:
    make_network(engine, "front")
    create(engine, "one", "sleep", "1000", attachments=on("front"), dns_servers=["127.0.0.9"])
    create(engine, "two", "sleep", "1000", attachments=on("front"), dns_servers=[HOSTS_SERVER, "127.0.0.54"])
    engine.host.run("ip", "address", "add", "192.0.2.77/32", "dev", "lo")
    create(engine, "three", "sleep", "1000", attachments=on("front"), dns_servers=["192.0.2.77"])
    with NameServer(engine.host, HOSTS_SERVER) as server, NameServer(engine.host, "192.0.2.77") as own:
        for name in ("one", "two"):
            assert ask(inside(start(engine, name)), "example.org").code == SERVFAIL
        assert ask(inside(start(engine, "three")), "example.org") == found("192.0.2.1")
        assert (server.asked, own.asked) == ([], ["udp example.org"])
    engine.host.run("ip", "address", "del", "192.0.2.77/32", "dev", "lo")


def test_a_name_server_of_the_containers_own_has_port_53(engine: NetworkEngine) -> None:
    make_network(engine, "front")
    create(engine, "dns", "sleep", "1000", attachments=on("front"))
    create(engine, "asks", "sleep", "1000", attachments=on("front"))
    container, here = start(engine, "dns"), inside(start(engine, "asks"))
    with NameServer(inside(container), "0.0.0.0"):  # noqa: S104 - as such programs do
        assert ask(inside(container), "asks") == ask(here, "asks")
        client = here.inside(lambda: socket.create_connection((ipv4(container), 53), 10))
        client.close()


def test_names_are_answered_again_after_the_daemon_was_killed(engine: NetworkEngine) -> None:
    make_network(engine, "front")
    create(engine, "web", "sleep", "1000", attachments=on("front", aliases=["www"]))
    container = start(engine, "web")
    here = inside(container)
    for _ in range(2):
        engine.kill()
        engine.start()
        until_now(lambda: _asked(here, "www") == found(ipv4(container)), "names are answered again")
        assert ask(here, "www", by_tcp=True) == found(ipv4(container))
    with NameServer(engine.host, HOSTS_SERVER):
        assert ask(here, "example.org") == found("192.0.2.1")
    stop(engine, "web")
    assert ipv4(start(engine, "web")) != ""
    until_now(lambda: ask(inside(get(engine, "web")), "web").values != (), "it is found after its restart")


def _asked(machine: Machine, name: str) -> Answer | None:
    try:
        return ask(machine, name)
    except OSError:
        return None


def test_hostile_questions_hinder_neither_the_engine_nor_other_containers(engine: NetworkEngine) -> None:
    make_network(engine, "front")
    create(engine, "bad", "sleep", "1000", attachments=on("front"))
    create(engine, "good", "sleep", "1000", attachments=on("front"))
    bad, good = start(engine, "bad"), start(engine, "good")

    def attack() -> None:
        seed = question("web.front", 255)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect((RESOLVER, 53))
            for _ in range(3_000):
                junk = bytearray(os.urandom(1 + os.urandom(1)[0]))
                client.send(junk)
                junk[: len(seed)] = seed
                junk[junk[-1] % 12] ^= junk[-1]
                client.send(junk)
                client.send(question(f"x{junk[-1]}.example.org", 1, junk[-1]))
        idle = [socket.create_connection((RESOLVER, 53), 10) for _ in range(40)]
        for one in idle:
            one.close()

    inside(bad).inside(attack)
    assert ask(inside(good), "bad") == found(ipv4(bad))
    assert ask(inside(good), "bad", by_tcp=True) == found(ipv4(bad))
    assert engine.process.poll() is None
    delete(engine, "bad")
    assert ask(inside(good), "good") == found(ipv4(good))
