//! What a copy's cache key is made of: names, kinds, modes, owners where they are kept, attributes, links and content.
//! Never times (case B05).

use crate::content::Content;
use crate::select::{Match, Picked, Selection};
use crate::tree::MetaKind;
use crate::BuildError;

/// Bytes that are hashed at once.
const GATHERED_BYTES: usize = 64 * 1024;

impl Selection {
    /// The key of all that is selected: the same for the same files, however they came here. Blocking: files of layers
    /// are read, those of contexts are known by their chunks.
    ///
    /// # Errors
    /// `IO_FAILED`, `CANCELLED`.
    pub fn digest(&self, is_cancelled: &dyn Fn() -> bool) -> Result<[u8; 32], BuildError> {
        // Gathered, since the hash takes many short pieces much more slowly than a long one.
        let (mut hasher, mut buffer) = (blake3::Hasher::new(), Vec::with_capacity(2 * GATHERED_BYTES));
        field(&mut buffer, b"fluyt-selection-1");
        for Match { top, below, keeps_name } in &self.matches {
            field(&mut buffer, if *keeps_name { b"kept" } else { b"plain" });
            for picked in std::iter::once(top).chain(below) {
                self.add(&mut buffer, picked, is_cancelled)?;
                if buffer.len() > GATHERED_BYTES {
                    hasher.update(&buffer);
                    buffer.clear();
                }
            }
        }
        Ok(*hasher.update(&buffer).finalize().as_bytes())
    }

    fn add(
        &self,
        buffer: &mut Vec<u8>,
        picked: &Picked,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<(), BuildError> {
        if is_cancelled() {
            return Err(BuildError::Cancelled { subject: "a copy".to_owned() });
        }
        field(buffer, &picked.name);
        let meta = &picked.meta;
        let owner = if self.has_owners { (meta.uid, meta.gid) } else { (0, 0) };
        field(buffer, format!("{:o} {} {}", meta.mode, owner.0, owner.1).as_bytes());
        for (name, value) in &meta.xattrs {
            field(buffer, name);
            field(buffer, value);
        }
        field(buffer, b"");
        match &meta.kind {
            MetaKind::Directory => field(buffer, b"d"),
            MetaKind::Symlink { target } => {
                field(buffer, b"l");
                field(buffer, target);
            }
            MetaKind::File { size_bytes } => {
                field(buffer, format!("f {size_bytes}").as_bytes());
                field(buffer, &content_digest(&picked.content)?);
            }
            MetaKind::Fifo => field(buffer, b"p"),
            MetaKind::Socket => field(buffer, b"s"),
            MetaKind::Device { is_block, major, minor } => {
                field(buffer, format!("{is_block} {major} {minor}").as_bytes());
            }
        }
        Ok(())
    }
}

/// The digest of a file's bytes; of one in chunks that of its chunks' digests unless it is a single one, whose digest
/// is the file's.
fn content_digest(content: &Content) -> Result<[u8; 32], BuildError> {
    let mut hasher = blake3::Hasher::new();
    if let Content::Chunks(chunks) = content {
        if let [only] = chunks.as_slice() {
            return Ok(*only.digest());
        }
        chunks.iter().for_each(|chunk| {
            hasher.update(chunk.digest());
        });
        return Ok(*hasher.finalize().as_bytes());
    }
    let (mut reader, mut buffer) = (content.open()?, Vec::new());
    while reader.next(&mut buffer)? {
        hasher.update(&buffer);
        buffer.clear();
    }
    Ok(*hasher.finalize().as_bytes())
}

/// Length and bytes, so that no two lists of fields give the same stream.
fn field(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    buffer.extend_from_slice(bytes);
}

/// The BLAKE3 digest of these parts, no two lists of which give the same.
pub fn key_of(parts: &[Vec<u8>]) -> [u8; 32] {
    let mut buffer = Vec::new();
    parts.iter().for_each(|part| field(&mut buffer, part));
    *blake3::hash(&buffer).as_bytes()
}
