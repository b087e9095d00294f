//! OCI image layouts in folders of this host: which manifest a name stands for, and which blobs belong to it.
//!
//! Source: OCI image-spec image-layout.md.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::failure::Failure;

/// Largest index or manifest that is read. Source: the engine takes no larger one.
pub const MAX_DOCUMENT_BYTES: u64 = 4 * 1024 * 1024;
/// Most blobs of one manifest or index, all that is below it included.
const MAX_BLOBS: usize = 20_000;
/// How deep indexes may stand in each other.
const MAX_INDEX_DEPTH: usize = 4;
/// The name of an entry of `index.json`.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// What a cache or image without a name is called.
pub const DEFAULT_TAG: &str = "latest";

/// Which entry of a layout is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The one of this name.
    Tag(String),
    /// The one of this digest.
    Digest(String),
}

/// A folder that holds a layout.
pub struct Layout {
    root: PathBuf,
    index: Value,
}

impl Layout {
    /// The layout of a folder.
    ///
    /// # Errors
    /// It has none, or one that cannot be read.
    pub fn open(root: &Path) -> Result<Self, Failure> {
        let path = root.join("index.json");
        let index = parsed(&read(&path)?, &path)?;
        Ok(Self { root: root.to_owned(), index })
    }

    /// The entry of `index.json`; the only one where no name is the wanted one and none was given a name.
    ///
    /// # Errors
    /// It has none, or several.
    pub fn find(&self, wanted: &Wanted) -> Result<&Value, Failure> {
        let entries = self.index["manifests"].as_array().map(Vec::as_slice).unwrap_or_default();
        let name_of = |entry: &Value| entry["annotations"][REF_NAME].as_str().unwrap_or_default().to_owned();
        let found: Vec<&Value> = match wanted {
            Wanted::Digest(digest) => entries.iter().filter(|entry| entry["digest"] == **digest).collect(),
            Wanted::Tag(tag) => {
                // Tools write a tag alone, or a reference in full.
                let is_it =
                    |name: &str| name == tag || name.rsplit_once(':').is_some_and(|(_, last)| last == tag);
                entries.iter().filter(|entry| is_it(&name_of(entry))).collect()
            }
        };
        let found = match (&found[..], entries) {
            ([], [only]) if *wanted == Wanted::Tag(DEFAULT_TAG.to_owned()) => vec![only],
            _ => found,
        };
        let text = match wanted {
            Wanted::Tag(text) | Wanted::Digest(text) => text,
        };
        match found.first() {
            Some(first) if found.iter().all(|entry| entry["digest"] == first["digest"]) => Ok(*first),
            Some(_) => Err(Failure::new(
                format!("{} has several entries {text}", self.root.display()),
                "name one by its digest",
            )),
            None => {
                let names: Vec<String> =
                    entries.iter().map(name_of).filter(|name| !name.is_empty()).take(10).collect();
                Err(Failure::new(
                    format!("{} has no entry {text}", self.root.display()),
                    format!(
                        "it has: {}",
                        if names.is_empty() { "no names".to_owned() } else { names.join(", ") }
                    ),
                ))
            }
        }
    }

    /// The digests of all blobs of an entry that are here, with their sizes: its own, and of what is below it.
    ///
    /// # Errors
    /// A manifest or index is not here, damaged, too large or names too much; a digest is none.
    pub fn blobs(&self, entry: &Value) -> Result<BTreeMap<String, u64>, Failure> {
        let mut found = BTreeMap::new();
        self.gather(entry, 0, &mut found)?;
        Ok(found)
    }

    fn gather(&self, entry: &Value, depth: usize, found: &mut BTreeMap<String, u64>) -> Result<(), Failure> {
        let data = self.document(entry)?;
        add(found, entry, data.len() as u64)?;
        let document = parsed(&data, &self.root)?;
        if depth > MAX_INDEX_DEPTH {
            return Err(Failure::new(
                format!("{}: indexes stand too deep in each other", self.root.display()),
                "",
            ));
        }
        for below in document["manifests"].as_array().into_iter().flatten() {
            // An index may list platforms that are not here.
            if self.path(digest_of(below)?).is_file() {
                self.gather(below, depth + 1, found)?;
            }
        }
        let layers = document["layers"].as_array().into_iter().flatten();
        for blob in document["config"].as_object().map(|_| &document["config"]).into_iter().chain(layers) {
            if let Ok(metadata) = fs::metadata(self.path(digest_of(blob)?)) {
                add(found, blob, metadata.len())?;
            }
        }
        Ok(())
    }

    /// The bytes of a manifest or index, which have its digest.
    fn document(&self, entry: &Value) -> Result<Vec<u8>, Failure> {
        let digest = digest_of(entry)?;
        let path = self.path(digest);
        let data = read(&path)?;
        if hex(&Sha256::digest(&data)) == digest.trim_start_matches("sha256:") {
            return Ok(data);
        }
        Err(Failure::new(format!("{} is damaged: it has not the digest it is named by", path.display()), ""))
    }

    /// Where a blob stands.
    pub fn path(&self, digest: &str) -> PathBuf {
        self.root.join(blob_name(digest))
    }
}

/// The name of a blob in a layout.
pub fn blob_name(digest: &str) -> String {
    format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"))
}

/// The digest that an entry names.
///
/// # Errors
/// It is none of SHA-256.
pub fn digest_of(entry: &Value) -> Result<&str, Failure> {
    let digest = entry["digest"].as_str().unwrap_or_default();
    if is_digest(digest) {
        return Ok(digest);
    }
    Err(Failure::new(format!("the layout names a blob {digest:?}, which is no sha256 digest"), ""))
}

/// Whether the text is `sha256:` and 64 hexadecimal digits.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(is_hex)
}

/// Whether the text is 64 hexadecimal digits in small letters.
pub fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The digits of a digest.
pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn add(found: &mut BTreeMap<String, u64>, entry: &Value, size: u64) -> Result<(), Failure> {
    found.insert(digest_of(entry)?.to_owned(), size);
    if found.len() > MAX_BLOBS {
        return Err(Failure::new(format!("the layout names more than {MAX_BLOBS} blobs"), ""));
    }
    Ok(())
}

/// A small file.
///
/// # Errors
/// It cannot be read, or is larger than [`MAX_DOCUMENT_BYTES`].
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let file = File::open(path).map_err(|error| Failure::file("open", path, &error))?;
    let mut data = Vec::new();
    file.take(MAX_DOCUMENT_BYTES + 1)
        .read_to_end(&mut data)
        .map_err(|error| Failure::file("read", path, &error))?;
    if data.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(Failure::new(
            format!("{} is larger than {MAX_DOCUMENT_BYTES} bytes", path.display()),
            "",
        ));
    }
    Ok(data)
}

/// The JSON of a file.
///
/// # Errors
/// It is none.
pub fn parsed(data: &[u8], path: &Path) -> Result<Value, Failure> {
    serde_json::from_slice(data).map_err(|error| Failure::new(format!("{}: {error}", path.display()), ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(root: &Path, data: &str) -> Value {
        let digest = format!("sha256:{}", hex(&Sha256::digest(data)));
        fs::create_dir_all(root.join("blobs/sha256")).unwrap();
        fs::write(root.join(blob_name(&digest)), data).unwrap();
        serde_json::json!({"digest": digest, "size": data.len()})
    }

    fn layout(root: &Path) -> (Layout, Value) {
        let (config, layer) = (blob(root, "{}"), blob(root, "layer"));
        let absent = serde_json::json!({"digest": format!("sha256:{}", "0".repeat(64)), "size": 1});
        let text = serde_json::json!({"config": config, "layers": [layer, absent]}).to_string();
        let mut manifest = blob(root, &text);
        manifest["annotations"] = serde_json::json!({REF_NAME: "one"});
        let index = serde_json::json!({"manifests": [manifest]}).to_string();
        fs::write(root.join("index.json"), index).unwrap();
        (Layout::open(root).unwrap(), manifest)
    }

    #[test]
    fn an_entry_is_found_by_name_and_by_digest() {
        let folder = tempfile::tempdir().unwrap();
        let (layout, manifest) = layout(folder.path());
        let digest = manifest["digest"].as_str().unwrap().to_owned();
        for wanted in ["one", DEFAULT_TAG].map(|tag| Wanted::Tag(tag.to_owned())) {
            assert_eq!(layout.find(&wanted).unwrap()["digest"], *digest);
        }
        assert_eq!(layout.find(&Wanted::Digest(digest.clone())).unwrap()["digest"], *digest);
        assert!(layout.find(&Wanted::Tag("two".to_owned())).is_err());
        assert_eq!(layout.blobs(&manifest).unwrap().len(), 3);
    }

    #[test]
    fn what_is_damaged_or_leads_elsewhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (layout, manifest) = layout(folder.path());
        fs::write(layout.path(manifest["digest"].as_str().unwrap()), "{}").unwrap();
        assert!(layout.blobs(&manifest).is_err());
        for digest in ["sha256:../../etc/passwd", "md5:00", ""] {
            assert!(layout.blobs(&serde_json::json!({"digest": digest})).is_err(), "{digest}");
        }
        assert!(Layout::open(&folder.path().join("absent")).is_err());
    }
}
