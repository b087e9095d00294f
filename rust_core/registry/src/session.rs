//! Requests to one repository: tokens where the registry asks for them, and what each status means.

use reqwest::header::{HeaderMap, AUTHORIZATION, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode};
use url::Url;

use crate::challenge::find_bearer;
use crate::client::ClientConfig;
use crate::http::{retryable, Http};
use crate::retry::Failure;
use crate::target::Repository;
use crate::token::Tokens;
use crate::RegistryError;

/// What all fetches of one client share.
#[derive(Debug)]
pub(crate) struct Session {
    pub http: Http,
    tokens: Tokens,
}

impl Session {
    pub fn new(config: ClientConfig) -> Self {
        Self { http: Http::new(config), tokens: Tokens::default() }
    }

    /// One attempt: the answer to a GET of `url` at `repository`, after tokens and redirects. Its status is 200, 206,
    /// 404 or 416; all others are failures. Authorization goes to the registry's own origin only.
    pub async fn get(
        &self,
        repository: &Repository,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<Response, Failure> {
        let registry = &repository.endpoint.registry;
        let mut authorization = self.tokens.find(repository);
        let mut is_fresh = false;
        loop {
            let headers_for = |to: &Url| {
                let mut headers = headers.clone();
                if let Some(value) = authorization.clone().filter(|_| repository.endpoint.is_same_origin(to))
                {
                    headers.insert(AUTHORIZATION, value);
                }
                headers
            };
            let answer = self.http.get(registry, url.clone(), headers_for).await?;
            let status = answer.response.status();
            let is_own = repository.endpoint.is_same_origin(&answer.url);
            if status != StatusCode::UNAUTHORIZED || !is_own || is_fresh {
                return self.judge(repository, answer.response);
            }
            self.tokens.forget(repository);
            let values = answer.response.headers().get_all(WWW_AUTHENTICATE);
            let Some(challenge) = find_bearer(values.iter().filter_map(|value| value.to_str().ok())) else {
                return self.judge(repository, answer.response);
            };
            // The connection goes back to its pool before the token server is asked.
            drop(answer);
            authorization = Some(self.tokens.ask(&self.http, repository, &challenge).await?);
            is_fresh = true;
        }
    }

    fn judge(&self, repository: &Repository, response: Response) -> Result<Response, Failure> {
        if let Some(failure) = retryable(&response) {
            return Err(failure);
        }
        let registry = repository.endpoint.registry.clone();
        match response.status() {
            StatusCode::OK
            | StatusCode::PARTIAL_CONTENT
            | StatusCode::NOT_FOUND
            | StatusCode::RANGE_NOT_SATISFIABLE => Ok(response),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Err(RegistryError::AccessDenied {
                registry,
                repository: repository.name.clone(),
                status: status.as_u16(),
            }
            .into()),
            status => Err(RegistryError::Protocol {
                registry,
                rule: "answers with a status that the protocol does not have here",
                status: status.as_u16(),
            }
            .into()),
        }
    }
}
