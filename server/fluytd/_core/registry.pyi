"""Client of the OCI distribution protocol: HTTP on loopback registries, HTTPS elsewhere, unless a registry's settings
say otherwise; Bearer and Basic authentication; mirrors by containerd's hosts.toml."""

from typing import final

from . import CancelToken
from .content import ContentStore

@final
class Manifest:
    @property
    def data(self) -> bytes:
        """The exact bytes; their sha256 is `digest`."""
    @property
    def media_type(self) -> str: ...
    @property
    def digest(self) -> str: ...

@final
class Credentials:
    """Who a call is made for. It shows nothing of itself; what it holds is wiped when the last call with it ended."""

    def __new__(
        cls, *, username: str = "", password: str = "", identity_token: str = "", registry_token: str = ""
    ) -> Credentials:
        """The strongest of what is given: `registry_token` (a bearer token sent as it is), `identity_token` (an OAuth2
        refresh token), user name and password; nobody if all are empty."""

@final
class UploadProgress:
    """How far the sending of one blob has come, readable at any time from any thread."""

    def __init__(self) -> None: ...
    @property
    def phase(self) -> str:
        """`waiting`, `uploading`, `present` (it was there), `mounted`, `done`."""
    @property
    def sent_bytes(self) -> int:
        """Bytes of the blob that the registry has or that are on their way to it."""

@final
class Referrer:
    """A manifest that refers to another one."""

    @property
    def media_type(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def artifact_type(self) -> str:
        """Empty if the registry does not say."""
    @property
    def annotations(self) -> dict[str, str]: ...

@final
class SearchHit:
    """A repository that was found."""

    @property
    def name(self) -> str:
        """Its name within the registry."""
    @property
    def description(self) -> str: ...
    @property
    def star_count(self) -> int: ...
    @property
    def is_official(self) -> bool: ...

@final
class RegistryClient:
    """Connections to any number of registries, pooled. Safe to share between threads; one per daemon.

    A call's credentials are for the registry that it names: mirrors never see them, and no redirect carries them to
    another host.
    """

    def __new__(
        cls,
        *,
        user_agent: str,
        connect_timeout_millis: int = 10_000,
        header_timeout_millis: int = 30_000,
        stall_timeout_millis: int = 30_000,
        max_attempts: int = 5,
        upload_chunk_bytes: int = 0,
        hosts_dir: str | None = None,
        auth_file: str | None = None,
        http_proxy: str = "",
        https_proxy: str = "",
        no_proxy: str = "",
    ) -> RegistryClient:
        """Never blocks.

        Args:
            connect_timeout_millis: a connection, with TLS, that does not stand after so long has failed.
            header_timeout_millis: so has a request whose answer's head is not whole after so long, besides.
            stall_timeout_millis: a transfer without a byte for so long is broken off and resumed or failed.
            upload_chunk_bytes: largest part of a blob that one request of a push carries; 0 for whole blobs.
            hosts_dir: directory of registries' settings in containerd's form (`<host>/hosts.toml`, `_default`) or
                Docker's (`<host>/*.crt`), read again when they change; None for none.
            auth_file: file in the form of Docker's config.json whose `auths` serve callers without credentials, and
                mirrors; read again when it changes; None for none.
            http_proxy: URL of the proxy for plain HTTP, empty for none; loopback never has one.
            https_proxy: the same for HTTPS.
            no_proxy: hosts without a proxy, in the form of NO_PROXY.
        """
    def fetch_manifest(
        self,
        registry: str,
        repository: str,
        reference: str,
        cancel: CancelToken,
        credentials: Credentials | None = None,
    ) -> Manifest:
        """GETs a manifest or index by tag or digest, at most 4 MiB; the body's sha256 equals a digest reference, and
        header and body agree on the media type. `registry`: `host[:port]` as in the reference (`docker.io` is mapped to
        its API host). Raises IMAGE_NOT_FOUND, REGISTRY_ACCESS_DENIED, REGISTRY_UNREACHABLE, REGISTRY_PROTOCOL,
        REGISTRY_RATE_LIMITED, REGISTRY_CONFIG_INVALID, DIGEST_MISMATCH, MANIFEST_INVALID, LIMIT_EXCEEDED, CANCELLED.
        Blocking."""
    def list_tags(
        self, registry: str, repository: str, cancel: CancelToken, credentials: Credentials | None = None
    ) -> list[str]:
        """All tags of a repository, sorted, each once; at most 10,000. Raises IMAGE_NOT_FOUND for an absent repository,
        REFERENCE_INVALID for a tag that is none, and as `fetch_manifest`. Blocking."""
    def list_referrers(
        self,
        registry: str,
        repository: str,
        digest: str,
        artifact_type: str,
        cancel: CancelToken,
        credentials: Credentials | None = None,
    ) -> list[Referrer]:
        """What refers to the manifest `digest`, in the registry's order, each once, at most 10,000; only those of
        `artifact_type` unless it is empty. By the registry's own list, else by the one under the manifest's tag.
        Raises DIGEST_INVALID, and as `fetch_manifest` but for IMAGE_NOT_FOUND. Blocking."""
    def download(
        self, url: str, path: str, limit_name: str, max_bytes: int, cancel: CancelToken
    ) -> tuple[int, str, int | None]:
        """The file behind an http or https URL stands at `path`, which must not be there before; returns its size, its
        SHA-256 digest, and the seconds since 1970 of Last-Modified. Redirects, proxies and authorities are as for
        registries; a user and password of the URL are shown nowhere. Raises REFERENCE_INVALID, REGISTRY_ACCESS_DENIED,
        REGISTRY_PROTOCOL, REGISTRY_UNREACHABLE, REGISTRY_RATE_LIMITED, LIMIT_EXCEEDED naming `limit_name`, IO_FAILED,
        CANCELLED. Blocking."""
    def search(
        self, registry: str, term: str, max_count: int, cancel: CancelToken, credentials: Credentials | None = None
    ) -> list[SearchHit]:
        """At most `max_count` (up to 1,000) repositories that the registry finds for the term, or whose name has it
        where the registry only lists them. Raises REGISTRY_SEARCH_UNSUPPORTED where it does neither, and as
        `check_credentials`. Blocking."""
    def check_credentials(self, registry: str, cancel: CancelToken, credentials: Credentials | None = None) -> None:
        """The registry takes the credentials, or asks for none. Raises REGISTRY_ACCESS_DENIED if it refuses them,
        REFERENCE_INVALID, REGISTRY_UNREACHABLE, REGISTRY_PROTOCOL, REGISTRY_RATE_LIMITED, REGISTRY_CONFIG_INVALID,
        LIMIT_EXCEEDED, CANCELLED. Blocking."""
    def push_blob(
        self,
        registry: str,
        repository: str,
        digest: str,
        content: ContentStore,
        mount_from: str | None,
        progress: UploadProgress,
        cancel: CancelToken,
        credentials: Credentials | None = None,
    ) -> str:
        """The repository has the blob, which `content` has: it was there (`present`), the registry took it over from
        its repository `mount_from` (`mounted`), or its bytes were `sent`, resumed where they broke off.
        Raises BLOB_NOT_FOUND (here), as `fetch_manifest`. Blocking."""
    def push_manifest(
        self,
        registry: str,
        repository: str,
        reference: str,
        media_type: str,
        data: bytes,
        cancel: CancelToken,
        credentials: Credentials | None = None,
    ) -> str:
        """`reference` (tag or digest) names these bytes in the registry, which has all blobs of them; returns their
        digest. With a `subject` in them and a registry that keeps no list of referrers, the list under the subject's
        tag names them too. Raises as `fetch_manifest`. Blocking."""
