//! Finds repositories by a term, where a registry lets them be found.
//!
//! Source: Docker's Registry API v1, `/v1/search`, which Docker Hub still answers; distribution's `/v2/_catalog`.

use std::cell::Cell;

use serde::Deserialize;
use sys::cancel::CancelToken;
use url::Url;

use crate::client::unless_cancelled;
use crate::endpoint::DOCKER_HUB_ALIAS;
use crate::pages::{List, Page, PAGE_MAX_BYTES};
use crate::target::{check_repository, Repository};
use crate::{Credentials, RegistryClient, RegistryError};

/// Most repositories that one search finds.
pub const SEARCH_MAX_COUNT: u64 = 1_000;
/// Repositories that a page of the catalogue is asked for; a registry may give fewer.
const PAGE_REPOSITORIES: u32 = 1_000;
/// Statuses by which registries say that they have no such list, 404 besides.
const ABSENT: [u16; 5] = [400, 403, 405, 410, 501];
const CATALOG_SCOPE: &str = "registry:catalog:*";

/// One repository that was found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SearchHit {
    /// Its name within the registry.
    pub name: String,
    /// What its owner says of it; empty where the registry does not tell.
    #[serde(default, deserialize_with = "text_or_null")]
    pub description: String,
    /// How many people marked it.
    #[serde(default)]
    pub star_count: u32,
    /// The registry's owner vouches for it.
    #[serde(default)]
    pub is_official: bool,
}

#[derive(Deserialize)]
struct Results {
    results: Vec<SearchHit>,
}

#[derive(Deserialize)]
struct Catalog {
    repositories: Option<Vec<String>>,
}

fn text_or_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::<String>::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl RegistryClient {
    /// Repositories of a registry whose name, or what the registry searches in, has the term, in its order; at most
    /// `max_count`. A registry without search is asked for the list of its repositories, of which those are taken whose
    /// name has the term. Blocking; ends within 100 ms once cancelled.
    ///
    /// # Errors
    /// `REGISTRY_SEARCH_UNSUPPORTED` where it offers neither, `LIMIT_EXCEEDED` (`search_max_count`, `pages_max_count`,
    /// `search_page_max_bytes`), and as [`RegistryClient::check_credentials`].
    pub fn search(
        &self,
        registry: &str,
        term: &str,
        max_count: u32,
        credentials: &Credentials,
        cancel: &CancelToken,
    ) -> Result<Vec<SearchHit>, RegistryError> {
        if u64::from(max_count) > SEARCH_MAX_COUNT {
            return Err(RegistryError::LimitExceeded {
                limit: "search_max_count",
                limit_value: SEARCH_MAX_COUNT,
                actual: max_count.into(),
                subject: format!("search of {registry}"),
            });
        }
        let searched = self.own_place(registry, credentials, "its search", &[])?;
        let listed =
            self.own_place(registry, credentials, "its list of repositories", &[CATALOG_SCOPE.to_owned()])?;
        let subject = format!("search of {registry}");
        let enough = max_count as usize;
        let work = async {
            let answers = Cell::new(false);
            let search = self.list(&searched, &subject);
            let parse = |body: &[u8]| Ok(hits(body, &answers));
            let found = search.read(search_url(&searched, term, max_count), 1, parse).await?;
            let mut found = found.unwrap_or_default();
            if !answers.get() {
                let mut first = listed.endpoint.base.clone();
                first.set_path(&format!("{}/_catalog", first.path().trim_end_matches('/')));
                first.query_pairs_mut().append_pair("n", &PAGE_REPOSITORIES.to_string());
                let wanted = term.to_lowercase();
                let catalog = self.list(&listed, &subject);
                let names = catalog.read(first, enough, |body| matching(registry, body, &wanted)).await?;
                found = names
                    .ok_or_else(|| RegistryError::SearchUnsupported { registry: registry.to_owned() })?;
            }
            found.truncate(enough);
            Ok(found)
        };
        self.runtime(registry)?.block_on(unless_cancelled(work, cancel, &subject))
    }

    fn list<'a>(&'a self, place: &'a Repository, subject: &'a str) -> List<'a> {
        List {
            session: &self.session,
            place,
            max_attempts: self.session.max_attempts(0),
            subject,
            page_limit: ("search_page_max_bytes", PAGE_MAX_BYTES),
            // A page is counted as a whole before it is cut to what was asked for.
            count_limit: ("search_listed_max_count", SEARCH_MAX_COUNT + u64::from(PAGE_REPOSITORIES) * 100),
            absent: &ABSENT,
        }
    }
}

fn search_url(place: &Repository, term: &str, max_count: u32) -> Url {
    let mut url = place.endpoint.base.clone();
    if place.endpoint.is_docker_hub() {
        // Its search is at its old host, by the same scheme; it is a valid host, so that this cannot fail.
        let _ = url.set_host(Some(DOCKER_HUB_ALIAS));
    }
    url.set_path("/v1/search");
    url.query_pairs_mut().append_pair("q", term).append_pair("n", &max_count.to_string());
    url
}

/// Registries without search answer with a page for people, or with an error as JSON; that is no answer.
fn hits(body: &[u8], answers: &Cell<bool>) -> Page<SearchHit> {
    let found = serde_json::from_slice::<Results>(body).map(|found| found.results);
    answers.set(found.is_ok());
    let named = found.unwrap_or_default().into_iter().filter(|hit| check_repository(&hit.name).is_ok());
    // There is one page only, whatever it links to.
    Page { listed_count: 0, items: named.collect() }
}

fn matching(registry: &str, body: &[u8], term: &str) -> Result<Page<SearchHit>, RegistryError> {
    let protocol = |rule| RegistryError::Protocol { registry: registry.to_owned(), rule, status: 200 };
    let catalog: Catalog =
        serde_json::from_slice(body).map_err(|_| protocol("answers with no list of repositories"))?;
    let names = catalog.repositories.unwrap_or_default();
    let listed_count = names.len();
    let items = names
        .into_iter()
        .filter(|name| name.to_lowercase().contains(term) && check_repository(name).is_ok())
        .map(|name| SearchHit { name, description: String::new(), star_count: 0, is_official: false })
        .collect();
    Ok(Page { listed_count, items })
}
