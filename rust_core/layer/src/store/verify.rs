//! A stored layer against its digests, from what is on disk alone.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use content::{Digest, Hasher};
use errors::IoError;

use super::LayerStore;
use crate::compare::Comparison;
use crate::{LayerError, LayerId};

/// Bytes hashed between two looks at the cancel flag.
const STEP_BYTES: usize = 1024 * 1024;

/// What a look at a stored layer found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// Its archive has the diff_id, and its index is as it was written.
    Sound,
    /// It is not what it was.
    Damaged {
        /// What differs, in words.
        detail: String,
    },
    /// Its kind keeps no archive: `compare` tells, with a layer made of the same blob again.
    NotKept,
}

impl LayerStore {
    /// Whether the visible layer is what it was when it was stored: the archive it keeps is hashed again and compared
    /// with its diff_id, then the index made of it. `progress` counts bytes hashed. Reads the whole layer; changes
    /// nothing. Blocking.
    ///
    /// # Errors
    /// `LAYER_NOT_FOUND`; `DATA_CORRUPT` for a damaged `meta.json`; `IO_FAILED`, `CANCELLED`.
    pub fn verify(
        &self,
        layer_id: &LayerId,
        progress: &AtomicU64,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Verified, LayerError> {
        let name = layer_id.as_str();
        let not_found = || LayerError::NotFound { layer_id: layer_id.to_string() };
        let folder = self.open_folder(name)?.ok_or_else(not_found)?;
        let meta = self.read_meta(name)?.ok_or_else(not_found)?;
        let Some(kind) = self.kinds.iter().find(|kind| kind.kind() == meta.kind) else {
            return Err(not_found());
        };
        let path = self.path.join(name);
        let own = LayerId::from_diff_id(&meta.diff_id);
        if own != *layer_id && !name.starts_with("chain-") {
            return Ok(Verified::Damaged { detail: format!("its meta.json is that of layer {own}") });
        }
        let look = Look { path: &path, progress, is_cancelled };
        let checks = [
            (kind.archive(folder.as_fd()), "archive", Some(meta.diff_id)),
            (kind.index(folder.as_fd()), "index", meta.index_digest),
        ];
        let mut has_kept = false;
        for (opened, what, expected) in checks {
            let file = match opened {
                Ok(Some(file)) => file,
                Ok(None) => continue,
                Err(LayerError::Io(error)) if error.errno == rustix::io::Errno::NOENT.raw_os_error() => {
                    return Ok(Verified::Damaged { detail: format!("the {what} is missing: {error}") });
                }
                Err(error) => return Err(error),
            };
            let Some(expected) = expected else { continue };
            has_kept = true;
            let found = look.digest(&file, &expected)?;
            if found != expected {
                let detail = format!("the {what} has digest {found}, not {expected}");
                return Ok(Verified::Damaged { detail });
            }
        }
        Ok(if has_kept { Verified::Sound } else { Verified::NotKept })
    }
}

impl LayerStore {
    /// Whether the visible layer of the kind `directory` is the same tree as the one that `made`, a store of the same
    /// file system, has staged of the same blob not before `written_since_seconds` (seconds of the epoch): names,
    /// types, content, links, owners, modes, times and extended attributes. `progress` counts bytes compared. Changes
    /// nothing. Blocking.
    ///
    /// # Errors
    /// `LAYER_NOT_FOUND` for one that either has not; `DATA_CORRUPT` for a damaged `meta.json`; `IO_FAILED`,
    /// `CANCELLED`.
    pub fn compare(
        &self,
        layer_id: &LayerId,
        made: &Self,
        written_since_seconds: i64,
        progress: &AtomicU64,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Verified, LayerError> {
        let not_found = || LayerError::NotFound { layer_id: layer_id.to_string() };
        let has = self.stat(layer_id)?.ok_or_else(not_found)?;
        let should = made.stat_staged(layer_id)?.ok_or_else(not_found)?;
        if (&has.diff_id, has.size_bytes, &has.facts) != (&should.diff_id, should.size_bytes, &should.facts) {
            return Ok(Verified::Damaged { detail: "its meta.json tells of another layer".to_owned() });
        }
        let compared = |count| {
            progress.fetch_add(count, Ordering::Relaxed);
        };
        let comparison = Comparison { written_since_seconds, compared: &compared, is_cancelled };
        let (stored, fresh) = (self.open_layer(layer_id)?, made.open_layer(layer_id)?);
        Ok(match comparison.difference(stored, fresh)? {
            Some(detail) => Verified::Damaged { detail },
            None => Verified::Sound,
        })
    }
}

struct Look<'a> {
    path: &'a Path,
    progress: &'a AtomicU64,
    is_cancelled: &'a dyn Fn() -> bool,
}

impl Look<'_> {
    /// The digest of a file by the algorithm of `like`.
    fn digest(&self, file: &File, like: &Digest) -> Result<Digest, LayerError> {
        let (mut hasher, mut buffer, mut at) = (Hasher::new(like.algorithm()), vec![0; STEP_BYTES], 0);
        loop {
            if (self.is_cancelled)() {
                return Err(LayerError::Cancelled { subject: self.path.display().to_string() });
            }
            let read =
                file.read_at(&mut buffer, at).map_err(|e| IoError::from_std("pread", self.path, &e))?;
            if read == 0 {
                return Ok(hasher.finish());
            }
            hasher.update(&buffer[..read]);
            at += read as u64;
            self.progress.fetch_add(read as u64, Ordering::Relaxed);
        }
    }
}
