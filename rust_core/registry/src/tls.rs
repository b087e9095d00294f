//! How the connections of one host are secured, and the pools of such connections.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity, NoProxy, Proxy};
use url::Url;

use crate::client::{ClientConfig, Proxies};
use crate::config_file;
use crate::http::{describe, HEADER_MAX_BYTES};
use crate::retry::Failure;
use crate::RegistryError;

/// Largest file of certificates or keys.
pub const CERTIFICATE_FILE_MAX_BYTES: u64 = 1024 * 1024;
/// How long a connection is kept that nothing uses.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// What secures the connections to a host. System roots count besides `authorities`.
#[derive(Debug, Default)]
pub(crate) struct Tls {
    authorities: Vec<Certificate>,
    identity: Option<Identity>,
    skip_verify: bool,
    dial_timeout: Option<Duration>,
    direct: OnceLock<Client>,
    proxied: OnceLock<Client>,
    /// The same without `identity`.
    nameless: OnceLock<Arc<Tls>>,
}

/// Files and choices that a [`Tls`] is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// Certificates of authorities, PEM.
    pub authorities: Vec<PathBuf>,
    /// Client certificate and its key, PEM; no key where both stand in one file.
    pub client: Option<(PathBuf, Option<PathBuf>)>,
    pub skip_verify: bool,
    pub dial_timeout: Option<Duration>,
}

impl TlsFiles {
    /// Every file that counts.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let client = self.client.iter().flat_map(|(certificate, key)| [Some(certificate), key.as_ref()]);
        self.authorities.iter().chain(client.flatten()).map(PathBuf::as_path)
    }

    /// Reads the files. Blocking.
    pub fn load(&self) -> Result<Tls, RegistryError> {
        let mut authorities = Vec::new();
        for path in &self.authorities {
            let bundle = Certificate::from_pem_bundle(&read(path)?).ok().filter(|found| !found.is_empty());
            authorities.extend(bundle.ok_or_else(|| invalid(path, "holds no certificate in PEM"))?);
        }
        let mut identity = None;
        if let Some((certificate, key)) = &self.client {
            let mut pem = read(certificate)?;
            if let Some(key) = key {
                pem.push(b'\n');
                pem.extend_from_slice(&zeroize::Zeroizing::new(read(key)?));
            }
            let pem = zeroize::Zeroizing::new(pem);
            let found = Identity::from_pem(&pem)
                .map_err(|_| invalid(certificate, "holds no certificate with its key"))?;
            identity = Some(found);
        }
        let (skip_verify, dial_timeout) = (self.skip_verify, self.dial_timeout);
        Ok(Tls { authorities, identity, skip_verify, dial_timeout, ..Tls::default() })
    }
}

impl Tls {
    /// The same authorities, and no client certificate.
    pub fn nameless(self: Arc<Self>) -> Arc<Self> {
        if self.identity.is_none() {
            return self;
        }
        let (authorities, skip_verify, dial_timeout) =
            (self.authorities.clone(), self.skip_verify, self.dial_timeout);
        let made = || Arc::new(Self { authorities, skip_verify, dial_timeout, ..Self::default() });
        Arc::clone(self.nameless.get_or_init(made))
    }

    /// The pool of connections; `is_direct` ones, to this host itself for example, never go through a proxy.
    pub fn client(&self, config: &ClientConfig, is_direct: bool) -> Result<&Client, Failure> {
        let slot = if is_direct { &self.direct } else { &self.proxied };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let client = self.build(config, is_direct)?;
        Ok(slot.get_or_init(|| client))
    }

    fn build(&self, config: &ClientConfig, is_direct: bool) -> Result<Client, Failure> {
        let mut builder = Client::builder()
            .user_agent(config.user_agent.as_str())
            .redirect(Policy::none())
            .connect_timeout(self.dial_timeout.unwrap_or(config.connect_timeout))
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http2_max_header_list_size(HEADER_MAX_BYTES as u32)
            .referer(false)
            // Only what the configuration names counts; the environment was read into it.
            .no_proxy()
            .tls_danger_accept_invalid_certs(self.skip_verify);
        if !self.authorities.is_empty() {
            builder = builder.tls_certs_merge(self.authorities.iter().cloned());
        }
        if let Some(identity) = &self.identity {
            builder = builder.identity(identity.clone());
        }
        if !is_direct {
            let Proxies { http, https, excepted } = &config.proxies;
            for proxy in [proxy_url(http)?.map(Proxy::http), proxy_url(https)?.map(Proxy::https)] {
                let Some(proxy) = proxy else { continue };
                let proxy = proxy.map_err(|_| proxy_invalid())?;
                builder = builder.proxy(proxy.no_proxy(NoProxy::from_string(excepted)));
            }
        }
        builder.build().map_err(|error| {
            let rule = format!("makes no TLS client: {}", describe(error));
            RegistryError::ConfigInvalid { path: "TLS settings".to_owned(), rule }.into()
        })
    }
}

/// A proxy's URL, which may be written without its scheme; `None` for none.
fn proxy_url(text: &str) -> Result<Option<Url>, RegistryError> {
    if text.is_empty() {
        return Ok(None);
    }
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    match Url::parse(&whole) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(Some(url)),
        _ => Err(proxy_invalid()),
    }
}

/// The URL is not shown: it may hold a password.
fn proxy_invalid() -> RegistryError {
    RegistryError::ConfigInvalid { path: "proxy".to_owned(), rule: "is no URL of a proxy".to_owned() }
}

fn read(path: &Path) -> Result<Vec<u8>, RegistryError> {
    let data = config_file::read(path, "certificate_file_max_bytes", CERTIFICATE_FILE_MAX_BYTES)?;
    data.ok_or_else(|| invalid(path, "does not exist"))
}

fn invalid(path: &Path, rule: &str) -> RegistryError {
    RegistryError::ConfigInvalid { path: path.display().to_string(), rule: rule.to_owned() }
}
