//! Lists the tags of a repository, page by page.
//!
//! Source: distribution-spec spec.md, "Listing Tags".

use serde::Deserialize;
use sys::cancel::CancelToken;

use crate::client::unless_cancelled;
use crate::pages::{List, Page, PAGE_MAX_BYTES};
use crate::session::Session;
use crate::target::{scope, Reference, Repository};
use crate::{RegistryClient, RegistryError, Target};

/// Most tags of one repository.
pub const TAGS_MAX_COUNT: u64 = 10_000;
/// Tags that a page is asked for; a registry may give fewer.
const PAGE_TAGS: u32 = 1000;

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

impl RegistryClient {
    /// All tags of a repository, sorted, each once. Hosts are asked in the order of the registry's settings. Blocking;
    /// ends within 100 ms once cancelled.
    ///
    /// # Errors
    /// `IMAGE_NOT_FOUND` for a repository that is not there, `REFERENCE_INVALID` for a tag that is none,
    /// `LIMIT_EXCEEDED` (`tags_max_count`, `tags_page_max_bytes`), and as [`RegistryClient::fetch_manifest`].
    pub fn list_tags(&self, target: Target<'_>, cancel: &CancelToken) -> Result<Vec<String>, RegistryError> {
        let Target { registry, repository, credentials } = target;
        let scopes = [scope(repository, "pull")];
        let places = self.session.places(registry, repository, credentials, &scopes, |may| may.resolve)?;
        let subject = format!("tags of {registry}/{repository}");
        let work = async {
            let mut behind = places.len();
            loop {
                let place = &places[places.len() - behind];
                behind -= 1;
                match list_at(&self.session, place, self.session.max_attempts(behind), &subject).await {
                    Err(_) if behind > 0 => {}
                    outcome => return outcome,
                }
            }
        };
        self.runtime(registry)?.block_on(unless_cancelled(work, cancel, &subject))
    }
}

async fn list_at(
    session: &Session,
    place: &Repository,
    max_attempts: u32,
    subject: &str,
) -> Result<Vec<String>, RegistryError> {
    let registry = &place.endpoint.registry;
    let mut first = place.url("tags/list");
    first.query_pairs_mut().append_pair("n", &PAGE_TAGS.to_string());
    let list = List {
        session,
        place,
        max_attempts,
        subject,
        page_limit: ("tags_page_max_bytes", PAGE_MAX_BYTES),
        count_limit: ("tags_max_count", TAGS_MAX_COUNT),
        absent: &[],
    };
    let found = list.read(first, usize::MAX, |body| parse(registry, body)).await?;
    let mut tags = found
        .ok_or_else(|| RegistryError::ImageNotFound { reference: format!("{registry}/{}", place.name) })?;
    tags.sort_unstable();
    tags.dedup();
    Ok(tags)
}

fn parse(registry: &str, body: &[u8]) -> Result<Page<String>, RegistryError> {
    let protocol = |rule| RegistryError::Protocol { registry: registry.to_owned(), rule, status: 200 };
    let page: Tags = serde_json::from_slice(body).map_err(|_| protocol("answers with no list of tags"))?;
    let tags = page.tags.unwrap_or_default();
    for tag in &tags {
        match Reference::parse(tag)? {
            Reference::Tag(_) => {}
            Reference::Digest(_) => return Err(protocol("lists a digest as a tag")),
        }
    }
    Ok(Page { listed_count: tags.len(), items: tags })
}
