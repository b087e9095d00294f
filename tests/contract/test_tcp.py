"""The TCP listener: mutual TLS only, and only for the principals that the settings name."""

import itertools
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from fluyt import channel, engine, errors
from fluyt.v1 import container_files_pb2, containers_pb2, containers_pb2_grpc, engine_pb2, engine_pb2_grpc
from tests.contract.edge import serving

pytestmark = pytest.mark.needs("openssl")

#: Any free port of the loopback address.
ANY_PORT = "127.0.0.1:0"


class Engine(engine_pb2_grpc.EngineServiceServicer):
    """One built RPC."""

    async def GetVersion(self, request: Any, context: Any) -> engine_pb2.GetVersionResponse:  # noqa: N802
        return engine_pb2.GetVersionResponse(version="9.9.9")


@dataclass(frozen=True)
class Authority:
    """A CA that the test made, and its directory."""

    directory: Path

    @classmethod
    def make(cls, directory: Path) -> "Authority":
        """A new one."""
        directory.mkdir()
        authority = cls(directory)
        authority._openssl("req", "-x509", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
        return authority

    def issue(self, name: str) -> tuple[Path, Path]:
        """(certificate, key) for a name, signed by this CA."""
        (self.directory / "san").write_text(f"subjectAltName=DNS:{name}\n")
        self._openssl("req", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "san", "-days", "2"]
        command = ["openssl", "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing]
        subprocess.run(command, cwd=self.directory, check=True, capture_output=True)
        return self.directory / f"{name}.pem", self.directory / f"{name}.key"

    def _openssl(self, *arguments: str) -> None:
        new_key = ["-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        subprocess.run(["openssl", *arguments, *new_key], cwd=self.directory, check=True, capture_output=True)


@contextmanager
def caller(authority: Authority, port: int, name: str) -> Iterator[grpc.aio.Channel]:
    """The arguments of a channel of a client with a certificate for `name`."""
    certificate, key = authority.issue(name)
    credentials = grpc.ssl_channel_credentials(
        (authority.directory / "ca.pem").read_bytes(), key.read_bytes(), certificate.read_bytes()
    )
    yield grpc.aio.secure_channel(f"localhost:{port}", credentials)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """A listener of its own CA; `ops` may do everything."""
    authority = Authority.make(tmp_path / "ca")
    certificate, key = authority.issue("localhost")
    return {
        "tcp_address": ANY_PORT,
        "tls_certificate_path": certificate,
        "tls_key_path": key,
        "tls_client_ca_path": authority.directory / "ca.pem",
        "tcp_administrators": "ops",
    }


async def version(server: Any, authority: Authority, name: str) -> str:
    """What GetVersion answers to a client of that name."""
    with caller(authority, server.tcp_port, name) as connection:
        async with connection:
            stub = engine_pb2_grpc.EngineServiceStub(connection)
            answer = await stub.GetVersion(engine_pb2.GetVersionRequest(), timeout=10)
            return str(answer.version)


async def test_an_administrator_is_served(tmp_path: Path, settings: dict[str, Any]) -> None:
    async with serving(tmp_path, [Engine()], **settings) as (server, _):
        assert await version(server, Authority(tmp_path / "ca"), "ops") == "9.9.9"


async def test_another_certificate_of_the_same_ca_may_nothing(tmp_path: Path, settings: dict[str, Any]) -> None:
    async with serving(tmp_path, [Engine()], **settings) as (server, _):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await version(server, Authority(tmp_path / "ca"), "stranger")
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


class Containers(containers_pb2_grpc.ContainerServiceServicer):
    """RPCs of three kinds that change or enter something; whether any of them was reached."""

    reached = False

    async def DeleteContainer(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.reached = True
        return containers_pb2.DeleteContainerResponse()

    async def RunContainer(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.reached = True
        yield containers_pb2.RunContainerResponse()

    async def CopyTo(self, requests: Any, context: Any) -> Any:  # noqa: N802
        self.reached = True
        return container_files_pb2.CopyToResponse()


#: Messages of an RPC: none of its fields, one that it does not know, none that can be read, more than may be sent.
MESSAGES = {"empty": b"", "unknown": b"\x98\xf8\x7f\x01", "corrupt": b"\xff\xff", "oversized": b"\x00" * 3_000_000}


@pytest.mark.parametrize("principal", ["watcher", "stranger"])
async def test_no_message_gets_a_caller_past_what_it_may(
    tmp_path: Path, settings: dict[str, Any], principal: str
) -> None:
    """CVE-2024-41110, CVE-2026-34040: a body that was empty or too long was not shown to who decides, and passed."""
    servicer = Containers()
    async with serving(tmp_path, [Engine(), servicer], tcp_readers="watcher", **settings) as (server, _):
        if principal == "watcher":
            assert await version(server, Authority(tmp_path / "ca"), principal) == "9.9.9"
        with caller(Authority(tmp_path / "ca"), server.tcp_port, principal) as connection:
            async with connection:
                for rpc, kind in itertools.product(("DeleteContainer", "RunContainer", "CopyTo"), MESSAGES):
                    raw = connection.stream_stream(f"/fluyt.v1.ContainerService/{rpc}")
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await raw(iter([MESSAGES[kind]]), timeout=10).read()
                    if kind in {"empty", "unknown"}:
                        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED, (rpc, kind)
        assert not servicer.reached
        # They are there for who may.
        with caller(Authority(tmp_path / "ca"), server.tcp_port, "ops") as connection:
            async with connection:
                stub = containers_pb2_grpc.ContainerServiceStub(connection)
                await stub.DeleteContainer(containers_pb2.DeleteContainerRequest(container="x"), timeout=10)
        assert servicer.reached


async def test_a_certificate_of_another_ca_does_not_connect(tmp_path: Path, settings: dict[str, Any]) -> None:
    other = Authority.make(tmp_path / "other")
    async with serving(tmp_path, [Engine()], **settings) as (server, _):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await version(server, other, "ops")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_client_without_tls_does_not_connect(tmp_path: Path, settings: dict[str, Any]) -> None:
    async with (
        serving(tmp_path, [Engine()], **settings) as (server, _),
        grpc.aio.insecure_channel(f"127.0.0.1:{server.tcp_port}") as connection,
    ):
        stub = engine_pb2_grpc.EngineServiceStub(connection)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetVersion(engine_pb2.GetVersionRequest(), timeout=10)
    assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


async def test_the_unix_socket_goes_on_without_a_certificate(tmp_path: Path, settings: dict[str, Any]) -> None:
    async with serving(tmp_path, [Engine()], **settings) as (_, connection):
        answer = await engine_pb2_grpc.EngineServiceStub(connection).GetVersion(engine_pb2.GetVersionRequest())
        assert answer.version == "9.9.9"


def test_tcp_without_tls_files_is_refused_before_it_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in channel.TLS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="FLUYT_TLS_CA"):
        channel.connect("tcp://127.0.0.1:1")


@pytest.mark.parametrize("address", ["", "http://x:1", "unix://relative", "tcp://noport", "/run/fluyt/fluytd.sock"])
def test_an_address_of_another_form_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(channel.HOST_VARIABLE, address or "nonsense")
    with pytest.raises(ValueError, match="neither"):
        channel.connect(address or None)


def test_an_absent_engine_is_unavailable(tmp_path: Path) -> None:
    with channel.connect(f"unix://{tmp_path}/none") as connection, pytest.raises(errors.Unavailable) as caught:
        engine.version(connection)
    assert caught.value.reason == ""
