//! A visible layer that is damaged gives way to one that was made again elsewhere.

use std::os::fd::AsFd;

use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::{staged_name, LayerStore, DELETED_PREFIX};
use crate::{LayerError, LayerId};

use std::sync::atomic::Ordering;

impl LayerStore {
    /// The layer that `from`, a store of the same file system, has staged is the visible one here, by one rename that
    /// leaves no moment without the layer; what was visible stands in `from` afterwards as one of the `.deleted-…` of
    /// its `list_staged`, and is the caller's to remove once no overlay stands on it. Roots that were handed out before
    /// go on showing what they showed. A replacement that is cut short has happened or has not; what it leaves in
    /// `from` is such a `.deleted-…` too. Durable. Blocking.
    ///
    /// # Errors
    /// `LAYER_NOT_FOUND` if `from` has it not; `IO_FAILED`, `STORAGE_FULL`.
    pub fn replace(&self, layer_id: &LayerId, from: &Self) -> Result<(), LayerError> {
        let staged = staged_name(layer_id);
        if from.stat_staged(layer_id)?.is_none() {
            return Err(LayerError::NotFound { layer_id: layer_id.to_string() });
        }
        sys::failpoint::hit("layer.replace.sync");
        rustix::fs::syncfs(&from.root).map_err(|errno| from.error("syncfs", "", errno))?;
        // Under its last name first: whatever stands there when this is cut short is never taken for a staged layer.
        let aside = loop {
            let number = from.counter.fetch_add(1, Ordering::Relaxed);
            let aside = format!("{DELETED_PREFIX}{number}-{layer_id}");
            match rustix::fs::renameat_with(&from.root, &staged, &from.root, &aside, RenameFlags::NOREPLACE) {
                Ok(()) => break aside,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(from.error("renameat2", &staged, errno)),
            }
        };
        sys::failpoint::hit("layer.replace.rename");
        let visible = layer_id.as_str();
        let swap = |flags| rustix::fs::renameat_with(&from.root, &aside, &self.root, visible, flags);
        match swap(RenameFlags::EXCHANGE) {
            Err(Errno::NOENT) => swap(RenameFlags::NOREPLACE),
            swapped => swapped,
        }
        .map_err(|errno| self.error("renameat2", visible, errno))?;
        for kind in &self.kinds {
            kind.forget(&self.path.join(visible));
        }
        sys::failpoint::hit("layer.replace.durable");
        for store in [self, from] {
            rustix::fs::fsync(store.root.as_fd()).map_err(|errno| store.error("fsync", "", errno))?;
        }
        Ok(())
    }
}
