"""By which way a registry is asked: plain HTTP on loopback only, HTTPS elsewhere, trusted by the host's own roots."""

import ctypes
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.images.steps import failed_pull, pull, small_image
from tests.support import image_files
from tests.support.certificates import Authority
from tests.support.engine import Engine
from tests.support.registry import RealRegistry

CLONE_NEWNET = 0x40000000
ADDRESS = "10.213.0.1"
#: First byte of a TLS handshake. Source: RFC 8446, section 5.1.
TLS_HANDSHAKE = 0x16


class Listener:
    """Answers nobody and keeps the first bytes of each connection."""

    def __init__(self) -> None:
        self._socket = socket.create_server((ADDRESS, 0))
        self.address = f"{ADDRESS}:{self._socket.getsockname()[1]}"
        self.heard: list[bytes] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed at the end of the test
            with connection:
                self.heard.append(connection.recv(64))

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def in_own_network(work: Callable[[], None]) -> None:
    """Does the work in a thread whose network namespace is new; what it starts is born there."""

    def enter_and_work() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"], check=True)
        work()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(enter_and_work).result()


def test_a_registry_beyond_loopback_is_never_asked_by_plain_http(tmp_path: Path) -> None:
    def work() -> None:
        listener = Listener()
        try:
            with Engine(tmp_path) as engine:
                reason, metadata = failed_pull(engine, f"{listener.address}/app:1")
        finally:
            listener.close()
        assert (reason, metadata["registry"]) == ("REGISTRY_UNREACHABLE", listener.address)
        assert metadata["detail"]
        assert listener.heard
        assert {data[0] for data in listener.heard} == {TLS_HANDSHAKE}

    in_own_network(work)


@pytest.mark.needs("openssl", "docker-registry")
def test_https_is_trusted_by_the_roots_of_the_host(tmp_path: Path) -> None:
    authority, image = Authority.make(tmp_path / "ca"), small_image()
    with RealRegistry(tmp_path / "plain") as plain:
        image_files.push(plain.address, "app", "1", image)
    with RealRegistry(tmp_path / "plain", certificate=authority.issue("server")) as registry:
        hosts = tmp_path / "hosts" / registry.address
        hosts.mkdir(parents=True)
        (hosts / "hosts.toml").write_text(f'server = "https://{registry.address}"\n')
        reference = f"{registry.address}/app:1"
        with Engine(tmp_path, options=["--registry-hosts-dir", str(hosts.parent)]) as engine:
            reason, metadata = failed_pull(engine, reference)
            assert (reason, metadata["registry"]) == ("REGISTRY_UNREACHABLE", registry.address)
            assert "certificate" in metadata["detail"].lower()
            engine.kill()
            engine.start(SSL_CERT_FILE=str(authority.certificate))
            assert pull(engine, reference).image_id == image.config_digest
