//! Reads one directory of a registry's settings: hosts.toml, or the certificates that Docker puts there.
//!
//! Source: containerd docs/hosts.md; Docker's "Verify repository client with certificates".

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use toml::Table;
use url::Url;

use crate::config_file;
use crate::endpoint::{is_loopback_host, Capabilities};
use crate::tls::TlsFiles;
use crate::RegistryError;

/// Largest hosts.toml.
pub const HOSTS_FILE_MAX_BYTES: u64 = 256 * 1024;
/// Most hosts of one hosts.toml.
pub const HOSTS_MAX_COUNT: u64 = 32;

/// One host as a file describes it.
#[derive(Debug)]
pub(crate) struct HostSettings {
    /// With the path that precedes a repository's name, without a slash at its end.
    pub base: Url,
    pub capabilities: Capabilities,
    pub headers: HeaderMap,
    pub tls: TlsFiles,
}

/// What a directory says of a registry.
#[derive(Debug, Default)]
pub(crate) struct DirectorySettings {
    /// Mirrors, in the order of the file.
    pub mirrors: Vec<HostSettings>,
    /// The registry itself, where the file names it or says something of it.
    pub server: Option<HostSettings>,
}

#[derive(Deserialize, Default)]
struct Host {
    server: Option<String>,
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<toml::Value>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    header: Table,
    #[serde(default)]
    override_path: bool,
    dial_timeout: Option<String>,
    #[serde(default)]
    host: Table,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// The settings of `directory` for `api_host` (`host[:port]` of the registry's API). Blocking.
///
/// # Errors
/// `REGISTRY_CONFIG_INVALID`, `LIMIT_EXCEEDED`, `IO_FAILED`.
pub(crate) fn load(directory: &Path, api_host: &str) -> Result<DirectorySettings, RegistryError> {
    let path = directory.join("hosts.toml");
    let Some(data) = config_file::read(&path, "hosts_file_max_bytes", HOSTS_FILE_MAX_BYTES)? else {
        return load_certificates(directory, api_host);
    };
    let reader = Reader { directory, path: &path };
    let text = std::str::from_utf8(&data).map_err(|_| reader.invalid("is not UTF-8"))?;
    let mut file: Host = toml::from_str(text)
        .map_err(|error| reader.invalid(format!("is not as it must be: {}", error.message())))?;
    if file.host.len() as u64 > HOSTS_MAX_COUNT {
        return Err(RegistryError::LimitExceeded {
            limit: "hosts_max_count",
            limit_value: HOSTS_MAX_COUNT,
            actual: file.host.len() as u64,
            subject: path.display().to_string(),
        });
    }
    let mut mirrors = Vec::new();
    for (url, value) in std::mem::take(&mut file.host) {
        let host = value.try_into().map_err(|error: toml::de::Error| {
            reader.invalid(format!("host {url:?} is not as it must be: {}", error.message()))
        })?;
        mirrors.push(reader.settings(&url, host)?);
    }
    let server = file.server.clone().filter(|server| !server.is_empty());
    let says_something = server.is_some()
        || file.ca.is_some()
        || file.client.is_some()
        || file.skip_verify
        || file.capabilities.is_some()
        || !file.header.is_empty()
        || file.dial_timeout.is_some();
    let has_tls = file.ca.is_some() || file.client.is_some() || file.skip_verify;
    let url = server.unwrap_or_else(|| default_url(api_host, has_tls));
    let server = if says_something { Some(reader.settings(&url, file)?) } else { None };
    Ok(DirectorySettings { mirrors, server })
}

/// A registry on this host is asked by plain HTTP unless its directory says how to secure it.
fn default_url(api_host: &str, has_tls: bool) -> String {
    let scheme = if !has_tls && is_loopback_host(api_host) { "http" } else { "https" };
    format!("{scheme}://{api_host}")
}

/// `*.crt` are authorities; a `*.cert` with its `*.key` is the client's certificate.
fn load_certificates(directory: &Path, api_host: &str) -> Result<DirectorySettings, RegistryError> {
    let mut names: Vec<PathBuf> = match std::fs::read_dir(directory) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_) => return Ok(DirectorySettings::default()),
    };
    names.sort();
    let with = |extension: &str| {
        let names = names.iter().filter(move |path| path.extension().is_some_and(|found| found == extension));
        names.cloned().collect::<Vec<_>>()
    };
    let certificate = with("cert").into_iter().next();
    let client = certificate.map(|path| {
        let key = path.with_extension("key");
        (path, Some(key))
    });
    let tls = TlsFiles { authorities: with("crt"), client, ..TlsFiles::default() };
    if tls == TlsFiles::default() {
        return Ok(DirectorySettings::default());
    }
    let reader = Reader { directory, path: directory };
    let mut server = reader.settings(&default_url(api_host, true), Host::default())?;
    server.tls = tls;
    Ok(DirectorySettings { mirrors: Vec::new(), server: Some(server) })
}

struct Reader<'a> {
    directory: &'a Path,
    path: &'a Path,
}

impl Reader<'_> {
    fn invalid(&self, rule: impl Into<String>) -> RegistryError {
        RegistryError::ConfigInvalid { path: self.path.display().to_string(), rule: rule.into() }
    }

    fn settings(&self, url: &str, host: Host) -> Result<HostSettings, RegistryError> {
        let mut authorities = Vec::new();
        for name in host.ca.map(OneOrMany::into_vec).unwrap_or_default() {
            authorities.push(self.directory.join(name));
        }
        let client = host.client.map(|value| self.client(value)).transpose()?.flatten();
        let dial_timeout = host.dial_timeout.as_deref().map(|text| self.duration(text)).transpose()?;
        Ok(HostSettings {
            base: self.base(url, host.override_path)?,
            capabilities: self.capabilities(host.capabilities)?,
            headers: self.headers(&host.header)?,
            tls: TlsFiles { authorities, client, skip_verify: host.skip_verify, dial_timeout },
        })
    }

    fn base(&self, url: &str, overrides_path: bool) -> Result<Url, RegistryError> {
        let whole = if url.contains("://") { url.to_owned() } else { default_url(url, false) };
        let refuse = || self.invalid(format!("{url:?} is no http or https URL of a host"));
        let mut base = Url::parse(&whole).map_err(|_| refuse())?;
        let is_plain = matches!(base.scheme(), "http" | "https") && base.has_host();
        if !is_plain || !base.username().is_empty() || base.password().is_some() {
            return Err(refuse());
        }
        base.set_query(None);
        base.set_fragment(None);
        let path = base.path().trim_end_matches('/').to_owned();
        // containerd adds the version to a path that has none, unless told to leave it.
        let needs_version = !overrides_path && !path.ends_with("/v2");
        base.set_path(&if needs_version { format!("{path}/v2") } else { path });
        Ok(base)
    }

    fn capabilities(&self, names: Option<Vec<String>>) -> Result<Capabilities, RegistryError> {
        let Some(names) = names.filter(|names| !names.is_empty()) else { return Ok(Capabilities::ALL) };
        let mut found = Capabilities { pull: false, resolve: false, push: false };
        for name in names {
            match name.to_ascii_lowercase().as_str() {
                "pull" => found.pull = true,
                "resolve" => found.resolve = true,
                "push" => found.push = true,
                // Of later versions of the format, for what this client does not do.
                "referrers" => {}
                _ => return Err(self.invalid(format!("{name:?} is no capability"))),
            }
        }
        Ok(found)
    }

    fn headers(&self, table: &Table) -> Result<HeaderMap, RegistryError> {
        let mut headers = HeaderMap::new();
        for (name, value) in table {
            let refuse = || self.invalid(format!("header {name:?} cannot be sent"));
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refuse())?;
            let values = match value {
                toml::Value::String(text) => vec![text.as_str()],
                toml::Value::Array(items) => {
                    items.iter().map(|item| item.as_str().ok_or_else(refuse)).collect::<Result<_, _>>()?
                }
                _ => return Err(refuse()),
            };
            for text in values {
                let mut value = HeaderValue::from_str(text).map_err(|_| refuse())?;
                // It may well be a key.
                value.set_sensitive(true);
                headers.append(key.clone(), value);
            }
        }
        Ok(headers)
    }

    /// `"pem"`, `["pem", ...]` or `[["certificate", "key"], ...]`; the first one counts.
    fn client(&self, value: toml::Value) -> Result<Option<(PathBuf, Option<PathBuf>)>, RegistryError> {
        let refuse = || self.invalid("client must be a file, or pairs of certificate and key");
        let pair = match value {
            toml::Value::String(path) => vec![path],
            toml::Value::Array(items) => match items.first() {
                None => return Ok(None),
                Some(toml::Value::Array(_)) => texts(&items[0]).ok_or_else(refuse)?,
                // A list of texts is a list of files that each hold both, as containerd has it.
                Some(_) => {
                    texts(&toml::Value::Array(items)).ok_or_else(refuse)?.into_iter().take(1).collect()
                }
            },
            _ => return Err(refuse()),
        };
        let mut pair = pair.into_iter().filter(|path| !path.is_empty()).map(|path| self.directory.join(path));
        let Some(certificate) = pair.next() else { return Err(refuse()) };
        Ok(Some((certificate, pair.next())))
    }

    /// Go's form of a duration, of one number and unit.
    fn duration(&self, text: &str) -> Result<Duration, RegistryError> {
        let refuse = || self.invalid(format!("{text:?} is no duration such as \"5s\""));
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?;
        let number: u64 = text[..split].parse().map_err(|_| refuse())?;
        match &text[split..] {
            "ms" => Ok(Duration::from_millis(number)),
            "s" => Ok(Duration::from_secs(number)),
            "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
            _ => Err(refuse()),
        }
    }
}

fn texts(value: &toml::Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}
