//! A container's writable layer, changed through a real overlay mount, and the layer that is made of it.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use layer::diff::{ChangeKind, TarStream, WritableTree};
use layer::{LayerError, Limits};

use crate::image::{Image, Merged};

/// A mounted tree that is being changed.
pub struct Container {
    pub merged: Merged,
}

impl Container {
    pub fn of(image: Image) -> Self {
        Self { merged: image.mount() }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.merged.path(path)
    }

    pub fn upper(&self) -> PathBuf {
        self.merged.image.root.path().join("scratch/upper")
    }

    pub fn tree(&self) -> WritableTree {
        self.tree_within(&Limits::default())
    }

    pub fn tree_within(&self, limits: &Limits) -> WritableTree {
        let image = &self.merged.image;
        let lowers = image.store.lower_view(&image.stack).unwrap();
        WritableTree::open(&self.upper(), lowers, limits, "container test").unwrap()
    }

    /// The layer of the changes.
    pub fn layer(&self) -> Vec<u8> {
        self.try_layer(&[]).unwrap()
    }

    pub fn try_layer(&self, mount_points: &[&str]) -> Result<Vec<u8>, LayerError> {
        let targets: Vec<Vec<u8>> = mount_points.iter().map(|path| path.as_bytes().to_vec()).collect();
        read(self.tree().into_layer_tar(&targets)?)
    }

    /// `A /path`, `C /path`, `D /path`, as docker diff has them.
    pub fn changes(&self, mount_points: &[&str]) -> Vec<String> {
        let targets: Vec<Vec<u8>> = mount_points.iter().map(|path| path.as_bytes().to_vec()).collect();
        let line = |change: layer::diff::Change| {
            let letter = match change.kind {
                ChangeKind::Added => 'A',
                ChangeKind::Modified => 'C',
                ChangeKind::Deleted => 'D',
            };
            format!("{letter} /{}", String::from_utf8_lossy(&change.path))
        };
        self.tree().changes(&targets, &|| false).unwrap().into_iter().map(line).collect()
    }

    /// All that there is to a tree, before and after the changes became a layer over the same ones.
    pub fn assert_extracts_the_same(self) -> Image {
        let before = facts(&self.path("."));
        let layer = self.layer();
        let Merged { fd, mut image } = self.merged;
        drop(fd);
        std::fs::remove_dir_all(image.root.path().join("scratch")).unwrap();
        image.add(&layer).unwrap();
        let merged = image.mount();
        let after = facts(&merged.path("."));
        for (path, fact) in &before {
            assert_eq!(after.get(path), Some(fact), "{path}");
        }
        assert_eq!(before.len(), after.len(), "{:?}", names(&layer));
        merged.image
    }
}

/// The whole stream.
pub fn read(mut stream: TarStream) -> Result<Vec<u8>, LayerError> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 7000]);
    loop {
        match stream.read(&mut buffer, &|| false)? {
            0 => break,
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
    assert_eq!(stream.facts().size_bytes, bytes.len() as u64);
    Ok(bytes)
}

/// Runs `tar` over an archive.
pub fn tar_command(archive: &[u8], arguments: &[&str]) -> Vec<u8> {
    use std::io::Write;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(archive).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let output = std::process::Command::new("tar").args(arguments).stdin(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The names in an archive, as GNU tar reads them.
pub fn names(archive: &[u8]) -> Vec<String> {
    let listed = String::from_utf8(tar_command(archive, &["-t", "--quoting-style=literal"])).unwrap();
    listed.lines().map(str::to_owned).collect()
}

/// Path -> all that a tree is told apart by.
pub fn facts(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut first_names: BTreeMap<u64, String> = BTreeMap::new();
    let mut pending = vec![String::new()];
    let mut all = Vec::new();
    while let Some(path) = pending.pop() {
        let full = root.join(&path);
        if std::fs::symlink_metadata(&full).unwrap().is_dir() {
            for entry in std::fs::read_dir(&full).unwrap() {
                let name = entry.unwrap().file_name().to_string_lossy().into_owned();
                pending.push(if path.is_empty() { name } else { format!("{path}/{name}") });
            }
        }
        all.push(path);
    }
    all.sort();
    for path in all {
        let full = root.join(&path);
        let meta = std::fs::symlink_metadata(&full).unwrap();
        let kind = meta.file_type();
        let mut fact = if kind.is_dir() {
            "dir".to_owned()
        } else if kind.is_symlink() {
            format!("link {}", std::fs::read_link(&full).unwrap().display())
        } else if kind.is_file() {
            format!(
                "file {:?}",
                content::Digest::of(content::Algorithm::Sha256, &std::fs::read(&full).unwrap())
            )
        } else if kind.is_socket() {
            // Left out of every layer.
            continue;
        } else {
            format!("{} {}", if kind.is_fifo() { "fifo" } else { "device" }, meta.rdev())
        };
        fact += &format!(" {:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
        if !path.is_empty() {
            fact += &format!(" {}.{}", meta.mtime(), meta.mtime_nsec());
        }
        if !kind.is_dir() && meta.nlink() > 1 {
            fact += &format!(" same as {}", first_names.entry(meta.ino()).or_insert_with(|| path.clone()));
        }
        for name in ["user.note", "security.capability", "system.posix_acl_access"] {
            let mut value = [0; 256];
            if let Ok(size) = rustix::fs::lgetxattr(&full, name, &mut value) {
                fact += &format!(" {name}={:?}", &value[..size]);
            }
        }
        found.insert(path, fact);
    }
    found
}
