//! What a manifest must be before anything it names is asked for. Pure: bytes in, verdict out.

use std::collections::BTreeMap;

use content::Digest;
use serde::de::IgnoredAny;
use serde::Deserialize;

use crate::target::shown;
use crate::RegistryError;

/// How many descriptors one manifest may hold. An image cannot have more than 500 layers (overlay's limit), but an
/// index of a big repository may list some thousand manifests.
pub const DESCRIPTOR_MAX_COUNT: u64 = 10_000;

const IMAGE_TYPES: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const INDEX_TYPES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
/// Docker's image format before 2016: its layers are named by what their maker claims.
const SCHEMA_1_PREFIX: &str = "application/vnd.docker.distribution.manifest.v1+";

/// The media types that are asked for.
pub(crate) fn accepted() -> String {
    [IMAGE_TYPES, INDEX_TYPES].concat().join(", ")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    fs_layers: Option<IgnoredAny>,
}

/// `urls` is not read: content comes from the registry that was asked (R13).
#[derive(Deserialize)]
struct Descriptor {
    digest: Option<String>,
    size: Option<serde_json::Number>,
}

/// The keys of `Document`: a key that differs from one of these by case only means different things to different
/// readers.
const KEYS: [&str; 7] =
    ["schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "fsLayers"];

/// The media type of a manifest that may be trusted. `header` is the Content-Type it came with, `subject` what an
/// error calls it.
///
/// It is an image manifest or an index and not something of both (R01), header and body agree on which (R02), each
/// digest is well formed (R04) and each size a non-negative integer.
///
/// # Errors
/// `MANIFEST_INVALID`, `LIMIT_EXCEEDED` (`descriptor_max_count`).
pub(crate) fn check(body: &[u8], header: Option<&str>, subject: &str) -> Result<String, RegistryError> {
    let refuse = |rule| RegistryError::ManifestInvalid { subject: subject.to_owned(), rule };
    let keys: BTreeMap<String, IgnoredAny> =
        serde_json::from_slice(body).map_err(|_| refuse("is not a JSON object"))?;
    if keys.keys().any(|key| KEYS.iter().any(|known| key != known && folded(key).eq_ignore_ascii_case(known)))
    {
        return Err(refuse("has a key that differs from a known one by case only"));
    }
    let document: Document =
        serde_json::from_slice(body).map_err(|_| refuse("has a member twice or of the wrong type"))?;
    let header = header.map(essence);
    let media_type = match (header, document.media_type.as_deref()) {
        (Some(header), Some(body)) if header != body => {
            return Err(refuse("header and body disagree on the media type"))
        }
        (Some(header), _) => header,
        (None, Some(body)) => body.to_owned(),
        (None, None) => return Err(refuse("has no media type")),
    };
    if media_type.starts_with(SCHEMA_1_PREFIX) || document.fs_layers.is_some() {
        return Err(refuse("is of schema 1, which cannot be verified"));
    }
    if document.schema_version != Some(2) {
        return Err(refuse("schemaVersion is not 2"));
    }
    let has_image = document.config.is_some() || document.layers.is_some();
    if has_image && document.manifests.is_some() {
        return Err(refuse("is both an image and an index"));
    }
    let count = document.layers.as_ref().or(document.manifests.as_ref()).map_or(0, Vec::len) as u64;
    if count > DESCRIPTOR_MAX_COUNT {
        return Err(RegistryError::LimitExceeded {
            limit: "descriptor_max_count",
            limit_value: DESCRIPTOR_MAX_COUNT,
            actual: count,
            subject: subject.to_owned(),
        });
    }
    if IMAGE_TYPES.contains(&media_type.as_str()) {
        let config = document.config.ok_or_else(|| refuse("an image manifest has no config"))?;
        let layers = document.layers.ok_or_else(|| refuse("an image manifest has no layers"))?;
        check_descriptor(&config, || format!("{subject} config"))?;
        check_descriptors(&layers, subject, "layers")?;
    } else if INDEX_TYPES.contains(&media_type.as_str()) {
        let manifests = document.manifests.ok_or_else(|| refuse("an index has no manifests"))?;
        check_descriptors(&manifests, subject, "manifests")?;
    } else {
        return Err(refuse("its media type is neither an image manifest nor an index"));
    }
    if let Some(subject_descriptor) = &document.subject {
        check_descriptor(subject_descriptor, || format!("{subject} subject"))?;
    }
    Ok(media_type)
}

/// The key with the two characters beyond ASCII that readers in Go take for letters of it: the long s and the sign of
/// kelvin. Source: Go, encoding/json, `foldName`; Unicode, CaseFolding.txt.
fn folded(key: &str) -> String {
    key.replace('\u{17f}', "s").replace('\u{212a}', "k")
}

/// A media type without its parameters, in lower case. Source: RFC 9110 section 8.3.1.
fn essence(header: &str) -> String {
    header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn check_descriptors(descriptors: &[Descriptor], subject: &str, list: &str) -> Result<(), RegistryError> {
    for (index, descriptor) in descriptors.iter().enumerate() {
        check_descriptor(descriptor, || format!("{subject} {list}[{index}]"))?;
    }
    Ok(())
}

fn check_descriptor(descriptor: &Descriptor, subject: impl Fn() -> String) -> Result<(), RegistryError> {
    let refuse = |subject, rule| Err(RegistryError::ManifestInvalid { subject, rule });
    let Some(digest) = &descriptor.digest else {
        return refuse(subject(), "a descriptor has no digest");
    };
    if Digest::parse(digest).is_err() {
        return refuse(format!("{} {}", subject(), shown(digest)), "a digest is malformed");
    }
    // Sizes are signed 64-bit numbers: descriptor.md, Properties.
    let size = descriptor.size.as_ref().and_then(serde_json::Number::as_i64);
    if size.is_none_or(|size| size < 0) {
        return refuse(subject(), "a size is not a non-negative integer");
    }
    Ok(())
}

#[cfg(test)]
#[path = "manifest_rules_tests.rs"]
mod tests;
