//! Keeps the list of what refers to a manifest by its tag, for registries that do not keep one themselves.
//!
//! Source: distribution-spec spec.md, "Pushing Manifests with Subject" and "Referrers Tag Schema".

use content::Digest;
use reqwest::header::{HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use serde_json::{json, Map, Value};

use crate::manifest::{self, MANIFEST_MAX_BYTES};
use crate::push::put_manifest_if;
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
/// Two clients that do this at once would write over each other. Where the registry gives entity tags, the list is written
/// only if it is still the one that was read, or if there is still none (RFC 9110, If-Match and If-None-Match). A registry
/// may know tags and no conditions; so it is looked afterwards whether the entry stands, and written again where it does
/// not.
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
    let mut refused = None;
    for attempt in 0..=REFERRERS_WRITE_ATTEMPTS {
        let (mut index, entity_tag) = read_index(session, place, &tag).await?;
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
        // A registry that refused this very condition, and tells the same again, means something else by it.
        let condition = Some(&entity_tag).filter(|now| refused.as_ref() != Some(*now)).and_then(condition);
        let put = put_manifest_if(session, place, &tag, INDEX_TYPE, data, condition).await?;
        refused = put.is_none().then_some(entity_tag);
    }
    let rule = "keeps losing what is written under a referrers tag";
    Err(RegistryError::Protocol { registry: place.endpoint.registry.clone(), rule, status: 200 })
}

/// What stands under a tag when the list is read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum EntityTag {
    /// There is no list.
    Absent,
    /// The registry gives the list no entity tag.
    Unknown,
    Known(HeaderValue),
}

/// The header field that forbids to write over another list than the one that was read.
fn condition(entity_tag: &EntityTag) -> Option<(HeaderName, HeaderValue)> {
    match entity_tag {
        EntityTag::Absent => Some((IF_NONE_MATCH, HeaderValue::from_static("*"))),
        EntityTag::Unknown => None,
        EntityTag::Known(value) => Some((IF_MATCH, value.clone())),
    }
}

async fn read_index(
    session: &Session,
    place: &Repository,
    tag: &Reference,
) -> Result<(Value, EntityTag), RegistryError> {
    match manifest::fetch_at(session, place, tag, session.max_attempts(0)).await {
        Ok((found, entity_tag)) => {
            let index = serde_json::from_slice(&found.data).unwrap_or(Value::Null);
            Ok((index, entity_tag.map_or(EntityTag::Unknown, EntityTag::Known)))
        }
        Err(RegistryError::ImageNotFound { .. }) => {
            let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []});
            Ok((index, EntityTag::Absent))
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
