//! What the last build of a folder found in it, so that a file that did not change is not read again.
//!
//! `$XDG_CACHE_HOME/fluyt/contexts/<name>` holds, of each file, what `stat` said of it and the digests of its chunks,
//! and the ids of the contexts that engines were sent. A digest counts only while device, inode, size, times of change
//! of content and of inode are all the same, and is written down only if the inode was left alone for two seconds
//! before the walk began: a change in the same tick of the clock as the read cannot be seen in its times.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Format of the file; another one is taken for none.
const MAGIC: &[u8; 16] = b"fluyt-context-1\n";
/// What a memory may take on disk; a folder that needs more is read each time.
const MAX_BYTES: u64 = 512 * 1024 * 1024;
/// Folders that are remembered; those used longest ago go.
const MAX_FOLDERS: usize = 32;
/// Contexts of one folder that are remembered: as many engines can be built with in turn.
const MAX_CONTEXTS: usize = 4;
/// How long an inode must have been left alone: the coarsest clock of a file system (FAT: 2 s).
const QUIET_SECONDS: i64 = 2;
const DIGEST_BYTES: usize = 32;
/// An id is as long in text.
const ID_BYTES: usize = 32;
const STAMP_BYTES: usize = 56;

/// What `stat` says of a file's content.
pub type Stamp = [u8; STAMP_BYTES];

/// Device, inode, size, and times of change of content and of inode.
pub fn stamp(metadata: &Metadata) -> Stamp {
    let mut stamp = [0; STAMP_BYTES];
    let fields = [
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.mtime().cast_unsigned(),
        metadata.mtime_nsec().cast_unsigned(),
        metadata.ctime().cast_unsigned(),
        metadata.ctime_nsec().cast_unsigned(),
    ];
    for (place, field) in stamp.chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_le_bytes());
    }
    stamp
}

/// What is remembered of a folder, as it was read.
#[derive(Debug, Default)]
pub struct Remembered {
    data: Vec<u8>,
    /// Where it stands; `None` where nothing can be kept.
    place: Option<PathBuf>,
    root: Vec<u8>,
}

impl Remembered {
    /// What is known of `root`; nothing if there is no file, or a damaged one. Blocking.
    pub fn of(root: &Path) -> Self {
        let Some(directory) = cache_directory() else { return Self::default() };
        Self::within(&directory, root)
    }

    /// The same, below a directory.
    pub fn within(directory: &Path, root: &Path) -> Self {
        let Ok(root) = std::fs::canonicalize(root) else { return Self::default() };
        let root = root.as_os_str().as_bytes().to_vec();
        let place = directory.join(blake3::hash(&root).to_hex().as_str());
        let data = read(&place).filter(|data| is_whole(data) && Head::of(data, &root).is_some());
        Self { data: data.unwrap_or_default(), place: Some(place), root }
    }

    /// Its files and contexts, to look up.
    pub fn table(&self) -> Table<'_> {
        Head::of(&self.data, &self.root).and_then(Table::of).unwrap_or_default()
    }

    /// What the walk found is remembered in its place, with the context that was sent. Blocking. That nothing can be
    /// kept, for want of a place or of room, only means that files are read again.
    pub fn keep(&self, files: &Files, listing: &[u8; DIGEST_BYTES], context_id: &str) {
        let Some(place) = self.place.as_deref().filter(|_| context_id.len() == ID_BYTES) else { return };
        let known = Head::of(&self.data, &self.root).unwrap_or_default();
        let mut contexts = vec![(listing.as_slice(), context_id.as_bytes())];
        if known.contexts.first() == contexts.first() && known.records == files.records {
            return;
        }
        contexts.extend(known.contexts.iter().filter(|(_, id)| *id != context_id.as_bytes()));
        contexts.truncate(MAX_CONTEXTS);
        let mut data = MAGIC.to_vec();
        field(&mut data, &self.root);
        data.extend_from_slice(&(contexts.len() as u32).to_le_bytes());
        for (listing, id) in contexts {
            data.extend_from_slice(listing);
            data.extend_from_slice(id);
        }
        data.extend_from_slice(&files.count.to_le_bytes());
        data.extend_from_slice(&files.records);
        let check = *blake3::hash(&data).as_bytes();
        data.extend_from_slice(&check);
        if write(place, &data).is_ok() {
            drop_oldest(place);
        }
    }

    /// Nothing is remembered of the folder: its files are read next time. Blocking.
    pub fn forget(&self) {
        if let Some(place) = &self.place {
            let _ = std::fs::remove_file(place);
        }
    }
}

/// The bytes end with the digest of those before it.
fn is_whole(data: &[u8]) -> bool {
    let split = data.len().checked_sub(DIGEST_BYTES).and_then(|at| data.split_at_checked(at));
    split.is_some_and(|(body, check)| blake3::hash(body).as_bytes() == check)
}

/// What stands before the files, and they, not taken apart yet.
#[derive(Debug, Default)]
struct Head<'a> {
    contexts: Vec<(&'a [u8], &'a [u8])>,
    count: usize,
    records: &'a [u8],
}

impl<'a> Head<'a> {
    fn of(data: &'a [u8], root: &[u8]) -> Option<Self> {
        let mut rest = data.get(..data.len().checked_sub(DIGEST_BYTES)?)?.strip_prefix(MAGIC)?;
        if take_field(&mut rest)? != root {
            return None;
        }
        let mut contexts = Vec::new();
        for _ in 0..take_count(&mut rest)? {
            contexts.push((take(&mut rest, DIGEST_BYTES)?, take(&mut rest, ID_BYTES)?));
        }
        let count = take_count(&mut rest)?;
        Some(Self { contexts, count, records: rest })
    }
}

/// What is remembered, borrowed from the file.
#[derive(Debug, Default)]
pub struct Table<'a> {
    files: HashMap<&'a [u8], (&'a [u8], &'a [u8])>,
    contexts: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Table<'a> {
    fn of(head: Head<'a>) -> Option<Self> {
        let mut rest = head.records;
        let mut files = HashMap::with_capacity(head.count.min(rest.len() / STAMP_BYTES));
        for _ in 0..head.count {
            let (path, stamp) = (take_field(&mut rest)?, take(&mut rest, STAMP_BYTES)?);
            files.insert(path, (stamp, take_field(&mut rest)?));
        }
        Some(Self { files, contexts: head.contexts })
    }

    /// Digests of the file's chunks, one after the other, if it is the file that was read.
    pub fn digests(&self, path: &[u8], stamp: &Stamp) -> Option<&'a [u8]> {
        self.files.get(path).filter(|(known, _)| known == stamp).map(|(_, digests)| *digests)
    }

    /// Ids of contexts with this listing that an engine may have still.
    pub fn contexts(&self, listing: &[u8; DIGEST_BYTES]) -> Vec<String> {
        let same = self.contexts.iter().filter(|(known, _)| known == listing);
        same.filter_map(|(_, id)| String::from_utf8(id.to_vec()).ok()).collect()
    }
}

/// What a walk found, to be remembered.
#[derive(Debug)]
pub struct Files {
    records: Vec<u8>,
    count: u32,
    begin_seconds: i64,
}

impl Files {
    /// Nothing yet, of a walk that begins now.
    pub fn begin() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self::begin_at(i64::try_from(now).unwrap_or(0))
    }

    /// Of a walk that begins so many seconds after 1970.
    pub fn begin_at(begin_seconds: i64) -> Self {
        Self { records: Vec::new(), count: 0, begin_seconds }
    }

    /// A file that had this stamp before and after it was read, or is known by it. One that changed just before the
    /// walk is left out.
    pub fn add<'a>(&mut self, path: &[u8], stamp: &Stamp, digests: impl Iterator<Item = &'a [u8]>) {
        let changed = i64::from_le_bytes([
            stamp[40], stamp[41], stamp[42], stamp[43], stamp[44], stamp[45], stamp[46], stamp[47],
        ]);
        if changed >= self.begin_seconds - QUIET_SECONDS {
            return;
        }
        field(&mut self.records, path);
        self.records.extend_from_slice(stamp);
        let at = self.records.len();
        self.records.extend_from_slice(&[0; 4]);
        digests.for_each(|digest| self.records.extend_from_slice(digest));
        let length = (self.records.len() - at - 4) as u32;
        self.records[at..at + 4].copy_from_slice(&length.to_le_bytes());
        self.count += 1;
    }
}

fn field(data: &mut Vec<u8>, bytes: &[u8]) {
    data.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    data.extend_from_slice(bytes);
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn take_count(rest: &mut &[u8]) -> Option<usize> {
    let bytes = take(rest, 4)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
}

fn take_field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let count = take_count(rest)?;
    take(rest, count)
}

fn cache_directory() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    base.is_absolute().then(|| base.join("fluyt/contexts"))
}

/// The bytes of a memory that is the caller's own.
fn read(place: &Path) -> Option<Vec<u8>> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(place).ok()?;
    let metadata = file.metadata().ok()?;
    let is_own = metadata.is_file() && metadata.uid() == rustix::process::geteuid().as_raw();
    if !is_own || metadata.len() > MAX_BYTES {
        return None;
    }
    let mut data = Vec::with_capacity(metadata.len() as usize);
    file.take(MAX_BYTES).read_to_end(&mut data).ok()?;
    Some(data)
}

fn write(place: &Path, data: &[u8]) -> std::io::Result<()> {
    let directory = place.parent().unwrap_or(Path::new("/"));
    if data.len() as u64 > MAX_BYTES {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let beside = place.with_extension(format!("{}.part", std::process::id()));
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(data))
        .and_then(|()| std::fs::rename(&beside, place));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// Memories beyond the bound go, and so do halves that a killed program left.
fn drop_oldest(place: &Path) {
    let Some(entries) = place.parent().and_then(|directory| std::fs::read_dir(directory).ok()) else {
        return;
    };
    let mut all: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    all.sort();
    for (_, path) in all.iter().rev().skip(MAX_FOLDERS) {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn old(size: u8) -> Stamp {
        let mut stamp = [0; STAMP_BYTES];
        stamp[16] = size;
        stamp
    }

    #[test]
    fn what_is_kept_is_found_by_its_stamp_alone() {
        let (cache, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (digest, mut files) = ([7; 32], Files::begin());
        files.add(b"a", &old(1), [&digest[..]].into_iter());
        files.add(b"empty", &old(0), std::iter::empty());
        Remembered::within(cache.path(), root.path()).keep(&files, &[1; 32], ID);
        let again = Remembered::within(cache.path(), root.path());
        let table = again.table();
        assert_eq!(table.digests(b"a", &old(1)), Some(&digest[..]));
        assert_eq!(table.digests(b"empty", &old(0)), Some(&b""[..]));
        assert_eq!(table.digests(b"a", &old(2)), None);
        assert_eq!(table.digests(b"b", &old(1)), None);
        assert_eq!(table.contexts(&[1; 32]), [ID]);
        assert!(table.contexts(&[2; 32]).is_empty());
        again.forget();
        assert!(Remembered::within(cache.path(), root.path()).table().files.is_empty());
    }

    #[test]
    fn a_file_that_changed_just_before_the_walk_is_not_remembered() {
        let mut files = Files::begin();
        for (age, count) in [(0, 0), (1, 0), (2, 0), (3, 1)] {
            let mut stamp = old(1);
            stamp[40..48].copy_from_slice(&(files.begin_seconds - age).to_le_bytes());
            files.add(b"a", &stamp, std::iter::empty());
            assert_eq!(files.count, count, "{age}");
        }
    }

    #[test]
    fn a_damaged_memory_or_that_of_another_folder_is_none() {
        let (cache, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = Remembered::within(cache.path(), root.path());
        let mut files = Files::begin();
        files.add(b"a", &old(1), std::iter::empty());
        first.keep(&files, &[1; 32], ID);
        let place = first.place.clone().unwrap();
        let whole = std::fs::read(&place).unwrap();
        for at in [0, MAGIC.len() + 5, whole.len() - 40, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&place, damaged).unwrap();
            assert!(Remembered::within(cache.path(), root.path()).data.is_empty(), "{at}");
        }
        for length in [0, 20, whole.len() - 1] {
            std::fs::write(&place, &whole[..length]).unwrap();
            assert!(Remembered::within(cache.path(), root.path()).data.is_empty(), "{length}");
        }
        assert!(Head::of(&whole, b"/elsewhere").is_none());
    }

    #[test]
    fn folders_beyond_the_bound_are_forgotten() {
        let (cache, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for number in 0..MAX_FOLDERS + 3 {
            let folder = root.path().join(number.to_string());
            std::fs::create_dir(&folder).unwrap();
            Remembered::within(cache.path(), &folder).keep(&Files::begin(), &[1; 32], ID);
        }
        assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), MAX_FOLDERS);
    }
}
