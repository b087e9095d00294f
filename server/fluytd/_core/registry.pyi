"""Client of the OCI distribution protocol: HTTP on loopback registries, HTTPS elsewhere."""

from typing import final

from . import CancelToken

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
class RegistryClient:
    """Connections to any number of registries, pooled. Safe to share between threads; one per daemon."""

    def __new__(
        cls,
        *,
        user_agent: str,
        connect_timeout_millis: int = 10_000,
        stall_timeout_millis: int = 30_000,
        max_attempts: int = 5,
    ) -> RegistryClient:
        """`stall_timeout_millis`: a transfer without a byte for so long is broken off and resumed or failed."""
    def fetch_manifest(self, registry: str, repository: str, reference: str, cancel: CancelToken) -> Manifest:
        """GETs a manifest or index by tag or digest, at most 4 MiB; the body's sha256 equals a digest reference, and
        header and body agree on the media type. `registry`: `host[:port]` as in the reference (`docker.io` is mapped to
        its API host). Raises IMAGE_NOT_FOUND, REGISTRY_ACCESS_DENIED, REGISTRY_UNREACHABLE, REGISTRY_PROTOCOL,
        REGISTRY_RATE_LIMITED, DIGEST_MISMATCH, MANIFEST_INVALID, LIMIT_EXCEEDED, CANCELLED. Blocking."""
