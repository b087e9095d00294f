//! `_core.resolver`: names of containers, answered inside their network namespaces.

use std::net::{IpAddr, SocketAddr};

use network::nft::{redirect, Redirected};
use network::{Netlink, NetworkError};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use resolver::{Client, Listening, ResolverError, ADDRESS};

use crate::error::raise;
use crate::network::Namespace;

/// Where names are asked for. Source: IANA service names and port numbers, `domain`.
const PORT: u16 = 53;

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.resolver")]
struct Resolver {
    inner: resolver::Resolver,
}

fn invalid(field: &'static str, text: &str) -> PyErr {
    raise(ResolverError::FieldInvalid { field, rule: format!("{text:?} is no IP address") })
}

/// A name server, an address that may name its link by number (`fe80::1%2`).
fn server(text: &str) -> PyResult<SocketAddr> {
    let address = text.parse().map(|address: IpAddr| SocketAddr::new(address, PORT));
    address.or_else(|_| format!("[{text}]:{PORT}").parse()).map_err(|_| invalid("server", text))
}

#[pymethods]
impl Resolver {
    #[new]
    fn new() -> Self {
        Self { inner: resolver::Resolver::default() }
    }

    fn put(
        &self,
        network: &str,
        network_name: &str,
        holder: &str,
        names: Vec<String>,
        addresses: Vec<String>,
    ) -> PyResult<()> {
        let parse = |text: &String| text.parse().map_err(|_| invalid("address", text));
        let addresses = addresses.iter().map(parse).collect::<PyResult<Vec<IpAddr>>>()?;
        self.inner.put(network, network_name, holder, &names, &addresses);
        Ok(())
    }

    fn remove(&self, network: &str, holder: &str) {
        self.inner.remove(network, holder);
    }

    fn set_client(&self, client: &str, networks: Vec<String>, servers: Vec<String>) -> PyResult<()> {
        let servers = servers.iter().map(|text| server(text)).collect::<PyResult<_>>()?;
        self.inner.set_client(client, Client { networks, servers });
        Ok(())
    }

    fn serve(&self, py: Python<'_>, client: &str, namespace: &Namespace) -> PyResult<()> {
        let sockets = namespace
            .take_names()
            .ok_or_else(|| PyValueError::new_err("the namespace was opened without sockets for names"))?;
        py.detach(|| {
            let listening = Listening::bind(sockets.udp, sockets.tcp).map_err(raise)?;
            let (udp_port, tcp_port) = listening.ports().map_err(raise)?;
            let refused = |errno: rustix::io::Errno| {
                raise(NetworkError::Io(errors::IoError::new("setsockopt", client, errno.raw_os_error())))
            };
            let mut netlink = Netlink::own(sockets.filter).map_err(refused)?;
            let redirected = Redirected { address: ADDRESS, port: PORT, udp_port, tcp_port };
            redirect(&mut netlink, redirected).map_err(raise)?;
            self.inner.serve(client, listening).map_err(raise)
        })
    }

    fn stop(&self, client: &str) {
        self.inner.stop(client);
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("ADDRESS", ADDRESS.to_string())?;
    module.add_class::<Resolver>()
}
