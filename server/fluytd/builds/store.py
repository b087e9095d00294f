"""Trees, drafts and contexts over `_core.build`. It decides nothing."""

import asyncio
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from fluytd import failpoints
from fluytd._core import build, ignore, volume
from fluytd._core.content import ContentStore
from fluytd._core.layer import LayerStore
from fluytd.builds.kept import KeptTrees
from fluytd.builds.ports import MAX_IDLE_SECONDS, CopyTarget, Draft, FileTree, OfferedEntry, Selection, Wanted
from fluytd.errors import ContextIncomplete, ContextNotFound, IoFailed
from fluytd.images.ports import Counters, StoredLayer
from fluytd.images.registry import core_token
from fluytd.images.store import core_counters, stored_layer
from fluytd.operations.ports import CancelToken
from fluytd.workers import Workers

T = TypeVar("T")
_CONTEXT_ID: Final = re.compile(r"[0-9a-f]{32}")
#: How long contexts stay in memory after their last use.
KEPT_SECONDS: Final = 300.0

#: The core says the same of what it is given.
MAX_IGNORE_FILE_BYTES: Final = 512 * 1024


class CoreTrees:
    """Implements `ports.Trees`."""

    def __init__(
        self, content: ContentStore, layers: LayerStore, workers: Workers, empty_dir: str, scratch: str
    ) -> None:
        """Over these stores. `scratch`: where archives of ADD are unpacked, in files without a name."""
        self._content = content
        self._layers = layers
        self._workers = workers
        self._empty_dir = empty_dir
        self._scratch = scratch

    async def of_layers(self, layer_ids: Sequence[str], name: str) -> FileTree:
        """See `ports.Trees.of_layers`."""
        return await self._workers.run(build.FileTree.of_layers, list(layer_ids), self._layers, self._empty_dir, name)

    async def of_directory(self, path: str, name: str, below: str) -> FileTree:
        """See `ports.Trees.of_directory`."""
        return await self._workers.run(build.FileTree.of_directory, path, name, below.encode())

    def of_files(self, files: Sequence[tuple[str, bytes, int]], name: str) -> FileTree:
        """See `ports.Trees.of_files`."""
        return build.FileTree.of_files([(path.encode(), data, mode) for path, data, mode in files], name)

    async def read_file(self, tree: FileTree, path: str, max_bytes: int, limit: str) -> bytes | None:
        """See `ports.Trees.read_file`."""
        return await self._workers.run(_tree(tree).read_file, path.encode(), max_bytes, limit)

    async def ignoring(self, tree: FileTree, dockerfile_path: str) -> FileTree:
        """See `ports.Trees.ignoring`."""
        return await self._workers.run(_ignoring, _tree(tree), dockerfile_path)

    async def hides_source(
        self, tree: FileTree, dockerfile_path: str, ignore_file: bytes
    ) -> Callable[[str], bool] | None:
        """See `ports.Trees.hides_source`."""
        matcher = await self._workers.run(_matcher, _tree(tree), dockerfile_path, ignore_file)
        return matcher.hides_source if matcher is not None else None

    async def owner_of(self, tree: FileTree, text: str) -> tuple[int, int]:
        """See `ports.Trees.owner_of`."""
        return await self._workers.run(_tree(tree).owner_of, text)

    async def select(self, tree: FileTree, wanted: Wanted, cancel: CancelToken) -> Selection:
        """See `ports.Trees.select`."""
        return await self._workers.run_transfer(
            _tree(tree).select,
            wanted.pattern.encode(),
            wanted.is_required,
            wanted.parents_pattern.encode(),
            ignore.Matcher.from_patterns(wanted.excluded) if wanted.excluded else None,
            core_token(cancel),
        )

    async def digest(self, selection: Selection, cancel: CancelToken) -> str:
        """See `ports.Trees.digest`."""
        found = await self._workers.run_transfer(_selection(selection).digest, core_token(cancel))
        return found.hex()

    async def write(self, selection: Selection, directory: str, cancel: CancelToken) -> bool:
        """See `ports.Trees.write`."""
        return await self._workers.run_transfer(_selection(selection).write, directory, core_token(cancel))

    async def unpack(self, archive: str, directory: str, max_bytes: int, cancel: CancelToken) -> None:
        """See `ports.Trees.unpack`."""
        await self._workers.run_transfer(volume.unpack, archive, directory, core_token(cancel), max_bytes)

    def draft(self, base: FileTree, time_seconds: int) -> Draft:
        """See `ports.Trees.draft`."""
        return build.LayerDraft(_tree(base), time_seconds)

    async def make_directory(self, draft: Draft, path: str, user: str) -> None:
        """See `ports.Trees.make_directory`."""
        await self._workers.run(_draft(draft).make_directory, path.encode(), user)

    async def copy(self, draft: Draft, selection: Selection, target: CopyTarget, cancel: CancelToken) -> None:
        """See `ports.Trees.copy`."""
        await self._workers.run_transfer(
            _draft(draft).copy,
            _selection(selection),
            target.destination.encode(),
            target.owner,
            None if target.mode is None else list(target.mode),
            target.is_several,
            self._scratch if target.unpacks else None,
            core_token(cancel),
        )

    async def is_empty(self, draft: Draft) -> bool:
        """See `ports.Trees.is_empty`."""
        return await self._workers.run(_draft(draft).is_empty)

    async def store(self, draft: Draft, counters: Counters, cancel: CancelToken, compression: str) -> StoredLayer:
        """See `ports.Trees.store`."""
        stored = await self._workers.run_transfer(
            _draft(draft).store,
            self._content,
            self._layers,
            core_counters(counters),
            core_token(cancel),
            compression,
        )
        return stored_layer(stored)

    def key_of(self, parts: Sequence[str]) -> str:
        """See `ports.Trees.key_of`."""
        return build.key_of([part.encode("utf-8", "surrogateescape") for part in parts]).hex()


def _ignoring(tree: build.FileTree, dockerfile_path: str) -> build.FileTree:
    matcher = _matcher(tree, dockerfile_path)
    return tree if matcher is None else tree.ignoring(matcher)


def _matcher(tree: build.FileTree, dockerfile_path: str, ignore_file: bytes = b"") -> ignore.Matcher | None:
    if ignore_file:
        return ignore.Matcher(ignore_file)
    for name in ignore.file_names(dockerfile_path):
        data = tree.read_file(name.encode(), MAX_IGNORE_FILE_BYTES, "MAX_IGNORE_FILE_BYTES")
        if data is not None:
            return ignore.Matcher(data)
    return None


def _tree(tree: FileTree) -> build.FileTree:
    if not isinstance(tree, build.FileTree):
        raise TypeError("core calls take the core's trees")
    return tree


def _selection(selection: Selection) -> build.Selection:
    if not isinstance(selection, build.Selection):
        raise TypeError("core calls take the core's selections")
    return selection


def _draft(draft: Draft) -> build.LayerDraft:
    if not isinstance(draft, build.LayerDraft):
        raise TypeError("core calls take the core's drafts")
    return draft


class CoreContexts:
    """Implements `ports.ContextStore`.

    D/contexts/chunks/     the chunk store
    D/contexts/trees/<id>  the entries of one context; its time is that of its last use
    """

    def __init__(self, data_root: Path, max_bytes: int, workers: Workers) -> None:
        """Both places are there; what is left of earlier daemons is known. Raises IO_FAILED. Blocking."""
        self._chunks = build.ChunkStore(str(data_root / "contexts" / "chunks"), max_bytes)
        self._trees = data_root / "contexts" / "trees"
        self._workers = workers
        #: Contexts that are being offered, not yet on disk as they are.
        self._open: dict[str, build.ContextEntries] = {}
        self._uploads: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._saving = threading.Lock()
        self._kept: KeptTrees[build.FileTree] = KeptTrees()
        self._idle: asyncio.TimerHandle | None = None
        self._trees.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in self._trees.glob("*.part"):
            part.unlink(missing_ok=True)

    @contextmanager
    def uploading(self, context_id: str) -> Iterator[None]:
        """See `ports.ContextStore.uploading`."""
        self._uploads[context_id] += 1
        try:
            yield
        finally:
            self._uploads[context_id] -= 1
            if not self._uploads[context_id]:
                del self._uploads[context_id]
                self._open.pop(context_id, None)

    async def offer(self, context_id: str, entries: Sequence[OfferedEntry]) -> None:
        """See `ports.ContextStore.offer`."""
        # To its end even if the caller goes away, so that nothing comes after `uploading` was left.
        await self._workers.run_to_end(lambda: self._offer(context_id, entries))

    def _offer(self, context_id: str, entries: Sequence[OfferedEntry]) -> None:
        context = self._entries(context_id, makes=True)
        for path, kind, mode, uid, gid, seconds, nanos, target, digests, size_bytes in entries:
            context.add(path, kind, mode, uid, gid, (seconds, nanos), target, digests, size_bytes)

    def _entries(self, context_id: str, *, makes: bool = False) -> build.ContextEntries:
        with self._lock:
            found = self._open.get(context_id) or self._load(context_id)
            if found is None:
                if not makes:
                    raise ContextNotFound(id=context_id)
                found = build.ContextEntries()
            if makes:
                self._open[context_id] = found
        return found

    def _load(self, context_id: str) -> build.ContextEntries | None:
        if _CONTEXT_ID.fullmatch(context_id) is None:
            raise ContextNotFound(id=context_id)
        return build.ContextEntries.load(str(self._trees / context_id))

    def _saved(self, context_id: str) -> build.ContextEntries:
        """The context as it is on disk: one that is being offered still is no build's yet."""
        found = self._load(context_id)
        if found is None:
            raise ContextNotFound(id=context_id)
        return found

    async def put(self, chunks: Sequence[bytes]) -> None:
        """See `ports.ContextStore.put`."""
        await self._workers.run_transfer(self._chunks.put, list(chunks))

    async def missing(self, context_id: str) -> bytes:
        """See `ports.ContextStore.missing`."""
        self._keep_for_a_while()
        return await self._workers.run_transfer(self._missing, context_id)

    def _missing(self, context_id: str) -> bytes:
        with self._lock:
            offered = self._open.get(context_id)
        if offered is None:
            kept = self._kept.get(context_id)
            if kept is not None:
                self._used(context_id)
                return kept.missing_chunks(self._chunks)
        changes = self._kept.changes
        context = self._entries(context_id)
        if offered is None:
            self._used(context_id)
        else:
            context.close()
            failpoints.hit("build.context.save")
            # One after the other, so that what is kept is never older than what is on disk.
            with self._saving:
                _io(str(self._trees), lambda: context.save(str(self._trees / context_id)))
                changes = self._kept.drop(context_id)
            with self._lock:
                self._open.pop(context_id, None)
        missing = self._chunks.missing(context.chunk_digests())
        if not missing:
            # Most often a build follows. A chunk that went meanwhile is that build's to tell of.
            with suppress(ContextIncomplete):
                self._kept.put(context_id, context.open(context_id, self._chunks), changes)
        return missing

    def _used(self, context_id: str) -> None:
        path = self._trees / context_id
        try:
            os.utime(path)
        except FileNotFoundError as error:
            raise ContextNotFound(id=context_id) from error
        except OSError as error:
            raise IoFailed(operation="utime", path=str(path), errno=error.errno) from error

    async def open(self, context_id: str) -> FileTree:
        """See `ports.ContextStore.open`."""
        self._keep_for_a_while()
        return await self._workers.run_transfer(self._opened, context_id)

    def _opened(self, context_id: str) -> FileTree:
        tree = self._kept.get(context_id)
        if tree is None:
            changes = self._kept.changes
            tree = self._saved(context_id).open(context_id, self._chunks)
            self._kept.put(context_id, tree, changes)
        self._used(context_id)
        return tree

    def _keep_for_a_while(self) -> None:
        """What is kept goes once no build has used it for a time."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._kept.clear)

    async def expire(self, max_age_seconds: float = MAX_IDLE_SECONDS) -> None:
        """See `ports.ContextStore.expire`."""
        await self._workers.run_transfer(self._expire, max_age_seconds)

    def _expire(self, max_age_seconds: float) -> None:
        oldest = time.time() - max_age_seconds
        self._kept.clear()
        for entry in list(os.scandir(self._trees)):
            if entry.stat().st_mtime < oldest:
                Path(entry.path).unlink(missing_ok=True)
        self._chunks.expire(max_age_seconds)

    @property
    def size_bytes(self) -> int:
        """See `ports.ContextStore.size_bytes`."""
        return self._chunks.size_bytes

    @property
    def chunk_count(self) -> int:
        """See `ports.ContextStore.chunk_count`."""
        return self._chunks.chunk_count


def _io(path: str, work: Callable[[], T]) -> T:
    try:
        return work()
    except OSError as error:
        raise IoFailed(operation="write", path=path, errno=error.errno) from error
