//! What a copy's cache key is made of: names, kinds, modes, owners where they are kept, attributes, links and content.
//! Never times (case B05).

use crate::content::Content;
use crate::select::{Match, Picked, Selection};
use crate::tree::MetaKind;
use crate::BuildError;

impl Selection {
    /// The key of all that is selected: the same for the same files, however they came here. Blocking: files of layers
    /// are read, those of contexts are known by their chunks.
    ///
    /// # Errors
    /// `IO_FAILED`, `CANCELLED`.
    pub fn digest(&self, is_cancelled: &dyn Fn() -> bool) -> Result<[u8; 32], BuildError> {
        let mut hasher = blake3::Hasher::new();
        field(&mut hasher, b"fluyt-selection-1");
        for Match { top, below, keeps_name } in &self.matches {
            field(&mut hasher, if *keeps_name { b"kept" } else { b"plain" });
            self.add(&mut hasher, top, is_cancelled)?;
            for picked in below {
                self.add(&mut hasher, picked, is_cancelled)?;
            }
        }
        Ok(*hasher.finalize().as_bytes())
    }

    fn add(
        &self,
        hasher: &mut blake3::Hasher,
        picked: &Picked,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<(), BuildError> {
        if is_cancelled() {
            return Err(BuildError::Cancelled { subject: "a copy".to_owned() });
        }
        field(hasher, &picked.name);
        let meta = &picked.meta;
        let owner = if self.has_owners { (meta.uid, meta.gid) } else { (0, 0) };
        field(hasher, format!("{:o} {} {}", meta.mode, owner.0, owner.1).as_bytes());
        for (name, value) in &meta.xattrs {
            field(hasher, name);
            field(hasher, value);
        }
        field(hasher, b"");
        match &meta.kind {
            MetaKind::Directory => field(hasher, b"d"),
            MetaKind::Symlink { target } => {
                field(hasher, b"l");
                field(hasher, target);
            }
            MetaKind::File { size_bytes } => {
                field(hasher, format!("f {size_bytes}").as_bytes());
                field(hasher, &content_digest(&picked.content)?);
            }
            MetaKind::Fifo => field(hasher, b"p"),
            MetaKind::Socket => field(hasher, b"s"),
            MetaKind::Device { is_block, major, minor } => {
                field(hasher, format!("{is_block} {major} {minor}").as_bytes());
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
fn field(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// The BLAKE3 digest of these parts, no two lists of which give the same.
pub fn key_of(parts: &[Vec<u8>]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    parts.iter().for_each(|part| field(&mut hasher, part));
    *hasher.finalize().as_bytes()
}
