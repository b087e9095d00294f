//! Which networks and clients there are. Shared between threads; each look is short.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::names::{asked_address, Names};

/// What a container may ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// Ids of its networks; the first that has a name answers.
    pub networks: Vec<String>,
    /// Who is asked what no network knows, in this order; nobody if it is empty.
    pub servers: Vec<SocketAddr>,
}

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A container has it.
    Addresses(Vec<IpAddr>),
    /// It asks for the address of a container that has this name.
    Name(String),
    /// No network of the client knows it.
    Nothing,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    networks: HashMap<String, Names>,
    clients: HashMap<String, Client>,
}

impl Table {
    pub(crate) fn put(
        &self,
        network: &str,
        network_name: &str,
        holder: &str,
        names: &[String],
        addresses: &[IpAddr],
    ) {
        let mut inner = self.write();
        let known = inner.networks.entry(network.to_owned()).or_insert_with(|| Names::new(network_name));
        known.put(holder, names, addresses);
    }

    pub(crate) fn remove(&self, network: &str, holder: &str) {
        let mut inner = self.write();
        if let Some(names) = inner.networks.get_mut(network) {
            names.remove(holder);
            if names.is_empty() {
                inner.networks.remove(network);
            }
        }
    }

    pub(crate) fn set_client(&self, id: &str, client: Client) {
        self.write().clients.insert(id.to_owned(), client);
    }

    pub(crate) fn remove_client(&self, id: &str) {
        self.write().clients.remove(id);
    }

    pub(crate) fn servers(&self, client: &str) -> Vec<SocketAddr> {
        self.read().clients.get(client).map(|one| one.servers.clone()).unwrap_or_default()
    }

    /// What the client's networks know of a name in lower case, without a dot at its end.
    pub(crate) fn find(&self, client: &str, name: &str) -> Found {
        let inner = self.read();
        let networks = || {
            let ids = inner.clients.get(client).map(|one| one.networks.as_slice()).unwrap_or_default();
            ids.iter().filter_map(|id| inner.networks.get(id))
        };
        if let Some(addresses) = networks().find_map(|names| names.addresses(name)) {
            return Found::Addresses(addresses);
        }
        let address = asked_address(name);
        let known = address.and_then(|address| networks().find_map(|names| names.name(address)));
        known.map_or(Found::Nothing, Found::Name)
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        // Nothing panics while it holds this.
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}
