//! Stores layers one after another as an engine would, and shows them through a real overlay mount.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use content::{Algorithm, Digest};
use layer::{
    needs_finish, Finish, LayerError, LayerId, LayerInfo, LayerStore, Limits, OpenedStage, StageRequest,
};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::tar_writer::{tar, Item};

/// The store of the kind that the suite runs on, or of `directory` where this kernel has no other. A suite of both kinds
/// writes every second layer through a store of the other.
pub fn open_store(root: &Path) -> LayerStore {
    let kind = if crate::KIND == "mixed" { "erofs" } else { crate::KIND };
    match LayerStore::open(root, kind) {
        Err(error @ LayerError::FeatureMissing { .. }) if kind == "erofs" => {
            eprintln!("run on the kind directory: {error}");
            LayerStore::open(root, "directory").unwrap()
        }
        store => store.unwrap(),
    }
}

/// A store in a directory of its own and the layers stacked in it so far.
pub struct Image {
    pub store: LayerStore,
    /// Writes every second layer of a mixed image.
    other: Option<LayerStore>,
    pub root: tempfile::TempDir,
    pub stack: Vec<LayerId>,
    pub finished_count: usize,
}

impl Image {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self::over(root)
    }

    /// As `new`, in a given directory.
    pub fn over(root: tempfile::TempDir) -> Self {
        let store = open_store(root.path());
        let other = (crate::KIND == "mixed").then(|| LayerStore::open(root.path(), "directory").unwrap());
        Self { store, other, root, stack: Vec::new(), finished_count: 0 }
    }

    /// An image of layers given lowest first.
    pub fn of(layers: &[&[Item]]) -> Self {
        let mut image = Self::new();
        for items in layers {
            image.add(&tar(items)).unwrap();
        }
        image
    }

    /// Stores a layer by itself, whatever lies below it.
    pub fn stage(&self, blob: &[u8]) -> Result<LayerInfo, LayerError> {
        self.stage_with(blob, &Limits::default())
    }

    pub fn stage_with(&self, blob: &[u8], limits: &Limits) -> Result<LayerInfo, LayerError> {
        let progress = AtomicU64::new(0);
        self.writer().open_import()?.write(blob, &request(limits, &progress))
    }

    /// The store that writes the next layer.
    fn writer(&self) -> &LayerStore {
        match &self.other {
            Some(other) if self.stack.len() % 2 == 1 => other,
            _ => &self.store,
        }
    }

    /// Stores a layer by itself, then settles it against those below where that changes anything.
    pub fn add(&mut self, blob: &[u8]) -> Result<LayerInfo, LayerError> {
        let info = self.stage(blob)?;
        let lowers = self.store.lower_view(&self.stack)?;
        let settled = if needs_finish(&info.facts, &lowers)? {
            self.finished_count += 1;
            let chain = format!("{:?} over {:?}", info.layer_id, self.stack);
            let chain_id = LayerId::from_chain_id(&Digest::of(Algorithm::Sha256, chain.as_bytes()));
            let (limits, progress) = (Limits::default(), AtomicU64::new(0));
            let finish = Some(Finish { facts: &info.facts, lowers: &lowers });
            let request =
                StageRequest { expected_diff_id: Some(&info.diff_id), finish, ..request(&limits, &progress) };
            match self.writer().open_stage(&chain_id, &|| false)? {
                OpenedStage::Present(info) => info,
                OpenedStage::Writing(stage) => match stage.rewrite(&info.layer_id, &request)? {
                    Some(info) => info,
                    None => stage.write(blob, &request)?,
                },
            }
        } else {
            info
        };
        self.stack.push(settled.layer_id.clone());
        Ok(settled)
    }

    /// The merged tree, through overlayfs.
    pub fn mount(self) -> Merged {
        self.store.publish(&self.stack).unwrap();
        let scratch = self.root.path().join("scratch");
        let (upper, work) = (scratch.join("upper"), scratch.join("work"));
        std::fs::create_dir_all(&upper).unwrap();
        std::fs::create_dir_all(&work).unwrap();
        let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        let set = |key: &str, value: &Path| rustix::mount::fsconfig_set_string(&fs, key, value).unwrap();
        // Overlay takes no layer twice; as the engine does, one that is named again shows at its upper place (case R16).
        let mut stacked = std::collections::HashSet::new();
        for layer_id in self.stack.iter().rev().filter(|layer_id| stacked.insert(*layer_id)) {
            set("lowerdir+", &self.store.lower_path(layer_id).unwrap());
        }
        set("upperdir", &upper);
        set("workdir", &work);
        for (key, value) in
            [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off"), ("xino", "on")]
        {
            set(key, Path::new(value));
        }
        rustix::mount::fsconfig_create(&fs).unwrap();
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let fd = rustix::mount::fsmount(&fs, flags, MountAttrFlags::empty()).unwrap();
        Merged { fd, image: self }
    }

    /// What stands in the store's folder for layers.
    pub fn folders(&self) -> Vec<String> {
        names(&self.root.path().join("layers"))
    }
}

pub fn request<'a>(limits: &'a Limits, progress: &'a AtomicU64) -> StageRequest<'a> {
    StageRequest {
        subject: "sha256:test",
        expected_diff_id: None,
        limits,
        finish: None,
        progress,
        is_cancelled: &|| false,
    }
}

/// A detached mount: no namespace shows it, and it is gone with this value.
pub struct Merged {
    pub fd: OwnedFd,
    /// What it shows; its files go after the mount.
    pub image: Image,
}

impl Merged {
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{path}", self.fd.as_raw_fd()))
    }

    pub fn lstat(&self, path: &str) -> Metadata {
        std::fs::symlink_metadata(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    pub fn read(&self, path: &str) -> String {
        String::from_utf8(std::fs::read(self.path(path)).unwrap()).unwrap()
    }

    pub fn names(&self, path: &str) -> Vec<String> {
        names(&self.path(path))
    }

    pub fn mode(&self, path: &str) -> u32 {
        self.lstat(path).mode() & 0o7777
    }

    pub fn owner(&self, path: &str) -> (u32, u32) {
        let stat = self.lstat(path);
        (stat.uid(), stat.gid())
    }

    /// Every path and what is there: `dir`, `file CONTENT`, `link TARGET`, `char`, `block`, `fifo`.
    pub fn tree(&self) -> BTreeMap<String, String> {
        tree(&self.path("."))
    }

    /// Compares the whole tree.
    pub fn assert_tree(&self, expected: &[(&str, &str)]) {
        let expected: BTreeMap<String, String> =
            expected.iter().map(|(path, what)| ((*path).to_owned(), (*what).to_owned())).collect();
        assert_eq!(self.tree(), expected);
    }
}

pub fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Every path below `root` and what is there.
pub fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![String::new()];
    while let Some(directory) = pending.pop() {
        for name in names(&root.join(&directory)) {
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            let full = root.join(&path);
            let kind = std::fs::symlink_metadata(&full).unwrap().file_type();
            let what = if kind.is_dir() {
                pending.push(path.clone());
                "dir".to_owned()
            } else if kind.is_symlink() {
                format!("link {}", std::fs::read_link(&full).unwrap().display())
            } else if kind.is_file() {
                format!("file {}", String::from_utf8_lossy(&std::fs::read(&full).unwrap()))
            } else if kind.is_char_device() {
                "char".to_owned()
            } else if kind.is_block_device() {
                "block".to_owned()
            } else {
                "fifo".to_owned()
            };
            found.insert(path, what);
        }
    }
    found
}
