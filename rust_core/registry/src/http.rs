//! Single HTTP requests and their redirects. It knows nothing of repositories, tokens or retries.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderValue, ACCEPT_ENCODING, LOCATION};
use reqwest::{Client, Method, Response, StatusCode};
use url::Url;

use crate::client::ClientConfig;
use crate::endpoint::{is_loopback, refused_step, Endpoint};
use crate::hosts::Hosts;
use crate::no_proxy::excepts_port;
use crate::retry::{retry_after, Failure};
use crate::target::shown;
use crate::upload_body::UploadBody;
use crate::RegistryError;

/// How many redirects one request follows.
pub const REDIRECT_MAX_COUNT: u64 = 10;
/// Largest sum of names and values of an answer's header fields.
pub const HEADER_MAX_BYTES: u64 = 64 * 1024;
/// How long a registry may take to answer once it has all bytes of an upload, which it may hash and move first.
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest detail of a failed attempt that an error shows.
const DETAIL_MAX_CHARS: usize = 300;

/// Sends requests, each by the connections of its host.
#[derive(Debug)]
pub(crate) struct Http {
    config: ClientConfig,
    pub hosts: Hosts,
}

/// One request, to be sent once for each host that redirects lead to.
pub(crate) struct Request<'a> {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Payload<'a>,
}

/// What a request carries.
pub(crate) enum Payload<'a> {
    None,
    Bytes(Bytes),
    /// A part of a file, opened anew for each time it is sent.
    File(&'a UploadBody),
}

/// An answer that is no redirect, and the URL that gave it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub response: Response,
    pub url: Url,
}

impl<'a> Request<'a> {
    pub fn get(url: Url, headers: HeaderMap) -> Self {
        Self { method: Method::GET, url, headers, body: Payload::None }
    }

    pub fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: Payload::None }
    }

    pub fn with_body(mut self, body: Payload<'a>) -> Self {
        self.body = body;
        self
    }
}

impl Http {
    pub fn new(config: ClientConfig) -> Self {
        let hosts = Hosts::new(config.hosts_dir.clone());
        Self { config, hosts }
    }

    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    fn client(&self, endpoint: &Endpoint, url: &Url) -> Result<Client, Failure> {
        let tls = match (endpoint.is_nameless, endpoint.is_same_origin(url)) {
            (true, _) => self.hosts.tls_for(url)?.nameless(),
            (false, true) => Arc::clone(&endpoint.tls),
            (false, false) => self.hosts.tls_for(url)?,
        };
        let is_direct = is_loopback(url) || excepts_port(&self.config.proxies.excepted, url);
        tls.client(&self.config, is_direct).cloned()
    }

    /// The answer to a request, after redirects. `secrets_for` gives the header fields that are added for each URL on
    /// the way, so that what is secret goes to its own host only.
    pub async fn send(
        &self,
        endpoint: &Endpoint,
        request: &Request<'_>,
        secrets_for: impl Fn(&Url) -> HeaderMap,
    ) -> Result<Answer, Failure> {
        let registry = &endpoint.registry;
        let mut url = request.url.clone();
        for _ in 0..=REDIRECT_MAX_COUNT {
            let mut headers = request.headers.clone();
            headers.extend(secrets_for(&url));
            let response = self.send_once(endpoint, request, &url, headers).await?;
            if !is_redirect(response.status(), &request.method) {
                return Ok(Answer { response, url });
            }
            url = redirected(registry, &url, &response)?;
        }
        Err(RegistryError::LimitExceeded {
            limit: "redirect_max_count",
            limit_value: REDIRECT_MAX_COUNT,
            actual: REDIRECT_MAX_COUNT + 1,
            subject: registry.clone(),
        }
        .into())
    }

    async fn send_once(
        &self,
        endpoint: &Endpoint,
        request: &Request<'_>,
        url: &Url,
        mut headers: HeaderMap,
    ) -> Result<Response, Failure> {
        // A transfer coding would change the bytes that the digest is of.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let client = self.client(endpoint, url)?;
        let builder = client.request(request.method.clone(), url.clone()).headers(headers);
        let limit = self.config.connect_timeout + self.config.header_timeout;
        let answer = match &request.body {
            Payload::None => tokio::time::timeout(limit, builder.send()).await,
            Payload::Bytes(data) => tokio::time::timeout(limit, builder.body(data.clone()).send()).await,
            Payload::File(body) => {
                let (stream, sent) = body.open()?;
                let sending = builder.body(reqwest::Body::wrap(stream)).send();
                return self.check(endpoint, sent.watch(sending, &self.config).await?);
            }
        };
        match answer {
            Ok(Ok(response)) => self.check(endpoint, response),
            Ok(Err(error)) => Err(Failure::retry(describe(error))),
            Err(_) => Err(Failure::retry("no answer in time")),
        }
    }

    fn check(&self, endpoint: &Endpoint, response: Response) -> Result<Response, Failure> {
        let size: usize =
            response.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if size as u64 <= HEADER_MAX_BYTES {
            return Ok(response);
        }
        Err(RegistryError::LimitExceeded {
            limit: "header_max_bytes",
            limit_value: HEADER_MAX_BYTES,
            actual: size as u64,
            subject: endpoint.registry.clone(),
        }
        .into())
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

/// Counts what a transfer brings while it is waited for: one that drips is broken off like one that stalls.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// `bytes` came after a wait of this length; time that the other end of the pipe took is not to be counted.
    pub fn count(
        &mut self,
        config: &ClientConfig,
        since: Instant,
        bytes: u64,
        subject: &str,
    ) -> Result<(), Failure> {
        self.waited += since.elapsed();
        self.bytes += bytes;
        if self.waited < config.pace_window {
            return Ok(());
        }
        let came = std::mem::take(self).bytes;
        if came >= config.pace_min_bytes {
            return Ok(());
        }
        Err(Failure::slow(RegistryError::LimitExceeded {
            limit: "pace_min_bytes",
            limit_value: config.pace_min_bytes,
            actual: came,
            subject: format!("{subject} in {} s", config.pace_window.as_secs_f32()),
        }))
    }
}

/// A request with a body is sent again only where its method stays; 301 to 303 would make it a GET.
fn is_redirect(status: StatusCode, method: &Method) -> bool {
    let is_reading = matches!(*method, Method::GET | Method::HEAD);
    matches!(status.as_u16(), 307 | 308) || (is_reading && matches!(status.as_u16(), 301..=303))
}

fn redirected(registry: &str, from: &Url, response: &Response) -> Result<Url, RegistryError> {
    follow_location(registry, from, response, "redirects without a readable location")
}

/// The URL that an answer's Location leads to, if it may lead there.
pub(crate) fn follow_location(
    registry: &str,
    from: &Url,
    response: &Response,
    absent: &'static str,
) -> Result<Url, RegistryError> {
    let refuse = |rule| RegistryError::Protocol {
        registry: registry.to_owned(),
        rule,
        status: response.status().as_u16(),
    };
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| refuse(absent))?;
    let to = from.join(location).map_err(|_| refuse("sends to what is no URL"))?;
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
    Some(Failure::Retry {
        detail: format!("answered {}", status.as_u16()),
        after,
        is_rate_limit,
        at_last: None,
    })
}

/// An error with its causes, without the URL: redirects carry signatures in it.
pub(crate) fn describe(error: reqwest::Error) -> String {
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
