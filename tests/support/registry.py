"""Registries for tests: one in this process that can be made to misbehave, and Debian's real docker-registry.

Both listen on loopback by plain HTTP. The faulty one serves what is put into it and logs every request; faults are
functions that change one answer, and stack::

    with FaultyRegistry() as registry:
        registry.put("a/b", "v1", image)
        registry.on(blob_path("a/b", digest), [cut(1000)], [ignore_range, delay(0.5)])

Here the first answer for the blob breaks off after 1000 bytes, the second starts over, all later ones are in order.

Source: distribution-spec spec.md; distribution's "Token Authentication Specification".
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.support import images
from tests.support.certificates import Certificate
from tests.support.http_server import HttpServer
from tests.support.images import Tagged

DOCKER_REGISTRY = "docker-registry"
"""Debian's build of the reference registry, of the package docker-registry."""
START_TIMEOUT_SECONDS = 15.0
STOP_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Request:
    """One request as it came: `path` with its query, header names in lower case, `at` on the monotonic clock."""

    method: str
    path: str
    headers: Mapping[str, str]
    at: float


@dataclass(frozen=True)
class Reply:
    """One answer before it is sent; faults return a changed copy.

    Attributes:
        whole: all of the manifest or blob, of which `body` may be a range.
        cut_after: the connection is closed after so many bytes of the body.
        stall_after: nothing follows so many bytes of the body, and the connection stays open until the registry stops.
        delay_seconds: waited before the first byte.
        spread_seconds: the body is spread over this time.
        declared_length: Content-Length if it shall differ from the body's; -1 sends a chunked body.
        verbatim: sent in place of status, headers and body, piece by piece for as long as the client listens.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bytes = b""
    cut_after: int | None = None
    stall_after: int | None = None
    delay_seconds: float = 0.0
    spread_seconds: float = 0.0
    declared_length: int | None = None
    verbatim: Callable[[], Iterable[bytes]] | None = None


Fault = Callable[[Reply], Reply]


def cut(after_bytes: int) -> Fault:
    """The connection is closed after so many bytes of the body, whatever Content-Length says."""
    return lambda reply: replace(reply, cut_after=after_bytes)


def stall(after_bytes: int = 0) -> Fault:
    """Nothing more comes after so many bytes of the body."""
    return lambda reply: replace(reply, stall_after=after_bytes)


def delay(seconds: float) -> Fault:
    """The answer comes late."""
    return lambda reply: replace(reply, delay_seconds=seconds)


def slow(seconds: float) -> Fault:
    """The body takes so long as a whole."""
    return lambda reply: replace(reply, spread_seconds=seconds)


def wrong_bytes(at: int = 0) -> Fault:
    """One byte of the body is another one; the length stays."""

    def change(reply: Reply) -> Reply:
        body = bytearray(reply.body)
        body[at] ^= 0xFF
        return replace(reply, body=bytes(body))

    return change


def body(data: bytes) -> Fault:
    """Another body; status and other headers stay."""
    return lambda reply: replace(reply, body=data, whole=data)


def status(code: int, headers: Mapping[str, str] | None = None) -> Fault:
    """An empty answer of this status: 429 with `Retry-After`, 503, 401 and so on."""
    return lambda reply: Reply(code, dict(headers or {}))


def redirect(location: str, code: int = 307) -> Fault:
    """Sends the client elsewhere."""
    return status(code, {"Location": location})


def headers(changes: Mapping[str, str | None]) -> Fault:
    """Header fields that are added or replaced, or left out where the value is None."""

    def change(reply: Reply) -> Reply:
        merged = {**reply.headers, **changes}
        return replace(reply, headers={name: value for name, value in merged.items() if value is not None})

    return change


def declared_length(length: int) -> Fault:
    """A Content-Length that lies; -1 sends a chunked body, which has none."""
    return lambda reply: replace(reply, declared_length=length)


def verbatim(pieces: Callable[[], Iterable[bytes]]) -> Fault:
    """Bytes that need not be HTTP, and need not end; each answer asks `pieces` anew."""
    return lambda reply: replace(reply, verbatim=pieces)


def ignore_range(reply: Reply) -> Reply:
    """200 and everything from byte 0, whatever was asked for."""
    kept = {name: value for name, value in reply.headers.items() if name != "Content-Range"}
    return replace(reply, status=200, headers=kept, body=reply.whole)


def blob_path(repository: str, digest: str) -> str:
    """The path of a blob."""
    return f"/v2/{repository}/blobs/{digest}"


def manifest_path(repository: str, reference: str) -> str:
    """The path of a manifest by tag or digest."""
    return f"/v2/{repository}/manifests/{reference}"


class FaultyRegistry(HttpServer):
    """A registry for reading in this process. Use it as a context manager; it listens from the start.

    Attributes:
        requires_token: if true, manifests and blobs want the bearer token that `/token` gives to anyone; each
            repository has its own.
    """

    def __init__(self, *, requires_token: bool = False) -> None:
        self.requires_token = requires_token
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._contents: dict[str, tuple[str, bytes]] = {}
        self._blobs: dict[str, bytes] = {}
        self._faults: dict[str, list[list[Fault]]] = {}
        self._lasting: dict[str, list[Fault]] = {}
        self._stopping = threading.Event()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Header and body are two writes: the second would wait 40 ms for the acknowledgement of the first.
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                registry._answer(self)

            def do_HEAD(self) -> None:
                registry._answer(self)

            def do_POST(self) -> None:
                registry._take(self)

            def do_PATCH(self) -> None:
                registry._take(self)

            def do_PUT(self) -> None:
                registry._take(self)

            def log_message(self, format: str, *args: object) -> None:
                """Requests are in `registry.requests`; nothing is printed."""

        super().__init__(Handler)

    def stop(self) -> None:
        """Ends stalled answers and closes the port. Idempotent."""
        self._stopping.set()
        super().stop()

    @property
    def requests(self) -> list[Request]:
        """All requests so far, oldest first."""
        with self._lock:
            return list(self._requests)

    def requests_for(self, path: str) -> list[Request]:
        """The requests whose path without its query is `path`."""
        return [request for request in self.requests if urlsplit(request.path).path == path]

    def put(self, repository: str, reference: str, tagged: Tagged) -> str:
        """Serves an image or index, all its blobs and manifests, the top one also as `reference`; returns its
        digest."""
        for digest, data in tagged.blobs.items():
            self.put_blob(data, digest)
        for digest, (media_type, data) in tagged.manifests.items():
            self.put_manifest(repository, digest, media_type, data)
        media_type, data = tagged.manifests[tagged.digest]
        self.put_manifest(repository, reference, media_type, data)
        return tagged.digest

    def put_blob(self, data: bytes, digest: str | None = None) -> str:
        """Serves a blob in every repository, by its own digest or by one that lies; returns the digest."""
        name = digest or images.digest_of(data)
        with self._lock:
            self._blobs[name] = data
        return name

    def put_manifest(self, repository: str, reference: str, media_type: str, data: bytes) -> None:
        """Serves these bytes as the manifest `reference`, whatever they are."""
        with self._lock:
            self._contents[manifest_path(repository, reference)] = (media_type, data)

    def on(self, path: str, *answers: Iterable[Fault]) -> None:
        """Each of the next requests for `path` (without query) takes the faults of one of `answers`; an empty one
        is an answer in order."""
        with self._lock:
            self._faults.setdefault(path, []).extend(list(answer) for answer in answers)

    def always(self, path: str, *faults: Fault) -> None:
        """Every request for `path` takes these faults, once those of `on` are used up."""
        with self._lock:
            self._lasting[path] = list(faults)

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        """A request with a body, which is thrown away: what it answers is up to the faults, else 404."""
        handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
        self._answer(handler)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        names = {name.lower(): value for name, value in handler.headers.items()}
        request = Request(handler.command, handler.path, names, time.monotonic())
        path = urlsplit(handler.path).path
        with self._lock:
            self._requests.append(request)
            queue = self._faults.get(path)
            faults = queue.pop(0) if queue else self._lasting.get(path, [])
            reply = self._plain(request, path)
        for fault in faults:
            reply = fault(reply)
        try:
            self._send(handler, reply)
        except (BrokenPipeError, ConnectionResetError):
            # The client went away, which is what some tests are about.
            handler.close_connection = True

    def _plain(self, request: Request, path: str) -> Reply:
        """The answer of a registry that behaves. The lock is held."""
        if path == "/token":
            scope = parse_qs(urlsplit(request.path).query).get("scope", [""])[0]
            return Reply(200, {"Content-Type": "application/json"}, images.dump({"token": f"token-of-{scope}"}))
        if not path.startswith("/v2/"):
            return Reply(404)
        repository = path.removeprefix("/v2/").rpartition("/")[0].rpartition("/")[0]
        scope = f"repository:{repository}:pull"
        if self.requires_token and request.headers.get("authorization") != f"Bearer token-of-{scope}":
            realm = f'Bearer realm="http://{self.address}/token",service="test",scope="{scope}"'
            return Reply(401, {"WWW-Authenticate": realm})
        if path == "/v2/":
            return Reply(200)
        if path in self._contents:
            media_type, data = self._contents[path]
            found = {"Content-Type": media_type, "Docker-Content-Digest": images.digest_of(data)}
            return Reply(200, found, data, data)
        blob = self._blobs.get(path.rpartition("/")[2]) if "/blobs/" in path else None
        if blob is None:
            unknown = images.dump({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]})
            return Reply(404, {"Content-Type": "application/json"}, unknown)
        return _ranged(request, blob)

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        self._stopping.wait(reply.delay_seconds)
        if reply.verbatim is not None:
            handler.close_connection = True
            for piece in reply.verbatim():
                handler.wfile.write(piece)
                if self._stopping.is_set():
                    return
            return
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        data = reply.body
        if reply.declared_length is None:
            handler.send_header("Content-Length", str(len(data)))
        elif reply.declared_length >= 0:
            handler.send_header("Content-Length", str(reply.declared_length))
            handler.close_connection = True
        else:
            handler.send_header("Transfer-Encoding", "chunked")
            data = (b"%x\r\n%s\r\n" % (len(data), data) if data else b"") + b"0\r\n\r\n"
        if reply.cut_after is not None or reply.stall_after is not None:
            handler.close_connection = True
        handler.end_headers()
        if handler.command == "HEAD":
            return
        if reply.cut_after is not None:
            data = data[: reply.cut_after]
        if reply.stall_after is not None:
            data = data[: reply.stall_after]
        pieces = 20 if reply.spread_seconds else 1
        step = max(1, -(-len(data) // pieces))
        for start in range(0, len(data), step):
            handler.wfile.write(data[start : start + step])
            handler.wfile.flush()
            self._stopping.wait(reply.spread_seconds / pieces)
        if reply.stall_after is not None:
            self._stopping.wait()


def _ranged(request: Request, blob: bytes) -> Reply:
    asked = request.headers.get("range", "")
    common = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
    if not asked.startswith("bytes=") or not asked.endswith("-"):
        return Reply(200, common, blob, blob)
    start = int(asked[len("bytes=") : -1])
    if start >= len(blob):
        return Reply(416, {**common, "Content-Range": f"bytes */{len(blob)}"}, b"", blob)
    found = {**common, "Content-Range": f"bytes {start}-{len(blob) - 1}/{len(blob)}"}
    return Reply(206, found, blob[start:], blob)


class RealRegistry:
    """Debian's docker-registry on a port of its own, with its storage below `root`. Use it as a context manager.

    Raises FileNotFoundError if the package is not installed, RuntimeError with its log if it does not start.
    """

    def __init__(
        self,
        root: Path,
        *,
        passwords: Mapping[str, str] | None = None,
        certificate: Certificate | None = None,
        client_authority: Path | None = None,
        auth: Mapping[str, object] | None = None,
        proxied: str = "",
    ) -> None:
        """By default anyone may all, by plain HTTP.

        Args:
            passwords: users who alone may do anything, by Basic authentication.
            certificate: serves HTTPS, and HTTP/2 with it.
            client_authority: clients must have a certificate of this authority (PEM).
            auth: the section `auth` of its configuration, for a token server.
            proxied: URL of the registry that it is a pull-through cache of.
        """
        program = shutil.which(DOCKER_REGISTRY)
        if program is None:
            raise FileNotFoundError(f"{DOCKER_REGISTRY} is not installed (Debian package docker-registry)")
        root.mkdir(parents=True, exist_ok=True)
        self._log = root / "registry.log"
        self.address = f"127.0.0.1:{_free_port()}"
        config = root / "config.json"
        # The registry reads YAML, of which JSON is a part.
        settings = self._config(root)
        if passwords is not None:
            (root / "htpasswd").write_text("".join(map(_htpasswd_line, passwords, passwords.values())))
            settings["auth"] = {"htpasswd": {"realm": "tests", "path": str(root / "htpasswd")}}
        if auth is not None:
            settings["auth"] = auth
        if proxied:
            settings["proxy"] = {"remoteurl": proxied}
        if certificate is not None:
            tls: dict[str, object] = {"certificate": str(certificate.certificate), "key": str(certificate.key)}
            if client_authority is not None:
                tls["clientcas"] = [str(client_authority)]
            settings["http"]["tls"] = tls
        config.write_text(json.dumps(settings))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([program, "serve", config], stdout=log, stderr=log, cwd=root)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What it wrote: its own lines, and one a request in the form of web servers, with the protocol of each."""
        return self._log.read_text()

    def _config(self, root: Path) -> dict[str, Any]:
        return {
            "version": "0.1",
            "log": {"level": "warn", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(root / "storage")}, "delete": {"enabled": True}},
            "http": {"addr": self.address, "secret": "test"},
        }

    def _wait(self) -> None:
        host, _, port = self.address.partition(":")
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"docker-registry did not start:\n{self._log.read_text()}") from None
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends the process and waits for it. Idempotent."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()


def _htpasswd_line(user: str, password: str) -> str:
    """A line of bcrypt, made by the C library's crypt(3); Perl, which Debian always has, reaches it."""
    script = 'print crypt($ARGV[0], "\\$2y\\$05\\$abcdefghijklmnopqrstuv")'
    coded = subprocess.run(["perl", "-e", script, password], check=True, capture_output=True, text=True).stdout
    return f"{user}:{coded}\n"


def _free_port() -> int:
    """A port that was free a moment ago. The registry binds it itself, and says so in its log if it was taken."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
