"""Opens the sockets that the server answers on: the unix socket, and TCP with mutual TLS. It serves nothing itself."""

import contextlib
import grp
import os
import socket
from pathlib import Path
from typing import Final

import grpc

from fluytd.errors import FieldInvalid, IoFailed

#: Longest path of a unix socket, its final zero byte not counted. Source: unix(7), sun_path.
MAX_SOCKET_PATH_BYTES: Final = 107
#: Root and the group may connect, nobody else.
SOCKET_MODE: Final = 0o660
_PROBE_SECONDS: Final = 1.0


def add_unix(server: grpc.aio.Server, path: Path, group: str) -> None:
    """`server` listens on `path`, which never existed with a wider mode than 0660; `group` may connect if it exists.

    A socket that nobody listens on any more is replaced. Raises FIELD_INVALID (socket_path) for a path that is too long
    or where another daemon listens, IO_FAILED. Blocking (some system calls).
    """
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise FieldInvalid(field="socket_path", rule=f"must have at most {MAX_SOCKET_PATH_BYTES} bytes")
    if _is_served(path):
        raise FieldInvalid(field="socket_path", rule=f"another daemon listens on {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    except OSError as error:
        raise IoFailed(operation="make the socket", path=path, errno=error.errno) from error
    before = os.umask(0o777 & ~SOCKET_MODE)
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as error:
        raise IoFailed(operation="listen", path=path, errno="unknown") from error
    finally:
        os.umask(before)
    path.chmod(SOCKET_MODE)
    with contextlib.suppress(KeyError, PermissionError):  # no such group, or not root: the owner alone may connect
        os.chown(path, -1, grp.getgrnam(group).gr_gid)


def add_tcp(server: grpc.aio.Server, address: str, *, certificate: Path, key: Path, client_ca: Path) -> int:
    """`server` listens on `address` (`host:port`) for clients whose certificate `client_ca` signed; returns the port.

    Raises FIELD_INVALID (tcp_address) if it cannot be listened on, IO_FAILED for a file that cannot be read. Blocking.
    """
    credentials = grpc.ssl_server_credentials(
        [(_read(key), _read(certificate))], root_certificates=_read(client_ca), require_client_auth=True
    )
    try:
        port: int = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise FieldInvalid(field="tcp_address", rule=f"{address} cannot be listened on: {error}") from error
    return port


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IoFailed(operation="read", path=path, errno=error.errno) from error
