"""A token server for docker-registry: who may what, and every request that came.

Source: distribution's "Token Authentication Specification" and "Token Authentication Implementation".
"""

import base64
import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.support.http_server import HttpServer

ISSUER = "fluyt-tests"
SERVICE = "registry-of-tests"


@dataclass(frozen=True)
class TokenRequest:
    """One request: whose it was (empty for nobody), by which way, and the scopes asked for."""

    method: str
    user: str
    scopes: tuple[str, ...]


class TokenServer(HttpServer):
    """Gives tokens that `docker-registry` accepts. Use it as a context manager; it listens from the start.

    Attributes:
        lifetime_seconds: of the tokens it gives.
        requests: all so far, oldest first.
    """

    def __init__(
        self,
        root: Path,
        passwords: Mapping[str, str],
        *,
        refresh_tokens: Mapping[str, str] | None = None,
        public: frozenset[str] = frozenset(),
    ) -> None:
        """`refresh_tokens`: token -> user. `public`: repositories that anyone may pull."""
        root.mkdir(parents=True, exist_ok=True)
        self._key = root / "token.key"
        self.certificate = root / "token.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=token"]
            + ["-keyout", str(self._key), "-out", str(self.certificate)],
            check=True,
            capture_output=True,
        )
        self._passwords = dict(passwords)
        self._refresh_tokens = dict(refresh_tokens or {})
        self._public = public
        self.lifetime_seconds = 300
        self.requests: list[TokenRequest] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server._get(self)

            def do_POST(self) -> None:
                server._post(self)

            def log_message(self, format: str, *args: object) -> None:
                """Requests are in `server.requests`; nothing is printed."""

        super().__init__(Handler)

    @property
    def auth_config(self) -> dict[str, object]:
        """The section `auth` of a docker-registry that trusts this server."""
        realm = f"http://{self.address}/token"
        bundle = str(self.certificate)
        return {"token": {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": bundle}}

    def _get(self, handler: BaseHTTPRequestHandler) -> None:
        query = parse_qs(urlsplit(handler.path).query)
        user = self._user(handler.headers.get("Authorization", ""))
        self._give(handler, user, tuple(query.get("scope", [])))

    def _post(self, handler: BaseHTTPRequestHandler) -> None:
        form = parse_qs(handler.rfile.read(int(handler.headers.get("Content-Length", "0"))).decode())
        user = self._refresh_tokens.get(form.get("refresh_token", [""])[0])
        if form.get("grant_type") != ["refresh_token"]:
            user = None
        self._give(handler, user, tuple(form.get("scope", [""])[0].split()))

    def _user(self, header: str) -> str | None:
        """Who asks: empty for nobody, None for wrong credentials."""
        if not header:
            return ""
        name, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
        return name if self._passwords.get(name) == password else None

    def _give(self, handler: BaseHTTPRequestHandler, user: str | None, scopes: tuple[str, ...]) -> None:
        self.requests.append(TokenRequest(handler.command, user or "", scopes))
        if user is None:
            body, status = b'{"errors":[{"code":"UNAUTHORIZED"}]}', 401
        else:
            token = self._token(user, scopes)
            body, status = json.dumps({"token": token, "expires_in": self.lifetime_seconds}).encode(), 200
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _token(self, user: str, scopes: tuple[str, ...]) -> str:
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            granted = actions.split(",") if user else ["pull"] if name in self._public else []
            access.append({"type": kind, "name": name, "actions": granted})
        der = subprocess.run(
            ["openssl", "x509", "-in", str(self.certificate), "-outform", "DER"], check=True, capture_output=True
        ).stdout
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": user,
            "aud": SERVICE,
            "nbf": now - 10,
            "iat": now,
            "exp": now + self.lifetime_seconds,
            "jti": str(len(self.requests)),
            "access": access,
        }
        signed = _coded(json.dumps(header).encode()) + "." + _coded(json.dumps(claims).encode())
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self._key)],
            input=signed.encode(),
            check=True,
            capture_output=True,
        ).stdout
        return f"{signed}.{_coded(signature)}"


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
