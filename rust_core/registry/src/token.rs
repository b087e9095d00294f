//! Bearer tokens for anonymous pulls, kept until they expire.
//!
//! Credentials belong here: `ask` then adds them to the request to the token server (Basic, or a refresh token), and
//! the key of the cache gains the identity.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::StatusCode;
use serde::Deserialize;
use url::Url;

use crate::challenge::BearerChallenge;
use crate::endpoint::refused_step;
use crate::http::{retryable, Http};
use crate::retry::Failure;
use crate::target::Repository;
use crate::RegistryError;

/// Largest answer of a token server.
pub const TOKEN_ANSWER_MAX_BYTES: u64 = 1024 * 1024;
/// How many tokens are kept.
pub const TOKEN_CACHE_MAX_COUNT: usize = 1024;
/// Life of a token whose answer names none. Source: distribution's token specification, `expires_in`.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// Longest life that is believed.
const LIFE_MAX: Duration = Duration::from_secs(3600);
/// A token is not used in the last part of its life, which a request on the way may outlast.
const MARGIN: Duration = Duration::from_secs(10);

/// A registry's origin and the scope of the token.
type Key = (String, String);

#[derive(Debug, Default)]
pub(crate) struct Tokens {
    held: Mutex<HashMap<Key, (HeaderValue, Instant)>>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
}

impl Tokens {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, (HeaderValue, Instant)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Authorization for pulls from `repository`, if one is held that has not expired.
    pub fn find(&self, repository: &Repository) -> Option<HeaderValue> {
        let held = self.lock();
        let (value, expiry) = held.get(&key(repository))?;
        (*expiry > Instant::now()).then(|| value.clone())
    }

    /// Drops a token that the registry refused.
    pub fn forget(&self, repository: &Repository) {
        self.lock().remove(&key(repository));
    }

    /// Asks the token server that `challenge` names, and keeps the token.
    pub async fn ask(
        &self,
        http: &Http,
        repository: &Repository,
        challenge: &BearerChallenge,
    ) -> Result<HeaderValue, Failure> {
        let registry = &repository.endpoint.registry;
        let protocol = |rule, status| RegistryError::Protocol { registry: registry.clone(), rule, status };
        let url = token_url(repository, challenge).map_err(|rule| protocol(rule, 401))?;
        let mut answer = http.get(registry, url, |_| HeaderMap::new()).await?;
        let response = &mut answer.response;
        let status = response.status();
        if let Some(failure) = retryable(response) {
            return Err(failure);
        }
        if status != StatusCode::OK {
            let repository = repository.name.clone();
            return Err(RegistryError::AccessDenied {
                registry: registry.clone(),
                repository,
                status: status.as_u16(),
            }
            .into());
        }
        let subject = format!("{registry} token");
        let body =
            http.read_body(response, "token_answer_max_bytes", TOKEN_ANSWER_MAX_BYTES, &subject).await?;
        let (value, life) = read_answer(&body).ok_or_else(|| protocol("token answer holds no token", 200))?;
        let mut held = self.lock();
        let now = Instant::now();
        if held.len() >= TOKEN_CACHE_MAX_COUNT {
            held.retain(|_, (_, expiry)| *expiry > now);
        }
        if held.len() < TOKEN_CACHE_MAX_COUNT {
            held.insert(key(repository), (value.clone(), now + life));
        }
        Ok(value)
    }
}

fn key(repository: &Repository) -> Key {
    (repository.endpoint.base.origin().ascii_serialization(), repository.pull_scope())
}

/// The realm with `service` and `scope` added; a challenge without a scope gets that of a pull.
fn token_url(repository: &Repository, challenge: &BearerChallenge) -> Result<Url, &'static str> {
    let mut url = Url::parse(&challenge.realm).map_err(|_| "token realm is no URL")?;
    if let Some(rule) = refused_step(&repository.endpoint.base, &url) {
        return Err(rule);
    }
    let scope = challenge.scope.clone().unwrap_or_else(|| repository.pull_scope());
    let mut query = url.query_pairs_mut();
    if let Some(service) = &challenge.service {
        query.append_pair("service", service);
    }
    query.append_pair("scope", &scope);
    drop(query);
    Ok(url)
}

fn read_answer(body: &[u8]) -> Option<(HeaderValue, Duration)> {
    let answer: TokenAnswer = serde_json::from_slice(body).ok()?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty())?;
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    let life = answer
        .expires_in
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|life| !life.is_zero())
        .unwrap_or(DEFAULT_LIFE)
        .min(LIFE_MAX);
    Some((value, life.saturating_sub(MARGIN)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_name_of_the_token_is_read_and_its_life_is_bounded() {
        let (value, life) = read_answer(br#"{"access_token":"t","expires_in":300}"#).expect("a token");
        assert_eq!((value.to_str().ok(), life), (Some("Bearer t"), Duration::from_secs(290)));
        assert!(value.is_sensitive());
        let (_, life) = read_answer(br#"{"token":"t","access_token":"u"}"#).expect("a token");
        assert_eq!(life, Duration::from_secs(50));
        let (_, life) = read_answer(br#"{"token":"t","expires_in":1e300}"#).expect("a token");
        assert!(life <= LIFE_MAX);
        for bad in [&b"{}"[..], b"[]", b"", br#"{"token":""}"#, br#"{"token":"a\nb"}"#] {
            assert!(read_answer(bad).is_none());
        }
    }

    #[test]
    fn a_realm_may_not_lead_to_a_weaker_place() {
        let remote = Repository::parse("registry.example.com", "a").expect("a repository");
        for realm in ["http://registry.example.com/token", "https://127.0.0.1/token", "file:///x", "token"] {
            let challenge = BearerChallenge { realm: realm.to_owned(), ..BearerChallenge::default() };
            assert!(token_url(&remote, &challenge).is_err(), "{realm}");
        }
        let challenge = BearerChallenge {
            realm: "https://auth.example.com/token?a=b".to_owned(),
            service: Some("s p".to_owned()),
            scope: None,
        };
        let url = token_url(&remote, &challenge).expect("a URL");
        assert_eq!(url.query(), Some("a=b&service=s+p&scope=repository%3Aa%3Apull"));
    }
}
