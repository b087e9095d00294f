"""Layers and the one pass into the stores, over `_core.layer` and `_core.ingest`. It decides nothing."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from fluytd._core import CancelToken as CoreCancelToken
from fluytd._core import changes, ingest
from fluytd._core.content import ContentStore
from fluytd._core.layer import LayerInfo, LayerStore
from fluytd._core.registry import RegistryClient
from fluytd.checks.model import Checked
from fluytd.errors import DataCorrupt
from fluytd.ids import Digest
from fluytd.images.commit import Tree
from fluytd.images.model import ImageLayer
from fluytd.images.ports import Archive, Counters, FilePart, Layer, Source, Stack, StagedLayer, StoredLayer
from fluytd.images.registry import core_credentials, core_token
from fluytd.operations.ports import CancelToken
from fluytd.workers import Workers


class CoreLayers:
    """Implements `ports.Layers`."""

    def __init__(self, data_root: Path, kind: str, workers: Workers) -> None:
        """Opens the store and makes what is absent of it; `kind` as in `Config.layer_store`.

        Raises IO_FAILED, KERNEL_FEATURE_MISSING. Blocking.
        """
        self.core = LayerStore(str(data_root), kind)
        self._root = data_root / "layers"
        self._workers = workers

    async def publish(self, layer_ids: Sequence[str]) -> None:
        """See `ports.Layers.publish`."""
        await self._workers.run_transfer(self.core.publish, list(layer_ids))

    async def list_layers(self) -> list[Layer]:
        """See `ports.Layers.list_layers`."""
        return await self._workers.run_transfer(self._list_layers)

    def _list_layers(self) -> list[Layer]:
        return [self._stat(layer_id) for layer_id in self.core.ids()]

    def _stat(self, layer_id: str) -> Layer:
        try:
            info = self.core.stat(layer_id)
        except DataCorrupt:
            info = None
        # A folder without a readable meta.json is a layer all the same: it can be damaged, repaired, swept.
        return _layer(info) if info is not None else Layer(layer_id, 0, depends_on_lower=False)

    async def delete(self, layer_id: str) -> None:
        """See `ports.Layers.delete`."""
        await self._workers.run_transfer(self.core.delete, layer_id)

    async def verify(self, layer_id: str, cancel: CancelToken) -> Checked:
        """See `checks.ports.CheckedLayers.verify`."""
        found = await self._workers.run_transfer(self.core.verify, layer_id, core_token(cancel))
        return Checked(found.damage, found.checked_bytes, found.is_checkable)

    async def list_staged(self) -> list[StagedLayer]:
        """See `ports.Layers.list_staged`."""
        return await self._workers.run(self._list_staged)

    def _list_staged(self) -> list[StagedLayer]:
        now = time.time()
        found: list[StagedLayer] = []
        for name in self.core.list_staged():
            paths = (self._root / name, self._root / f".staged-{name}")
            times = [path.stat().st_mtime for path in paths if path.exists()]
            found.append(StagedLayer(name, max(0.0, now - max(times, default=0.0))))
        return found

    async def delete_staged(self, name: str) -> None:
        """See `ports.Layers.delete_staged`."""
        await self._workers.run_transfer(self.core.delete_staged, name)

    async def recover(self) -> None:
        """See `ports.Layers.recover`."""
        await self._workers.run_transfer(self.core.recover)

    def lower_path(self, layer_id: str) -> str:
        """See `ports.Layers.lower_path`."""
        return self.core.lower_path(layer_id)


class CoreIngester:
    """Implements `ports.Ingester`."""

    def __init__(self, content: ContentStore, layers: LayerStore, client: RegistryClient, workers: Workers) -> None:
        """Writes into these two stores and fetches through this client."""
        self._content = content
        self._layers = layers
        self._client = client
        self._workers = workers

    def new_counters(self) -> Counters:
        """See `ports.Ingester.new_counters`."""
        return ingest.Progress()

    def new_cancel_token(self) -> CancelToken:
        """See `ports.Ingester.new_cancel_token`."""
        return CoreCancelToken()

    async def fetch_blob(self, source: Source, counters: Counters, cancel: CancelToken) -> None:
        """See `ports.Ingester.fetch_blob`."""
        await self._workers.run_transfer(
            ingest.fetch_blob,
            self._client,
            source.registry,
            source.repository,
            source.digest,
            source.size_bytes,
            self._content,
            core_counters(counters),
            core_token(cancel),
            core_credentials(source.credentials),
            list(source.urls),
        )

    async def fetch_layer(self, source: Source, diff_id: Digest, counters: Counters, cancel: CancelToken) -> Layer:
        """See `ports.Ingester.fetch_layer`."""
        info = await self._workers.run_transfer(
            ingest.fetch_layer,
            self._client,
            source.registry,
            source.repository,
            source.digest,
            source.size_bytes,
            list(source.urls),
            source.media_type,
            diff_id,
            self._content,
            self._layers,
            core_counters(counters),
            core_token(cancel),
            core_credentials(source.credentials),
        )
        return _layer(info)

    async def store_layer(
        self, part: FilePart, digest: Digest | None, diff_id: Digest | None, counters: Counters, cancel: CancelToken
    ) -> StoredLayer:
        """See `ports.Ingester.store_layer`."""
        stored = await self._workers.run_transfer(
            ingest.store_layer,
            part.fd,
            part.offset_bytes,
            part.size_bytes,
            digest,
            diff_id,
            self._content,
            self._layers,
            core_counters(counters),
            core_token(cancel),
        )
        return stored_layer(stored)

    async def store_changes(
        self, tree: Tree, counters: Counters, cancel: CancelToken, compression: str = "gzip"
    ) -> StoredLayer:
        """See `images.commit.Changes.store_changes`; `builds.ports.Layering.store_changes`."""
        stored = await self._workers.run_transfer(
            changes.store_changes,
            tree.upper_dir,
            list(tree.layer_ids),
            list(tree.mount_points),
            tree.subject,
            self._content,
            self._layers,
            core_counters(counters),
            core_token(cancel),
            compression,
        )
        return stored_layer(stored)

    async def repack(
        self,
        layer: ImageLayer,
        compression: str,
        level: int | None,
        times_until_seconds: int | None,
        counters: Counters,
        cancel: CancelToken,
    ) -> StoredLayer:
        """See `builds.ports.Layering.repack`."""
        stored = await self._workers.run_transfer(
            ingest.repack,
            layer.descriptor.digest,
            layer.diff_id,
            compression,
            level,
            times_until_seconds,
            self._content,
            self._layers,
            core_counters(counters),
            core_token(cancel),
        )
        return stored_layer(stored)

    async def finish_layer(self, stack: Stack, cancel: CancelToken) -> Layer:
        """See `ports.Ingester.finish_layer`."""
        info = await self._workers.run_transfer(
            ingest.finish_layer,
            stack.digest,
            stack.diff_id,
            stack.chain_id,
            list(stack.lower_layer_ids),
            self._content,
            self._layers,
            core_token(cancel),
        )
        return _layer(info)

    async def open_archive(self, fd: int, max_size_bytes: int, max_entries: int, cancel: CancelToken) -> Archive:
        """See `ports.Ingester.open_archive`."""
        return await self._workers.run_transfer(_open_archive, fd, max_size_bytes, max_entries, core_token(cancel))


def _open_archive(fd: int, max_size_bytes: int, max_entries: int, cancel: CoreCancelToken) -> Archive:
    owned = ingest.decompress_archive(fd, max_size_bytes, cancel)
    try:
        return Archive(owned, ingest.list_archive(fd if owned is None else owned, max_entries))
    except BaseException:
        if owned is not None:
            os.close(owned)
        raise


def _layer(info: LayerInfo) -> Layer:
    return Layer(info.layer_id, info.size_bytes, info.depends_on_lower, info.max_id)


def stored_layer(stored: ingest.StoredLayer) -> StoredLayer:
    """The same as a value of ours."""
    return StoredLayer(
        Digest(stored.digest), stored.size_bytes, Digest(stored.diff_id), stored.media_type, _layer(stored.layer)
    )


def core_counters(counters: Counters) -> ingest.Progress:
    """The core's own counters behind the port."""
    if not isinstance(counters, ingest.Progress):
        raise TypeError("core calls take the core's counters")
    return counters
