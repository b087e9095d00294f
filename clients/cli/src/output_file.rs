//! A file that appears whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A file being written. Unless [`OutputFile::finish`] is called, what was written goes and an older file stays.
pub struct OutputFile {
    file: File,
    path: PathBuf,
    /// Where it is written until it is whole; none for a device or a pipe, which is written as it stands.
    temporary: Option<PathBuf>,
}

impl OutputFile {
    /// Begins a file beside `path`, readable by its owner only; a symbolic link keeps leading to the file.
    ///
    /// # Errors
    /// The directory is not there or cannot be written, or `path` is a directory.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let is_special = fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file());
        let temporary = if is_special {
            None
        } else {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            Some(path.with_file_name(format!(".{name}.{}", std::process::id())))
        };
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        let opened = match &temporary {
            Some(temporary) => options.create_new(true).open(temporary),
            None => options.open(&path),
        };
        let file = opened.map_err(|error| Failure::file("create", &path, &error))?;
        Ok(Self { file, path, temporary })
    }

    /// Whether something has to be removed if it is given up.
    pub fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// Writes all of `data`. Blocks.
    ///
    /// # Errors
    /// The file system refuses, as when it is full.
    pub fn write(&mut self, data: &[u8]) -> Result<(), Failure> {
        self.file.write_all(data).map_err(|error| Failure::file("write", &self.path, &error))
    }

    /// The file is on the disk, whole, under its name. Blocks.
    ///
    /// # Errors
    /// The file system refuses; an older file is still there then.
    pub fn finish(mut self) -> Result<(), Failure> {
        if let Some(temporary) = &self.temporary {
            let placed = self.file.sync_all().and_then(|()| fs::rename(temporary, &self.path));
            placed.map_err(|error| Failure::file("write", &self.path, &error))?;
            self.temporary = None;
        }
        Ok(())
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            if let Err(error) = fs::remove_file(temporary) {
                eprintln!("fluyt: cannot remove {}: {error}", temporary.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_appears_when_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let mut file = OutputFile::create(&path).unwrap();
        file.write(b"one").unwrap();
        assert!(!path.exists());
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(names(directory.path()), ["a"]);
    }

    #[test]
    fn what_is_given_up_leaves_the_older_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, b"old").unwrap();
        let mut file = OutputFile::create(&path).unwrap();
        file.write(b"new").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(directory.path()), ["a"]);
    }

    #[test]
    fn a_link_and_a_device_stay_what_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("a"), directory.path().join("link"));
        fs::write(&path, b"old").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut file = OutputFile::create(&link).unwrap();
        file.write(b"new").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), path);
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let mut null = OutputFile::create(Path::new("/dev/null")).unwrap();
        null.write(b"gone").unwrap();
        null.finish().unwrap();
    }

    #[test]
    fn a_directory_and_an_absent_one_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(OutputFile::create(directory.path()).is_err());
        assert!(OutputFile::create(&directory.path().join("absent/a")).is_err());
    }
}
