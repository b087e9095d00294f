//! Blobs and layers from a registry.

use content::{ContentStore, Digest, OpenedIngest};
use layer::{LayerId, LayerInfo, OpenedStage};
use registry::{BlobSource, RegistryClient, RegistryError};

use crate::feed::RegistryFeed;
use crate::tee::{store_blob, store_blob_and_layer, write_layer};
use crate::{IngestError, Phase, Stores, Task};

/// The longest part of a media type that an error shows.
const SHOWN_MAX_CHARS: usize = 100;

/// The media types of layers, before `+gzip`, `.gzip` and the like. Source: image-spec layer.md and
/// distribution's image manifest version 2 schema 2.
const LAYER_TYPES: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];

/// A blob as a manifest names it.
#[derive(Debug, Clone, Copy)]
pub struct RemoteBlob<'a> {
    /// The client to fetch by.
    pub client: &'a RegistryClient,
    /// What its descriptor says, and who asks for it.
    pub source: BlobSource<'a>,
}

/// The blob is staged in `content`, verified; a partial ingest is resumed by Range, and nothing is fetched if the blob
/// is there. Of any number of callers one fetches and the others wait. On failure what arrived stays to be resumed,
/// unless it turned out to be other content. Blocking; ends within 100 ms once cancelled.
///
/// # Errors
/// What [`RegistryClient::fetch_manifest`] gives, `BLOB_NOT_FOUND`, `SIZE_MISMATCH` (also where the blob that is there
/// has another size), `DIGEST_MISMATCH`, `STORAGE_FULL`, `IO_FAILED`, `CANCELLED`.
pub fn fetch_blob(blob: &RemoteBlob<'_>, content: &ContentStore, task: Task<'_>) -> Result<(), IngestError> {
    let size_bytes = blob.source.size_bytes;
    let digest = parse_digest(blob.source.digest)?;
    let mut skipped = 0;
    loop {
        match content.open_ingest(&digest, size_bytes, &|| task.cancel.is_cancelled())? {
            OpenedIngest::Present { size_bytes } => {
                check_size(&digest, blob.source.size_bytes, size_bytes)?;
                task.progress.set_fetched(size_bytes);
                task.progress.enter(Phase::Present);
                return Ok(());
            }
            OpenedIngest::Writing(ingest) => {
                let is_resumed = ingest.offset_bytes() > 0;
                let mut feed = RegistryFeed::new(blob, skipped, task.progress, task.cancel);
                let outcome = store_blob(ingest, &mut feed, task);
                let is_repeated =
                    is_resumed || may_ask_others(&outcome, feed.first_origin(), blob, &mut skipped)?;
                if settle(outcome, is_repeated, &digest, content)?.is_some() {
                    task.progress.enter(Phase::Done);
                    return Ok(());
                }
            }
        }
    }
}

/// Blob and unpacked layer are both staged, or visible already, each verified: the blob by its digest, the layer by
/// `expected_diff_id`, in one pass. On failure what arrived of the blob stays to be resumed, unless it turned out to be
/// other content; no layer is staged. Of any number of callers one does the work. Blocking; ends soon once cancelled.
///
/// `media_type` is the descriptor's; empty where it has none. How the layer is compressed is found by content.
///
/// # Errors
/// As [`fetch_blob`]; `MANIFEST_INVALID` for a media type that no layer has; `DIFF_ID_MISMATCH`, `LAYER_REJECTED`,
/// `LAYER_CORRUPT`, `LIMIT_EXCEEDED`.
pub fn fetch_layer(
    blob: &RemoteBlob<'_>,
    media_type: &str,
    expected_diff_id: &str,
    stores: Stores<'_>,
    task: Task<'_>,
) -> Result<LayerInfo, IngestError> {
    check_media_type(blob.source.digest, media_type)?;
    let digest = parse_digest(blob.source.digest)?;
    let diff_id = parse_digest(expected_diff_id)?;
    let layer_id = LayerId::from_diff_id(&diff_id);
    let is_cancelled = || task.cancel.is_cancelled();
    let mut skipped = 0;
    loop {
        match stores.content.open_ingest(&digest, blob.source.size_bytes, &is_cancelled)? {
            OpenedIngest::Present { size_bytes } => {
                check_size(&digest, blob.source.size_bytes, size_bytes)?;
                task.progress.set_fetched(size_bytes);
                return unpack(&digest, &diff_id, stores, task);
            }
            OpenedIngest::Writing(ingest) => {
                let is_resumed = ingest.offset_bytes() > 0;
                let mut feed = RegistryFeed::new(blob, skipped, task.progress, task.cancel);
                let outcome = match stores.layers.open_stage(&layer_id, &is_cancelled)? {
                    OpenedStage::Present(info) => store_blob(ingest, &mut feed, task).map(|()| info),
                    OpenedStage::Writing(stage) => {
                        store_blob_and_layer(ingest, &mut feed, stage, Some(&diff_id), task)
                    }
                };
                let is_repeated =
                    is_resumed || may_ask_others(&outcome, feed.first_origin(), blob, &mut skipped)?;
                if let Some(info) = settle(outcome, is_repeated, &digest, stores.content)? {
                    task.progress.enter(Phase::Done);
                    return Ok(info);
                }
            }
        }
    }
}

/// As [`fetch_layer`] for a blob that `content` has, visible or staged: the layer is staged or visible, verified by
/// `expected_diff_id`. Blocking; ends soon once cancelled.
///
/// # Errors
/// `BLOB_NOT_FOUND`, `DIGEST_INVALID`, `DIFF_ID_MISMATCH`, `LAYER_REJECTED`, `LAYER_CORRUPT`, `LIMIT_EXCEEDED`,
/// `STORAGE_FULL`, `IO_FAILED`, `CANCELLED`.
pub fn extract_layer(
    digest: &str,
    expected_diff_id: &str,
    stores: Stores<'_>,
    task: Task<'_>,
) -> Result<LayerInfo, IngestError> {
    unpack(&parse_digest(digest)?, &parse_digest(expected_diff_id)?, stores, task)
}

/// The layer of a blob that is whole.
pub(crate) fn unpack(
    digest: &Digest,
    diff_id: &Digest,
    stores: Stores<'_>,
    task: Task<'_>,
) -> Result<LayerInfo, IngestError> {
    let blob = stores.content.open_blob(digest)?;
    let layer_id = LayerId::from_diff_id(diff_id);
    match stores.layers.open_stage(&layer_id, &|| task.cancel.is_cancelled())? {
        OpenedStage::Present(info) => {
            task.progress.enter(Phase::Present);
            Ok(info)
        }
        OpenedStage::Writing(stage) => {
            task.progress.enter(Phase::Extracting);
            let info = write_layer(stage, blob.file, &digest.to_string(), Some(diff_id), task)?;
            sys::failpoint::hit("ingest.layer.staged");
            task.progress.enter(Phase::Done);
            Ok(info)
        }
    }
}

/// True if the blob is other content and a place behind the one that gave it may have the right one: `skipped` leaves
/// out all up to that one then.
fn may_ask_others<T>(
    outcome: &Result<T, IngestError>,
    first_origin: Option<usize>,
    blob: &RemoteBlob<'_>,
    skipped: &mut usize,
) -> Result<bool, IngestError> {
    let is_mismatch = matches!(outcome, Err(error) if error.is_digest_mismatch());
    let Some(liar) = first_origin.filter(|_| is_mismatch) else { return Ok(false) };
    if liar + 1 >= blob.client.origin_count(&blob.source)? {
        return Ok(false);
    }
    *skipped = liar + 1;
    Ok(true)
}

/// What a pass over a blob gave; `None` if it is to be done again from the first byte.
///
/// Bytes of an earlier call may have been damaged since (they were never synced), so that a mismatch after a resume
/// says nothing about the registry: once more, from nothing, as `is_repeated` says. A mismatch of a blob that came whole
/// from the registry itself is final, and leaves nothing to resume.
pub(crate) fn settle<T>(
    outcome: Result<T, IngestError>,
    is_repeated: bool,
    digest: &Digest,
    content: &ContentStore,
) -> Result<Option<T>, IngestError> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_digest_mismatch() => {
            content.delete_ingest(digest)?;
            if is_repeated {
                return Ok(None);
            }
            Err(error)
        }
        Err(error) => Err(error),
    }
}

pub(crate) fn parse_digest(text: &str) -> Result<Digest, IngestError> {
    Ok(Digest::parse(text)?)
}

/// A blob that is there must have the size that the descriptor says.
pub(crate) fn check_size(
    digest: &Digest,
    expected_bytes: u64,
    actual_bytes: u64,
) -> Result<(), RegistryError> {
    if expected_bytes == actual_bytes {
        return Ok(());
    }
    Err(RegistryError::SizeMismatch { digest: digest.clone(), expected_bytes, actual_bytes })
}

fn check_media_type(digest: &str, media_type: &str) -> Result<(), IngestError> {
    let suffixes = ["", "+gzip", "+zstd", ".gzip", ".zstd"];
    let is_known = LAYER_TYPES
        .iter()
        .any(|known| media_type.strip_prefix(known).is_some_and(|suffix| suffixes.contains(&suffix)));
    if media_type.is_empty() || is_known {
        return Ok(());
    }
    let media_type = media_type.chars().take(SHOWN_MAX_CHARS).flat_map(char::escape_default).collect();
    Err(IngestError::MediaTypeInvalid { digest: digest.to_owned(), media_type })
}
