"""What a build reads and writes: contexts kept as chunks, trees of files, and layers that are written straight from them.

Paths are bytes; those in a tree have no leading `/`. Digests of chunks are BLAKE3, 32 bytes each, several of them one
after the other.
"""

from typing import final

from . import CancelToken
from .content import ContentStore
from .ignore import Matcher
from .ingest import Progress, StoredLayer
from .layer import LayerStore

@final
class ChunkStore:
    """Pieces of contexts by their digest, in packs that are only appended to. Safe to share between threads."""

    def __new__(cls, directory: str, max_bytes: int) -> ChunkStore:
        """What earlier daemons left in `directory` is known. Raises IO_FAILED, STORAGE_FULL. Blocking."""
    def missing(self, digests: bytes) -> bytes:
        """Those that are not there, each once, in order; what is there counts as used now."""
    def put(self, chunks: list[bytes]) -> None:
        """Each is there under the digest of its bytes. Raises LIMIT_EXCEEDED (MAX_CHUNK_BYTES, MAX_CHUNK_STORE_BYTES),
        STORAGE_FULL, IO_FAILED. Blocking."""
    def expire(self, max_age_seconds: float) -> int:
        """Packs unused for so long are gone; returns the bytes freed. Idempotent. Blocking."""
    @property
    def size_bytes(self) -> int: ...
    @property
    def chunk_count(self) -> int: ...

@final
class ContextEntries:
    """The entries of one context, checked as they are added. Thread-safe."""

    def __new__(cls) -> ContextEntries: ...
    @staticmethod
    def load(path: str) -> ContextEntries | None:
        """What `save` wrote; None if it is not there or damaged. Blocking."""
    def add(
        self,
        path: bytes,
        kind: str,
        mode: int,
        uid: int,
        gid: int,
        mtime: tuple[int, int],
        link_target: bytes,
        chunk_digests: bytes,
        size_bytes: int,
    ) -> None:
        """`kind`: `file`, `directory`, `symlink`; `mtime`: seconds and nanoseconds. The same again changes nothing.
        Raises CONTEXT_INVALID, LIMIT_EXCEEDED."""
    def chunk_digests(self) -> bytes:
        """Of all files in order, some perhaps several times."""
    def close(self) -> None:
        """Parents that were not named are there. Raises CONTEXT_INVALID for one that is no directory."""
    def save(self, path: str) -> None:
        """Written to appear whole. Raises STORAGE_FULL, IO_FAILED. Blocking."""
    def open(self, context_id: str, chunks: ChunkStore) -> FileTree:
        """The context as a tree that holds its chunks; the entries are in it, no longer here. Raises
        CONTEXT_INCOMPLETE, CONTEXT_INVALID. Blocking."""
    @property
    def entry_count(self) -> int: ...
    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""

@final
class FileTree:
    """A tree of files that does not change. Safe to share between threads; it goes with its last reference."""

    @staticmethod
    def of_layers(layer_ids: list[str], layers: LayerStore, empty_dir: str, name: str) -> FileTree:
        """Visible layers, lowest first, as one tree; `empty_dir` holds nothing; `name` is what errors call it.
        Raises LAYER_NOT_FOUND, KERNEL_FEATURE_MISSING, IO_FAILED. Blocking."""
    def missing_chunks(self, chunks: ChunkStore) -> bytes:
        """Digests of chunks of an uploaded context that the store has no longer; none of another tree. Blocking."""
    @property
    def index_bytes(self) -> int:
        """Bytes that the entries of an uploaded context take in memory, about; 0 of another tree."""
    @staticmethod
    def of_files(files: list[tuple[bytes, bytes, int]], name: str) -> FileTree:
        """Files (path, bytes, mode), owned by 0:0. Raises CONTEXT_INVALID."""
    def read_file(self, path: bytes, max_bytes: int, limit: str) -> bytes | None:
        """The file that `path` leads to inside the tree; None if there is none. Raises LIMIT_EXCEEDED naming `limit`,
        IO_FAILED. Blocking."""
    def owner_of(self, text: str) -> tuple[int, int]:
        """uid and gid of `user[:group]` here; a lone number is both. Raises USER_INVALID. Blocking."""
    @staticmethod
    def of_directory(path: str, name: str, below: bytes) -> FileTree:
        """A directory that the engine made and nobody writes to, its owners meaning nothing, or the folder `below` in
        it, links taken inside the directory. Raises BUILD_SOURCE_NOT_FOUND if that is none, IO_FAILED. Blocking."""
    def ignoring(self, matcher: Matcher) -> FileTree:
        """The same tree, of which nothing that the ignore file leaves out is selected."""
    def select(
        self, pattern: bytes, is_required: bool, parents_pattern: bytes, excluded: Matcher | None, cancel: CancelToken
    ) -> Selection:
        """What a path or pattern names, and all below it; links that are named are followed, others are links. What
        `excluded` says of a path from the tree's root is left out.
        Raises BUILD_SOURCE_NOT_FOUND if it names nothing and `is_required`, BUILD_COPY_REJECTED, LIMIT_EXCEEDED,
        IO_FAILED, CANCELLED. Blocking (looks at every entry)."""

@final
class Selection:
    """Files of a tree that a copy takes along. Holds its tree. Of an uploaded context it is looked for only when it is
    needed if its digest is known from an earlier one: what `FileTree.select` raises was not raised then."""

    def digest(self, cancel: CancelToken) -> bytes:
        """BLAKE3 of names, kinds, modes, owners that count, attributes, links and content; not of times.
        Raises IO_FAILED, CANCELLED. Blocking (reads files of layers, not those of contexts)."""
    def write(self, directory: str, cancel: CancelToken) -> bool:
        """The first match is written out into the empty `directory`: a directory's content, or a file as `file`.
        Returns whether it is a directory. Raises STORAGE_FULL, IO_FAILED, CANCELLED. Blocking."""
    @property
    def is_found(self) -> bool:
        """It was looked for."""
    @property
    def entry_count(self) -> int: ...
    @property
    def match_count(self) -> int:
        """Paths that were named."""

@final
class LayerDraft:
    """A layer being drawn up; nothing is read or written before `store`. Thread-safe."""

    def __new__(cls, base: FileTree, time_seconds: int) -> LayerDraft:
        """Over `base`; `time_seconds` is the time of directories that it makes itself."""
    def make_directory(self, path: bytes, user: str) -> None:
        """It is there with its parents (0755, of `user`), or stays as it is. Raises BUILD_COPY_REJECTED, USER_INVALID."""
    def copy(
        self,
        selection: Selection,
        destination: bytes,
        owner: tuple[int, int] | None,
        mode: list[int] | None,
        is_several: bool,
        unpack_in: str | None,
        cancel: CancelToken,
    ) -> None:
        """What is selected goes to `destination`, into it if that ends in `/` or several things go there.

        `mode`: one mode for all; or 4096 answers for the modes of files and 4096 for those of directories. `unpack_in`:
        archives among the matches are unpacked, by way of a file without a name in that directory. Raises
        BUILD_COPY_REJECTED, LAYER_REJECTED, LAYER_CORRUPT, LIMIT_EXCEEDED, STORAGE_FULL, IO_FAILED, CANCELLED. Blocking.
        """
    def is_empty(self) -> bool:
        """It would change nothing."""
    def store(
        self,
        content: ContentStore,
        layers: LayerStore,
        progress: Progress,
        cancel: CancelToken,
        compression: str = "gzip",
    ) -> StoredLayer:
        """The draft is a blob, compressed so, and an unpacked layer, both staged or visible; the draft is used up. As
        `changes.store_changes`; CONTEXT_INCOMPLETE besides is told as DATA_CORRUPT. Blocking."""

def key_of(parts: list[bytes]) -> bytes:
    """BLAKE3 of these parts, no two lists of which give the same."""
