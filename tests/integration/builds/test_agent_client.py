"""The Python client as it serves agents: an engine that asks for more than it may is refused here too."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fluyt import build_agents
from tests.support.played_engine import Message, PlayedEngine, Response, played


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[tuple[PlayedEngine, grpc.Channel]]:
    """An engine that is played, and a channel to it."""
    with played(tmp_path / "s") as engine, grpc.insecure_channel(f"unix:{tmp_path}/s") as channel:
        yield engine, channel


def agent_that_answers(path: Path, answers: list[bytes], seen: list[bytes]) -> threading.Thread:
    """An agent that takes one connection and gives these bytes, one after the other, for what it reads."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def serve() -> None:
        with listener, listener.accept()[0] as talk:
            for answer in answers:
                seen.append(talk.recv(4096))
                talk.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_identities_and_signatures_are_passed_on_and_nothing_else(
    engine: tuple[PlayedEngine, grpc.Channel], tmp_path: Path
) -> None:
    asking, channel = engine
    seen: list[bytes] = []
    thread = agent_that_answers(tmp_path / "a", [b"\0\0\0\x02\x0cx", b"\0\0\0\x01\x0e"], seen)
    with build_agents.served(channel, {"a": tmp_path / "a"}) as session_id:
        assert session_id == "s"
        assert list(asking.heard.get(timeout=10).offer.ids) == ["a"]
        for refused in (b"", b"\x11key", b"\x13", b"\x16pass", b"\x1bextension", b"\x0d" * (256 * 1024 + 1)):
            assert asking.ask(1, refused).answer == Message(connection=1, data=b"\x05"), refused[:1]
        assert asking.ask(1, b"\x0b").answer == Message(connection=1, data=b"\x0cx")
        assert asking.ask(1, b"\x0dsign").answer == Message(connection=1, data=b"\x0e")
        assert asking.ask(2, b"\x0b", "other").end.connection == 2
    thread.join()
    assert seen == [b"\0\0\0\x01\x0b", b"\0\0\0\x05\x0dsign"]


@pytest.mark.parametrize("answer", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x09\x0c", b"\0\0"])
def test_an_agent_that_answers_no_message_ends_its_connection(
    engine: tuple[PlayedEngine, grpc.Channel], tmp_path: Path, answer: bytes
) -> None:
    asking, channel = engine
    thread = agent_that_answers(tmp_path / "a", [answer], [])
    with build_agents.served(channel, {"a": tmp_path / "a"}):
        asking.heard.get(timeout=10)
        assert asking.ask(7, b"\x0b").end.connection == 7
    thread.join()


def test_an_engine_that_asks_more_before_its_answer_has_no_agents_any_more(
    engine: tuple[PlayedEngine, grpc.Channel], tmp_path: Path
) -> None:
    asking, channel = engine
    with socket.socket(socket.AF_UNIX) as silent, build_agents.served(channel, {"a": tmp_path / "a"}):
        silent.bind(str(tmp_path / "a"))
        silent.listen(1)
        # One is with the agent, one waits, one is too many.
        for _ in range(3):
            asking.asks.put(Response(ask=Message(connection=1, id="a", data=b"\x0b")))
        assert asking.over.wait(10)
