"""Connections to an engine: unix socket, or TCP with mutual TLS. It sends no request by itself."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

#: Environment variable with the engine's address.
HOST_VARIABLE: Final = "FLUYT_HOST"
DEFAULT_HOST: Final = "unix:///run/fluyt/fluytd.sock"
#: Environment variables with the files of `Tls`.
TLS_VARIABLES: Final = ("FLUYT_TLS_CA", "FLUYT_TLS_CERTIFICATE", "FLUYT_TLS_KEY")

#: The engine sends nothing larger.
MAX_RECEIVE_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM: the CA that signed the engine's certificate, and the caller's certificate and key."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def from_environment(cls) -> "Tls | None":
        """From FLUYT_TLS_CA, FLUYT_TLS_CERTIFICATE and FLUYT_TLS_KEY; None unless all three are set."""
        files = [os.environ.get(name, "") for name in TLS_VARIABLES]
        return cls(*map(Path, files)) if all(files) else None


def connect(host: str | None = None, *, tls: Tls | None = None) -> grpc.Channel:
    """A channel that connects when it is first used; close it, or use it in a `with` statement. Does not block.

    Args:
        host: `unix:///path/of/socket` or `tcp://host:port`; None: FLUYT_HOST, else the default socket.
        tls: files for `tcp://`; None: from the environment.

    Raises:
        ValueError: the address has another form, or `tcp://` comes without TLS files.
        OSError: a TLS file cannot be read.
    """
    address = host or os.environ.get(HOST_VARIABLE) or DEFAULT_HOST
    options = (("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),)
    scheme, separator, rest = address.partition("://")
    if separator and scheme == "unix" and rest.startswith("/"):
        return grpc.insecure_channel(f"unix:{rest}", options)
    if separator and scheme == "tcp" and ":" in rest:
        files = tls or Tls.from_environment()
        if files is None:
            raise ValueError(f"tcp:// needs TLS files: pass them, or set {', '.join(TLS_VARIABLES)}")
        credentials = grpc.ssl_channel_credentials(
            files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
        )
        return grpc.secure_channel(rest, credentials, options)
    raise ValueError(f"{address!r} is neither unix:///path nor tcp://host:port")
