//! A folder or a tar as the entries of a context, and where the bytes of its chunks are.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::Matcher;

use crate::api::v1::context_entry::Kind;
use crate::api::v1::ContextEntry;
use crate::failure::Failure;

/// Bytes of one chunk: what the engine takes at most.
const CHUNK_BYTES: usize = 512 * 1024;

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

/// The entries of a context, and where its chunks are.
#[derive(Debug, Default)]
pub struct Walked {
    /// A directory before what is in it.
    pub entries: Vec<ContextEntry>,
    /// By digest.
    pub chunks: HashMap<Vec<u8>, Place>,
}

impl Walked {
    fn add_chunk(&mut self, entry: &mut ContextEntry, data: &[u8], place: Place) {
        let digest = blake3::hash(data).as_bytes().to_vec();
        entry.chunk_digests.push(digest.clone());
        entry.size_bytes += i64::try_from(data.len()).unwrap_or(0);
        self.chunks.entry(digest).or_insert(place);
    }
}

/// All of a folder but what `matcher` leaves out; sockets, pipes and devices are passed over. Blocking (reads each file).
///
/// # Errors
/// A file cannot be read.
pub fn folder(root: &Path, matcher: &Matcher) -> Result<Walked, Failure> {
    let mut walked = Walked::default();
    let mut pending = vec![PathBuf::new()];
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Some(below) = pending.pop() {
        let directory = root.join(&below);
        let failed = |error| Failure::file("read", &directory, &error);
        let mut names = Vec::new();
        for found in std::fs::read_dir(&directory).map_err(failed)? {
            names.push(found.map_err(failed)?.file_name());
        }
        names.sort();
        for name in names {
            let path = below.join(name);
            let file = root.join(&path);
            let metadata = match std::fs::symlink_metadata(&file) {
                Ok(metadata) => metadata,
                // It went while the folder was looked at.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Failure::file("stat", &file, &error)),
            };
            let is_left_out = matcher.excludes(&path.to_string_lossy());
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
                Kind::File => add_file(&mut walked, &mut entry, file, &mut buffer)?,
                Kind::Symlink => {
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

fn add_file(
    walked: &mut Walked,
    entry: &mut ContextEntry,
    path: PathBuf,
    buffer: &mut [u8],
) -> Result<(), Failure> {
    let mut file = File::open(&path).map_err(|error| Failure::file("open", &path, &error))?;
    let path = Arc::new(path);
    let mut offset = 0;
    loop {
        let count = fill(&mut file, buffer).map_err(|error| Failure::file("read", path.as_path(), &error))?;
        if count == 0 {
            return Ok(());
        }
        walked.add_chunk(entry, &buffer[..count], Place::File(Arc::clone(&path), offset, count));
        offset += count as u64;
    }
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
                let data: Arc<[u8]> = Arc::from(&buffer[..count]);
                walked.add_chunk(&mut entry, &buffer[..count], Place::Bytes(data));
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
        match walked.chunks.get(digest)? {
            Place::Bytes(bytes) => data.extend_from_slice(bytes),
            Place::File(..) => return None,
        }
    }
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_walked_without_what_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::fs::write(root.path().join("a/b/c"), vec![7; CHUNK_BYTES + 1]).unwrap();
        std::fs::write(root.path().join("a/x.log"), "no").unwrap();
        std::os::unix::fs::symlink("../elsewhere", root.path().join("link")).unwrap();
        let walked = folder(root.path(), &Matcher::from_file(b"**/*.log").unwrap()).unwrap();
        let mut paths: Vec<&[u8]> = walked.entries.iter().map(|entry| entry.path.as_slice()).collect();
        paths.sort();
        assert_eq!(paths, [&b"a"[..], b"a/b", b"a/b/c", b"link"]);
        let file = walked.entries.iter().find(|entry| entry.path == b"a/b/c").unwrap();
        assert_eq!((file.size_bytes, file.chunk_digests.len()), (CHUNK_BYTES as i64 + 1, 2));
        let place = &walked.chunks[&file.chunk_digests[1]];
        assert_eq!(place.read(&file.chunk_digests[1]).unwrap(), [7]);
        std::fs::write(root.path().join("a/b/c"), vec![8; CHUNK_BYTES + 1]).unwrap();
        assert!(place.read(&file.chunk_digests[1]).unwrap_err().message.contains("changed"));
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
