"""Sessions of agents: what is carried, what is bounded, and how they end. No sockets."""

import asyncio

import pytest

from fluytd.builds import agents
from fluytd.builds.agents import AgentSession, Ask, BuildAgents, End
from fluytd.errors import (
    BuildAgentGone,
    BuildAgentSessionNotFound,
    EngineError,
    FieldInvalid,
    LimitExceeded,
)


async def take(session: AgentSession, count: int) -> list[Ask | End]:
    """The next things that the caller is told."""
    found: list[Ask | End] = []
    async for one in session.said():
        found.append(one)
        if len(found) == count:
            break
    return found


def limit_of(error: EngineError) -> str:
    return error.metadata["limit"]


async def test_each_connection_gets_its_own_answer() -> None:
    session = AgentSession(["a", "b"], "local")
    first, second = session.open("a"), session.open("b")
    asks = [
        asyncio.ensure_future(session.ask(first, "a", b"\x0b")),
        asyncio.ensure_future(session.ask(second, "b", b"\x0d")),
    ]
    assert await take(session, 2) == [Ask(1, "a", b"\x0b"), Ask(2, "b", b"\x0d")]
    session.answer(second, b"two")
    session.answer(first, b"one")
    assert await asyncio.gather(*asks) == [b"one", b"two"]
    session.end(first)
    assert await take(session, 1) == [End(1)]


async def test_an_answer_that_comes_too_late_is_dropped_and_one_to_nothing_is_refused() -> None:
    session = AgentSession(["a"], "local")
    connection = session.open("a")
    ask = asyncio.ensure_future(session.ask(connection, "a", b"\x0b"))
    await take(session, 1)
    ask.cancel()
    await asyncio.gather(ask, return_exceptions=True)
    session.end(connection)
    session.answer(connection, b"late")
    for number in (0, 2, 2**63):
        with pytest.raises(FieldInvalid):
            session.answer(number, b"x")
    with pytest.raises(FieldInvalid):
        session.answer(connection, b"")
    session.answer(connection, b"x" * agents.MAX_AGENT_MESSAGE_BYTES)
    with pytest.raises(LimitExceeded) as caught:
        session.answer(connection, b"x" * (agents.MAX_AGENT_MESSAGE_BYTES + 1))
    assert limit_of(caught.value) == "MAX_AGENT_MESSAGE_BYTES"


async def test_connections_are_bounded_until_the_caller_has_heard_of_their_end() -> None:
    """Else a step could fill the daemon's memory while its caller does not read."""
    session = AgentSession(["a"], "local")
    numbers = [session.open("a") for _ in range(agents.MAX_AGENT_CONNECTIONS)]
    ask = asyncio.ensure_future(session.ask(numbers[0], "a", b"\x0b"))
    await asyncio.sleep(0)
    session.answer(numbers[0], b"x")
    await ask
    session.end(numbers[0])
    with pytest.raises(LimitExceeded) as caught:
        session.open("a")
    assert limit_of(caught.value) == "MAX_AGENT_CONNECTIONS"
    assert await take(session, 2) == [Ask(1, "a", b"\x0b"), End(1)]
    session.open("a")
    # Of one that was never used there is nothing to hear.
    session.end(numbers[1])
    session.open("a")
    with pytest.raises(LimitExceeded):
        session.open("a")


async def test_an_agent_that_does_not_answer_is_given_up() -> None:
    session = AgentSession(["a"], "local", idle_seconds=0.01)
    with pytest.raises(LimitExceeded) as caught:
        await session.ask(session.open("a"), "a", b"\x0b")
    assert limit_of(caught.value) == "MAX_AGENT_IDLE_SECONDS"


async def test_a_caller_that_goes_ends_what_waits_for_it() -> None:
    session = AgentSession(["a"], "local")
    ask = asyncio.ensure_future(session.ask(session.open("a"), "a", b"\x0b"))
    await asyncio.sleep(0)
    session.close()
    with pytest.raises(BuildAgentGone):
        await ask
    with pytest.raises(BuildAgentGone):
        session.open("a")
    assert await take(session, 1) == []


def test_ids_are_few_short_and_each_once() -> None:
    AgentSession([str(number) for number in range(agents.MAX_AGENT_IDS)], "local")
    with pytest.raises(LimitExceeded) as caught:
        AgentSession([str(number) for number in range(agents.MAX_AGENT_IDS + 1)], "local")
    assert limit_of(caught.value) == "MAX_AGENT_IDS"
    for ids in ([], [""], ["a", "a"], ["a" * (agents.MAX_AGENT_ID_CHARS + 1)]):
        with pytest.raises(FieldInvalid):
            AgentSession(ids, "local")


def test_a_session_is_its_callers_alone_and_ends_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "MAX_AGENT_SESSIONS", 1)
    known = BuildAgents()
    assert known.find("", "local") is None
    with known.session(["a"], "local") as session:
        assert known.find(session.id, "local") is session
        with pytest.raises(BuildAgentSessionNotFound):
            known.find(session.id, "host.example")
        with pytest.raises(LimitExceeded) as caught, known.session(["b"], "local"):
            pass
        assert limit_of(caught.value) == "MAX_AGENT_SESSIONS"
    assert session.gone.is_set()
    with pytest.raises(BuildAgentSessionNotFound):
        known.find(session.id, "local")
