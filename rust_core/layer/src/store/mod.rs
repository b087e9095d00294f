//! The layer store: one folder a layer, staged out of sight, published by rename, removed by rename first.
//!
//! ```text
//! <data root>/layers/<layer id>/            visible: meta.json and what the store kind keeps; layers of both kinds may
//!                                           stand beside each other
//! <data root>/layers/.staged-<layer id>/    not visible yet; whole once it has a meta.json of this boot
//! <data root>/layers/.staged-import-<n>/    being written, its id not known yet
//! <data root>/layers/.deleted-<n>-…/        being removed
//! ```

mod replace;
mod staging;
mod verify;

use std::collections::HashSet;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use errors::IoError;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::directory::DirectoryStore;
use crate::erofs::{self, ErofsStore};
use crate::error::shown;
use crate::limits::META_BYTES_MAX;
use crate::meta::{Meta, META_VERSION};
use crate::port::Store;
use crate::tree;
use crate::{LayerError, LayerId, LayerInfo, LowerView};

const STAGED_PREFIX: &str = ".staged-";
const IMPORT_PREFIX: &str = ".staged-import-";
const DELETED_PREFIX: &str = ".deleted-";
const META_NAME: &str = "meta.json";
/// Setuid programs of images must not be reachable by users of the host.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o700);

pub use staging::{LayerStage, OpenedStage};
pub use verify::Verified;

/// The layers below `<data root>/layers`. Safe to share between threads.
#[derive(Debug)]
pub struct LayerStore {
    root: OwnedFd,
    path: PathBuf,
    /// Each kind there is, so that layers of any kind are read.
    kinds: [Box<dyn Store>; 2],
    /// The kind in which new layers are written.
    chosen: usize,
    /// Why `auto` did not choose `erofs`; empty if it did, or was not asked.
    choice_detail: String,
    /// Where lower layers are looked for that are not here.
    below: Option<Arc<LayerStore>>,
    writing: Mutex<HashSet<String>>,
    publishing: Mutex<()>,
    written: Condvar,
    counter: AtomicU64,
}

impl LayerStore {
    /// Opens the store below `data_root`, its folder made if absent (mode 0700). `kind` is how new layers are written:
    /// `directory`, `erofs`, or `auto`, which is `erofs` where a try succeeds and `directory` elsewhere. Layers of any
    /// kind are read. Blocking.
    ///
    /// # Errors
    /// `KERNEL_FEATURE_MISSING` for `erofs` where a try fails, and for a kind that there is not; `IO_FAILED`,
    /// `STORAGE_FULL`.
    pub fn open(data_root: &Path, kind: &str) -> Result<Self, LayerError> {
        if !matches!(kind, "directory" | "erofs" | "auto") {
            return Err(feature_missing(format!("the layer store kind {}", shown(kind.as_bytes()))));
        }
        let path = data_root.join("layers");
        match rustix::fs::mkdir(&path, FOLDER_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(IoError::new("mkdir", &path, errno.raw_os_error()).into()),
        }
        let root = tree::open_root(&path)?;
        let (writing, written) = (Mutex::default(), Condvar::new());
        let kinds: [Box<dyn Store>; 2] = [Box::new(DirectoryStore), Box::new(ErofsStore::default())];
        let (chosen, choice_detail, counter) = (0, String::new(), AtomicU64::new(0));
        let below = None;
        let publishing = Mutex::default();
        let mut store =
            Self { root, path, kinds, chosen, choice_detail, below, writing, publishing, written, counter };
        if kind != "directory" {
            match store.try_erofs() {
                Ok(()) => store.chosen = 1,
                Err(error) if kind == "auto" => store.choice_detail = error.to_string(),
                Err(error @ LayerError::Mount { .. }) => {
                    return Err(feature_missing(format!("the layer store kind erofs ({error})")));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(store)
    }

    /// As `open`, for a store in which layers of the store `below` are made again: layers that it settles may stand on
    /// those of `below`. Blocking.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_beside(data_root: &Path, kind: &str, below: Arc<Self>) -> Result<Self, LayerError> {
        Ok(Self { below: Some(below), ..Self::open(data_root, kind)? })
    }

    /// The kind in which new layers are written.
    pub fn kind(&self) -> &'static str {
        self.kinds[self.chosen].kind()
    }

    /// Why `auto` did not choose `erofs`, in words; empty if it did, or was not asked.
    pub fn choice_detail(&self) -> &str {
        &self.choice_detail
    }

    /// Tries a layer of the kind `erofs` in a folder of its own, which is gone afterwards.
    fn try_erofs(&self) -> Result<(), LayerError> {
        // `recover` sweeps it if this process dies here.
        let name = format!("{IMPORT_PREFIX}probe-{}", std::process::id());
        self.remove_folder(&name)?;
        rustix::fs::mkdirat(&self.root, &name, FOLDER_MODE)
            .map_err(|errno| self.error("mkdirat", &name, errno))?;
        let folder = self.open_folder(&name)?.ok_or_else(|| self.error("openat", &name, Errno::NOENT))?;
        let tried = erofs::probe(folder.as_fd(), &self.path.join(&name));
        let removed = self.remove_folder(&name);
        tried.and(removed)
    }

    /// The kind that wrote the layer in an open folder.
    fn kind_of(&self, folder: BorrowedFd<'_>, name: &str) -> Result<&dyn Store, LayerError> {
        for kind in &self.kinds {
            if kind.has(folder)? {
                return Ok(kind.as_ref());
            }
        }
        let path = self.path.join(name).display().to_string();
        Err(LayerError::DataCorrupt { path, detail: "the folder holds no layer".to_owned() })
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
        let is_known = self.kinds.iter().any(|kind| kind.kind() == meta.kind);
        if meta.version != META_VERSION || !is_known {
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
        for layer_id in self.ids()? {
            layers.extend(self.stat(&layer_id)?);
        }
        Ok(layers)
    }

    /// The ids of all visible layers, no order, damaged ones included. Blocking.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn ids(&self) -> Result<Vec<LayerId>, LayerError> {
        Ok(self.names()?.iter().filter_map(|name| LayerId::parse(name).ok()).collect())
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

    /// Every layer of `layer_ids` is visible and durable: one sync of the file system, then one rename each. Layers
    /// that are visible already are skipped; if all are, nothing is synced. Idempotent. Durable. Blocking.
    ///
    /// # Errors
    /// `LAYER_NOT_FOUND` for one that is neither staged nor visible, before anything is made visible; `IO_FAILED`,
    /// `STORAGE_FULL`: some may be visible then, and a retry does the rest.
    pub fn publish(&self, layer_ids: &[LayerId]) -> Result<(), LayerError> {
        // One at a time: what is visible to the next is durable too.
        let _lock = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut staged = Vec::new();
        for layer_id in layer_ids {
            if self.stat(layer_id)?.is_none() {
                if self.stat_staged(layer_id)?.is_none() {
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
                // It stands twice in `layer_ids`.
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
        for kind in &self.kinds {
            kind.forget(&self.path.join(layer_id.as_str()));
        }
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

    /// The folder of a whole layer, visible or staged, and its name.
    fn folder_of(&self, layer_id: &LayerId) -> Result<(OwnedFd, String), LayerError> {
        let visible = layer_id.to_string();
        if let Some(folder) = self.open_folder(&visible)? {
            return Ok((folder, visible));
        }
        let staged = staged_name(layer_id);
        match (self.stat_staged(layer_id)?, self.open_folder(&staged)?) {
            (Some(_), Some(folder)) => Ok((folder, staged)),
            // It may have been published between the looks.
            _ => match self.open_folder(&visible)? {
                Some(folder) => Ok((folder, visible)),
                None => Err(LayerError::NotFound { layer_id: visible }),
            },
        }
    }

    /// The absolute path to give to overlay as `lowerdir+`, for a visible layer: it holds as long as this value does
    /// and the layer is not deleted, for this process and any other in its mount and pid namespaces that may look into
    /// it. A layer of the kind `erofs` is mounted when it is first asked for, once for all. Blocking.
    ///
    /// # Errors
    /// `LAYER_NOT_FOUND`, `IO_FAILED`; `KERNEL_FEATURE_MISSING` where this kernel cannot show a layer of its kind;
    /// `DATA_CORRUPT`.
    pub fn lower_path(&self, layer_id: &LayerId) -> Result<PathBuf, LayerError> {
        let Some(folder) = self.open_folder(layer_id.as_str())? else {
            return Err(LayerError::NotFound { layer_id: layer_id.to_string() });
        };
        let kind = self.kind_of(folder.as_fd(), layer_id.as_str())?;
        kind.lower_path(&self.path.join(layer_id.as_str()))
    }

    /// The root of a whole layer, visible or staged.
    fn open_layer(&self, layer_id: &LayerId) -> Result<OwnedFd, LayerError> {
        let (folder, name) = self.folder_of(layer_id)?;
        self.kind_of(folder.as_fd(), &name)?.open_root(&self.path.join(&name))
    }

    /// A view over layers that are visible or staged, given lowest first; it keeps them open. Blocking.
    ///
    /// # Errors
    /// As `lower_path`.
    pub fn lower_view(&self, layer_ids: &[LayerId]) -> Result<LowerView, LayerError> {
        let open = |layer_id| match (self.open_layer(layer_id), &self.below) {
            (Err(LayerError::NotFound { .. }), Some(below)) => below.open_layer(layer_id),
            (opened, _) => opened,
        };
        Ok(LowerView::new(layer_ids.iter().map(open).collect::<Result<_, _>>()?))
    }
}

fn feature_missing(feature: String) -> LayerError {
    let kernel_release = rustix::system::uname().release().to_string_lossy().into_owned();
    LayerError::FeatureMissing { feature, kernel_release }
}

fn staged_name(layer_id: &LayerId) -> String {
    format!("{STAGED_PREFIX}{layer_id}")
}
