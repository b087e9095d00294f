//! Small files that an administrator writes: when they changed, and their bytes up to a limit.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use errors::IoError;

use crate::RegistryError;

/// What tells that a file or directory was changed: device, inode, size, and times of content and inode in
/// nanoseconds; `None` where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp(Option<(u64, u64, u64, [i64; 4])>);

impl Stamp {
    /// The stamp of what stands at `path` now. Blocks for one stat.
    pub fn of(path: &Path) -> Self {
        Self(std::fs::metadata(path).ok().map(|found| {
            let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
            (found.dev(), found.ino(), found.size(), times)
        }))
    }
}

/// All bytes of a file of at most `limit_value` bytes; `None` where there is no file.
pub(crate) fn read(
    path: &Path,
    limit: &'static str,
    limit_value: u64,
) -> Result<Option<Vec<u8>>, RegistryError> {
    let failed = |operation, error: &std::io::Error| IoError::from_std(operation, path, error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None)
        }
        Err(error) => return Err(failed("open", &error).into()),
    };
    let mut data = Vec::new();
    file.take(limit_value + 1).read_to_end(&mut data).map_err(|error| failed("read", &error))?;
    if data.len() as u64 > limit_value {
        let (actual, subject) = (data.len() as u64, path.display().to_string());
        return Err(RegistryError::LimitExceeded { limit, limit_value, actual, subject });
    }
    Ok(Some(data))
}
