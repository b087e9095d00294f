"""Catalogue entries about bytes, digests, layers and archives."""

from fluytd.errors.base import (
    Code,
    DataCorrupt,
    EngineError,
    Internal,
    InvalidInput,
    NotFound,
    ResourceExhausted,
    WrongState,
)


class IoFailed(
    Internal,
    reason="IO_FAILED",
    keys="operation path errno",
    text="{operation} on {path} failed with errno {errno}",
    next_step="Look at the host's kernel log and at the health of the file system that holds the path.",
):
    """A system call failed."""


class StorageFull(
    ResourceExhausted,
    reason="STORAGE_FULL",
    keys="operation path errno",
    text="no space is left for {operation} on {path} (errno {errno})",
    next_step="Free space on that file system, for example by deleting unused images and containers.",
):
    """ENOSPC or EDQUOT."""


class DigestInvalid(
    InvalidInput,
    reason="DIGEST_INVALID",
    keys="digest",
    text="{digest!r} is not a digest",
    next_step="Write it as sha256: and 64 lower-case hexadecimal digits.",
):
    """A digest that does not follow the OCI grammar, or an algorithm that is not supported."""


class DigestMismatch(
    DataCorrupt,
    reason="DIGEST_MISMATCH",
    keys="expected actual size_bytes",
    text="content of {size_bytes} bytes has digest {actual}, expected {expected}",
    next_step="Pull again; if it repeats, the source holds damaged or forged content.",
):
    """Bytes that do not have the digest they were asked by."""


class SizeMismatch(
    DataCorrupt,
    reason="SIZE_MISMATCH",
    keys="digest expected_bytes actual_bytes",
    text="blob {digest} has {actual_bytes} bytes, its descriptor says {expected_bytes}",
    next_step="Pull again; if it repeats, the image's manifest or the source is wrong.",
):
    """A blob longer or shorter than its descriptor."""


class DiffIdMismatch(
    DataCorrupt,
    reason="DIFF_ID_MISMATCH",
    keys="expected actual",
    text="the uncompressed layer has digest {actual}, the image config says {expected}",
    next_step="The image is inconsistent: have it built and pushed again.",
):
    """A layer whose uncompressed bytes are not the ones the config names."""


class BlobNotFound(
    NotFound,
    reason="BLOB_NOT_FOUND",
    keys="digest",
    text="there is no blob {digest}",
    next_step="Pull or load the image again.",
):
    """A digest that the store, the archive or the registry does not have."""


class LayerNotFound(
    NotFound,
    reason="LAYER_NOT_FOUND",
    keys="layer_id",
    text="there is no stored layer {layer_id}",
    next_step="Pull or load the image again.",
):
    """A layer that the layer store does not have."""


class LayerRejected(
    InvalidInput,
    reason="LAYER_REJECTED",
    keys="digest entry rule",
    text="layer {digest} is refused at entry {entry!r}: {rule}",
    next_step="Do not use this image, or have it built again without that entry.",
):
    """A layer with an entry that breaks a rule of safety."""


class LayerCorrupt(
    DataCorrupt,
    reason="LAYER_CORRUPT",
    keys="digest detail",
    text="layer {digest} cannot be read: {detail}",
    next_step="Pull again; if it repeats, the image was published damaged.",
):
    """A layer that is not a whole, well-formed (compressed) tar."""


class LimitExceeded(
    ResourceExhausted,
    reason="LIMIT_EXCEEDED",
    keys="limit limit_value actual subject",
    text="{subject}: {actual} exceeds the limit {limit} of {limit_value}",
    next_step="Stay below the named limit, or raise it in the configuration where it is a setting.",
):
    """Input beyond a named bound."""


class ManifestInvalid(
    InvalidInput,
    reason="MANIFEST_INVALID",
    keys="subject rule",
    text="{subject} is not a valid manifest, index or image config: {rule}",
    next_step="Have the image built and pushed again by a tool that follows the OCI image specification.",
):
    """A manifest, index or config that breaks its format."""


class ArchiveInvalid(
    InvalidInput,
    reason="ARCHIVE_INVALID",
    keys="entry rule",
    text="the archive is refused at {entry!r}: {rule}",
    next_step="Send an OCI layout, an OCI archive or a docker-archive, as tar, optionally compressed by gzip or zstd.",
):
    """An image archive that cannot be read as one."""


class ContentOrphaned(
    WrongState,
    reason="CONTENT_ORPHANED",
    keys="subject",
    text="nothing needs the stored content {subject}",
    next_step="Run CheckStorage with repair, or restart the daemon: both delete it.",
):
    """A blob or layer that no image, container or work in flight needs; it takes space and does no harm."""


class DataCorruptOnDisk(
    DataCorrupt,
    reason="DATA_CORRUPT",
    keys="path detail",
    text="the engine's own data at {path} is damaged: {detail}",
    next_step="Check the file system, then run CheckStorage; restore the path from a backup where there is one.",
):
    """A file or row of ours that does not read back as it was written."""


class Cancelled(
    EngineError,
    reason="CANCELLED",
    code=Code.CANCELLED,
    keys="subject",
    text="{subject} was cancelled",
    next_step="Begin it again if it is still wanted; what was fetched so far is kept and resumed.",
):
    """The caller asked for the work to end."""
