//! Lists the tags of a repository, page by page.
//!
//! Source: distribution-spec spec.md, "Listing Tags"; RFC 8288 for the header Link.

use reqwest::header::{HeaderMap, LINK};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use sys::cancel::CancelToken;
use url::Url;

use crate::client::unless_cancelled;
use crate::endpoint::refused_step;
use crate::http::Request;
use crate::retry::{Failure, Retries};
use crate::session::Session;
use crate::target::{scope, Reference, Repository};
use crate::{RegistryClient, RegistryError, Target};

/// Most tags of one repository.
pub const TAGS_MAX_COUNT: u64 = 10_000;
/// Largest page of tags.
pub const TAGS_PAGE_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Tags that a page is asked for; a registry may give fewer.
const PAGE_TAGS: u32 = 1000;

#[derive(Deserialize)]
struct Page {
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
        self.runtime()?.block_on(unless_cancelled(work, cancel, &subject))
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
    let mut next = Some(first);
    let mut tags = Vec::new();
    while let Some(url) = next {
        let retries = Retries::new(registry, max_attempts);
        let (page, following) = retries.run(async || page(session, place, &url, subject).await).await?;
        let is_empty = page.is_empty();
        tags.extend(page);
        if tags.len() as u64 > TAGS_MAX_COUNT {
            return Err(RegistryError::LimitExceeded {
                limit: "tags_max_count",
                limit_value: TAGS_MAX_COUNT,
                actual: tags.len() as u64,
                subject: subject.to_owned(),
            });
        }
        // A page without tags ends the list whatever it says of a next one: no list goes on for ever.
        next = following.filter(|_| !is_empty);
    }
    tags.sort_unstable();
    tags.dedup();
    Ok(tags)
}

async fn page(
    session: &Session,
    place: &Repository,
    url: &Url,
    subject: &str,
) -> Result<(Vec<String>, Option<Url>), Failure> {
    let request = Request::get(url.clone(), HeaderMap::new());
    let mut answer = session.send(place, &request, &[200, 404]).await?;
    let registry = &place.endpoint.registry;
    if answer.response.status() == StatusCode::NOT_FOUND {
        return Err(RegistryError::ImageNotFound { reference: format!("{registry}/{}", place.name) }.into());
    }
    let protocol = |rule| RegistryError::Protocol { registry: registry.clone(), rule, status: 200 };
    let following = following(&answer.response, &answer.url).map_err(protocol)?;
    let body = session
        .http
        .read_body(&mut answer.response, "tags_page_max_bytes", TAGS_PAGE_MAX_BYTES, subject)
        .await?;
    let page: Page = serde_json::from_slice(&body).map_err(|_| protocol("answers with no list of tags"))?;
    let tags = page.tags.unwrap_or_default();
    for tag in &tags {
        match Reference::parse(tag)? {
            Reference::Tag(_) => {}
            Reference::Digest(_) => return Err(protocol("lists a digest as a tag").into()),
        }
    }
    Ok((tags, following))
}

/// The URL of the next page, from `Link: <url>; rel="next"`.
fn following(response: &Response, from: &Url) -> Result<Option<Url>, &'static str> {
    let Some(link) = response.headers().get(LINK).and_then(|value| value.to_str().ok()) else {
        return Ok(None);
    };
    let Some(target) = next_link(link) else { return Ok(None) };
    let to = from.join(target).map_err(|_| "links to what is no URL")?;
    match refused_step(from, &to) {
        Some(rule) => Err(rule),
        None => Ok(Some(to)),
    }
}

fn next_link(value: &str) -> Option<&str> {
    let (target, parameters) = value.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.split(';').any(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or_default();
        name.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
    });
    is_next.then_some(target)
}

#[cfg(test)]
mod tests {
    use super::next_link;

    #[test]
    fn only_a_link_to_the_next_page_is_followed() {
        assert_eq!(
            next_link(r#"</v2/a/tags/list?last=x&n=1>; rel="next""#),
            Some("/v2/a/tags/list?last=x&n=1")
        );
        assert_eq!(next_link("<u>;REL=next"), Some("u"));
        for value in ["", "<u>", "<u>; rel=prev", "u; rel=next", "<u; rel=next"] {
            assert_eq!(next_link(value), None, "{value}");
        }
    }
}
