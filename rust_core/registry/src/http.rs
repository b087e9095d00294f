//! Single HTTP requests and their redirects. It knows nothing of repositories, tokens or retries.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderValue, ACCEPT_ENCODING, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use url::Url;

use crate::client::ClientConfig;
use crate::endpoint::{is_loopback, refused_step};
use crate::retry::{retry_after, Failure};
use crate::target::shown;
use crate::RegistryError;

/// How many redirects one request follows.
pub const REDIRECT_MAX_COUNT: u64 = 10;
/// Largest sum of names and values of an answer's header fields.
pub const HEADER_MAX_BYTES: u64 = 64 * 1024;
/// How long a connection is kept that nothing uses.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest detail of a failed attempt that an error shows.
const DETAIL_MAX_CHARS: usize = 300;

/// Pooled connections. Two pools, since a proxy named by the environment never stands before loopback.
#[derive(Debug)]
pub(crate) struct Http {
    config: ClientConfig,
    loopback: OnceLock<Client>,
    outward: OnceLock<Client>,
}

/// An answer that is no redirect, and the URL that gave it.
pub(crate) struct Answer {
    pub response: Response,
    pub url: Url,
}

impl Http {
    pub fn new(config: ClientConfig) -> Self {
        Self { config, loopback: OnceLock::new(), outward: OnceLock::new() }
    }

    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    fn client(&self, url: &Url) -> Result<&Client, Failure> {
        let is_loopback = is_loopback(url);
        let slot = if is_loopback { &self.loopback } else { &self.outward };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let mut builder = Client::builder()
            .user_agent(self.config.user_agent.as_str())
            .redirect(Policy::none())
            .connect_timeout(self.config.connect_timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http2_max_header_list_size(HEADER_MAX_BYTES as u32)
            .referer(false);
        if is_loopback {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| Failure::retry(describe(error)))?;
        Ok(slot.get_or_init(|| client))
    }

    /// The answer to a GET, after redirects. `headers_for` gives the header fields of the request to each URL on the
    /// way, so that what is secret goes to its own host only.
    pub async fn get(
        &self,
        registry: &str,
        start: Url,
        headers_for: impl Fn(&Url) -> HeaderMap,
    ) -> Result<Answer, Failure> {
        let mut url = start;
        for _ in 0..=REDIRECT_MAX_COUNT {
            let response = self.get_once(registry, &url, headers_for(&url)).await?;
            if !is_redirect(response.status()) {
                return Ok(Answer { response, url });
            }
            url = redirected(registry, &url, &response)?;
        }
        Err(RegistryError::LimitExceeded {
            limit: "redirect_max_count",
            limit_value: REDIRECT_MAX_COUNT,
            actual: REDIRECT_MAX_COUNT + 1,
            subject: registry.to_owned(),
        }
        .into())
    }

    async fn get_once(&self, registry: &str, url: &Url, mut headers: HeaderMap) -> Result<Response, Failure> {
        // A transfer coding would change the bytes that the digest is of.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let request = self.client(url)?.get(url.clone()).headers(headers).send();
        let limit = self.config.connect_timeout + self.config.stall_timeout;
        let response = match tokio::time::timeout(limit, request).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(Failure::retry(describe(error))),
            Err(_) => return Err(Failure::retry("no answer in time")),
        };
        let size: usize =
            response.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if size as u64 > HEADER_MAX_BYTES {
            return Err(RegistryError::LimitExceeded {
                limit: "header_max_bytes",
                limit_value: HEADER_MAX_BYTES,
                actual: size as u64,
                subject: registry.to_owned(),
            }
            .into());
        }
        Ok(response)
    }

    /// The next piece of a body, `None` at its end; a body that stalls is a failure.
    pub async fn next_chunk(&self, response: &mut Response) -> Result<Option<Bytes>, Failure> {
        match tokio::time::timeout(self.config.stall_timeout, response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(Failure::retry(describe(error))),
            Err(_) => Err(Failure::retry("the transfer stalled")),
        }
    }

    /// A whole body of at most `limit_value` bytes, refused by its announced length where it has one.
    pub async fn read_body(
        &self,
        response: &mut Response,
        limit: &'static str,
        limit_value: u64,
        subject: &str,
    ) -> Result<Vec<u8>, Failure> {
        let refuse = |actual: u64| {
            Failure::Final(RegistryError::LimitExceeded {
                limit,
                limit_value,
                actual,
                subject: subject.to_owned(),
            })
        };
        if let Some(length) = response.content_length().filter(|length| *length > limit_value) {
            return Err(refuse(length));
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.next_chunk(response).await? {
            let reached = (body.len() + chunk.len()) as u64;
            if reached > limit_value {
                return Err(refuse(reached));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn redirected(registry: &str, from: &Url, response: &Response) -> Result<Url, RegistryError> {
    let refuse = |rule| RegistryError::Protocol {
        registry: registry.to_owned(),
        rule,
        status: response.status().as_u16(),
    };
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| refuse("redirects without a readable location"))?;
    let to = from.join(location).map_err(|_| refuse("redirects to what is no URL"))?;
    match refused_step(from, &to) {
        Some(rule) => Err(refuse(rule)),
        None => Ok(to),
    }
}

/// The failure that an answer's status stands for, if trying again may help: 408, 429 and 5xx.
pub(crate) fn retryable(response: &Response) -> Option<Failure> {
    let status = response.status();
    let is_rate_limit = status == StatusCode::TOO_MANY_REQUESTS;
    if !is_rate_limit && status != StatusCode::REQUEST_TIMEOUT && !status.is_server_error() {
        return None;
    }
    let after = retry_after(response.headers(), SystemTime::now());
    Some(Failure::Retry { detail: format!("answered {}", status.as_u16()), after, is_rate_limit })
}

/// An error with its causes, without the URL: redirects carry signatures in it.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    shown(&text.chars().take(DETAIL_MAX_CHARS).collect::<String>())
}
