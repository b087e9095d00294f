"""Registries over `_core.registry`. It knows the protocol's calls and no images."""

from fluytd._core import CancelToken as CoreCancelToken
from fluytd._core.registry import RegistryClient
from fluytd.ids import Digest
from fluytd.images.ports import RemoteManifest
from fluytd.operations.ports import CancelToken
from fluytd.workers import Workers


class CoreRegistry:
    """Implements `ports.Registry`."""

    def __init__(self, user_agent: str, workers: Workers) -> None:
        """Connections are made when they are needed. `user_agent`: what registries read in their logs."""
        self.core = RegistryClient(user_agent=user_agent)
        self._workers = workers

    async def fetch_manifest(
        self, registry: str, repository: str, reference: str, cancel: CancelToken
    ) -> RemoteManifest:
        """See `ports.Registry.fetch_manifest`."""
        token = core_token(cancel)
        found = await self._workers.run_transfer(self.core.fetch_manifest, registry, repository, reference, token)
        return RemoteManifest(found.data, found.media_type, Digest.parse(found.digest))


def core_token(cancel: CancelToken) -> CoreCancelToken:
    """The core's own token, which the composition root gives to all operations."""
    if not isinstance(cancel, CoreCancelToken):
        raise TypeError("core calls take the core's cancel tokens")
    return cancel
