//! What an overlay is made of, decided before anything is mounted.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::MountError;

/// The most lower directories that the kernel stacks in one overlay.
///
/// Source: OVL_MAX_STACK in fs/overlayfs/params.c.
pub const MAX_LOWER_DIRS: usize = 500;

/// The longest value that fsconfig(2) takes as a string, without its end.
///
/// Source: `strndup_user(_value, 256)` in fs/fsopen.c.
pub(crate) const MAX_STRING_VALUE_BYTES: usize = 255;

/// Options that are written down because the kernel's own defaults depend on its configuration: a layer comes from
/// a stranger, and an upper must stay a plain difference.
///
/// Source: Documentation/filesystems/overlayfs.rst, "Metadata only copy up": never with untrusted layers.
///
/// `xino` makes files of all layers appear on one device though layers that are images are file systems of their own
/// ("Inode properties" there): find -xdev and the like would stop at a layer else. Where all layers are on one file
/// system it changes nothing.
pub(crate) const FIXED_OPTIONS: [(&str, &str); 4] =
    [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off"), ("xino", "on")];

/// A checked overlay: at least one and at most [`MAX_LOWER_DIRS`] lower directories, all paths absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayPlan {
    lower_dirs: Vec<PathBuf>,
    upper_dir: PathBuf,
    work_dir: PathBuf,
    is_volatile: bool,
    label: String,
}

impl OverlayPlan {
    /// A plan for these directories.
    ///
    /// `lower_dirs` is top-most first. `upper_dir` and `work_dir` lie on one file system and belong to no other
    /// overlay. No path is looked at yet.
    ///
    /// # Errors
    /// [`MountError::TooManyLayers`]; [`MountError::PlanInvalid`] for no lower directory, a relative path, or an
    /// upper that is also the work directory.
    pub fn new(lower_dirs: Vec<PathBuf>, upper_dir: PathBuf, work_dir: PathBuf) -> Result<Self, MountError> {
        if lower_dirs.len() > MAX_LOWER_DIRS {
            return Err(MountError::TooManyLayers {
                actual: lower_dirs.len(),
                limit: MAX_LOWER_DIRS,
                path: upper_dir,
            });
        }
        if lower_dirs.is_empty() {
            return Err(MountError::PlanInvalid {
                path: upper_dir,
                rule: "there is at least one lower directory",
            });
        }
        if let Some(path) =
            lower_dirs.iter().chain([&upper_dir, &work_dir]).find(|path| !path.is_absolute() || has_nul(path))
        {
            return Err(MountError::PlanInvalid {
                path: path.clone(),
                rule: "every path is absolute and without NUL",
            });
        }
        if upper_dir == work_dir {
            return Err(MountError::PlanInvalid {
                path: upper_dir,
                rule: "the work directory is not the upper directory",
            });
        }
        Ok(Self { lower_dirs, upper_dir, work_dir, is_volatile: false, label: String::new() })
    }

    /// The same plan, whose upper is never synced: unmounting costs no write-back, and after a crash, or a second
    /// mount of the same work directory, the upper must be thrown away (the kernel refuses it).
    ///
    /// Source: Documentation/filesystems/overlayfs.rst, "Volatile mount"; Linux 5.10.
    #[must_use]
    pub fn volatile(mut self) -> Self {
        self.is_volatile = true;
        self
    }

    /// The same plan; all files show the SELinux label `label`, unless that is empty, and cannot be given another. What
    /// the layers have counts only for who mounts the overlay.
    ///
    /// Source: Documentation/filesystems/overlayfs.rst, "Permission model".
    #[must_use]
    pub fn labelled(mut self, label: &str) -> Self {
        label.clone_into(&mut self.label);
        self
    }

    /// Lower directories, top-most first.
    #[must_use]
    pub fn lower_dirs(&self) -> &[PathBuf] {
        &self.lower_dirs
    }

    /// The writable layer.
    #[must_use]
    pub fn upper_dir(&self) -> &Path {
        &self.upper_dir
    }

    /// The kernel's scratch directory beside it.
    #[must_use]
    pub fn work_dir(&self) -> &Path {
        &self.work_dir
    }

    /// Whether syncs are skipped.
    #[must_use]
    pub fn is_volatile(&self) -> bool {
        self.is_volatile
    }

    /// The SELinux label of all files; empty for none.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }
}

fn has_nul(path: &Path) -> bool {
    path.as_os_str().as_bytes().contains(&0)
}

/// Whether the kernel takes this path as a string and means the same by it: not too long, and nothing in it that
/// overlay's own parser would unescape (`\`).
pub(crate) fn fits_string_value(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.len() <= MAX_STRING_VALUE_BYTES && !bytes.contains(&b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(count: usize) -> Result<OverlayPlan, MountError> {
        let lowers = (0..count).map(|n| PathBuf::from(format!("/l/{n}"))).collect();
        OverlayPlan::new(lowers, "/c/upper".into(), "/c/work".into())
    }

    #[test]
    fn five_hundred_layers_are_the_limit_and_the_error_names_it() {
        assert_eq!(plan(500).unwrap().lower_dirs().len(), 500);
        let error = plan(501).unwrap_err();
        assert_eq!(error, MountError::TooManyLayers { actual: 501, limit: 500, path: "/c/upper".into() });
        assert!(error.to_string().contains("MAX_LOWER_DIRS is 500"), "{error}");
    }

    #[test]
    fn a_plan_without_layers_or_with_a_relative_path_is_refused() {
        assert!(matches!(plan(0), Err(MountError::PlanInvalid { .. })));
        let relative = OverlayPlan::new(vec!["l".into()], "/u".into(), "/w".into());
        assert!(matches!(relative, Err(MountError::PlanInvalid { path, .. }) if path == Path::new("l")));
        let same = OverlayPlan::new(vec!["/l".into()], "/u".into(), "/u".into());
        assert!(matches!(same, Err(MountError::PlanInvalid { .. })));
    }

    #[test]
    fn long_paths_and_backslashes_go_by_descriptor() {
        assert!(fits_string_value(Path::new("/a:b,c d")));
        assert!(!fits_string_value(Path::new("/a\\b")));
        assert!(!fits_string_value(Path::new(&format!("/{}", "x".repeat(255)))));
        assert!(fits_string_value(Path::new(&format!("/{}", "x".repeat(254)))));
    }
}
