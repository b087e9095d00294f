//! Which endpoints stand for a registry, by the settings of its directory, which are read again when they change.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use url::Url;

use crate::config_file::Stamp;
use crate::endpoint::{self, Endpoint};
use crate::hosts_file::{self, DirectorySettings, HostSettings};
use crate::tls::Tls;
use crate::RegistryError;

/// How many registries' settings are kept in memory.
pub const HOSTS_CACHE_MAX_COUNT: usize = 256;

/// The directory of registries' settings, `/etc/fluyt/certs.d` for example.
#[derive(Debug)]
pub(crate) struct Hosts {
    root: Option<PathBuf>,
    plain: Arc<Tls>,
    known: Mutex<HashMap<String, Known>>,
}

/// What was read for one registry, and what it was read from.
#[derive(Debug, Clone)]
struct Known {
    stamps: Vec<(PathBuf, Stamp)>,
    endpoints: Vec<Arc<Endpoint>>,
}

impl Hosts {
    /// `root`: none for no settings.
    pub fn new(root: Option<PathBuf>) -> Self {
        Self { root, plain: Arc::default(), known: Mutex::default() }
    }

    /// The endpoints of a registry, in the order they are to be tried; the last one is the registry itself.
    ///
    /// Blocks for a few stats, and reads what changed.
    ///
    /// # Errors
    /// `REFERENCE_INVALID`, `REGISTRY_CONFIG_INVALID`, `LIMIT_EXCEEDED`, `IO_FAILED`.
    pub fn endpoints(&self, registry: &str) -> Result<Vec<Arc<Endpoint>>, RegistryError> {
        let api_host = endpoint::api_host(registry)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(registry) {
            if found.stamps.iter().all(|(path, stamp)| Stamp::of(path) == *stamp) {
                return Ok(found.endpoints.clone());
            }
        }
        let read = self.read(registry, api_host)?;
        let endpoints = read.endpoints.clone();
        if known.len() >= HOSTS_CACHE_MAX_COUNT {
            known.clear();
        }
        known.insert(registry.to_owned(), read);
        Ok(endpoints)
    }

    /// How connections to the host of `url` are secured, as its own directory says. Blocks as [`Hosts::endpoints`].
    ///
    /// # Errors
    /// As [`Hosts::endpoints`].
    pub fn tls_for(&self, url: &Url) -> Result<Arc<Tls>, RegistryError> {
        let host = url.host_str().unwrap_or_default();
        let name = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let endpoints = self.endpoints(&name)?;
        let found = endpoints.iter().rev().find(|endpoint| endpoint.base.host() == url.host());
        Ok(found.map_or_else(|| Arc::clone(&self.plain), |endpoint| Arc::clone(&endpoint.tls)))
    }

    fn read(&self, registry: &str, api_host: &str) -> Result<Known, RegistryError> {
        let mut stamps = Vec::new();
        let mut settings = DirectorySettings::default();
        for directory in self.directories(registry) {
            // Stamped before it is read: a change in between is seen the next time.
            for path in [directory.clone(), directory.join("hosts.toml")] {
                stamps.push((path.clone(), Stamp::of(&path)));
            }
            if directory.is_dir() {
                settings = hosts_file::load(&directory, api_host)?;
                break;
            }
        }
        let mut endpoints = Vec::new();
        for host in settings.mirrors {
            endpoints.push(Arc::new(endpoint(registry, api_host, host, &mut stamps)?));
        }
        endpoints.push(Arc::new(match settings.server {
            Some(host) => endpoint(registry, api_host, host, &mut stamps)?,
            None => Endpoint::plain(registry, api_host, Arc::clone(&self.plain))?,
        }));
        Ok(Known { stamps, endpoints })
    }

    /// Where the settings of a registry may stand; the first that exists counts. Source: containerd docs/hosts.md,
    /// "Registry Host Namespace"; its `host_port_` form serves file systems without colons.
    fn directories(&self, registry: &str) -> Vec<PathBuf> {
        let Some(root) = &self.root else { return Vec::new() };
        let mut names = Vec::new();
        if let Some((host, port)) = registry.rsplit_once(':') {
            names.push(format!("{host}_{port}_"));
        }
        names.push(registry.to_owned());
        names.push("_default".to_owned());
        names.into_iter().filter(|name| is_name(name)).map(|name| root.join(name)).collect()
    }
}

/// A registry's name never leads out of the directory.
fn is_name(name: &str) -> bool {
    !name.contains('/') && !matches!(name, "" | "." | "..")
}

fn endpoint(
    registry: &str,
    api_host: &str,
    host: HostSettings,
    stamps: &mut Vec<(PathBuf, Stamp)>,
) -> Result<Endpoint, RegistryError> {
    stamps.extend(host.tls.paths().map(|path: &Path| (path.to_owned(), Stamp::of(path))));
    let tls = Arc::new(host.tls.load()?);
    Ok(Endpoint::configured(registry, api_host, host.base, host.capabilities, host.headers, tls))
}

#[cfg(test)]
#[path = "hosts_tests.rs"]
mod tests;
