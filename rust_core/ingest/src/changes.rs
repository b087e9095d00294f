//! The layer of a container's changes, stored as if it had been pulled.

use content::{Algorithm, Hasher, StagedBlob, UnnamedBlob};
use layer::{LayerId, TarSource};

use crate::fetch::unpack;
use crate::local::StoredLayer;
use crate::packer::Packer;
use crate::packing::Packing;
use crate::{IngestError, Phase, Stores, Task};

/// Read size of the tar.
const BUFFER_BYTES: usize = 256 * 1024;

/// The changes in `tar` are a blob, compressed so, and an unpacked layer, both staged, or visible already. The blob is made in one
/// pass: the tar is read, hashed for the diff_id, compressed on all processors, hashed for the digest and written, a
/// few MiB of it in memory at any time. `task.progress` counts compressed bytes, then unpacked ones. Blocking; ends soon
/// once cancelled, and leaves nothing of a blob that is not whole.
///
/// # Errors
/// What [`TarSource::read`] says; `LAYER_REJECTED`, `LIMIT_EXCEEDED` where the layer store would not take the layer back;
/// `STORAGE_FULL`, `IO_FAILED`, `CANCELLED`.
pub fn store_changes(
    mut tar: impl TarSource,
    packing: Packing,
    stores: Stores<'_>,
    task: Task<'_>,
) -> Result<StoredLayer, IngestError> {
    let is_cancelled = || task.cancel.is_cancelled();
    let mut blob = UnnamedBlob::begin(stores.content)?;
    let mut diff_id = Hasher::new(Algorithm::Sha256);
    let mut packer = Packer::new(packing);
    let mut sink = |bytes: &[u8]| {
        blob.append(bytes)?;
        task.progress.set_fetched(blob.size_bytes());
        Ok(())
    };
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = tar.read(&mut buffer, &is_cancelled)?;
        if count == 0 {
            break;
        }
        diff_id.update(&buffer[..count]);
        packer.write(&buffer[..count], &mut sink)?;
    }
    packer.finish(&mut sink)?;
    let StagedBlob { digest, size_bytes, is_new } = blob.stage(stores.content, &is_cancelled)?;
    sys::failpoint::hit("ingest.changes.staged");
    let diff_id = diff_id.finish();
    let layer = match stores.layers.find(&LayerId::from_diff_id(&diff_id))? {
        Some(layer) => layer,
        None => unpack(&digest, &diff_id, stores, task).inspect_err(|_| {
            // Nobody could resume it: the same changes are read anew. What cannot be deleted is swept with its age.
            if is_new {
                let _ = stores.content.delete_ingest(&digest);
            }
        })?,
    };
    task.progress.enter(Phase::Done);
    Ok(StoredLayer { digest, size_bytes, diff_id, media_type: packing.compression().media_type(), layer })
}
