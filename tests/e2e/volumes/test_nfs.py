"""Volumes of the driver `local` whose data is an export of an NFS server: mounted for each container, by nobody once
the last has gone; a server that is away is an error that comes in time."""

import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2

from fluyt import execs
from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_pb2, container_spec_pb2
from fluytd.containers.supervisor import START_TIMEOUT_MILLIS
from fluytd.volumes.servers import CONNECT_SECONDS, RESOLVE_SECONDS
from tests.e2e.containers import steps as containers
from tests.e2e.containers.steps import HOST_USERS, IMAGE, Refusal, refused, refused_run
from tests.e2e.volumes.steps import create, delete, export_tar, get, import_tar, names, output, remove, volume
from tests.e2e.volumes.test_shown_data import archive, clone, contents
from tests.support.engine import PATIENCE_SECONDS, Engine
from tests.support.nfs_server import PORT, NfsServer, mounted_exports, nfs_server
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("nfs")

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
#: What calls take besides what they wait for, on a loaded or emulated machine.
SLACK_SECONDS = PATIENCE_SECONDS
#: What a container whose server has gone may take to go, on an emulated machine; the kernel alone waits for six minutes
#: at least.
GONE_SECONDS = 150
#: Files of an export belong to users of the network: the kernel shows them with no other owners.
SPEC: dict[str, Any] = {"namespaces": HOST_USERS}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NfsServer]:
    """A server on the loopback device; no container and no daemon has its export mounted at the end."""
    with nfs_server(tmp_path_factory.mktemp("exported")) as running:
        yield running
        assert mounted_exports() == []


@pytest.fixture
def share(engine: Engine, server: NfsServer) -> Iterator[str]:
    """A volume of the export; it is deleted afterwards, and what stands in the export is as it was."""
    yield made(engine, "share", "addr=127.0.0.1,vers=4.2")
    delete(engine, "share")
    for path in server.exported.iterdir():
        path.unlink()


def made(engine: Engine, name: str, words: str, kind: str = "nfs") -> str:
    """A new volume of the server with these words among its options."""
    create(engine, name, driver_options={"type": kind, "device": ":/", "o": words})
    return name


def running(engine: Engine, name: str, share: str, *, read_only: bool = False) -> None:
    """A container that sleeps with the volume at /v."""
    wanted = container_spec_pb2.ContainerSpec(
        image=IMAGE, args=["sleep", "1000"], mounts=[volume("/v", share, read_only=read_only)], **SPEC
    )
    engine.containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=wanted, name=name))
    containers.start(engine, name)


def said(engine: Engine, container: str, script: str) -> str:
    """Output of a script in a running container; fails the test if it failed."""
    ended = execs.run(engine.channel, container, ["sh", "-c", script])
    assert ended.exit_code == 0, ended
    return ended.stdout.decode().strip()


def timed_refusal(engine: Engine, share: str) -> tuple[Refusal, float]:
    """Why no container starts with the volume, and how long it took to tell."""
    before = time.monotonic()
    failure = refused_run(engine, "true", mounts=[volume("/v", share)], **SPEC)
    return failure, time.monotonic() - before


def test_an_export_is_mounted_on_first_use_shared_and_keeps_what_was_written(
    engine: Engine, server: NfsServer, share: str
) -> None:
    assert mounted_exports() == []
    running(engine, "one", share)
    assert len(mounted_exports()) == 1
    assert "nfs4" not in Path("/proc/self/mountinfo").read_text(), "no mount of it stands on the host"
    running(engine, "two", share)
    said(engine, "one", "echo from one > /v/f; chown 7:8 /v/f")
    assert said(engine, "two", "cat /v/f; stat -c %u:%g /v/f; grep -c ' /v nfs4 ' /proc/mounts").split("\n") == [
        "from one",
        "7:8",
        "1",
    ]
    assert (server.exported / "f").read_text() == "from one\n"
    remove(engine, "one", force=True)
    assert len(mounted_exports()) == 1, "the other has it still"
    remove(engine, "two", force=True)
    assert mounted_exports() == [], "it goes with the last container"
    assert output(engine, IMAGE, "cat /v/f", mounts=[volume("/v", share)], **SPEC) == "from one"
    assert mounted_exports() == []


def test_the_server_may_be_named_and_its_name_is_what_is_shown(engine: Engine, server: NfsServer, share: str) -> None:
    (server.exported / "f").write_text("here\n")
    named = made(engine, "named", "addr=localhost,vers=4.2")
    assert output(engine, IMAGE, "cat /v/f", mounts=[volume("/v", named)], **SPEC) == "here"
    assert contents(export_tar(engine, named)[0]) == {"f": b"here\n"}
    assert get(engine, named).driver_options["o"] == "addr=localhost,vers=4.2"
    delete(engine, named)


def test_a_name_without_an_address_is_an_error_that_tells_it(engine: Engine) -> None:
    nowhere = made(engine, "nowhere", "addr=storage.invalid,vers=4.2")
    (code, reason, metadata), seconds = timed_refusal(engine, nowhere)
    assert (code, reason) == (UNAVAILABLE, "VOLUME_SERVER_UNREACHABLE")
    assert (metadata["volume"], metadata["server"]) == (nowhere, "storage.invalid")
    assert seconds < RESOLVE_SECONDS + SLACK_SECONDS
    delete(engine, nowhere)


def test_an_export_is_read_only_by_its_options_and_by_the_containers_wish(
    engine: Engine, server: NfsServer, share: str
) -> None:
    (server.exported / "f").write_text("here\n")
    told = made(engine, "told", "addr=127.0.0.1,vers=4.2,ro")
    script = "cat /v/f; touch /v/g 2>&1 || true"
    for mount in (volume("/v", told), volume("/v", share, read_only=True)):
        shown = output(engine, IMAGE, script, mounts=[mount], **SPEC)
        assert shown.startswith("here\n")
        assert "Read-only file system" in shown
    # Of one export some containers may write and others not, at the same time.
    running(engine, "reader", share, read_only=True)
    assert output(engine, IMAGE, "echo w > /v/w; cat /v/w", mounts=[volume("/v", share)], **SPEC) == "w"
    assert said(engine, "reader", "cat /v/w; touch /v/g 2>/dev/null || echo refused") == "w\nrefused"
    remove(engine, "reader", force=True)
    assert not (server.exported / "g").exists()
    delete(engine, told)


def test_a_killed_daemon_finds_its_containers_with_the_export_again(
    engine: Engine, server: NfsServer, share: str
) -> None:
    running(engine, "kept", share)
    said(engine, "kept", "echo before > /v/f")
    engine.kill()
    assert (server.exported / "f").read_text() == "before\n"
    engine.start()
    assert said(engine, "kept", "echo after >> /v/f; cat /v/f") == "before\nafter"
    _, reason, metadata = refused(lambda: delete(engine, share))
    assert (reason, metadata["volume"]) == ("VOLUME_IN_USE", share)
    remove(engine, "kept", force=True)
    assert mounted_exports() == []


def test_an_export_is_archived_filled_and_copied_without_a_container(
    engine: Engine, server: NfsServer, share: str
) -> None:
    assert import_tar(engine, share, archive("f", b"brought\n")).entry_count == 1
    assert (server.exported / "f").read_text() == "brought\n"
    assert contents(export_tar(engine, share)[0]) == {"f": b"brought\n"}
    assert dict(clone(engine, share, "copied").driver_options) == {}
    assert output(engine, IMAGE, "cat /v/f", mounts=[volume("/v", "copied")]) == "brought"
    delete(engine, "copied")
    assert mounted_exports() == []


def test_a_server_that_is_away_is_an_error_and_holds_up_nobody(engine: Engine, server: NfsServer, share: str) -> None:
    server.stop()
    try:
        (code, reason, metadata), seconds = timed_refusal(engine, share)
        assert (code, reason, metadata["server"]) == (UNAVAILABLE, "VOLUME_SERVER_UNREACHABLE", "127.0.0.1")
        assert f"port {PORT}" in metadata["detail"]
        assert seconds < CONNECT_SECONDS + SLACK_SECONDS
        assert refused(lambda: export_tar(engine, share))[:2] == (UNAVAILABLE, "VOLUME_SERVER_UNREACHABLE")
        assert refused(lambda: clone(engine, share, "none"))[:2] == (UNAVAILABLE, "VOLUME_SERVER_UNREACHABLE")
        assert "none" not in names(engine)
    finally:
        server.start()
    assert output(engine, IMAGE, "echo back > /v/f; cat /v/f", mounts=[volume("/v", share)], **SPEC) == "back"


def test_a_server_that_takes_no_connection_is_an_error_in_time(engine: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        place = full.getsockname()
        # The kernel answers no further ones while nobody takes these.
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(place)
        silent = made(engine, "silent", f"addr=127.0.0.1,vers=4.2,port={place[1]}")
        (_, reason, metadata), seconds = timed_refusal(engine, silent)
        for one in waiting:
            one.close()
    assert reason == "VOLUME_SERVER_UNREACHABLE"
    assert "no answer within" in metadata["detail"]
    assert CONNECT_SECONDS <= seconds < CONNECT_SECONDS + SLACK_SECONDS
    delete(engine, silent)


def test_a_server_that_accepts_and_says_nothing_is_named_in_time(engine: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as mute:
        port = mute.getsockname()[1]
        share = made(engine, "mute", f"addr=127.0.0.1,vers=4.2,port={port}")
        (code, reason, metadata), seconds = timed_refusal(engine, share)
    assert (code, reason, metadata["server"]) == (UNAVAILABLE, "VOLUME_SERVER_UNREACHABLE", "127.0.0.1")
    assert f"port {port}: no answer within" in metadata["detail"]
    assert CONNECT_SECONDS <= seconds < CONNECT_SECONDS + SLACK_SECONDS
    assert len(containers.listed(engine)) == 0
    delete(engine, share)


def test_a_server_that_answers_and_does_not_mount_is_named_and_holds_up_nobody(engine: Engine) -> None:
    with answering_nothing_else() as port:
        share = made(engine, "mute", f"addr=127.0.0.1,vers=4.2,port={port}")
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(timed_refusal, engine, share)
            # Others go on meanwhile.
            assert output(engine, IMAGE, "echo others") == "others"
            (code, reason, metadata), seconds = starting.result()
    assert (code, reason, metadata["server"]) == (UNAVAILABLE, "VOLUME_SERVER_UNREACHABLE", "127.0.0.1")
    assert "the mount did not come about" in metadata["detail"]
    assert seconds < START_TIMEOUT_MILLIS / 1000 + SLACK_SECONDS
    assert len(containers.listed(engine)) == 0
    delete(engine, share)


@contextmanager
def answering_nothing_else() -> Iterator[int]:
    """The port of a server that accepts the first call of each connection, which does nothing, and answers no other."""

    class First(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            call = self.request.recv(44)
            if call[24:28] == bytes(4):  # procedure 0. Source: RFC 5531, section 9
                self.request.sendall(struct.pack(">I", 1 << 31 | 24) + call[4:8] + struct.pack(">5I", 1, 0, 0, 0, 0))
            while self.request.recv(65536):
                pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), First) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def busy(engine: Engine, name: str, share: str) -> None:
    """A container writes to a file of the volume, which it has open, again and again."""
    script = "exec 3>>/v/f; while :; do echo more >&3; sleep 0.1; done"
    wanted = container_spec_pb2.ContainerSpec(
        image=IMAGE, args=["sh", "-c", script], mounts=[volume("/v", share)], **SPEC
    )
    engine.containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=wanted, name=name))
    containers.start(engine, name)


@contextmanager
def away(server: NfsServer, wait_seconds: float = 0) -> Iterator[float]:
    """The server does not answer; gives the time from which on containers with its files are to go, so long after."""
    server.stop()
    try:
        time.sleep(wait_seconds)
        yield time.monotonic()
    finally:
        server.start()


def gone_in_time(since: float) -> None:
    """What had the server's files is gone by now, and its mounts in a moment."""
    assert time.monotonic() - since < GONE_SECONDS
    until_now(lambda: mounted_exports() == [], "nothing of it is mounted any more", GONE_SECONDS)


def test_a_container_whose_server_went_away_is_stopped_and_removed_by_force(
    engine: Engine, server: NfsServer, share: str
) -> None:
    running(engine, "idle", share)
    with away(server) as since:
        engine.containers.StopContainer(
            containers_pb2.StopContainerRequest(container="idle", timeout=duration_pb2.Duration())
        )
        assert containers.get(engine, "idle").state == container_pb2.Container.STATE_EXITED
        remove(engine, "idle", force=True)
        gone_in_time(since)


def test_what_a_container_has_open_when_its_server_went_away_does_not_keep_it(
    engine: Engine, server: NfsServer, share: str
) -> None:
    busy(engine, "busy", share)
    until_now((server.exported / "f").exists, "it writes", SLACK_SECONDS)
    with away(server, wait_seconds=2) as since:
        assert [one.name for one in containers.listed(engine)] == ["busy"]
        assert list(engine.containers.WatchStats(containers_pb2.WatchStatsRequest(containers=["busy"], once=True)))
        assert output(engine, IMAGE, "echo others") == "others"
        remove(engine, "busy", force=True)
        gone_in_time(since)


def test_what_others_have_mounted_is_not_given_up_and_the_removal_is_completed_when_the_server_is_back(
    engine: Engine, server: NfsServer, share: str
) -> None:
    busy(engine, "busy", share)
    until_now((server.exported / "f").exists, "it writes", SLACK_SECONDS)
    running(engine, "other", share)
    with away(server, wait_seconds=2):
        code, reason, metadata = refused(lambda: remove(engine, "busy", force=True))
        assert (code, reason) == (UNAVAILABLE, "CONTAINER_NOT_ENDING")
        assert "process " in metadata["detail"]
        engine.kill()
        engine.start()
        assert {one.name for one in containers.listed(engine)} == {"busy", "other"}
        assert refused(lambda: remove(engine, "busy", force=True))[1] == "CONTAINER_NOT_ENDING"
    until_now(lambda: [one.name for one in containers.listed(engine)] == ["other"], "it is removed", GONE_SECONDS)
    assert said(engine, "other", "cat /v/f | head -n 1") == "more"
    remove(engine, "other", force=True)
