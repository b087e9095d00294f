//! Settles a layer against the layers below it.

use layer::{needs_finish, Finish, LayerError, LayerId, LayerInfo, Limits, OpenedStage, StageRequest};
use std::sync::atomic::AtomicU64;
use sys::cancel::CancelToken;

use crate::fetch::parse_digest;
use crate::{IngestError, Stores};

/// The layer to use above `lower_layer_ids` (lowest first, each staged or visible): the layer of `diff_id` itself where
/// the lower ones change nothing, else one staged under `chain-<hex of chain_id>` whose parents, links and whiteouts
/// were settled against them. The layer of `diff_id` must be staged or visible, and the blob `digest` whole; the blob
/// is read again only in the second case, and not where the layer keeps its archive. Blocking; ends soon once cancelled.
///
/// # Errors
/// `LAYER_NOT_FOUND`, `BLOB_NOT_FOUND`, `DIGEST_INVALID`; `LAYER_REJECTED`, for example for a hard link whose target no
/// layer has; `DIFF_ID_MISMATCH`, `LAYER_CORRUPT`, `LIMIT_EXCEEDED`, `STORAGE_FULL`, `IO_FAILED`, `CANCELLED`.
pub fn finish_layer<S: AsRef<str>>(
    digest: &str,
    diff_id: &str,
    chain_id: &str,
    lower_layer_ids: &[S],
    stores: Stores<'_>,
    cancel: &CancelToken,
) -> Result<LayerInfo, IngestError> {
    let (digest, diff_id) = (parse_digest(digest)?, parse_digest(diff_id)?);
    let chain_layer = LayerId::from_chain_id(&parse_digest(chain_id)?);
    let own_layer = LayerId::from_diff_id(&diff_id);
    let lowers = lower_layer_ids
        .iter()
        .map(|id| LayerId::parse(id.as_ref()))
        .collect::<Result<Vec<_>, LayerError>>()?;
    let info = stores.layers.find(&own_layer)?;
    let info = info.ok_or_else(|| LayerError::NotFound { layer_id: own_layer.to_string() })?;
    if !info.depends_on_lower() {
        return Ok(info);
    }
    let view = stores.layers.lower_view(&lowers)?;
    if !needs_finish(&info.facts, &view)? {
        return Ok(info);
    }
    let is_cancelled = || cancel.is_cancelled();
    match stores.layers.open_stage(&chain_layer, &is_cancelled)? {
        OpenedStage::Present(info) => Ok(info),
        OpenedStage::Writing(stage) => {
            let request = StageRequest {
                subject: &digest.to_string(),
                expected_diff_id: Some(&diff_id),
                limits: &Limits::default(),
                finish: Some(Finish { facts: &info.facts, lowers: &view }),
                progress: &AtomicU64::new(0),
                is_cancelled: &is_cancelled,
            };
            // A layer that keeps its archive needs no blob to be read and decompressed again.
            let finished = match stage.rewrite(&own_layer, &request)? {
                Some(finished) => finished,
                None => stage.write(stores.content.open_blob(&digest)?.file, &request)?,
            };
            sys::failpoint::hit("ingest.layer.finished");
            Ok(finished)
        }
    }
}
