//! Caches that travel: what `--cache-from` and `--cache-to` name, and those that are in folders of this host.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tonic::transport::Channel;

use super::context::{self, Context};
use super::layout::{self, Layout, Wanted, DEFAULT_TAG, MAX_DOCUMENT_BYTES, REF_NAME};
use super::remembered::{Files, Table};
use super::walk;
use crate::api::v1::build_cache_source::Source as CacheSource;
use crate::api::v1::build_cache_spec::Mode;
use crate::api::v1::build_service_client::BuildServiceClient;
use crate::api::v1::build_source::Source;
use crate::api::v1::save_build_cache_response::Part;
use crate::api::v1::{BuildCacheSource, BuildCacheSpec, SaveBuildCacheRequest};
use crate::failure::Failure;
use crate::output_file::OutputFile;
use crate::{progress, render};

/// Pieces of a cache that wait to be written.
const QUEUE: usize = 8;
/// Digests that a request names at most.
const MAX_PRESENT: usize = 20_000;
const INDEX: &str = "index.json";
const LAYOUT: &str = "oci-layout";

/// Where a cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a registry, by its reference.
    Registry(String),
    /// An OCI layout in a folder.
    Folder(PathBuf, Wanted),
}

/// One `--cache-from` or `--cache-to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Where it is.
    pub place: Place,
    /// Cache mounts go with it.
    pub has_mounts: bool,
    /// Of `--cache-to` only: results of the image's own stages only.
    pub is_min: bool,
    /// Of `--cache-to` only: a cache that cannot be written is a warning.
    pub ignores_error: bool,
}

/// Reads a `--cache-from`.
///
/// # Errors
/// Why it is none.
pub fn parse_from(text: &str) -> Result<Cache, String> {
    parse(text, "src")
}

/// Reads a `--cache-to`.
///
/// # Errors
/// Why it is none.
pub fn parse_to(text: &str) -> Result<Cache, String> {
    parse(text, "dest")
}

/// A reference, or `type=registry,ref=REFERENCE` or `type=local,src=DIR` (`dest=DIR`) with options.
///
/// Source: docker buildx build, `--cache-from` and `--cache-to`.
fn parse(text: &str, folder: &str) -> Result<Cache, String> {
    let help = format!("write type=registry,ref=REFERENCE or type=local,{folder}=FOLDER");
    let mut cache = Cache {
        place: Place::Registry(text.to_owned()),
        has_mounts: false,
        is_min: false,
        ignores_error: false,
    };
    if !text.contains('=') {
        return Ok(cache);
    }
    let is_to = folder == "dest";
    let (mut kind, mut reference, mut path) = (None, None, None);
    let mut wanted = Wanted::Tag(DEFAULT_TAG.to_owned());
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("type", value)) => kind = Some(value),
            Some(("ref", value)) if !value.is_empty() => reference = Some(value),
            Some((name, value)) if name == folder && !value.is_empty() => path = Some(value),
            Some(("tag", value)) if !value.is_empty() => wanted = Wanted::Tag(value.to_owned()),
            Some(("digest", value)) if !is_to && layout::is_digest(value) => {
                wanted = Wanted::Digest(value.to_owned());
            }
            Some(("mounts", value @ ("true" | "false"))) => cache.has_mounts = value == "true",
            Some(("mode", value @ ("min" | "max"))) if is_to => cache.is_min = value == "min",
            Some(("ignore-error", value @ ("true" | "false"))) if is_to => {
                cache.ignores_error = value == "true"
            }
            // A cache is such a manifest always.
            Some(("image-manifest" | "oci-mediatypes", "true")) if is_to => {}
            _ => return Err(format!("`{part}` is not known: {help}")),
        }
    }
    cache.place = match (kind, reference, path) {
        (Some("registry"), Some(reference), None) if wanted == Wanted::Tag(DEFAULT_TAG.to_owned()) => {
            if cache.ignores_error {
                return Err("ignore-error is for type=local: a registry is written by the engine".to_owned());
            }
            Place::Registry(reference.to_owned())
        }
        (Some("local"), None, Some(path)) => Place::Folder(PathBuf::from(path), wanted),
        (Some("registry" | "local") | None, ..) => return Err(help),
        (Some(other), ..) => return Err(format!("type={other} is not built: {help}")),
    };
    Ok(cache)
}

impl Cache {
    /// The reference of one in a registry.
    pub fn reference(&self) -> Option<&str> {
        match &self.place {
            Place::Registry(reference) => Some(reference),
            Place::Folder(..) => None,
        }
    }

    /// What is written of a `--cache-to`.
    pub fn spec(&self) -> BuildCacheSpec {
        let mode = if self.is_min { Mode::Min } else { Mode::Max };
        BuildCacheSpec { mode: mode.into(), mounts: self.has_mounts }
    }
}

/// The caches that a build takes results from; those in folders are sent. One that is not there is a warning: the first
/// build of all has none.
///
/// # Errors
/// Files that cannot be read or change meanwhile; what the engine answers.
pub async fn sources(
    channel: &Channel,
    caches: &[Cache],
    is_quiet: bool,
) -> Result<Vec<BuildCacheSource>, Failure> {
    let mut found = Vec::new();
    for cache in caches {
        let mounts = cache.has_mounts;
        match &cache.place {
            Place::Registry(reference) => found.push(BuildCacheSource {
                source: Some(CacheSource::Reference(reference.clone())),
                mounts,
                ..Default::default()
            }),
            Place::Folder(folder, wanted) => match selected(folder, wanted) {
                Ok((manifest_digest, walked)) => {
                    let sent = context::send(channel.clone(), Context::Walked(walked), is_quiet).await?;
                    let Some(Source::ContextId(id)) = sent.source else { continue };
                    let source = Some(CacheSource::ContextId(id));
                    found.push(BuildCacheSource { source, manifest_digest, mounts });
                }
                Err(failure) => eprintln!("warning: cache of {}: {}", folder.display(), failure.message),
            },
        }
    }
    Ok(found)
}

/// The digest of the manifest that is wanted of a folder, and its blobs as a context.
fn selected(folder: &Path, wanted: &Wanted) -> Result<(String, walk::Walked), Failure> {
    let layout = Layout::open(folder)?;
    let entry = layout.find(wanted)?;
    let digest = layout::digest_of(entry)?.to_owned();
    let mut patterns = "*\n".to_owned();
    for blob in layout.blobs(entry)?.keys() {
        patterns.push_str(&format!("!{}\n", layout::blob_name(blob)));
    }
    let matcher = ignore::Matcher::from_patterns(patterns.lines())
        .map_err(|error| Failure::new(error.to_string(), ""))?;
    // The folder's blobs are named by their digests; nothing is gained by remembering them too.
    Ok((digest, walk::folder(folder, &matcher, &Table::default(), &mut Files::begin())?))
}

/// The results of a build are in a folder, beside those of other names that are there.
///
/// # Errors
/// What the engine answers, a folder that cannot be written.
pub async fn save(channel: &Channel, build_id: &str, cache: &Cache, is_quiet: bool) -> Result<(), Failure> {
    let Place::Folder(folder, Wanted::Tag(tag)) = &cache.place else { return Ok(()) };
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(|error| Failure::file("create", &blobs, &error))?;
    let request = SaveBuildCacheRequest {
        build_id: build_id.to_owned(),
        spec: Some(cache.spec()),
        tag: tag.clone(),
        present_digests: present(&blobs)?,
    };
    let mut parts = BuildServiceClient::new(channel.clone()).save_build_cache(request).await?.into_inner();
    let bar = progress::receiving(is_quiet);
    let (chunks, queue) = mpsc::channel::<Vec<u8>>(QUEUE);
    let target = folder.clone();
    let writer =
        tokio::task::spawn_blocking(move || write_blobs(Pieces { queue, rest: Vec::new() }, &target));
    let complete = loop {
        match parts.message().await?.and_then(|message| message.part) {
            Some(Part::Chunk(chunk)) => {
                bar.inc(chunk.len() as u64);
                // The writer has failed, and tells why below.
                if chunks.send(chunk).await.is_err() {
                    break None;
                }
            }
            Some(Part::Complete(complete)) => break Some(complete),
            None => return Err(Failure::cut_off("cache")),
        }
    };
    drop(chunks);
    bar.finish_and_clear();
    let index =
        writer.await.map_err(|error| Failure::new(format!("the cache was not written: {error}"), ""))??;
    let complete = complete.ok_or_else(|| Failure::cut_off("cache"))?;
    write_index(folder, &index, tag)?;
    for warning in &complete.warnings {
        eprintln!("warning: {}", render::printable(warning));
    }
    Ok(())
}

/// Digests of the blobs that are there, whole.
fn present(blobs: &Path) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(blobs).map_err(|error| Failure::file("read", blobs, &error))? {
        let entry = entry.map_err(|error| Failure::file("read", blobs, &error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if layout::is_hex(&name) && found.len() < MAX_PRESENT {
            let path = entry.path();
            let failed = |error| Failure::file("read", &path, &error);
            let file = fs::File::open(&path).map_err(failed)?;
            let hex = hashed(file, |_| Ok::<(), Failure>(())).map_err(failed)??;
            // One that is damaged is sent anew.
            if hex == name {
                found.push(format!("sha256:{name}"));
            }
        }
    }
    Ok(found)
}

/// The SHA-256 of all that is read, each piece given to `take`; the outer error is one of reading.
fn hashed<E>(
    mut source: impl Read,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> std::io::Result<Result<String, E>> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            return Ok(Ok(layout::hex(&hasher.finalize())));
        }
        hasher.update(&buffer[..count]);
        if let Err(error) = take(&buffer[..count]) {
            return Ok(Err(error));
        }
    }
}

/// What comes from the engine, as a file that is read.
struct Pieces {
    queue: mpsc::Receiver<Vec<u8>>,
    rest: Vec<u8>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.rest.is_empty() {
            match self.queue.blocking_recv() {
                Some(piece) => self.rest = piece,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest[..count]);
        self.rest.drain(..count);
        Ok(count)
    }
}

/// The blobs of the tar are in the folder, each whole and by its digest; returns its `index.json`. Blocking.
fn write_blobs(source: impl Read, folder: &Path) -> Result<Value, Failure> {
    let broken = |error: std::io::Error| Failure::new(format!("what came is no cache: {error}"), "");
    let mut archive = tar::Archive::new(source);
    let mut index = None;
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        match name.strip_prefix("blobs/sha256/") {
            Some(hex) if layout::is_hex(hex) => {
                let mut file = OutputFile::create(&folder.join(&name))?;
                let came = hashed(&mut entry, |piece| file.write(piece)).map_err(broken)??;
                if came != hex {
                    return Err(Failure::new(
                        format!("blob {hex} did not come as it was sent"),
                        "build again",
                    ));
                }
                file.finish()?;
            }
            _ if name == INDEX => {
                let mut data = Vec::new();
                entry.take(MAX_DOCUMENT_BYTES).read_to_end(&mut data).map_err(broken)?;
                index = serde_json::from_slice(&data).ok();
            }
            _ if name == LAYOUT => {}
            _ => return Err(Failure::new(format!("the engine sent a file {name:?} with the cache"), "")),
        }
    }
    index.ok_or_else(|| Failure::cut_off("cache"))
}

/// The folder's index names the new manifest by the tag; other names stay. Written last, so that what it names is there.
fn write_index(folder: &Path, new: &Value, tag: &str) -> Result<(), Failure> {
    let path = folder.join(INDEX);
    let old: Value = match fs::metadata(&path) {
        Ok(_) => layout::parsed(&layout::read(&path)?, &path)?,
        Err(_) => Value::Null,
    };
    let others = old["manifests"].as_array().cloned().unwrap_or_default();
    let mut entries: Vec<Value> =
        others.into_iter().filter(|entry| entry["annotations"][REF_NAME] != *tag).collect();
    entries.extend(new["manifests"].as_array().cloned().unwrap_or_default());
    let index = json!({"schemaVersion": 2, "mediaType": new["mediaType"], "manifests": entries});
    for (name, data) in [(LAYOUT, json!({"imageLayoutVersion": "1.0.0"})), (INDEX, index)] {
        let mut file = OutputFile::create(&folder.join(name))?;
        file.write(data.to_string().as_bytes())?;
        file.finish()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_in_registries_and_folders() {
        for text in
            ["host/cache:1", "type=registry,ref=host/cache:1", "ref=host/cache:1,mode=max,type=registry"]
        {
            let cache = parse_to(text).unwrap();
            assert_eq!((cache.reference(), cache.is_min), (Some("host/cache:1"), false), "{text}");
        }
        let folder = parse_to("type=local,dest=out,mode=min,mounts=true,tag=main,ignore-error=true").unwrap();
        assert_eq!(folder.place, Place::Folder("out".into(), Wanted::Tag("main".to_owned())));
        assert!(folder.is_min && folder.has_mounts && folder.ignores_error);
        let digest = format!("sha256:{}", "a".repeat(64));
        let source = parse_from(&format!("type=local,src=in,digest={digest}")).unwrap();
        assert_eq!(source.place, Place::Folder("in".into(), Wanted::Digest(digest)));
        for wrong in ["type=registry", "ref=a", "type=inline", "type=local,src=x", "type=local", "type=gha"] {
            assert!(parse_to(wrong).is_err(), "{wrong}");
        }
        for wrong in
            ["type=local,dest=x", "type=local,src=x,mode=max", "type=local,src=x,digest=1", "mounts=1"]
        {
            assert!(parse_from(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_of_others_stay_in_the_index() {
        let folder = tempfile::tempdir().unwrap();
        let index = |tag: &str, digest: &str| json!({"mediaType": "m", "manifests": [{"digest": digest, "annotations": {REF_NAME: tag}}]});
        for (tag, digest) in [("a", "1"), ("b", "2"), ("a", "3")] {
            write_index(folder.path(), &index(tag, digest), tag).unwrap();
        }
        let written: Value = serde_json::from_slice(&fs::read(folder.path().join(INDEX)).unwrap()).unwrap();
        let digests: Vec<&str> = written["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["digest"].as_str().unwrap())
            .collect();
        assert_eq!(digests, ["2", "3"]);
    }

    #[test]
    fn a_tar_of_anything_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        tar.append_data(&mut header, "etc/passwd", std::io::empty()).unwrap();
        assert!(write_blobs(&tar.into_inner().unwrap()[..], folder.path()).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
