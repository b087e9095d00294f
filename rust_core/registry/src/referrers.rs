//! Keeps the list of what refers to a manifest by its tag, for registries that do not keep one themselves.
//!
//! Source: distribution-spec spec.md, "Pushing Manifests with Subject" and "Referrers Tag Schema".

use content::Digest;
use serde_json::{json, Map, Value};

use crate::manifest::{self, MANIFEST_MAX_BYTES};
use crate::push::put_manifest;
use crate::session::Session;
use crate::target::{Reference, Repository};
use crate::RegistryError;

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// What a manifest refers to.
pub(crate) fn subject_of(document: &Value) -> Option<Digest> {
    Digest::parse(document.get("subject")?.get("digest")?.as_str()?).ok()
}

/// The tag under which the list stands: `sha256-<hex>`, cut so that it is a tag.
pub(crate) fn referrers_tag(subject: &Digest) -> Reference {
    let tag = format!("{}-{}", subject.algorithm().name(), subject.hex());
    Reference::Tag(tag.chars().take(crate::TAG_MAX_BYTES).collect())
}

/// How often the list is written anew because another client wrote over it.
pub const REFERRERS_WRITE_ATTEMPTS: u32 = 5;

/// The list under the subject's tag names this manifest.
///
/// Two clients that do this at once write over each other, and the protocol has no way to forbid it; so it is looked
/// afterwards whether the entry stands, and written again where it does not.
///
/// # Errors
/// `REGISTRY_PROTOCOL` if it does not stand after `REFERRERS_WRITE_ATTEMPTS`, and as a push of a manifest.
pub(crate) async fn list_in_tag(
    session: &Session,
    place: &Repository,
    subject: &Digest,
    document: &Value,
    descriptor: (&str, &Digest, u64),
) -> Result<(), RegistryError> {
    let tag = referrers_tag(subject);
    let (media_type, digest, size_bytes) = descriptor;
    let text = digest.to_string();
    for attempt in 0..=REFERRERS_WRITE_ATTEMPTS {
        let mut index = read_index(session, place, &tag).await?;
        let entries = entries_of(&mut index, &place.endpoint.registry)?;
        if entries.iter().any(|entry| entry.get("digest").and_then(Value::as_str) == Some(&text)) {
            return Ok(());
        }
        if attempt == REFERRERS_WRITE_ATTEMPTS {
            break;
        }
        entries.push(entry(document, media_type, &text, size_bytes));
        let data = index.to_string().into_bytes();
        if data.len() as u64 > MANIFEST_MAX_BYTES {
            return Err(RegistryError::LimitExceeded {
                limit: "manifest_max_bytes",
                limit_value: MANIFEST_MAX_BYTES,
                actual: data.len() as u64,
                subject: format!("referrers of {subject}"),
            });
        }
        put_manifest(session, place, &tag, INDEX_TYPE, data).await?;
    }
    let rule = "keeps losing what is written under a referrers tag";
    Err(RegistryError::Protocol { registry: place.endpoint.registry.clone(), rule, status: 200 })
}

async fn read_index(session: &Session, place: &Repository, tag: &Reference) -> Result<Value, RegistryError> {
    match manifest::fetch(session, std::slice::from_ref(place), tag).await {
        Ok(found) => Ok(serde_json::from_slice(&found.data).unwrap_or(Value::Null)),
        Err(RegistryError::ImageNotFound { .. }) => {
            Ok(json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}))
        }
        Err(error) => Err(error),
    }
}

fn entries_of<'a>(index: &'a mut Value, registry: &str) -> Result<&'a mut Vec<Value>, RegistryError> {
    let rule = "keeps something else than an index under a referrers tag";
    index.get_mut("manifests").and_then(Value::as_array_mut).ok_or_else(|| RegistryError::Protocol {
        registry: registry.to_owned(),
        rule,
        status: 200,
    })
}

fn entry(document: &Value, media_type: &str, digest: &str, size_bytes: u64) -> Value {
    let mut entry = Map::new();
    entry.insert("mediaType".to_owned(), media_type.into());
    entry.insert("digest".to_owned(), digest.into());
    entry.insert("size".to_owned(), size_bytes.into());
    let own = document.get("artifactType").and_then(Value::as_str).filter(|text| !text.is_empty());
    let config = document.get("config").and_then(|config| config.get("mediaType")).and_then(Value::as_str);
    if let Some(artifact_type) = own.or(config) {
        entry.insert("artifactType".to_owned(), artifact_type.into());
    }
    if let Some(annotations) = document.get("annotations").filter(|value| value.is_object()) {
        entry.insert("annotations".to_owned(), annotations.clone());
    }
    Value::Object(entry)
}
