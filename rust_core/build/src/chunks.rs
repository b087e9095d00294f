//! The chunk store: pieces of contexts by their BLAKE3 digest, in packs that are only ever appended to.
//!
//! A pack is a sequence of records: digest, length, bytes. A crash leaves at most one record that is not whole at a
//! pack's end; it is not counted when the store is opened, and every chunk is verified whenever it is read, so that a
//! pack that a loss of power has damaged is found out. Packs go as wholes, an hour after their last use; a build holds
//! the files of the packs that it reads, so that it does not matter if they go meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use errors::IoError;
use rustix::fs::{Mode, OFlags};

use crate::limits::MAX_CHUNK_BYTES;
use crate::BuildError;

/// Name of a chunk.
pub type ChunkDigest = [u8; 32];

/// A pack is closed when it has so many bytes; what goes goes in such pieces.
const PACK_BYTES: u64 = 64 * 1024 * 1024;
/// A pack's time of use is written down when it is so much older than now.
const USE_GRANULARITY: Duration = Duration::from_secs(60);
const HEADER_BYTES: u64 = 36;

/// Where a chunk is. Holds its pack's file.
#[derive(Debug, Clone)]
pub struct ChunkRef {
    file: Arc<File>,
    offset_bytes: u64,
    size_bytes: u32,
    digest: ChunkDigest,
}

impl ChunkRef {
    /// Its name.
    pub fn digest(&self) -> &ChunkDigest {
        &self.digest
    }

    /// How long it is.
    pub fn size_bytes(&self) -> u32 {
        self.size_bytes
    }

    /// Appends its bytes to `buffer`, verified.
    pub(crate) fn read(&self, buffer: &mut Vec<u8>) -> Result<(), BuildError> {
        let start = buffer.len();
        buffer.resize(start + self.size_bytes as usize, 0);
        self.file
            .read_exact_at(&mut buffer[start..], self.offset_bytes)
            .map_err(|error| IoError::from_std("pread", "contexts/chunks", &error))?;
        if blake3::hash(&buffer[start..]).as_bytes() != &self.digest {
            let id = format!("chunk {}", blake3::Hash::from_bytes(self.digest).to_hex());
            return Err(BuildError::ContextIncomplete { id, missing_count: 1 });
        }
        Ok(())
    }
}

/// What the store takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChunkUsage {
    /// Bytes of all packs.
    pub size_bytes: u64,
    /// Chunks in them.
    pub chunk_count: u64,
}

/// The chunks below `<data root>/contexts/chunks`. Safe to share between threads.
#[derive(Debug)]
pub struct ChunkStore {
    directory: PathBuf,
    max_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    chunks: HashMap<ChunkDigest, (u64, u64, u32)>,
    packs: BTreeMap<u64, Pack>,
    /// The pack that is appended to.
    open: Option<u64>,
    size_bytes: u64,
}

#[derive(Debug)]
struct Pack {
    file: Arc<File>,
    size_bytes: u64,
    use_time: SystemTime,
}

impl ChunkStore {
    /// The store in `directory`, made if absent; what earlier runs left is known. Blocking (reads the records' heads).
    ///
    /// # Errors
    /// `IO_FAILED`, `STORAGE_FULL`.
    pub fn open(directory: &Path, max_bytes: u64) -> Result<Self, BuildError> {
        std::fs::create_dir_all(directory).map_err(|e| IoError::from_std("mkdir", directory, &e))?;
        let mut state = State::default();
        let entries =
            std::fs::read_dir(directory).map_err(|e| IoError::from_std("getdents64", directory, &e))?;
        for entry in entries {
            let entry = entry.map_err(|e| IoError::from_std("getdents64", directory, &e))?;
            let name = entry.file_name();
            let number =
                name.to_str().and_then(|name| name.strip_suffix(".pack")).and_then(|n| n.parse().ok());
            if let Some(number) = number {
                state.load(number, &entry.path())?;
            }
        }
        Ok(Self { directory: directory.to_path_buf(), max_bytes, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of `digests` that are not there, each once, in order; what is there has been used just now.
    pub fn missing(&self, digests: &[ChunkDigest]) -> Vec<ChunkDigest> {
        let mut state = self.state();
        let mut seen = std::collections::HashSet::new();
        let mut used = std::collections::BTreeSet::new();
        let mut missing = Vec::new();
        for digest in digests {
            match state.chunks.get(digest) {
                Some((pack, ..)) => {
                    used.insert(*pack);
                }
                None if seen.insert(*digest) => missing.push(*digest),
                None => {}
            }
        }
        state.touch(used);
        missing
    }

    /// Where these chunks are. Each pack of them has been used just now.
    ///
    /// # Errors
    /// `CONTEXT_INCOMPLETE`, naming `id`, if some are not there.
    pub fn find(&self, id: &str, digests: &[ChunkDigest]) -> Result<Vec<ChunkRef>, BuildError> {
        let mut state = self.state();
        let mut used = std::collections::BTreeSet::new();
        let mut missing_count = 0;
        let mut found = Vec::with_capacity(digests.len());
        for digest in digests {
            let Some((number, offset_bytes, size_bytes)) = state.chunks.get(digest).copied() else {
                missing_count += 1;
                continue;
            };
            let Some(pack) = state.packs.get(&number) else {
                missing_count += 1;
                continue;
            };
            used.insert(number);
            found.push(ChunkRef { file: Arc::clone(&pack.file), offset_bytes, size_bytes, digest: *digest });
        }
        state.touch(used);
        if missing_count > 0 {
            return Err(BuildError::ContextIncomplete { id: id.to_owned(), missing_count });
        }
        Ok(found)
    }

    /// The chunk is there under the digest of its bytes. Where the store is full, packs that were unused longest go.
    /// Blocking.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` (`MAX_CHUNK_BYTES`, `MAX_CHUNK_STORE_BYTES` where all of it is in use), `STORAGE_FULL`,
    /// `IO_FAILED`.
    pub fn put(&self, data: &[u8]) -> Result<ChunkDigest, BuildError> {
        let size = data.len() as u64;
        if size > MAX_CHUNK_BYTES {
            return Err(BuildError::limit("MAX_CHUNK_BYTES", MAX_CHUNK_BYTES, size, "a chunk"));
        }
        let digest: ChunkDigest = *blake3::hash(data).as_bytes();
        let mut state = self.state();
        if state.chunks.contains_key(&digest) {
            return Ok(digest);
        }
        let needed = HEADER_BYTES + size;
        let now = SystemTime::now();
        self.make_room(&mut state, needed, now)?;
        let number = match state
            .open
            .filter(|open| state.packs.get(open).is_some_and(|p| p.size_bytes < PACK_BYTES))
        {
            Some(number) => number,
            None => self.begin_pack(&mut state)?,
        };
        let Some(pack) = state.packs.get_mut(&number) else { return Ok(digest) };
        let mut record = Vec::with_capacity(needed as usize);
        record.extend_from_slice(&digest);
        record.extend_from_slice(&(data.len() as u32).to_le_bytes());
        record.extend_from_slice(data);
        sys::failpoint::hit("context.chunk.write");
        pack.file
            .write_all_at(&record, pack.size_bytes)
            .map_err(|error| IoError::from_std("pwrite", self.path(number), &error))?;
        let offset_bytes = pack.size_bytes + HEADER_BYTES;
        pack.size_bytes += needed;
        pack.use_time = now;
        state.size_bytes += needed;
        state.chunks.insert(digest, (number, offset_bytes, data.len() as u32));
        Ok(digest)
    }

    fn make_room(&self, state: &mut State, needed: u64, now: SystemTime) -> Result<(), BuildError> {
        while state.size_bytes + needed > self.max_bytes {
            let oldest = state.packs.iter().min_by_key(|(_, pack)| pack.use_time);
            let is_idle =
                |pack: &Pack| now.duration_since(pack.use_time).unwrap_or_default() > USE_GRANULARITY;
            match oldest {
                Some((number, pack)) if is_idle(pack) => {
                    let number = *number;
                    self.delete(state, number)?;
                }
                _ => {
                    let actual = state.size_bytes + needed;
                    let limit = "MAX_CHUNK_STORE_BYTES";
                    return Err(BuildError::limit(
                        limit,
                        self.max_bytes,
                        actual,
                        "chunks of contexts in use",
                    ));
                }
            }
        }
        Ok(())
    }

    fn begin_pack(&self, state: &mut State) -> Result<u64, BuildError> {
        let number = state.packs.last_key_value().map_or(1, |(last, _)| last + 1);
        let path = self.path(number);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| IoError::new("open", &path, errno.raw_os_error()))?;
        let pack = Pack { file: Arc::new(File::from(fd)), size_bytes: 0, use_time: SystemTime::now() };
        state.packs.insert(number, pack);
        state.open = Some(number);
        Ok(number)
    }

    /// Packs that were not used for `max_age` are gone; returns the bytes that were freed. Idempotent. Blocking.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn expire(&self, max_age: Duration) -> Result<u64, BuildError> {
        let mut state = self.state();
        let now = SystemTime::now();
        let is_old = |pack: &Pack| now.duration_since(pack.use_time).unwrap_or_default() >= max_age;
        let old: Vec<u64> = state.packs.iter().filter(|(_, pack)| is_old(pack)).map(|(n, _)| *n).collect();
        let before = state.size_bytes;
        for number in old {
            self.delete(&mut state, number)?;
        }
        Ok(before - state.size_bytes)
    }

    fn delete(&self, state: &mut State, number: u64) -> Result<(), BuildError> {
        let path = self.path(number);
        sys::failpoint::hit("context.pack.delete");
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(IoError::from_std("unlink", path, &error).into());
            }
            _ => {}
        }
        if let Some(pack) = state.packs.remove(&number) {
            state.size_bytes -= pack.size_bytes;
        }
        state.chunks.retain(|_, (pack, ..)| *pack != number);
        if state.open == Some(number) {
            state.open = None;
        }
        Ok(())
    }

    /// What it takes.
    pub fn usage(&self) -> ChunkUsage {
        let state = self.state();
        ChunkUsage { size_bytes: state.size_bytes, chunk_count: state.chunks.len() as u64 }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number}.pack"))
    }
}

impl State {
    /// Knows the whole records of one pack; what follows them is written over by nobody and never read.
    fn load(&mut self, number: u64, path: &Path) -> Result<(), BuildError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| IoError::new("open", path, errno.raw_os_error()))?;
        let file = File::from(fd);
        let status = file.metadata().map_err(|e| IoError::from_std("fstat", path, &e))?;
        let mut at = 0;
        let mut head = [0; HEADER_BYTES as usize];
        while at + HEADER_BYTES <= status.len() {
            file.read_exact_at(&mut head, at).map_err(|e| IoError::from_std("pread", path, &e))?;
            let mut digest: ChunkDigest = [0; 32];
            digest.copy_from_slice(&head[..32]);
            let size = u32::from_le_bytes([head[32], head[33], head[34], head[35]]);
            let end = at + HEADER_BYTES + u64::from(size);
            if u64::from(size) > MAX_CHUNK_BYTES || end > status.len() {
                break;
            }
            self.chunks.insert(digest, (number, at + HEADER_BYTES, size));
            at = end;
        }
        let use_time = status.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        self.size_bytes += at;
        self.packs.insert(number, Pack { file: Arc::new(file), size_bytes: at, use_time });
        Ok(())
    }

    fn touch(&mut self, numbers: impl IntoIterator<Item = u64>) {
        let now = SystemTime::now();
        for number in numbers {
            let Some(pack) = self.packs.get_mut(&number) else { continue };
            if now.duration_since(pack.use_time).unwrap_or_default() > USE_GRANULARITY {
                pack.use_time = now;
                // Only a later daemon reads it; one that takes the pack for older than it is deletes what is sent again.
                let _ = pack.file.set_modified(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(directory: &Path, max_bytes: u64) -> ChunkStore {
        ChunkStore::open(directory, max_bytes).unwrap()
    }

    #[test]
    fn a_chunk_is_found_again_by_a_store_that_is_opened_later() {
        let root = tempfile::tempdir().unwrap();
        let first = store(root.path(), 1 << 30);
        let digest = first.put(b"hello").unwrap();
        assert_eq!(first.missing(&[digest, [7; 32], [7; 32]]), vec![[7; 32]]);
        drop(first);
        let again = store(root.path(), 1 << 30);
        let mut bytes = Vec::new();
        again.find("c", &[digest]).unwrap()[0].read(&mut bytes).unwrap();
        assert_eq!(bytes, b"hello");
        assert_eq!(again.usage().chunk_count, 1);
    }

    #[test]
    fn a_record_that_was_cut_off_is_not_known_and_the_next_one_is_whole() {
        let root = tempfile::tempdir().unwrap();
        let first = store(root.path(), 1 << 30);
        let (whole, cut) = (first.put(b"whole").unwrap(), first.put(b"cut off").unwrap());
        let pack = root.path().join("1.pack");
        let length = std::fs::metadata(&pack).unwrap().len();
        drop(first);
        File::options().write(true).open(&pack).unwrap().set_len(length - 1).unwrap();
        let again = store(root.path(), 1 << 30);
        assert_eq!(again.missing(&[whole, cut]), vec![cut]);
        again.put(b"cut off").unwrap();
        assert!(store(root.path(), 1 << 30).missing(&[whole, cut]).is_empty());
    }

    #[test]
    fn a_damaged_chunk_is_never_given_out() {
        let root = tempfile::tempdir().unwrap();
        let chunks = store(root.path(), 1 << 30);
        let digest = chunks.put(b"hello").unwrap();
        let found = chunks.find("c", &[digest]).unwrap();
        File::options().write(true).open(root.path().join("1.pack")).unwrap().write_all_at(b"J", 36).unwrap();
        let error = found[0].read(&mut Vec::new()).unwrap_err();
        assert!(matches!(error, BuildError::ContextIncomplete { missing_count: 1, .. }));
    }

    #[test]
    fn limits_are_named() {
        let root = tempfile::tempdir().unwrap();
        let chunks = store(root.path(), 100);
        chunks.put(&[1; 50]).unwrap();
        let full = chunks.put(&[2; 50]).unwrap_err();
        assert!(matches!(full, BuildError::LimitExceeded { limit: "MAX_CHUNK_STORE_BYTES", .. }), "{full}");
        let large = chunks.put(&vec![0; MAX_CHUNK_BYTES as usize + 1]).unwrap_err();
        assert!(matches!(large, BuildError::LimitExceeded { limit: "MAX_CHUNK_BYTES", .. }), "{large}");
    }

    #[test]
    fn unused_packs_expire_and_what_holds_them_still_reads() {
        let root = tempfile::tempdir().unwrap();
        let chunks = store(root.path(), 1 << 30);
        let digest = chunks.put(b"hello").unwrap();
        let held = chunks.find("c", &[digest]).unwrap();
        assert_eq!(chunks.expire(Duration::from_secs(3600)).unwrap(), 0);
        assert_eq!(chunks.expire(Duration::ZERO).unwrap(), 41);
        assert_eq!(chunks.missing(&[digest]), vec![digest]);
        let mut bytes = Vec::new();
        held[0].read(&mut bytes).unwrap();
        assert_eq!(bytes, b"hello");
    }
}
