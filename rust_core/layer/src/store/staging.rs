//! Writing one layer into a folder that no one sees yet, and who may.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::PoisonError;
use std::time::Duration;

use errors::IoError;
use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{staged_name, LayerStore, FOLDER_MODE, IMPORT_PREFIX, META_NAME};
use crate::limits::META_BYTES_MAX;
use crate::meta::{Meta, META_VERSION};
use crate::port::{LayerWriter, Store};
use crate::stage::{self, Pass, StageRequest};
use crate::tree::io;
use crate::{LayerError, LayerId, LayerInfo};

/// How long a waiting opener sleeps before it looks at its cancel flag again.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// What `open_stage` found.
#[derive(Debug)]
pub enum OpenedStage<'s> {
    /// The layer is whole already, visible or staged.
    Present(LayerInfo),
    /// The caller is the only writer.
    Writing(LayerStage<'s>),
}

/// The right to write one layer, given back when dropped.
#[derive(Debug)]
pub struct LayerStage<'s> {
    store: &'s LayerStore,
    /// `None` for an import, whose id follows from what it reads.
    layer_id: Option<LayerId>,
    claim: Claim<'s>,
}

/// A folder name that no one else in this process writes.
#[derive(Debug)]
pub(super) struct Claim<'s> {
    store: &'s LayerStore,
    folder: String,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.store.lock_writing().remove(&self.folder);
        self.store.written.notify_all();
    }
}

impl LayerStore {
    pub(super) fn try_claim(&self, folder: &str) -> Option<Claim<'_>> {
        let is_new = self.lock_writing().insert(folder.to_owned());
        is_new.then(|| Claim { store: self, folder: folder.to_owned() })
    }

    fn claim(&self, folder: &str, is_cancelled: &dyn Fn() -> bool) -> Result<Claim<'_>, LayerError> {
        let mut writing = self.lock_writing();
        while writing.contains(folder) {
            if is_cancelled() {
                return Err(LayerError::Cancelled { subject: folder.to_owned() });
            }
            writing =
                self.written.wait_timeout(writing, CANCEL_POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
        writing.insert(folder.to_owned());
        Ok(Claim { store: self, folder: folder.to_owned() })
    }

    /// Begins to stage a layer, or tells that it is whole already. Waits while another thread stages the same one,
    /// looking at `is_cancelled` meanwhile, so that one of any number of callers does the work. Blocking.
    ///
    /// # Errors
    /// `CANCELLED`, `IO_FAILED`.
    pub fn open_stage(
        &self,
        layer_id: &LayerId,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<OpenedStage<'_>, LayerError> {
        let claim = self.claim(&staged_name(layer_id), is_cancelled)?;
        match self.find(layer_id)? {
            Some(info) => Ok(OpenedStage::Present(info)),
            None => {
                let layer_id = Some(layer_id.clone());
                Ok(OpenedStage::Writing(LayerStage { store: self, layer_id, claim }))
            }
        }
    }

    /// Begins to stage a layer whose diff_id nobody knows yet; it gets the id of the diff_id that is found.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn open_import(&self) -> Result<LayerStage<'_>, LayerError> {
        loop {
            let number = self.counter.fetch_add(1, Ordering::Relaxed);
            let folder = format!("{IMPORT_PREFIX}{number}");
            // A folder of that name may be left from a process before this one.
            if self.open_folder(&folder)?.is_none() {
                if let Some(claim) = self.try_claim(&folder) {
                    return Ok(LayerStage { store: self, layer_id: None, claim });
                }
            }
        }
    }
}

impl LayerStage<'_> {
    /// The layer is staged: read from `source` to its end, verified, whole, not yet visible. On any failure nothing of
    /// it stays. The source is read on a thread of this call's own, and the call returns when that thread's last
    /// read did: a source that can stall looks at the cancel flag itself. Blocking.
    ///
    /// # Errors
    /// `LAYER_REJECTED`, `LAYER_CORRUPT`, `DIFF_ID_MISMATCH`, `LIMIT_EXCEEDED`, `STORAGE_FULL`, `IO_FAILED`,
    /// `CANCELLED`; [`LayerError::Source`] where reading `source` failed.
    pub fn write<R: Read + Send>(
        self,
        source: R,
        request: &StageRequest<'_>,
    ) -> Result<LayerInfo, LayerError> {
        let kind = self.store.kinds[self.store.chosen].as_ref();
        let result = self
            .write_folder(kind, None, request, |writer, folder| stage::run(source, writer, folder, request))
            .and_then(|info| match self.layer_id {
                Some(_) => Ok(info),
                None => self.name_import(info),
            });
        self.or_nothing(result)
    }

    /// As `write` with the archive that the layer `base` keeps, which is not read again but for its entries: for a
    /// layer that is settled over others. `None` if the kind of `base` keeps no archive, and nothing was done.
    /// Blocking.
    ///
    /// # Errors
    /// As `write`; `LAYER_NOT_FOUND` for `base`.
    pub fn rewrite(
        &self,
        base: &LayerId,
        request: &StageRequest<'_>,
    ) -> Result<Option<LayerInfo>, LayerError> {
        let (kept, name) = self.store.folder_of(base)?;
        let kind = self.store.kind_of(kept.as_fd(), &name)?;
        let Some(archive) = kind.archive(kept.as_fd())? else { return Ok(None) };
        let meta = self.store.read_meta(&name)?;
        let meta = meta.ok_or_else(|| LayerError::NotFound { layer_id: base.to_string() })?;
        let result = self.write_folder(kind, Some(kept.as_fd()), request, |writer, folder| {
            stage::run_kept(&archive, meta.diff_id, meta.compression, writer, folder, request)
        });
        self.or_nothing(result).map(Some)
    }

    fn or_nothing(&self, result: Result<LayerInfo, LayerError>) -> Result<LayerInfo, LayerError> {
        if result.is_err() {
            // The first failure is the one to tell; what cannot be removed now is swept by `recover`.
            let _ = self.store.remove_folder(&self.claim.folder);
        }
        result
    }

    fn write_folder(
        &self,
        kind: &dyn Store,
        kept: Option<BorrowedFd<'_>>,
        request: &StageRequest<'_>,
        pass: impl FnOnce(&mut dyn LayerWriter, BorrowedFd<'_>) -> Result<Pass, LayerError>,
    ) -> Result<LayerInfo, LayerError> {
        let (store, name) = (self.store, self.claim.folder.as_str());
        store.remove_folder(name)?;
        sys::failpoint::hit("layer.stage.begin");
        rustix::fs::mkdirat(&store.root, name, FOLDER_MODE)
            .map_err(|errno| store.error("mkdirat", name, errno))?;
        let folder = store.open_folder(name)?.ok_or_else(|| store.error("openat", name, Errno::NOENT))?;
        let mut writer = kind.begin(folder.as_fd(), &store.path.join(name), request, kept)?;
        let pass = pass(writer.as_mut(), folder.as_fd())?;
        drop(writer);
        sys::failpoint::hit("layer.stage.meta");
        self.write_meta(kind, &folder, pass)
    }

    fn write_meta(&self, kind: &dyn Store, folder: &OwnedFd, pass: Pass) -> Result<LayerInfo, LayerError> {
        let meta = Meta {
            version: META_VERSION,
            kind: kind.kind().to_owned(),
            diff_id: pass.diff_id,
            size_bytes: pass.written.size_bytes,
            entry_count: pass.written.entry_count,
            max_id: pass.written.max_id,
            compression: pass.compression,
            boot_id: sys::boot::id()?,
            stored_bytes: pass.written.stored_bytes,
            index_digest: pass.written.index_digest,
            facts: pass.written.facts,
        };
        let path = self.store.path.join(&self.claim.folder).join(META_NAME);
        let text = serde_json::to_vec(&meta).map_err(|e| LayerError::DataCorrupt {
            path: path.display().to_string(),
            detail: e.to_string(),
        })?;
        if text.len() as u64 > META_BYTES_MAX {
            return Err(LayerError::LimitExceeded {
                limit: "meta_bytes",
                limit_value: META_BYTES_MAX,
                actual: text.len() as u64,
                subject: meta.diff_id.to_string(),
            });
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(folder, META_NAME, flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| io("openat", META_NAME.as_bytes(), errno))?;
        std::io::Write::write_all(&mut std::fs::File::from(fd), &text)
            .map_err(|e| IoError::from_std("write", &path, &e))?;
        let layer_id = self.layer_id.clone().unwrap_or_else(|| LayerId::from_diff_id(&meta.diff_id));
        Ok(meta.into_info(layer_id))
    }

    /// Gives a written import its name, or drops it where the layer is there already.
    fn name_import(&self, info: LayerInfo) -> Result<LayerInfo, LayerError> {
        let (store, folder) = (self.store, self.claim.folder.as_str());
        let target = staged_name(&info.layer_id);
        let _claim = store.claim(&target, &|| false)?;
        if let Some(known) = store.find(&info.layer_id)? {
            store.remove_folder(folder)?;
            return Ok(known);
        }
        store.remove_folder(&target)?;
        sys::failpoint::hit("layer.stage.name");
        rustix::fs::renameat_with(&store.root, folder, &store.root, &target, RenameFlags::NOREPLACE)
            .map_err(|errno| store.error("renameat2", folder, errno))?;
        Ok(info)
    }
}
