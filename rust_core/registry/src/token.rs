//! Bearer tokens, kept until they expire, and the knowledge of where Basic authentication is wanted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderValue, AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use url::form_urlencoded::Serializer;
use url::Url;
use zeroize::Zeroizing;

use crate::challenge::BearerChallenge;
use crate::credentials::{basic_header, bearer_header, Kind};
use crate::endpoint::refused_step;
use crate::http::{retryable, Http, Payload, Request};
use crate::retry::Failure;
use crate::target::Repository;
use crate::RegistryError;

/// Largest answer of a token server.
pub const TOKEN_ANSWER_MAX_BYTES: u64 = 1024 * 1024;
/// How many tokens are kept.
pub const TOKEN_CACHE_MAX_COUNT: usize = 1024;
/// How long one attempt at a token may take as a whole, since an answer that drips never stalls.
pub const TOKEN_TIMEOUT: Duration = Duration::from_secs(60);
/// Most scopes that a challenge may ask for beside ours.
pub const CHALLENGE_SCOPE_MAX_COUNT: usize = 16;
/// Life of a token whose answer names none. Source: distribution's token specification, `expires_in`.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// Longest life that is believed.
const LIFE_MAX: Duration = Duration::from_secs(3600);
/// A token is not used in the last part of its life, which a request on the way may outlast.
const MARGIN: Duration = Duration::from_secs(10);
/// Who asks, for token servers that tell clients apart.
const CLIENT_ID: &str = "fluyt";

/// Host, identity and scopes.
type Key = (String, String, String);

#[derive(Debug, Default)]
pub(crate) struct Tokens {
    held: Mutex<HashMap<Key, (HeaderValue, Instant)>>,
    /// Who asks for a token holds its gate, so that many requests at once ask for one.
    gates: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<Zeroizing<String>>,
    access_token: Option<Zeroizing<String>>,
    expires_in: Option<f64>,
}

impl Tokens {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, (HeaderValue, Instant)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Authorization for requests to `repository`, if one is held that has not expired.
    pub fn find(&self, repository: &Repository) -> Option<HeaderValue> {
        let held = self.lock();
        let (value, expiry) = held.get(&key(repository))?;
        (*expiry > Instant::now()).then(|| value.clone())
    }

    /// Drops what the registry refused, unless another took its place since.
    pub fn forget(&self, repository: &Repository, refused: Option<&HeaderValue>) {
        let (key, mut held) = (key(repository), self.lock());
        if held.get(&key).is_some_and(|(value, _)| Some(value) == refused) {
            held.remove(&key);
        }
    }

    fn gate(&self, repository: &Repository) -> Arc<tokio::sync::Mutex<()>> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if gates.len() >= TOKEN_CACHE_MAX_COUNT {
            // Whoever holds one keeps it; at worst a token is asked for twice.
            gates.clear();
        }
        Arc::clone(gates.entry(key(repository)).or_default())
    }

    /// Keeps an Authorization for so long.
    pub fn keep(&self, repository: &Repository, value: HeaderValue, life: Duration) {
        let mut held = self.lock();
        let now = Instant::now();
        if held.len() >= TOKEN_CACHE_MAX_COUNT {
            held.retain(|_, (_, expiry)| *expiry > now);
        }
        if held.len() < TOKEN_CACHE_MAX_COUNT {
            held.insert(key(repository), (value, now + life));
        }
    }

    /// Keeps the Authorization for Basic authentication: the registry wants it with every request.
    pub fn keep_basic(&self, repository: &Repository, value: HeaderValue) {
        self.keep(repository, value, LIFE_MAX);
    }

    /// Asks the token server that `challenge` names, and keeps the token; one that came meanwhile serves as well.
    pub async fn ask(
        &self,
        http: &Http,
        repository: &Repository,
        challenge: &BearerChallenge,
    ) -> Result<HeaderValue, Failure> {
        let gate = self.gate(repository);
        let _asking = gate.lock().await;
        if let Some(value) = self.find(repository) {
            return Ok(value);
        }
        match tokio::time::timeout(TOKEN_TIMEOUT, self.ask_once(http, repository, challenge)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::retry("the token did not arrive in time")),
        }
    }

    async fn ask_once(
        &self,
        http: &Http,
        repository: &Repository,
        challenge: &BearerChallenge,
    ) -> Result<HeaderValue, Failure> {
        let endpoint = &repository.endpoint;
        let registry = &endpoint.registry;
        let protocol = |rule, status| RegistryError::Protocol { registry: registry.clone(), rule, status };
        let realm = realm(repository, challenge).map_err(|rule| protocol(rule, 401))?;
        let scopes = wanted_scopes(&repository.scopes, challenge.scope.as_deref());
        let request = request(repository, challenge, &realm, &scopes);
        // Credentials go to the realm's own host, never along a redirect.
        let origin = request.url.origin();
        let basic = match repository.credentials.kind() {
            Kind::Basic { username, password } => basic_header(username, password),
            _ => None,
        };
        let secrets = |to: &Url| {
            let basic = basic.clone().filter(|_| to.origin() == origin);
            basic.map(|value| HeaderMap::from_iter([(AUTHORIZATION, value)])).unwrap_or_default()
        };
        let mut answer = http.send(endpoint, &request, secrets).await?;
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
        let body = Zeroizing::new(body);
        let (value, life) = read_answer(&body).ok_or_else(|| protocol("token answer holds no token", 200))?;
        self.keep(repository, value.clone(), life);
        Ok(value)
    }
}

fn key(repository: &Repository) -> Key {
    let host = repository.endpoint.base.origin().ascii_serialization();
    (host, repository.credentials.fingerprint(), repository.scopes.join(" "))
}

fn realm(repository: &Repository, challenge: &BearerChallenge) -> Result<Url, &'static str> {
    let url = Url::parse(&challenge.realm).map_err(|_| "token realm is no URL")?;
    match refused_step(&repository.endpoint.base, &url) {
        Some(rule) => Err(rule),
        None => Ok(url),
    }
}

/// Our scopes and those of the challenge that ours do not hold already. A registry may name none, or only what the
/// request at hand needs; ours say what this fetch or push will need.
fn wanted_scopes(ours: &[String], challenged: Option<&str>) -> Vec<String> {
    let mut scopes = ours.to_vec();
    for scope in challenged.unwrap_or_default().split_ascii_whitespace().take(CHALLENGE_SCOPE_MAX_COUNT) {
        let Some((resource, actions)) = scope.rsplit_once(':') else { continue };
        let held =
            scopes.iter().position(|other| other.rsplit_once(':').is_some_and(|(name, _)| name == resource));
        let Some(position) = held else {
            scopes.push(scope.to_owned());
            continue;
        };
        let own = scopes[position][resource.len() + 1..].to_owned();
        for action in actions.split(',').filter(|action| !own.split(',').any(|held| held == *action)) {
            scopes[position].push(',');
            scopes[position].push_str(action);
        }
    }
    scopes
}

/// A GET with the scopes in the query; with an identity token the POST of OAuth2's refresh.
///
/// Source: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication".
fn request<'a>(
    repository: &Repository,
    challenge: &BearerChallenge,
    realm: &Url,
    scopes: &[String],
) -> Request<'a> {
    if let Kind::IdentityToken(token) = repository.credentials.kind() {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token");
        form.append_pair("service", challenge.service.as_deref().unwrap_or_default());
        form.append_pair("client_id", CLIENT_ID);
        form.append_pair("scope", &scopes.join(" "));
        form.append_pair("refresh_token", token.reveal());
        let mut request =
            Request::new(Method::POST, realm.clone()).with_body(Payload::Bytes(Bytes::from(form.finish())));
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers.insert(CONTENT_TYPE, form_type);
        return request;
    }
    let mut url = realm.clone();
    let mut query = url.query_pairs_mut();
    if let Some(service) = &challenge.service {
        query.append_pair("service", service);
    }
    for scope in scopes {
        query.append_pair("scope", scope);
    }
    if let Kind::Basic { username, .. } = repository.credentials.kind() {
        query.append_pair("account", username);
    }
    drop(query);
    Request::get(url, HeaderMap::new())
}

fn read_answer(body: &[u8]) -> Option<(HeaderValue, Duration)> {
    let answer: TokenAnswer = serde_json::from_slice(body).ok()?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty())?;
    let value = bearer_header(&token)?;
    let life = answer
        .expires_in
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|life| !life.is_zero())
        .unwrap_or(DEFAULT_LIFE)
        .min(LIFE_MAX);
    Some((value, life.saturating_sub(MARGIN)))
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
