"""Registries over `_core.registry`. It knows the protocol's calls and no images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fluytd._core import CancelToken as CoreCancelToken
from fluytd._core import registry as core
from fluytd._core.content import ContentStore
from fluytd.errors import ImageNotFound
from fluytd.ids import Digest
from fluytd.images.ports import Destination, FoundRepository, Referrer, RemoteManifest, UploadCounters
from fluytd.operations.ports import CancelToken
from fluytd.registries.model import Credentials, Proxies
from fluytd.workers import Workers

_MILLIS: Final = 1000


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """How registries are reached; see `_core.registry.RegistryClient`."""

    user_agent: str
    hosts_dir: Path
    auth_file: Path | None
    proxies: Proxies
    #: 0 for whole blobs.
    upload_chunk_bytes: int = 0
    connect_timeout_seconds: int = 10
    header_timeout_seconds: int = 30
    idle_timeout_seconds: int = 30


class CoreRegistry:
    """Implements `ports.Registry` and `ports.PushRegistry`."""

    def __init__(self, settings: RegistrySettings, content: ContentStore, workers: Workers) -> None:
        """Connections are made when they are needed. `content`: where pushed blobs are read."""
        self.core = core.RegistryClient(
            user_agent=settings.user_agent,
            connect_timeout_millis=settings.connect_timeout_seconds * _MILLIS,
            header_timeout_millis=settings.header_timeout_seconds * _MILLIS,
            stall_timeout_millis=settings.idle_timeout_seconds * _MILLIS,
            upload_chunk_bytes=settings.upload_chunk_bytes,
            hosts_dir=str(settings.hosts_dir),
            auth_file=str(settings.auth_file) if settings.auth_file is not None else None,
            http_proxy=settings.proxies.http,
            https_proxy=settings.proxies.https,
            no_proxy=settings.proxies.excepted,
        )
        self._content = content
        self._workers = workers

    async def fetch_manifest(
        self, registry: str, repository: str, reference: str, cancel: CancelToken, credentials: Credentials
    ) -> RemoteManifest:
        """See `ports.Registry.fetch_manifest`."""
        found = await self._workers.run_transfer(
            self.core.fetch_manifest,
            registry,
            repository,
            reference,
            core_token(cancel),
            core_credentials(credentials),
        )
        return RemoteManifest(found.data, found.media_type, Digest.parse(found.digest))

    async def download(
        self, url: str, path: str, limit: tuple[str, int], cancel: CancelToken
    ) -> tuple[int, str, int | None]:
        """See `builds.ports.Downloads.download`."""
        return await self._workers.run_transfer(self.core.download, url, path, *limit, core_token(cancel))

    async def list_tags(
        self, registry: str, repository: str, cancel: CancelToken, credentials: Credentials
    ) -> list[str]:
        """See `ports.Registry.list_tags`."""
        return await self._workers.run_transfer(
            self.core.list_tags, registry, repository, core_token(cancel), core_credentials(credentials)
        )

    async def list_referrers(
        self,
        registry: str,
        repository: str,
        digest: Digest,
        artifact_type: str,
        cancel: CancelToken,
        credentials: Credentials,
    ) -> Sequence[Referrer]:
        """See `ports.Registry.list_referrers`."""
        return await self._workers.run_transfer(
            self.core.list_referrers,
            registry,
            repository,
            digest,
            artifact_type,
            core_token(cancel),
            core_credentials(credentials),
        )

    async def search(
        self, registry: str, term: str, limit: int, cancel: CancelToken, credentials: Credentials
    ) -> Sequence[FoundRepository]:
        """See `ports.Registry.search`."""
        return await self._workers.run_transfer(
            self.core.search, registry, term, limit, core_token(cancel), core_credentials(credentials)
        )

    async def check_credentials(self, registry: str, cancel: CancelToken, credentials: Credentials) -> None:
        """See `ports.Registry.check_credentials`."""
        await self._workers.run_transfer(
            self.core.check_credentials, registry, core_token(cancel), core_credentials(credentials)
        )

    def new_upload_counters(self) -> UploadCounters:
        """See `ports.PushRegistry.new_upload_counters`."""
        return core.UploadProgress()

    async def push_blob(
        self, to: Destination, digest: Digest, mount_from: str, counters: UploadCounters, cancel: CancelToken
    ) -> bool:
        """See `ports.PushRegistry.push_blob`."""
        if not isinstance(counters, core.UploadProgress):
            raise TypeError("core calls take the core's counters")
        pushed = await self._workers.run_transfer(
            self.core.push_blob,
            to.registry,
            to.repository,
            digest,
            self._content,
            mount_from or None,
            counters,
            core_token(cancel),
            core_credentials(to.credentials),
        )
        return pushed == "sent"

    async def has_manifest(self, to: Destination, digest: Digest, cancel: CancelToken) -> bool:
        """See `ports.PushRegistry.has_manifest`."""
        try:
            await self.fetch_manifest(to.registry, to.repository, digest, cancel, to.credentials)
        except ImageNotFound:
            return False
        return True

    async def push_manifest(
        self, to: Destination, reference: str, media_type: str, data: bytes, cancel: CancelToken
    ) -> Digest:
        """See `ports.PushRegistry.push_manifest`."""
        digest = await self._workers.run_transfer(
            self.core.push_manifest,
            to.registry,
            to.repository,
            reference,
            media_type,
            data,
            core_token(cancel),
            core_credentials(to.credentials),
        )
        return Digest.parse(digest)


def core_token(cancel: CancelToken) -> CoreCancelToken:
    """The core's own token, which the composition root gives to all operations."""
    if not isinstance(cancel, CoreCancelToken):
        raise TypeError("core calls take the core's cancel tokens")
    return cancel


def core_credentials(credentials: Credentials) -> core.Credentials | None:
    """The same in the core, where it is wiped after use; None for nobody."""
    if credentials.is_anonymous:
        return None
    return core.Credentials(
        username=credentials.username,
        password=credentials.password,
        identity_token=credentials.identity_token,
        registry_token=credentials.registry_token,
    )
