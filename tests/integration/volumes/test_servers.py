"""Servers of network file systems, asked at real sockets of the loopback device."""

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from fluytd.containers.volume_mounts import Server
from fluytd.errors import VolumeServerUnreachable
from fluytd.volumes import servers


def address_of(host: str, port: int) -> str:
    """The answer of `servers.address_of`."""
    return asyncio.run(servers.address_of(Server(host, port), "share"))


@pytest.fixture
def listening() -> Iterator[int]:
    """The port at which somebody listens, on IPv4 alone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_name_has_the_address_at_which_the_server_answers(listening: int) -> None:
    assert address_of("localhost", listening) == "127.0.0.1"
    assert address_of("127.0.0.1", listening) == "127.0.0.1"


def test_without_a_port_nobody_is_asked() -> None:
    assert address_of("192.0.2.1", 0) == "192.0.2.1"
    assert address_of("2001:db8::1", 0) == "2001:db8::1"


def test_where_nobody_listens_the_error_tells_address_and_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(VolumeServerUnreachable, match=f"of volume share cannot be reached: 127.0.0.1 port {port}:"):
        address_of("127.0.0.1", port)


@pytest.mark.parametrize("name", ["storage.invalid", "a..b", "x" * 300])
def test_a_name_that_has_no_address_is_told(name: str) -> None:
    with pytest.raises(VolumeServerUnreachable) as caught:
        address_of(name, 2049)
    assert caught.value.failure.metadata["server"] == name


def test_a_name_that_is_not_answered_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "RESOLVE_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(1))
    with pytest.raises(VolumeServerUnreachable, match=r"no address within 0\.2 s"):
        address_of("storage", 2049)


def test_a_server_that_takes_no_connection_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        # The kernel answers no further ones while nobody takes these.
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        with pytest.raises(VolumeServerUnreachable, match=r"no answer within 0\.5 s"):
            address_of("127.0.0.1", full.getsockname()[1])
        for one in waiting:
            one.close()


def test_an_address_that_does_not_answer_leaves_time_for_the_others(
    monkeypatch: pytest.MonkeyPatch, listening: int
) -> None:
    monkeypatch.setattr(servers, "CONNECT_SECONDS", 0.5)
    reach = asyncio.open_connection

    async def reached(address: str, port: int) -> object:
        return await (asyncio.sleep(60) if address == "127.0.0.2" else reach(address, port))

    monkeypatch.setattr(asyncio, "open_connection", reached)
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("127.0.0.2", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert address_of("storage", listening) == "127.0.0.1"
