//! `--cidfile`: the id of a new container in a file that was not there before.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A file that waits for an id. It goes again with this value if no id came.
#[derive(Debug, Default)]
pub struct CidFile {
    waiting: Option<(PathBuf, File)>,
}

impl CidFile {
    /// The file is made, before anything is asked of the engine.
    ///
    /// # Errors
    /// It is there already, another container's id may stand in it; or it cannot be made.
    pub fn create(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::default()) };
        match File::create_new(path) {
            Ok(file) => Ok(Self { waiting: Some((path.to_owned(), file)) }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Failure::usage(
                format!("--cidfile {} is there already", path.display()),
                "it may name another container; remove it or choose another file",
            )),
            Err(error) => Err(Failure::file("create", path, &error)),
        }
    }

    /// The id stands in the file, without a newline, as Docker has it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&mut self, id: &str) -> Result<(), Failure> {
        if let Some((path, file)) = &mut self.waiting {
            file.write_all(id.as_bytes()).map_err(|error| Failure::file("write", path, &error))?;
            self.waiting = None;
        }
        Ok(())
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if let Some((path, _)) = self.waiting.take() {
            // Nothing can be done about a file that cannot be removed, and what failed before is told already.
            let _ = std::fs::remove_file(path);
        }
    }
}
