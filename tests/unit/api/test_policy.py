"""Who may call what by TCP."""

from typing import Any

import pytest

from fluytd.api.interceptors.policy import Policy
from fluytd.errors import PermissionDenied

POLICY = Policy(administrators=["ops.example"], readers=["watcher.example"])


class Peer:
    """What a connection proves."""

    def __init__(self, peer: str, **proved: Any) -> None:
        self._peer = peer
        self._proved = proved

    def peer(self) -> str:
        """As gRPC writes it."""
        return self._peer

    def auth_context(self) -> dict[str, Any]:
        """As gRPC gives it."""
        return self._proved


def tls(name: str, key: str = "x509_subject_alternative_name") -> Peer:
    """A client with a certificate."""
    return Peer("ipv4:10.0.0.1:5", transport_security_type=[b"ssl"], **{key: [name.encode()]})


@pytest.mark.parametrize("peer", [Peer("unix:"), tls("ops.example"), tls("ops.example", "x509_common_name")])
def test_administrators_may_change_things(peer: Peer) -> None:
    POLICY.check("/fluyt.v1.ContainerService/DeleteContainer", peer)


def test_readers_may_read() -> None:
    for method in ("GetContainer", "ListContainers", "WatchStats", "WaitContainer"):
        POLICY.check(f"/fluyt.v1.ContainerService/{method}", tls("watcher.example"))
    POLICY.check("/fluyt.v1.LogService/ReadLogs", tls("watcher.example"))


@pytest.mark.parametrize("method", ["DeleteContainer", "AttachContainer", "CopyFrom", "ExportContainer"])
def test_readers_may_not_change_or_enter(method: str) -> None:
    with pytest.raises(PermissionDenied):
        POLICY.check(f"/fluyt.v1.ContainerService/{method}", tls("watcher.example"))


@pytest.mark.parametrize("peer", [tls("stranger"), Peer("ipv4:10.0.0.1:5"), tls("")])
def test_everybody_else_may_nothing(peer: Peer) -> None:
    with pytest.raises(PermissionDenied):
        POLICY.check("/fluyt.v1.EngineService/GetVersion", peer)
