"""The workshop over `_core`: stores of its own below `<data root>/repair`, from which content is exchanged. It decides
nothing.

    <data root>/repair/{content,ingest}/    blobs that are fetched or made again
                       layers/              layers that are made again; .deleted-<n>-<layer id>: what a new one took the
                                            place of, kept while a container runs on it
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fluytd._core import changes, ingest
from fluytd._core.content import ContentStore
from fluytd._core.layer import LayerStore
from fluytd._core.registry import RegistryClient
from fluytd.checks.model import Checked, Recipe
from fluytd.content.store import CoreBlobs
from fluytd.errors import IoFailed
from fluytd.ids import Digest
from fluytd.images.manifests import compression_of
from fluytd.images.ports import FilePart, Source
from fluytd.images.registry import core_credentials, core_token
from fluytd.images.store import CoreIngester, CoreLayers
from fluytd.operations.ports import CancelToken
from fluytd.workers import Workers

#: Names of what a new layer took the place of.
_DELETED: Final = ".deleted-"
#: A file system's clock may stand so far behind the system's. Source: the kernel's coarse clock, one tick.
_CLOCK_SECONDS: Final = 1


class CoreWorkshop:
    """Implements `ports.Workshop`."""

    def __init__(
        self,
        data_root: Path,
        blobs: CoreBlobs,
        layers: CoreLayers,
        client: RegistryClient,
        workers: Workers,
        runs_on: Callable[[str], bool],
    ) -> None:
        """Makes its folders. `runs_on`: True if a container runs on the layer of this id.

        Raises IO_FAILED, KERNEL_FEATURE_MISSING. Blocking.
        """
        self._layers_root = data_root / "layers"
        self._root = root = data_root / "repair"
        root.mkdir(mode=0o700, exist_ok=True)
        self._blobs, self._visible = blobs, layers
        self._content = ContentStore(str(root))
        # One store writes layers as the engine does; the other one as directories, to be compared.
        self._made = LayerStore(str(root), layers.core.kind, layers.core)
        self._directories = LayerStore(str(root), "directory", layers.core)
        self._client = client
        self._workers = workers
        self._runs_on = runs_on
        self._ingester = CoreIngester(self._content, self._made, client, workers)
        self._written_since_seconds = 0

    async def fetch_blob(self, source: Source, cancel: CancelToken) -> None:
        """See `ports.Workshop.fetch_blob`."""
        await self._ingester.fetch_blob(source, self._ingester.new_counters(), cancel)

    async def fetch_manifest(self, source: Source, cancel: CancelToken) -> None:
        """See `ports.Workshop.fetch_manifest`."""
        found = await self._workers.run_transfer(
            self._client.fetch_manifest,
            source.registry,
            source.repository,
            source.digest,
            core_token(cancel),
            core_credentials(source.credentials),
        )
        await self.write_blob(found.data, source.digest)

    async def write_blob(self, data: bytes, digest: Digest) -> None:
        """See `ports.Workshop.write_blob`."""
        await self._workers.run_transfer(self._content.stage_bytes, data, digest)

    async def copy_archive(self, layer_id: str, digest: Digest, cancel: CancelToken) -> bool:
        """See `ports.Workshop.copy_archive`."""
        return await self._store_archive(layer_id, digest, digest, cancel)

    async def _store_archive(self, layer_id: str, digest: Digest, diff_id: Digest, cancel: CancelToken) -> bool:
        fd = await self._workers.run(self._open_archive, layer_id)
        if fd is None:
            return False
        try:
            part = FilePart(fd, 0, os.fstat(fd).st_size)
            await self._ingester.store_layer(part, digest, diff_id, self._ingester.new_counters(), cancel)
        finally:
            os.close(fd)
        return True

    def _open_archive(self, layer_id: str) -> int | None:
        path = self._layers_root / layer_id / "data.tar"
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise IoFailed(operation="open", path=str(path), errno=error.errno) from error

    async def compress_layer(self, recipe: Recipe, cancel: CancelToken) -> None:
        """See `ports.Workshop.compress_layer`."""
        layer, blob = recipe.layer, recipe.layer.descriptor
        compression = compression_of(blob.media_type)
        fd, token = await self._workers.run(self._open_archive, layer.layer_id), core_token(cancel)
        if fd is not None:
            try:
                compress = ingest.compress_archive
                size_bytes, content = blob.size_bytes, self._content
                await self._workers.run_transfer(compress, fd, compression, blob.digest, size_bytes, content, token)
            finally:
                os.close(fd)
            return
        upper, lower = str(self._layers_root / layer.layer_id / "fs"), list(recipe.lower_layer_ids)
        await self._workers.run_transfer(
            changes.compress_changes,
            upper,
            lower,
            f"layer {layer.layer_id}",
            compression,
            blob.digest,
            blob.size_bytes,
            self._content,
            self._visible.core,
            token,
        )

    async def put_blob(self, digest: Digest) -> None:
        """See `ports.Workshop.put_blob`."""
        await self._workers.run_transfer(self._blobs.core.replace, digest, self._content)

    async def make_layer(self, recipe: Recipe, *, as_directory: bool, cancel: CancelToken) -> None:
        """See `ports.Workshop.make_layer`."""
        store = self._directories if as_directory else self._made
        self._written_since_seconds = int(time.time()) - _CLOCK_SECONDS
        await self._workers.run_transfer(self._make_layer, recipe, store, cancel)

    def _make_layer(self, recipe: Recipe, store: LayerStore, cancel: CancelToken) -> None:
        layer, content, token = recipe.layer, self._blobs.core, core_token(cancel)
        digest = layer.descriptor.digest
        ingest.extract_layer(digest, layer.diff_id, content, store, ingest.Progress(), token)
        if layer.layer_id != layer.diff_id.hex:
            lower = list(recipe.lower_layer_ids)
            ingest.finish_layer(digest, layer.diff_id, layer.chain_id, lower, content, store, token)

    async def make_layer_of_archive(self, recipe: Recipe, cancel: CancelToken) -> bool:
        """See `ports.Workshop.make_layer_of_archive`."""
        layer = recipe.layer
        # The archive is itself a blob, uncompressed, with its diff_id for a digest.
        if not await self._store_archive(layer.layer_id, layer.diff_id, layer.diff_id, cancel):
            return False
        if layer.layer_id != layer.diff_id.hex:
            await self._workers.run_transfer(self._finish_layer, recipe, cancel)
        return True

    def _finish_layer(self, recipe: Recipe, cancel: CancelToken) -> None:
        layer, lower = recipe.layer, list(recipe.lower_layer_ids)
        token = core_token(cancel)
        ingest.finish_layer(layer.diff_id, layer.diff_id, layer.chain_id, lower, self._content, self._made, token)

    async def compare_layer(self, layer_id: str, cancel: CancelToken) -> Checked:
        """See `ports.Workshop.compare_layer`."""
        since, token = self._written_since_seconds, core_token(cancel)
        compare = self._visible.core.compare
        found = await self._workers.run_transfer(compare, layer_id, self._directories, since, token)
        return Checked(found.damage, found.checked_bytes, found.is_checkable)

    async def put_layer(self, layer_id: str) -> None:
        """See `ports.Workshop.put_layer`."""
        await self._workers.run_transfer(self._visible.core.replace, layer_id, self._made)

    async def clear(self) -> None:
        """See `ports.Workshop.clear`."""
        await self._workers.run_transfer(self._clear)

    def _clear(self) -> None:
        for name in self._made.list_staged():
            if not (self._is_tree(name) and self._runs_on(_layer_of(name))):
                self._made.delete_staged(name)
        for one in self._content.list_ingests():
            self._content.delete_ingest(one.digest)

    def _is_tree(self, name: str) -> bool:
        """True for what overlays read files by name in; what is mounted from files stays with the kernel instead."""
        return name.startswith(_DELETED) and (self._root / "layers" / name / "fs").is_dir()


def _layer_of(name: str) -> str:
    """The layer id in `.deleted-<n>-<layer id>`."""
    return name.removeprefix(_DELETED).partition("-")[2]
