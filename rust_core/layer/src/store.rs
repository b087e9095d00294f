//! The layer store: one folder a layer, staged out of sight, published by rename, removed by rename first.
//!
//! ```text
//! <data root>/layers/<layer id>/            visible: meta.json and what the store kind keeps
//! <data root>/layers/.staged-<layer id>/    not visible yet; whole once it has a meta.json of this boot
//! <data root>/layers/.staged-import-<n>/    being written, its id not known yet
//! <data root>/layers/.deleted-<n>-…/        being removed
//! ```

use std::collections::HashSet;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use errors::IoError;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::directory::DirectoryStore;
use crate::error::shown;
use crate::limits::META_BYTES_MAX;
use crate::meta::{Meta, META_VERSION};
use crate::port::Store;
use crate::stage::{self, Pass, StageRequest};
use crate::tree::{self, io};
use crate::{LayerError, LayerId, LayerInfo, LowerView};

const STAGED_PREFIX: &str = ".staged-";
const IMPORT_PREFIX: &str = ".staged-import-";
const DELETED_PREFIX: &str = ".deleted-";
const META_NAME: &str = "meta.json";
/// How long a waiting opener sleeps before it looks at its cancel flag again.
const CANCEL_POLL: Duration = Duration::from_millis(50);
/// Setuid programs of images must not be reachable by users of the host.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o700);

/// The layers below `<data root>/layers`. Safe to share between threads.
#[derive(Debug)]
pub struct LayerStore {
    root: OwnedFd,
    path: PathBuf,
    kind: Box<dyn Store>,
    writing: Mutex<HashSet<String>>,
    written: Condvar,
    counter: AtomicU64,
}

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
struct Claim<'s> {
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
    /// Opens the store below `data_root`, its folder made if absent (mode 0700). `kind`: `directory`. Blocking.
    ///
    /// # Errors
    /// `KERNEL_FEATURE_MISSING` for another kind; `IO_FAILED`, `STORAGE_FULL`.
    pub fn open(data_root: &Path, kind: &str) -> Result<Self, LayerError> {
        let kind: Box<dyn Store> = match kind {
            "directory" => Box::new(DirectoryStore),
            _ => {
                let release = rustix::system::uname().release().to_string_lossy().into_owned();
                let feature = format!("the layer store kind {}", shown(kind.as_bytes()));
                return Err(LayerError::FeatureMissing { feature, kernel_release: release });
            }
        };
        let path = data_root.join("layers");
        match rustix::fs::mkdir(&path, FOLDER_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(IoError::new("mkdir", &path, errno.raw_os_error()).into()),
        }
        let root = tree::open_root(&path)?;
        let (writing, written) = (Mutex::default(), Condvar::new());
        Ok(Self { root, path, kind, writing, written, counter: AtomicU64::new(0) })
    }

    fn lock_writing(&self) -> MutexGuard<'_, HashSet<String>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, operation: &'static str, name: &str, errno: Errno) -> LayerError {
        IoError::new(operation, self.path.join(name), errno.raw_os_error()).into()
    }

    fn open_folder(&self, name: &str) -> Result<Option<OwnedFd>, LayerError> {
        match tree::open_dir_readable(self.root.as_fd(), name.as_bytes()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("openat", name, errno)),
        }
    }

    fn read_meta(&self, name: &str) -> Result<Option<Meta>, LayerError> {
        let Some(folder) = self.open_folder(name)? else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let path = self.path.join(name).join(META_NAME);
        let file = match rustix::fs::openat(&folder, META_NAME, flags, Mode::empty()) {
            Ok(fd) => std::fs::File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(IoError::new("openat", &path, errno.raw_os_error()).into()),
        };
        let mut text = Vec::new();
        file.take(META_BYTES_MAX).read_to_end(&mut text).map_err(|e| IoError::from_std("read", &path, &e))?;
        let corrupt = |detail| LayerError::DataCorrupt { path: path.display().to_string(), detail };
        let meta: Meta = serde_json::from_slice(&text).map_err(|e| corrupt(e.to_string()))?;
        if meta.version != META_VERSION || meta.kind != self.kind.kind() {
            return Err(corrupt(format!("version {} of kind {:?} is not known", meta.version, meta.kind)));
        }
        Ok(Some(meta))
    }

    /// A visible layer, or `None`. Blocking.
    ///
    /// # Errors
    /// `IO_FAILED`; `DATA_CORRUPT` for a damaged `meta.json`.
    pub fn stat(&self, layer_id: &LayerId) -> Result<Option<LayerInfo>, LayerError> {
        match self.read_meta(layer_id.as_str())? {
            Some(meta) => Ok(Some(meta.into_info(layer_id.clone()))),
            None => Ok(None),
        }
    }

    fn stat_staged(&self, layer_id: &LayerId) -> Result<Option<LayerInfo>, LayerError> {
        match self.read_meta(&staged_name(layer_id)) {
            Ok(Some(meta)) if meta.boot_id == sys::boot::id()? => Ok(Some(meta.into_info(layer_id.clone()))),
            // Another boot's, or half written when the process died: as good as absent.
            Ok(_) | Err(LayerError::DataCorrupt { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A layer that is whole, visible or staged, or `None`. Blocking.
    ///
    /// # Errors
    /// As `stat`.
    pub fn find(&self, layer_id: &LayerId) -> Result<Option<LayerInfo>, LayerError> {
        if let Some(info) = self.stat(layer_id)? {
            return Ok(Some(info));
        }
        match self.stat_staged(layer_id)? {
            Some(info) => Ok(Some(info)),
            // It may have been published between the two looks.
            None => self.stat(layer_id),
        }
    }

    fn names(&self) -> Result<Vec<String>, LayerError> {
        let failed = |errno| self.error("getdents64", "", errno);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.root).map_err(failed)? {
            if let Ok(name) = entry.map_err(failed)?.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// All visible layers, no order. Blocking.
    ///
    /// # Errors
    /// As `stat`.
    pub fn list(&self) -> Result<Vec<LayerInfo>, LayerError> {
        let mut layers = Vec::new();
        for name in self.names()? {
            let Ok(layer_id) = LayerId::parse(&name) else { continue };
            layers.extend(self.stat(&layer_id)?);
        }
        Ok(layers)
    }

    /// What is not visible: layers staged or being written by their id (or `import-…`), and removals that were cut
    /// short, as `.deleted-…`. No order. Blocking.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn list_staged(&self) -> Result<Vec<String>, LayerError> {
        let short = |name: String| match name.strip_prefix(STAGED_PREFIX) {
            Some(id) => Some(id.to_owned()),
            None => name.starts_with(DELETED_PREFIX).then_some(name),
        };
        Ok(self.names()?.into_iter().filter_map(short).collect())
    }

    /// The staged layer or cut-short removal that `list_staged` named is gone with all its files, unless this process
    /// writes it right now: that one is left alone. Idempotent. Blocking.
    ///
    /// # Errors
    /// `LAYER_NOT_FOUND` for a name that `list_staged` cannot give; `IO_FAILED`.
    pub fn delete_staged(&self, name: &str) -> Result<(), LayerError> {
        let id = name.strip_prefix(STAGED_PREFIX).unwrap_or(name);
        let is_safe = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let folder = match name.strip_prefix(DELETED_PREFIX) {
            Some(rest) if is_safe(rest) => name.to_owned(),
            None if is_safe(id) && !id.is_empty() => format!("{STAGED_PREFIX}{id}"),
            _ => return Err(LayerError::NotFound { layer_id: shown(name.as_bytes()) }),
        };
        let Some(_claim) = self.try_claim(&folder) else { return Ok(()) };
        sys::failpoint::hit("layer.staged.delete");
        self.remove_folder(&folder)
    }

    /// The folder is gone: its meta.json first, so that what is left is never taken for whole.
    fn remove_folder(&self, folder: &str) -> Result<(), LayerError> {
        if let Some(fd) = self.open_folder(folder)? {
            match rustix::fs::unlinkat(&fd, META_NAME, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(self.error("unlinkat", folder, errno)),
            }
        }
        Ok(tree::remove(self.root.as_fd(), folder.as_bytes())?)
    }

    fn try_claim(&self, folder: &str) -> Option<Claim<'_>> {
        let is_new = self.lock_writing().insert(folder.to_owned());
        is_new.then(|| Claim { store: self, folder: folder.to_owned() })
    }

    fn claim(&self, folder: &str, is_cancelled: &dyn Fn() -> bool) -> Result<Claim<'_>, LayerError> {
        let mut writing = self.lock_writing();
        while writing.contains(folder) {
            if is_cancelled() {
                return Err(LayerError::Cancelled { subject: folder.to_owned() });
            }
            writing = self.written.wait_timeout(writing, CANCEL_POLL).unwrap_or_else(PoisonError::into_inner).0;
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

    /// Every layer of `layer_ids` is visible and durable: one sync of the file system, then one rename each. Layers
    /// that are visible already are skipped; if all are, nothing is synced. Idempotent. Durable. Blocking.
    ///
    /// # Errors
    /// `LAYER_NOT_FOUND` for one that is neither staged nor visible, before anything is made visible; `IO_FAILED`,
    /// `STORAGE_FULL`: some may be visible then, and a retry does the rest.
    pub fn publish(&self, layer_ids: &[LayerId]) -> Result<(), LayerError> {
        let mut staged = Vec::new();
        for layer_id in layer_ids {
            if self.stat(layer_id)?.is_none() {
                if self.stat_staged(layer_id)?.is_none() && self.stat(layer_id)?.is_none() {
                    return Err(LayerError::NotFound { layer_id: layer_id.to_string() });
                }
                staged.push(layer_id);
            }
        }
        if staged.is_empty() {
            return Ok(());
        }
        sys::failpoint::hit("layer.publish.sync");
        rustix::fs::syncfs(&self.root).map_err(|errno| self.error("syncfs", "", errno))?;
        for layer_id in staged {
            sys::failpoint::hit("layer.publish.rename");
            let (from, to) = (staged_name(layer_id), layer_id.as_str());
            let renamed =
                rustix::fs::renameat_with(&self.root, &from, &self.root, to, RenameFlags::NOREPLACE);
            match renamed {
                Ok(()) => {}
                // Another thread published it since we looked.
                Err(Errno::NOENT | Errno::EXIST) if self.stat(layer_id)?.is_some() => {}
                Err(errno) => return Err(self.error("renameat2", &from, errno)),
            }
        }
        rustix::fs::fsync(&self.root).map_err(|errno| self.error("fsync", "", errno))
    }

    /// The layer is gone: out of sight by one rename, then its files by fd, no link followed. A removal that is cut
    /// short goes on by `recover`. Idempotent. Blocking.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn delete(&self, layer_id: &LayerId) -> Result<(), LayerError> {
        let folder = loop {
            let number = self.counter.fetch_add(1, Ordering::Relaxed);
            let folder = format!("{DELETED_PREFIX}{number}-{layer_id}");
            sys::failpoint::hit("layer.delete.rename");
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(&self.root, layer_id.as_str(), &self.root, &folder, flags) {
                Ok(()) => break folder,
                Err(Errno::NOENT) => return Ok(()),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.error("renameat2", layer_id.as_str(), errno)),
            }
        };
        sys::failpoint::hit("layer.delete.remove");
        Ok(tree::remove(self.root.as_fd(), folder.as_bytes())?)
    }

    /// Finishes removals that were cut short and drops staged layers that are not whole; layers being written by this
    /// process and whole staged ones stay. Returns the folders removed. For the start of the engine. Blocking.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn recover(&self) -> Result<Vec<String>, LayerError> {
        let mut removed = Vec::new();
        for name in self.list_staged()? {
            let is_whole = match LayerId::parse(&name) {
                Ok(layer_id) => self.stat_staged(&layer_id)?.is_some(),
                Err(_) => false,
            };
            if !is_whole {
                self.delete_staged(&name)?;
                removed.push(name);
            }
        }
        Ok(removed)
    }

    fn folder_of(&self, layer_id: &LayerId) -> Result<PathBuf, LayerError> {
        if self.open_folder(layer_id.as_str())?.is_some() {
            return Ok(self.path.join(layer_id.as_str()));
        }
        match self.stat_staged(layer_id)? {
            Some(_) => Ok(self.path.join(staged_name(layer_id))),
            None => Err(LayerError::NotFound { layer_id: layer_id.to_string() }),
        }
    }

    /// The absolute path to give to overlay as `lowerdir+`, for a visible layer. Blocking.
    ///
    /// # Errors
    /// `LAYER_NOT_FOUND`, `IO_FAILED`.
    pub fn lower_path(&self, layer_id: &LayerId) -> Result<PathBuf, LayerError> {
        if self.open_folder(layer_id.as_str())?.is_none() {
            return Err(LayerError::NotFound { layer_id: layer_id.to_string() });
        }
        Ok(self.kind.lower_path(&self.path.join(layer_id.as_str())))
    }

    /// A view over layers that are visible or staged, given lowest first; it keeps them open. Blocking.
    ///
    /// # Errors
    /// `LAYER_NOT_FOUND`, `IO_FAILED`.
    pub fn lower_view(&self, layer_ids: &[LayerId]) -> Result<LowerView, LayerError> {
        let open = |layer_id| self.kind.open_root(&self.folder_of(layer_id)?);
        Ok(LowerView::new(layer_ids.iter().map(open).collect::<Result<_, _>>()?))
    }
}

fn staged_name(layer_id: &LayerId) -> String {
    format!("{STAGED_PREFIX}{layer_id}")
}

impl LayerStage<'_> {
    /// The layer is staged: read from `source` to its end, verified, whole, not yet visible. On any failure nothing of
    /// it stays. The source is read on a thread of this call's own. Blocking.
    ///
    /// # Errors
    /// `LAYER_REJECTED`, `LAYER_CORRUPT`, `DIFF_ID_MISMATCH`, `LIMIT_EXCEEDED`, `STORAGE_FULL`, `IO_FAILED`,
    /// `CANCELLED`; [`LayerError::Source`] where reading `source` failed.
    pub fn write<R: Read + Send>(
        self,
        source: R,
        request: &StageRequest<'_>,
    ) -> Result<LayerInfo, LayerError> {
        let folder = self.claim.folder.as_str();
        let result = self.write_folder(source, request).and_then(|info| match self.layer_id {
            Some(_) => Ok(info),
            None => self.name_import(info),
        });
        if result.is_err() {
            // The first failure is the one to tell; what cannot be removed now is swept by `recover`.
            let _ = self.store.remove_folder(folder);
        }
        result
    }

    fn write_folder<R: Read + Send>(
        &self,
        source: R,
        request: &StageRequest<'_>,
    ) -> Result<LayerInfo, LayerError> {
        let (store, name) = (self.store, self.claim.folder.as_str());
        store.remove_folder(name)?;
        sys::failpoint::hit("layer.stage.begin");
        rustix::fs::mkdirat(&store.root, name, FOLDER_MODE)
            .map_err(|errno| store.error("mkdirat", name, errno))?;
        let folder = store.open_folder(name)?.ok_or_else(|| store.error("openat", name, Errno::NOENT))?;
        let mut writer = store.kind.begin(folder.as_fd(), &store.path.join(name), request)?;
        let pass = stage::run(source, writer.as_mut(), request)?;
        drop(writer);
        sys::failpoint::hit("layer.stage.meta");
        self.write_meta(&folder, pass)
    }

    fn write_meta(&self, folder: &OwnedFd, pass: Pass) -> Result<LayerInfo, LayerError> {
        let meta = Meta {
            version: META_VERSION,
            kind: self.store.kind.kind().to_owned(),
            diff_id: pass.diff_id,
            size_bytes: pass.written.size_bytes,
            entry_count: pass.written.entry_count,
            compression: pass.compression,
            boot_id: sys::boot::id()?,
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
