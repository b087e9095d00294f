//! A folder or a tar as the entries of a context, and where the bytes of its chunks are.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::Matcher;
use prost::Message;

use super::remembered::{self, Files, Stamp, Table};
use crate::api::v1::context_entry::Kind;
use crate::api::v1::ContextEntry;
use crate::failure::Failure;

/// Bytes of one chunk: what the engine takes at most.
const CHUNK_BYTES: usize = 512 * 1024;
const DIGEST_BYTES: usize = 32;

/// Where a chunk's bytes are.
#[derive(Debug, Clone)]
pub enum Place {
    /// In a file, from an offset on.
    File(Arc<PathBuf>, u64, usize),
    /// In memory.
    Bytes(Arc<[u8]>),
}

impl Place {
    /// The bytes of the chunk that has this digest.
    ///
    /// # Errors
    /// The file cannot be read, or changed since it was looked at.
    pub fn read(&self, digest: &[u8]) -> Result<Vec<u8>, Failure> {
        let Self::File(path, offset, size) = self else {
            let Self::Bytes(bytes) = self else { return Ok(Vec::new()) };
            return Ok(bytes.to_vec());
        };
        let failed = |error| Failure::file("read", path.as_path(), &error);
        let mut data = vec![0; *size];
        let file = File::open(path.as_path()).map_err(failed)?;
        file.read_exact_at(&mut data, *offset).map_err(failed)?;
        if blake3::hash(&data).as_bytes() != digest {
            let message = format!("{} changed while it was sent", path.display());
            return Err(Failure::new(message, "build again once nothing writes to the context"));
        }
        Ok(data)
    }
}

/// The entries of a context, and where the bytes of its files are.
#[derive(Debug, Default)]
pub struct Walked {
    /// A directory before what is in it.
    pub entries: Vec<ContextEntry>,
    /// The folder that it is.
    root: PathBuf,
    /// Chunks of a tar, by digest.
    bytes: HashMap<Vec<u8>, Arc<[u8]>>,
    /// Files of a folder that were read, since nothing was known of them.
    pub read_count: u64,
}

impl Walked {
    /// Where each chunk is, by digest.
    pub fn places(&self) -> HashMap<&[u8], Place> {
        let mut places = HashMap::new();
        for entry in &self.entries {
            let (path, mut offset) = (Arc::new(self.root.join(OsStr::from_bytes(&entry.path))), 0);
            let size = u64::try_from(entry.size_bytes).unwrap_or(0);
            for digest in &entry.chunk_digests {
                let length =
                    usize::try_from(size.saturating_sub(offset)).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
                places.entry(digest.as_slice()).or_insert_with(|| match self.bytes.get(digest) {
                    Some(bytes) => Place::Bytes(Arc::clone(bytes)),
                    None => Place::File(Arc::clone(&path), offset, length),
                });
                offset += length as u64;
            }
        }
        places
    }

    /// What stands for all entries.
    pub fn digest(&self) -> [u8; 32] {
        let (mut hasher, mut buffer) = (blake3::Hasher::new(), Vec::new());
        for entry in &self.entries {
            // Each with its length, so that no two lists give the same.
            entry.encode_length_delimited(&mut buffer).unwrap_or_default();
            if buffer.len() > CHUNK_BYTES {
                hasher.update(&buffer);
                buffer.clear();
            }
        }
        *hasher.update(&buffer).finalize().as_bytes()
    }
}

/// All of a folder but what `matcher` leaves out; sockets, pipes and devices are passed over. Files that `known` tells
/// of are not read; what is known now goes to `files`. Blocking.
///
/// # Errors
/// A file cannot be read.
pub fn folder(
    root: &Path,
    matcher: &Matcher,
    known: &Table<'_>,
    files: &mut Files,
) -> Result<Walked, Failure> {
    let mut walked = Walked { root: root.to_path_buf(), ..Default::default() };
    let mut pending = vec![PathBuf::new()];
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Some(below) = pending.pop() {
        let directory = root.join(&below);
        let failed = |error| Failure::file("read", &directory, &error);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            found.push((entry.file_name(), entry));
        }
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (name, found) in found {
            let path = below.join(name);
            let metadata = match found.metadata() {
                Ok(metadata) => metadata,
                // It went while the folder was looked at.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Failure::file("stat", root.join(&path), &error)),
            };
            let is_left_out = !matcher.is_empty() && matcher.excludes(&path.to_string_lossy());
            // What is below a directory that is left out may be in again.
            if metadata.is_dir() && (!is_left_out || matcher.has_exceptions()) {
                pending.push(path.clone());
            }
            if is_left_out {
                continue;
            }
            let kind = if metadata.is_dir() {
                Kind::Directory
            } else if metadata.is_symlink() {
                Kind::Symlink
            } else if metadata.is_file() {
                Kind::File
            } else {
                continue;
            };
            let mut entry = ContextEntry {
                path: path.into_os_string().into_vec(),
                kind: kind.into(),
                mode: metadata.mode() & 0o7777,
                uid: metadata.uid(),
                gid: metadata.gid(),
                modify_time: Some(prost_types::Timestamp {
                    seconds: metadata.mtime(),
                    nanos: i32::try_from(metadata.mtime_nsec()).unwrap_or(0),
                }),
                ..Default::default()
            };
            match kind {
                Kind::File => {
                    let stamp = remembered::stamp(&metadata);
                    let is_known = if let Some(digests) = known.digests(&entry.path, &stamp) {
                        entry.size_bytes = i64::try_from(metadata.len()).unwrap_or(0);
                        entry.chunk_digests = digests.chunks(DIGEST_BYTES).map(<[u8]>::to_vec).collect();
                        true
                    } else {
                        walked.read_count += 1;
                        add_file(&mut entry, &found.path(), &stamp, &mut buffer)?
                    };
                    if is_known {
                        files.add(&entry.path, &stamp, entry.chunk_digests.iter().map(Vec::as_slice));
                    }
                }
                Kind::Symlink => {
                    let file = found.path();
                    let target =
                        std::fs::read_link(&file).map_err(|error| Failure::file("read", &file, &error))?;
                    entry.link_target = target.into_os_string().into_vec();
                }
                _ => {}
            }
            walked.entries.push(entry);
        }
    }
    Ok(walked)
}

/// Digests of the file's chunks. Returns whether it was the file of this stamp all the while.
fn add_file(
    entry: &mut ContextEntry,
    path: &Path,
    stamp: &Stamp,
    buffer: &mut [u8],
) -> Result<bool, Failure> {
    let failed = |error| Failure::file("read", path, &error);
    let mut file = File::open(path).map_err(|error| Failure::file("open", path, &error))?;
    let mut size = 0;
    let is_same = |file: &File| file.metadata().is_ok_and(|found| remembered::stamp(&found) == *stamp);
    let was_same = is_same(&file);
    loop {
        let count = fill(&mut file, buffer).map_err(failed)?;
        if count == 0 {
            break;
        }
        add_chunk(entry, &buffer[..count]);
        size += count as u64;
    }
    // Files of some file systems of the kernel have content and no size: nothing tells when it changes.
    Ok(was_same && is_same(&file) && file.metadata().is_ok_and(|found| found.len() == size))
}

fn add_chunk(entry: &mut ContextEntry, data: &[u8]) {
    entry.chunk_digests.push(blake3::hash(data).as_bytes().to_vec());
    entry.size_bytes += i64::try_from(data.len()).unwrap_or(0);
}

/// Reads until the buffer is full or the file ends.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// All of an uncompressed or gzip tar, in memory. Blocking.
///
/// # Errors
/// It is no tar, or has entries that no context can have.
pub fn archive(
    source: impl Read,
    mut matcher: impl FnMut(&Walked) -> Result<Matcher, Failure>,
) -> Result<Walked, Failure> {
    let failed =
        |error: std::io::Error| Failure::new(format!("cannot read the tar of the context: {error}"), "");
    let mut walked = Walked::default();
    let mut buffer = vec![0; CHUNK_BYTES];
    for member in tar::Archive::new(source).entries().map_err(failed)? {
        let mut member = member.map_err(failed)?;
        let header = member.header().clone();
        let path: Vec<u8> = clean(&member.path_bytes());
        if path.is_empty() {
            continue;
        }
        let kind = match header.entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => Kind::File,
            tar::EntryType::Directory => Kind::Directory,
            tar::EntryType::Symlink => Kind::Symlink,
            _ => continue,
        };
        let mut entry = ContextEntry {
            path,
            kind: kind.into(),
            mode: header.mode().map_err(failed)? & 0o7777,
            modify_time: Some(prost_types::Timestamp {
                seconds: i64::try_from(header.mtime().map_err(failed)?).unwrap_or(0),
                nanos: 0,
            }),
            link_target: member.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default(),
            ..Default::default()
        };
        if kind == Kind::File {
            loop {
                let count = fill(&mut member, &mut buffer).map_err(failed)?;
                if count == 0 {
                    break;
                }
                add_chunk(&mut entry, &buffer[..count]);
                let digest = entry.chunk_digests.last().cloned().unwrap_or_default();
                walked.bytes.entry(digest).or_insert_with(|| Arc::from(&buffer[..count]));
            }
        }
        // A later member takes the place of an earlier one of the same name.
        walked.entries.retain(|earlier| earlier.path != entry.path);
        walked.entries.push(entry);
    }
    let matcher = matcher(&walked)?;
    walked.entries.retain(|entry| !matcher.excludes(&String::from_utf8_lossy(&entry.path)));
    Ok(walked)
}

/// A member's name relative to the context, without `.`; `..` is left for the engine to refuse.
fn clean(name: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> =
        name.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    parts.join(&b'/')
}

/// The bytes of a file of the context that is wholly in memory.
pub fn find(walked: &Walked, path: &Path) -> Option<Vec<u8>> {
    let wanted = path.as_os_str().as_bytes();
    let entry = walked.entries.iter().find(|entry| entry.path == wanted)?;
    let mut data = Vec::new();
    for digest in &entry.chunk_digests {
        data.extend_from_slice(walked.bytes.get(digest)?);
    }
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::remembered::Remembered;

    #[test]
    fn a_folder_is_walked_without_what_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::fs::write(root.path().join("a/b/c"), vec![7; CHUNK_BYTES + 1]).unwrap();
        std::fs::write(root.path().join("a/x.log"), "no").unwrap();
        std::os::unix::fs::symlink("../elsewhere", root.path().join("link")).unwrap();
        let matcher = Matcher::from_file(b"**/*.log").unwrap();
        let walked = folder(root.path(), &matcher, &Table::default(), &mut Files::begin()).unwrap();
        let mut paths: Vec<&[u8]> = walked.entries.iter().map(|entry| entry.path.as_slice()).collect();
        paths.sort();
        assert_eq!(paths, [&b"a"[..], b"a/b", b"a/b/c", b"link"]);
        let file = walked.entries.iter().find(|entry| entry.path == b"a/b/c").unwrap();
        assert_eq!((file.size_bytes, file.chunk_digests.len()), (CHUNK_BYTES as i64 + 1, 2));
        let place = &walked.places()[file.chunk_digests[1].as_slice()];
        assert_eq!(place.read(&file.chunk_digests[1]).unwrap(), [7]);
        std::fs::write(root.path().join("a/b/c"), vec![8; CHUNK_BYTES + 1]).unwrap();
        assert!(place.read(&file.chunk_digests[1]).unwrap_err().message.contains("changed"));
    }

    /// A walk that begins long after all changes, with what the walk before it has kept.
    fn later(cache: &Path, root: &Path) -> Walked {
        let remembered = Remembered::within(cache, root);
        let mut files = Files::begin_at(i64::MAX);
        let walked = folder(root, &Matcher::default(), &remembered.table(), &mut files).unwrap();
        remembered.keep(&files, &walked.digest(), "0123456789abcdef0123456789abcdef");
        walked
    }

    #[test]
    fn files_that_did_not_change_are_not_read_again() {
        let (cache, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (name, size) in [("empty", 0), ("small", 5), ("large", 2 * CHUNK_BYTES + 1)] {
            std::fs::write(root.path().join(name), vec![7; size]).unwrap();
        }
        let first = later(cache.path(), root.path());
        let again = later(cache.path(), root.path());
        assert_eq!((first.read_count, again.read_count), (3, 0));
        assert_eq!(again.entries, first.entries);
        assert_eq!(again.digest(), first.digest());
        let places = again.places();
        for digest in again.entries.iter().flat_map(|entry| &entry.chunk_digests) {
            places[digest.as_slice()].read(digest).unwrap();
        }
        // The same size and, set back, the same time of change: only that of the inode tells.
        let path = root.path().join("small");
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(&path, vec![8; 5]).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        let changed = later(cache.path(), root.path());
        assert_eq!(changed.read_count, 1);
        assert_ne!(changed.digest(), first.digest());
        // Another file in its place.
        std::fs::write(root.path().join("new"), vec![9; 5]).unwrap();
        std::fs::rename(root.path().join("new"), &path).unwrap();
        assert_eq!(later(cache.path(), root.path()).read_count, 1);
        assert_eq!(later(cache.path(), root.path()).read_count, 0);
    }

    #[test]
    fn a_file_of_this_moment_is_read_each_time_so_that_a_change_in_the_same_tick_is_seen() {
        let (cache, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = root.path().join("f");
        let mut seen = Vec::new();
        for number in 0..20 {
            std::fs::write(&path, [number; 4]).unwrap();
            let remembered = Remembered::within(cache.path(), root.path());
            let mut files = Files::begin();
            let walked = folder(root.path(), &Matcher::default(), &remembered.table(), &mut files).unwrap();
            remembered.keep(&files, &walked.digest(), "0123456789abcdef0123456789abcdef");
            assert_eq!(walked.read_count, 1);
            seen.push(walked.digest());
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 20);
    }

    #[test]
    fn a_tar_is_a_context_too() {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, data) in [("./Dockerfile", "one"), ("./a/b", "x"), ("./Dockerfile", "FROM scratch")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, data.as_bytes()).unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        let walked = archive(bytes.as_slice(), |_| Ok(Matcher::from_file(b"a").unwrap())).unwrap();
        assert_eq!(find(&walked, Path::new("Dockerfile")).unwrap(), b"FROM scratch");
        assert_eq!(walked.entries.len(), 1);
    }
}
