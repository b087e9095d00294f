//! Requests to one repository: who asks, tokens where the registry wants them, and what each status means.

use reqwest::header::{HeaderMap, HeaderValue, AUTHORIZATION, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode};
use url::Url;

use crate::auth_file::AuthFile;
use crate::challenge::{find_bearer, offers_basic};
use crate::client::ClientConfig;
use crate::credentials::{basic_header, bearer_header, Credentials, Kind};
use crate::endpoint::Capabilities;
use crate::http::{retryable, Answer, Http, Request};
use crate::retry::Failure;
use crate::target::{check_repository, Repository};
use crate::token::Tokens;
use crate::RegistryError;

/// Attempts at a host that another one stands behind.
pub const MIRROR_MAX_ATTEMPTS: u32 = 2;

/// What all fetches of one client share.
#[derive(Debug)]
pub(crate) struct Session {
    pub http: Http,
    tokens: Tokens,
    pub auth_file: AuthFile,
}

impl Session {
    pub fn new(config: ClientConfig) -> Self {
        let auth_file = AuthFile::new(config.auth_file.clone());
        Self { http: Http::new(config), tokens: Tokens::default(), auth_file }
    }

    /// The repository at each host that may be asked for it, in the order to try; one at least. The caller's credentials are for the
    /// registry's own host; every other host has those that the daemon's file holds for it.
    ///
    /// Blocks for a few stats, and reads settings that changed.
    ///
    /// # Errors
    /// `REFERENCE_INVALID`, `REGISTRY_CONFIG_INVALID`, `LIMIT_EXCEEDED`, `IO_FAILED`.
    pub fn places(
        &self,
        registry: &str,
        name: &str,
        credentials: &Credentials,
        scopes: &[String],
        may: impl Fn(Capabilities) -> bool,
    ) -> Result<Vec<Repository>, RegistryError> {
        check_repository(name)?;
        let mut places = Vec::new();
        for endpoint in self.http.hosts.endpoints(registry)? {
            if !may(endpoint.capabilities) {
                continue;
            }
            let credentials = if endpoint.is_own && !credentials.is_anonymous() {
                credentials.clone()
            } else {
                self.auth_file.find(&endpoint.host())?
            };
            places.push(Repository { endpoint, name: name.to_owned(), credentials, scopes: scopes.to_vec() });
        }
        if places.is_empty() {
            let rule = "no host of the registry has the capability that is needed".to_owned();
            return Err(RegistryError::ConfigInvalid { path: format!("hosts of {registry}"), rule });
        }
        Ok(places)
    }

    /// How often a host is tried that so many others stand behind.
    pub fn max_attempts(&self, behind: usize) -> u32 {
        let configured = self.http.config().max_attempts;
        if behind == 0 {
            configured
        } else {
            configured.min(MIRROR_MAX_ATTEMPTS)
        }
    }

    /// One attempt: the answer to a request at `repository`, after tokens and redirects. Its status is one of
    /// `expected`; all others are failures. Authorization goes to the host's own origin only.
    pub async fn send(
        &self,
        repository: &Repository,
        request: &Request<'_>,
        expected: &[u16],
    ) -> Result<Answer, Failure> {
        let endpoint = &repository.endpoint;
        let mut authorization = self.first_authorization(repository);
        let mut is_fresh = false;
        loop {
            let secrets = |to: &Url| {
                if !endpoint.is_same_origin(to) {
                    return HeaderMap::new();
                }
                let mut headers = endpoint.headers.clone();
                if let Some(value) = &authorization {
                    headers.insert(AUTHORIZATION, value.clone());
                }
                headers
            };
            let answer = self.http.send(endpoint, request, secrets).await?;
            let is_own = endpoint.is_same_origin(&answer.url);
            if answer.response.status() != StatusCode::UNAUTHORIZED || !is_own || is_fresh {
                return judge(repository, answer, expected);
            }
            self.tokens.forget(repository, authorization.as_ref());
            let Some(value) = self.authorize(repository, &answer).await? else {
                return judge(repository, answer, expected);
            };
            authorization = Some(value);
            is_fresh = true;
        }
    }

    /// What is sent before the registry asks for anything.
    fn first_authorization(&self, repository: &Repository) -> Option<HeaderValue> {
        match repository.credentials.kind() {
            Kind::RegistryToken(token) => bearer_header(token.reveal()),
            _ => self.tokens.find(repository),
        }
    }

    /// What the challenge of a refusal asks for; `None` if there is nothing to offer.
    async fn authorize(
        &self,
        repository: &Repository,
        refusal: &Answer,
    ) -> Result<Option<HeaderValue>, Failure> {
        let kind = repository.credentials.kind();
        if matches!(kind, Kind::RegistryToken(_)) {
            return Ok(None);
        }
        let values: Vec<String> = refusal
            .response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| Some(value.to_str().ok()?.to_owned()))
            .collect();
        if let Some(challenge) = find_bearer(values.iter().map(String::as_str)) {
            return self.tokens.ask(&self.http, repository, &challenge).await.map(Some);
        }
        let Kind::Basic { username, password } = kind else { return Ok(None) };
        if !offers_basic(values.iter().map(String::as_str)) {
            return Ok(None);
        }
        let value = basic_header(username, password);
        if let Some(value) = &value {
            self.tokens.keep_basic(repository, value.clone());
        }
        Ok(value)
    }
}

fn judge(repository: &Repository, answer: Answer, expected: &[u16]) -> Result<Answer, Failure> {
    if expected.contains(&answer.response.status().as_u16()) {
        return Ok(answer);
    }
    if let Some(failure) = retryable(&answer.response) {
        return Err(failure);
    }
    Err(refusal(repository, &answer.response).into())
}

/// The error of a status that a request may not have.
pub(crate) fn refusal(repository: &Repository, response: &Response) -> RegistryError {
    let registry = repository.endpoint.registry.clone();
    let status = response.status().as_u16();
    match response.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            RegistryError::AccessDenied { registry, repository: repository.name.clone(), status }
        }
        _ => {
            let rule = "answers with a status that the protocol does not have here";
            RegistryError::Protocol { registry, rule, status }
        }
    }
}
