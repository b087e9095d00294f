//! Lists what refers to a manifest: signatures, attestations, bills of material.
//!
//! Source: distribution-spec spec.md, "Listing Referrers" and "Unavailable Referrers API".

use std::collections::BTreeMap;

use content::Digest;
use serde::Deserialize;
use sys::cancel::CancelToken;

use crate::client::unless_cancelled;
use crate::manifest;
use crate::pages::{List, Page, PAGE_MAX_BYTES};
use crate::referrers::referrers_tag;
use crate::session::Session;
use crate::target::{parse_digest, scope, Repository};
use crate::{RegistryClient, RegistryError, Target};

/// Most referrers of one manifest.
pub const REFERRERS_MAX_COUNT: u64 = 10_000;

/// One manifest that refers to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// What kind of artifact it is; empty if the registry does not say.
    pub artifact_type: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    digest: String,
    size: u64,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, Option<String>>>,
}

impl RegistryClient {
    /// What refers to the manifest `digest`, in the registry's order, each once: by the registry's own list, or where
    /// it keeps none by the one under the manifest's tag; nothing if there is neither. `artifact_type`: only these,
    /// empty for all. Blocking; ends within 100 ms once cancelled.
    ///
    /// # Errors
    /// `DIGEST_INVALID`, `LIMIT_EXCEEDED` (`referrers_max_count`, `pages_max_count`, `referrers_page_max_bytes`), and as
    /// [`RegistryClient::fetch_manifest`].
    pub fn list_referrers(
        &self,
        target: Target<'_>,
        digest: &str,
        artifact_type: &str,
        cancel: &CancelToken,
    ) -> Result<Vec<Referrer>, RegistryError> {
        let Target { registry, repository, credentials } = target;
        let wanted = parse_digest(digest)?;
        let scopes = [scope(repository, "pull")];
        let places = self.session.places(registry, repository, credentials, &scopes, |may| may.resolve)?;
        let subject = format!("referrers of {registry}/{repository}@{wanted}");
        let work = async {
            let mut behind = places.len();
            loop {
                let place = &places[places.len() - behind];
                behind -= 1;
                let attempts = self.session.max_attempts(behind);
                match list_at(&self.session, place, attempts, &wanted, artifact_type, &subject).await {
                    Err(_) if behind > 0 => {}
                    outcome => return outcome,
                }
            }
        };
        let mut found = self.runtime(registry)?.block_on(unless_cancelled(work, cancel, &subject))?;
        let mut seen = std::collections::HashSet::new();
        found.retain(|one| {
            (artifact_type.is_empty() || one.artifact_type == artifact_type)
                && seen.insert(one.digest.clone())
        });
        Ok(found)
    }
}

async fn list_at(
    session: &Session,
    place: &Repository,
    max_attempts: u32,
    wanted: &Digest,
    artifact_type: &str,
    subject: &str,
) -> Result<Vec<Referrer>, RegistryError> {
    let registry = &place.endpoint.registry;
    let mut first = place.url(&format!("referrers/{wanted}"));
    if !artifact_type.is_empty() {
        first.query_pairs_mut().append_pair("artifactType", artifact_type);
    }
    let list = List {
        session,
        place,
        max_attempts,
        subject,
        page_limit: ("referrers_page_max_bytes", PAGE_MAX_BYTES),
        count_limit: ("referrers_max_count", REFERRERS_MAX_COUNT),
        absent: &[],
    };
    if let Some(found) = list.read(first, usize::MAX, |body| parse(registry, body)).await? {
        return Ok(found);
    }
    match manifest::fetch(session, std::slice::from_ref(place), &referrers_tag(wanted)).await {
        Ok(found) => Ok(parse(registry, &found.data)?.items),
        Err(RegistryError::ImageNotFound { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn parse(registry: &str, body: &[u8]) -> Result<Page<Referrer>, RegistryError> {
    let protocol = |rule| RegistryError::Protocol { registry: registry.to_owned(), rule, status: 200 };
    let index: Index =
        serde_json::from_slice(body).map_err(|_| protocol("answers with no list of referrers"))?;
    let entries = index.manifests.unwrap_or_default();
    if entries.len() as u64 > REFERRERS_MAX_COUNT {
        return Err(RegistryError::LimitExceeded {
            limit: "referrers_max_count",
            limit_value: REFERRERS_MAX_COUNT,
            actual: entries.len() as u64,
            subject: format!("a list of referrers of {registry}"),
        });
    }
    let items = entries
        .into_iter()
        .map(|entry| {
            Ok(Referrer {
                digest: parse_digest(&entry.digest)?,
                media_type: entry.media_type,
                size_bytes: i64::try_from(entry.size)
                    .map(i64::unsigned_abs)
                    .map_err(|_| protocol("lists a referrer of an impossible size"))?,
                artifact_type: entry.artifact_type.unwrap_or_default(),
                annotations: entry
                    .annotations
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(name, value)| (name, value.unwrap_or_default()))
                    .collect(),
            })
        })
        .collect::<Result<Vec<_>, RegistryError>>()?;
    Ok(Page { listed_count: items.len(), items })
}
