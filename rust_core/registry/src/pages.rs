//! Lists that registries give page by page.
//!
//! Source: distribution-spec spec.md, "Listing Tags" and "Listing Referrers"; RFC 8288 for the header Link.

use reqwest::header::{HeaderMap, LINK};
use reqwest::{Response, StatusCode};
use url::Url;

use crate::endpoint::refused_step;
use crate::http::Request;
use crate::retry::{Failure, Retries};
use crate::session::Session;
use crate::target::Repository;
use crate::RegistryError;

/// Most pages of one list.
pub const PAGES_MAX_COUNT: u64 = 1_000;
/// Largest page of a list.
pub const PAGE_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// One list to be read.
pub(crate) struct List<'a> {
    pub session: &'a Session,
    pub place: &'a Repository,
    pub max_attempts: u32,
    /// What is listed, for errors.
    pub subject: &'a str,
    /// Name and value of the limit of one page's bytes, and of the count of all items.
    pub page_limit: (&'static str, u64),
    pub count_limit: (&'static str, u64),
    /// Statuses besides 404 that say that the registry has no such list.
    pub absent: &'a [u16],
}

/// What a page holds: how many things it lists, and those of them that are wanted.
pub(crate) struct Page<T> {
    pub listed_count: usize,
    pub items: Vec<T>,
}

impl List<'_> {
    /// The items of all pages in order, or of as many as give `enough` items; `None` where the registry has no such
    /// list. `parse` says of a page's bytes what is in them.
    pub async fn read<T>(
        &self,
        first: Url,
        enough: usize,
        parse: impl Fn(&[u8]) -> Result<Page<T>, RegistryError>,
    ) -> Result<Option<Vec<T>>, RegistryError> {
        let registry = &self.place.endpoint.registry;
        let mut next = Some(first);
        let mut found = Vec::new();
        let mut page_count = 0;
        while let Some(url) = next {
            page_count += 1;
            self.check(("pages_max_count", PAGES_MAX_COUNT), page_count)?;
            let retries = Retries::new(registry, self.max_attempts);
            let answer = retries.run(async || self.page(&url, &parse).await).await?;
            let Some((page, following)) = answer else {
                return Ok((page_count > 1).then_some(found));
            };
            found.extend(page.items);
            self.check(self.count_limit, found.len() as u64)?;
            // A page without items ends the list whatever it says of a next one: no list goes on for ever.
            next = following.filter(|_| page.listed_count > 0 && found.len() < enough);
        }
        Ok(Some(found))
    }

    async fn page<T>(
        &self,
        url: &Url,
        parse: &impl Fn(&[u8]) -> Result<Page<T>, RegistryError>,
    ) -> Result<Option<(Page<T>, Option<Url>)>, Failure> {
        let request = Request::get(url.clone(), HeaderMap::new());
        let expected: Vec<u16> = [200, 404].iter().chain(self.absent).copied().collect();
        let mut answer = self.session.send(self.place, &request, &expected).await?;
        if answer.response.status() != StatusCode::OK {
            return Ok(None);
        }
        let registry = &self.place.endpoint.registry;
        let following = following(&answer.response, &answer.url).map_err(|rule| RegistryError::Protocol {
            registry: registry.clone(),
            rule,
            status: 200,
        })?;
        let (limit, limit_value) = self.page_limit;
        let body =
            self.session.http.read_body(&mut answer.response, limit, limit_value, self.subject).await?;
        Ok(Some((parse(&body)?, following)))
    }

    fn check(&self, (limit, limit_value): (&'static str, u64), actual: u64) -> Result<(), RegistryError> {
        if actual <= limit_value {
            return Ok(());
        }
        Err(RegistryError::LimitExceeded { limit, limit_value, actual, subject: self.subject.to_owned() })
    }
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
