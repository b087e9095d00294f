"""RUN --mount=type=ssh: a step uses the agent of the build's caller, real ssh-agents with keys that only they have."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt import build_agents, builds, errors, operations
from fluyt.v1 import builds_pb2, builds_pb2_grpc
from fluyt.v1.types import security_pb2
from tests.e2e.builds.steps import CACHED, build, context, refused, shell
from tests.support import agents, image_files, images
from tests.support.engine import Engine
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("sshd")

USERS = security_pb2.UserNamespaceSpec


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[agents.Agent]:
    """An agent with one key, whose file is gone."""
    with agents.agent(tmp_path_factory.mktemp("agent")) as found:
        found.private_key.unlink()
        yield found


@pytest.fixture(scope="module", autouse=True)
def programs(engine: Engine) -> None:
    """The image `ssh:1` has ssh-add and perl."""
    engine.load(image_files.oci_archive({"ssh:1": images.busybox_image(agents.layer_of_programs())}))


@pytest.mark.parametrize("users", [USERS.MODE_AUTO, USERS.MODE_HOST])
def test_a_step_lists_and_signs_and_leaves_nothing(
    engine: Engine, agent: agents.Agent, tmp_path: Path, users: "security_pb2.UserNamespaceSpec.Mode.ValueType"
) -> None:
    dockerfile = """
        FROM ssh:1
        RUN --mount=type=ssh echo $SSH_AUTH_SOCK; stat -c '%F %a %u:%g' $SSH_AUTH_SOCK; ssh-add -L
        RUN --mount=type=ssh,target=/s/a,mode=0660,uid=7,gid=8 stat -c '%n %a %u:%g' $SSH_AUTH_SOCK
        RUN --mount=type=ssh,id=other --mount=type=ssh echo $SSH_AUTH_SOCK; ls /run/buildkit
        RUN test -z "$SSH_AUTH_SOCK"; ls -A /run /s; chown 7:8 /tmp || true
        """
    given = {"agents": {"default": agent.socket, "other": agent.socket}, "users": USERS(mode=users)}
    built = build(engine, context(tmp_path, {}), dockerfile, no_cache=True, **given)
    expected = "/run/buildkit/ssh_agent.0\nsocket 600 0:0\n" + agent.public_key + "/s/a 660 7:8\n"
    expected += "/run/buildkit/ssh_agent.0\nssh_agent.0\nssh_agent.1\n"
    assert built.output.decode().startswith(expected)
    assert "ssh" not in built.output.decode().removeprefix(expected)
    assert shell(engine, built, "ls -AR /run /s 2>/dev/null | grep -c -E 'agent|buildkit' || true") == "0\n"
    assert list((engine.root / "run" / "builds").iterdir()) == []
    again = build(engine, tmp_path, dockerfile, **given)
    assert all(step.state == CACHED for step in again.steps if step.instruction.startswith("RUN"))


def test_the_key_of_a_step_does_not_depend_on_the_agent(engine: Engine, agent: agents.Agent, tmp_path: Path) -> None:
    dockerfile = "FROM ssh:1\nRUN --mount=type=ssh echo kept\n"
    folder = context(tmp_path, {"context/": ""}) / "context"
    build(engine, folder, dockerfile, agents={"default": agent.socket})
    with agents.agent(tmp_path / "agent", has_key=False) as other:
        assert build(engine, folder, dockerfile, agents={"default": other.socket}).state_of("RUN") == CACHED
    assert build(engine, folder, dockerfile).state_of("RUN") == CACHED


def test_a_step_without_an_agent_runs_unless_it_requires_one(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path, {})
    script = "test ! -e $SSH_AUTH_SOCK && echo $SSH_AUTH_SOCK"
    assert (
        build(engine, folder, f"FROM ssh:1\nRUN --mount=type=ssh {script}\n").output == b"/run/buildkit/ssh_agent.0\n"
    )
    failure = refused(engine, folder, "FROM ssh:1\nRUN --mount=type=ssh,id=k,required echo ran\n")
    assert (failure.metadata["cause"], failure.metadata["exit_code"]) == ("BUILD_AGENT_MISSING", "")
    assert "no ssh agent 'k'" in str(failure)


def test_a_variable_of_the_stage_stays(engine: Engine, agent: agents.Agent, tmp_path: Path) -> None:
    dockerfile = (
        "FROM ssh:1\nENV SSH_AUTH_SOCK=/own\nRUN --mount=type=ssh,target=/own echo $SSH_AUTH_SOCK; ssh-add -L\n"
    )
    built = build(engine, context(tmp_path, {}), dockerfile, agents={"default": agent.socket})
    assert built.output.decode() == f"/own\n{agent.public_key}"


def test_a_step_can_change_nothing_of_the_agent(engine: Engine, agent: agents.Agent, tmp_path: Path) -> None:
    """Locking, removing all keys and extensions are answered by SSH_AGENT_FAILURE and never reach the agent."""
    said = " ".join(f"{agents.SAY} {request};" for request in ("0000000113", "000000051600000000", "000000011b"))
    built = build(
        engine, context(tmp_path, {}), f"FROM ssh:1\nRUN --mount=type=ssh ssh-add -D; {said} ssh-add -L\n",
        agents={"default": agent.socket},
    )  # fmt: skip
    assert built.output.decode().count("0000000105\n") == 3
    assert built.output.decode().endswith(agent.public_key)


@pytest.mark.parametrize("length", ["ffffffff", "00040001"])
def test_a_message_that_is_too_long_ends_the_agent(
    engine: Engine, agent: agents.Agent, tmp_path: Path, length: str
) -> None:
    script = f"{agents.SAY} {length}0b; {agents.SAY} 000000010b; exit 3"
    failure = refused(
        engine, context(tmp_path, {}), f"FROM ssh:1\nRUN --mount=type=ssh {script}\n", agents={"default": agent.socket}
    )
    assert (failure.metadata["cause"], failure.metadata["exit_code"]) == ("LIMIT_EXCEEDED", "3")
    assert "MAX_AGENT_MESSAGE_BYTES" in str(failure)


def test_too_many_connections_end_the_agent(engine: Engine, agent: agents.Agent, tmp_path: Path) -> None:
    script = (
        "perl -MSocket -e 'for my $n (1..65) { socket(my $s,AF_UNIX,SOCK_STREAM,0)||die; push @s,$s;"
        "connect($s,sockaddr_un($ENV{SSH_AUTH_SOCK}))||die qq(refused\\n); }"
        "sysread($s[64],$b,1); syswrite($s[0],pack(qq(H*),qq(000000010b))); exit(sysread($s[0],$b,1) ? 0 : 3)'"
    )
    failure = refused(
        engine, context(tmp_path, {}), f"FROM ssh:1\nRUN --mount=type=ssh {script}\n", agents={"default": agent.socket}
    )
    assert failure.metadata["cause"] == "LIMIT_EXCEEDED"
    assert "MAX_AGENT_CONNECTIONS" in str(failure)


def test_several_connections_are_carried_at_once(engine: Engine, agent: agents.Agent, tmp_path: Path) -> None:
    script = "for n in 1 2 3 4 5 6 7 8; do ssh-add -L > /tmp/$n & done; wait; cat /tmp/[1-8]; rm /tmp/[1-8]"
    built = build(
        engine, context(tmp_path, {}), f"FROM ssh:1\nRUN --mount=type=ssh {script}\n", agents={"default": agent.socket}
    )
    assert built.output.decode() == agent.public_key * 8


def test_a_caller_that_goes_away_ends_the_agent_of_its_step(
    engine: Engine, agent: agents.Agent, tmp_path: Path
) -> None:
    folder = builds.upload_context(engine.channel, context(tmp_path, {}))
    script = "ssh-add -L; until ssh-add -L 2>&1 | grep refused; do sleep 0.1; done; exit 4"
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id=folder),
        dockerfile=f"FROM ssh:1\nRUN --mount=type=ssh {script}\nRUN --mount=type=ssh echo never\n".encode(),
    )
    with build_agents.served(engine.channel, {"default": agent.socket}) as session_id:
        request.agent_session_id = session_id
        operation = builds.begin(engine.channel, request)
        pieces = builds.read_log(engine.channel, operation.id)
        assert next(pieces).data.decode() == agent.public_key
    with pytest.raises(errors.FluytError) as caught:
        operations.wait(engine.channel, operation.id)
    assert (caught.value.metadata["cause"], caught.value.metadata["exit_code"]) == ("BUILD_AGENT_GONE", "4")
    request.dockerfile = b"FROM ssh:1\nRUN echo other\n"
    with pytest.raises(errors.FluytError) as caught:
        builds.begin(engine.channel, request)
    assert caught.value.reason == "BUILD_AGENT_SESSION_NOT_FOUND"


def test_an_agent_that_is_not_there_is_a_closed_connection(engine: Engine, tmp_path: Path) -> None:
    built = build(
        engine, context(tmp_path, {}), f"FROM ssh:1\nRUN --mount=type=ssh {agents.SAY} 000000010b\n",
        agents={"default": tmp_path / "absent"},
    )  # fmt: skip
    assert built.output == b"closed\n"


def test_a_cancelled_step_leaves_no_socket(engine: Engine, agent: agents.Agent, tmp_path: Path) -> None:
    folder = builds.upload_context(engine.channel, context(tmp_path, {}))
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id=folder),
        dockerfile=b"FROM ssh:1\nRUN --mount=type=ssh echo begun; sleep 100\n",
    )
    places = engine.root / "run" / "builds"
    with build_agents.served(engine.channel, {"default": agent.socket}) as session_id:
        request.agent_session_id = session_id
        operation = builds.begin(engine.channel, request)
        assert next(builds.read_log(engine.channel, operation.id)).data == b"begun\n"
        (place,) = places.iterdir()
        # The folder is root's alone, so that no other user of the host, and no step, gets at the socket by it.
        assert (place.stat().st_mode & 0o7777, place.stat().st_uid) == (0o700, 0)
        operations.cancel(engine.channel, operation.id)
        with pytest.raises(errors.FluytError):
            operations.wait(engine.channel, operation.id)
        until_now(lambda: not list(places.iterdir()))


def test_a_step_cannot_reach_the_agent_of_another_build(engine: Engine, agent: agents.Agent, tmp_path: Path) -> None:
    folder = builds.upload_context(engine.channel, context(tmp_path, {}))
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id=folder),
        dockerfile=b"FROM ssh:1\nRUN --mount=type=ssh echo begun; sleep 100\n",
    )
    with build_agents.served(engine.channel, {"default": agent.socket}) as session_id:
        request.agent_session_id = session_id
        operation = builds.begin(engine.channel, request)
        next(builds.read_log(engine.channel, operation.id))
        (place,) = (engine.root / "run" / "builds").iterdir()
        script = (
            f"ls {place} {place}/agent {engine.root} 2>/dev/null; "
            f"SSH_AUTH_SOCK={place}/agent ssh-add -L 2>/dev/null; find / -xdev -type s 2>/dev/null; cat /proc/net/unix"
        )
        other = build(engine, tmp_path, f"FROM ssh:1\nRUN {script}\n", no_cache=True)
        assert "agent" not in other.output.decode()
        operations.cancel(engine.channel, operation.id)


def test_what_a_caller_offers_and_answers_is_checked(engine: Engine) -> None:
    stub = builds_pb2_grpc.BuildServiceStub(engine.channel)
    request, offer = builds_pb2.ServeBuildAgentsRequest, builds_pb2.BuildAgentOffer
    message, end = builds_pb2.BuildAgentMessage, builds_pb2.BuildAgentEnd
    for said, reason in (
        ([], "FIELD_INVALID"),
        ([request(end=end(connection=1))], "FIELD_INVALID"),
        ([request(offer=offer())], "FIELD_INVALID"),
        ([request(offer=offer(ids=["a", "a"]))], "FIELD_INVALID"),
        ([request(offer=offer(ids=["a" * 129]))], "FIELD_INVALID"),
        ([request(offer=offer(ids=[str(number) for number in range(17)]))], "LIMIT_EXCEEDED"),
        ([request(offer=offer(ids=["a"])), request(offer=offer(ids=["a"]))], "FIELD_INVALID"),
        ([request(offer=offer(ids=["a"])), request(answer=message(connection=1, data=b"x"))], "FIELD_INVALID"),
        ([request(offer=offer(ids=["a"])), request(end=end(connection=9))], "FIELD_INVALID"),
    ):
        with pytest.raises(errors.FluytError) as caught:
            list(errors.iterate(stub.ServeBuildAgents(iter(said))))
        assert caught.value.reason == reason, said


def test_nothing_of_a_session_is_written_down(engine: Engine, agent: agents.Agent, tmp_path: Path) -> None:
    folder = builds.upload_context(engine.channel, context(tmp_path, {}))
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id=folder), dockerfile=b"FROM ssh:1\nRUN --mount=type=ssh ssh-add -l\n"
    )
    with build_agents.served(engine.channel, {"default": agent.socket}) as session_id:
        request.agent_session_id = session_id
        builds.followed(engine.channel, builds.begin(engine.channel, request))
    marks = (session_id.encode(), str(agent.socket).encode())
    looked_at = 0
    for directory, _, names in os.walk(engine.root):
        for name in names:
            path = Path(directory, name)
            try:
                data = path.read_bytes() if path.is_file() and path.stat().st_size < 2**22 else b""
            except FileNotFoundError:
                continue
            looked_at += bool(data)
            assert not any(mark in data for mark in marks), path
    assert looked_at > 10
