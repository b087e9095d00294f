//! `_core.network`: bridges, veth pairs, the nftables table, and plugins that do such work for others.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use control::NameSockets;

use network::nft::{Element, Protocol, Table, Target};
use network::plugin::{End, Execution};
use network::{Attachment, Bridge, Cidr, Links, Netlink, NetworkError, WaitingPair};
use pyo3::prelude::*;

use crate::error::raise;

/// `fluytd.networks.kernel_spec.BridgeSpec`, read field by field.
#[derive(FromPyObject)]
struct BridgeArgument {
    name: String,
    hardware_address: [u8; 6],
    mtu: u32,
    addresses: Vec<String>,
}

/// `fluytd.networks.kernel_spec.AttachmentSpec`, read field by field.
#[derive(FromPyObject)]
struct AttachmentArgument {
    bridge: String,
    host_name: String,
    name: String,
    hardware_address: [u8; 6],
    mtu: u32,
    addresses: Vec<String>,
    gateways: Vec<String>,
}

/// `fluytd.networks.kernel_spec.Element`, read field by field.
#[derive(FromPyObject)]
struct ElementArgument {
    kind: String,
    bridge: String,
    host_address: String,
    host_port: u16,
    address: String,
    protocol: u8,
    port: u16,
    source: String,
}

fn invalid(field: &'static str, text: &str) -> NetworkError {
    NetworkError::FieldInvalid { field, rule: format!("{text:?} is not one") }
}

fn address(text: &str) -> Result<IpAddr, NetworkError> {
    text.parse().map_err(|_| invalid("address", text))
}

fn all<T>(texts: &[String], parse: fn(&str) -> Result<T, NetworkError>) -> Result<Vec<T>, NetworkError> {
    texts.iter().map(|text| parse(text)).collect()
}

impl TryFrom<BridgeArgument> for Bridge {
    type Error = NetworkError;

    fn try_from(spec: BridgeArgument) -> Result<Self, NetworkError> {
        Ok(Self {
            name: spec.name,
            hardware_address: spec.hardware_address,
            mtu: spec.mtu,
            addresses: all(&spec.addresses, str::parse::<Cidr>)?,
        })
    }
}

impl TryFrom<AttachmentArgument> for Attachment {
    type Error = NetworkError;

    fn try_from(spec: AttachmentArgument) -> Result<Self, NetworkError> {
        Ok(Self {
            bridge: spec.bridge,
            host_name: spec.host_name,
            name: spec.name,
            hardware_address: spec.hardware_address,
            mtu: spec.mtu,
            addresses: all(&spec.addresses, str::parse::<Cidr>)?,
            gateways: all(&spec.gateways, address)?,
        })
    }
}

impl TryFrom<ElementArgument> for Element {
    type Error = NetworkError;

    fn try_from(spec: ElementArgument) -> Result<Self, NetworkError> {
        let target = || -> Result<Target, NetworkError> {
            let address = address(&spec.address)?;
            Ok(Target { address, protocol: Protocol(spec.protocol), port: spec.port })
        };
        Ok(match spec.kind.as_str() {
            "bridge" => Self::Bridge(spec.bridge),
            "internal" => Self::Internal(spec.bridge),
            "open" => Self::Open(spec.bridge),
            "masqueraded" => Self::Masqueraded(spec.bridge),
            "published" => Self::Published {
                address: (!spec.host_address.is_empty()).then(|| address(&spec.host_address)).transpose()?,
                port: spec.host_port,
                target: target()?,
            },
            "restricted" => Self::Restricted(target()?),
            "allowed" => Self::Allowed { target: target()?, source: spec.source.parse()? },
            other => return Err(invalid("kind", other)),
        })
    }
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.network")]
pub(crate) struct Namespace {
    namespace: OwnedFd,
    links: Links,
    /// None once they were taken, or where they were not asked for.
    names: Mutex<Option<NameSockets>>,
    /// A pair that leads here and that the next attachment takes.
    waiting: Mutex<Option<WaitingPair>>,
}

impl Namespace {
    pub(crate) fn new(made: control::Namespace) -> PyResult<Self> {
        let refused = |errno: rustix::io::Errno| {
            raise(NetworkError::Io(errors::IoError::new("setsockopt", "", errno.raw_os_error())))
        };
        let netlink = Netlink::own(made.route).map_err(refused)?;
        Ok(Self {
            namespace: made.namespace,
            links: Links::new(netlink),
            names: Mutex::new(made.names),
            waiting: Mutex::new(None),
        })
    }

    fn waiting(&self) -> MutexGuard<'_, Option<WaitingPair>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sockets for names in it.
    pub(crate) fn take_names(&self) -> Option<NameSockets> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pymethods]
impl Namespace {
    fn route_by(&self, py: Python<'_>, spec: &Bound<'_, PyAny>) -> PyResult<()> {
        let spec = spec.extract::<AttachmentArgument>()?;
        py.detach(|| self.links.route_by(&spec.try_into()?)).map_err(raise)
    }

    fn stand_in(&self, py: Python<'_>, name: &str, addresses: Vec<String>) -> PyResult<()> {
        py.detach(|| self.links.stand_in(name, &all(&addresses, str::parse::<Cidr>)?)).map_err(raise)
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_raw_fd())
    }
}

/// See the stub.
#[pyclass(frozen, get_all, module = "fluytd._core.network")]
struct PluginEnd {
    end: &'static str,
    code: i32,
    output: Vec<u8>,
    errors: Vec<u8>,
}

/// See the stub.
#[pyfunction]
fn run_plugin(
    py: Python<'_>,
    program: PathBuf,
    environment: Vec<(String, String)>,
    input: Vec<u8>,
    input_path: PathBuf,
    timeout_millis: u64,
    max_output_bytes: usize,
) -> PyResult<PluginEnd> {
    let execution = Execution {
        program: &program,
        environment: &environment,
        input: &input,
        input_path: &input_path,
        timeout: Duration::from_millis(timeout_millis),
        max_output_bytes,
    };
    let ended = py.detach(|| execution.run()).map_err(raise)?;
    let (end, code) = match ended.end {
        End::Exited(code) => ("exited", code),
        End::Killed(signal) => ("killed", signal),
        End::TimedOut => ("timed_out", 0),
        End::TooLong => ("too_long", 0),
    };
    Ok(PluginEnd { end, code, output: ended.output, errors: ended.errors })
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.network")]
struct NetworkHost {
    links: Links,
    table: Table,
}

#[pymethods]
impl NetworkHost {
    #[new]
    fn new(table: &str) -> PyResult<Self> {
        let open = || Ok(Self { links: Links::open()?, table: Table::open(table)? });
        open().map_err(|error: NetworkError| raise(error))
    }

    fn make_bridge(&self, py: Python<'_>, spec: &Bound<'_, PyAny>) -> PyResult<()> {
        let spec = spec.extract::<BridgeArgument>()?;
        py.detach(|| {
            let bridge: Bridge = spec.try_into()?;
            self.links.make_bridge(&bridge)?;
            let has_ipv6 = bridge.addresses.iter().any(|one| one.address.is_ipv6());
            network::allow_forwarding(&bridge.name, has_ipv6)
        })
        .map_err(raise)
    }

    fn attach(&self, py: Python<'_>, spec: &Bound<'_, PyAny>, namespace: &Namespace) -> PyResult<()> {
        let spec = spec.extract::<AttachmentArgument>()?;
        let waiting = namespace.waiting().take();
        py.detach(|| {
            self.links.attach(&spec.try_into()?, namespace.namespace.as_fd(), &namespace.links, waiting)
        })
        .map_err(raise)
    }

    fn make_waiting(&self, py: Python<'_>, host_name: &str, namespace: &Namespace) -> PyResult<()> {
        let made =
            py.detach(|| self.links.make_waiting(host_name, namespace.namespace.as_fd(), &namespace.links));
        *namespace.waiting() = Some(made.map_err(raise)?);
        Ok(())
    }

    fn remove_link(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        py.detach(|| self.links.remove(name)).map_err(raise)
    }

    fn list_links(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let found = py.detach(|| self.links.list()).map_err(raise)?;
        Ok(found.into_iter().map(|port| port.name).collect())
    }

    #[pyo3(signature = (except, /))]
    fn routed_networks(&self, py: Python<'_>, except: Vec<String>) -> PyResult<Vec<String>> {
        let found = py.detach(|| self.links.routed(&except)).map_err(raise)?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    fn set_table(&self, py: Python<'_>, elements: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
        let elements = extract(&elements)?;
        py.detach(|| self.table.set(&elements)).map_err(raise)
    }

    fn change_table(
        &self,
        py: Python<'_>,
        added: Vec<Bound<'_, PyAny>>,
        removed: Vec<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (added, removed) = (extract(&added)?, extract(&removed)?);
        py.detach(|| {
            self.table.change(&added, &removed)?;
            self.table.forget(&removed)
        })
        .map_err(raise)
    }

    fn has_table(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| self.table.stands()).map_err(raise)
    }

    fn delete_table(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.table.delete()).map_err(raise)
    }
}

fn extract(elements: &[Bound<'_, PyAny>]) -> PyResult<Vec<Element>> {
    let one =
        |element: &Bound<'_, PyAny>| Element::try_from(element.extract::<ElementArgument>()?).map_err(raise);
    elements.iter().map(one).collect()
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Namespace>()?;
    module.add_class::<NetworkHost>()?;
    module.add_class::<PluginEnd>()?;
    module.add_function(wrap_pyfunction!(run_plugin, module)?)
}
