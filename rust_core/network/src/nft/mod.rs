//! One table of nftables, family `inet`, told to the kernel without a program in between.
//!
//! Its chains never change; networks and published ports are elements of its sets and maps, so that each change is one
//! short transaction however many there are:
//!
//! ```text
//! prerouting, output ──> publish     host address . protocol . port -> container . port      maps publish_{at,any}_{4,6}
//! postrouting                        masquerade what leaves a network, or comes back into it  masqueraded, within, own
//! forward ──> concerned ──> operator (kept: the host's administrator puts rules there)
//!                           established; sources of a port; one network; internal; published; open; the rest is dropped
//! guard                              nobody on a network reaches the host's 127.0.0.0/8
//! ```
//!
//! Source: linux/netfilter/nf_tables.h; nft(8).

mod attributes;
mod batch;
mod elements;
mod expressions;
mod redirect;
mod ruleset;

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::error::NetworkError;
use crate::link_spec::Cidr;
use crate::netlink::Netlink;
use batch::Batch;

pub(crate) use attributes::Attributes;
pub use redirect::{redirect, Redirected, REDIRECT_TABLE};

/// Room for the messages of a transaction; a host with tens of thousands of published ports stays below it.
const BUFFER_BYTES: usize = 32 * 1024 * 1024;
/// Elements of one transaction but the first, so that none comes near [`BUFFER_BYTES`].
const ELEMENTS_PER_BATCH: usize = 20_000;

/// Transport protocols by their number. Source: IANA protocol numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Protocol(pub u8);

/// Source: IANA protocol numbers.
const UDP: Protocol = Protocol(17);

/// A port of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    /// The container's address.
    pub address: IpAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its port.
    pub port: u16,
}

/// What the table is told of networks and ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Element {
    /// A bridge of a network.
    Bridge(String),
    /// It has no way out.
    Internal(String),
    /// Networks marked so reach each other.
    Open(String),
    /// What leaves it has the host's address.
    Masqueraded(String),
    /// A published port: what comes to `port` of `address` (None: any address of the host) goes to the target.
    Published {
        /// Address of the host.
        address: Option<IpAddr>,
        /// Port of the host.
        port: u16,
        /// Where it goes; its protocol is that of the port.
        target: Target,
    },
    /// Only sources that were allowed reach this port from outside its network.
    Restricted(Target),
    /// They reach it.
    Allowed {
        /// The port.
        target: Target,
        /// The sources.
        source: Cidr,
    },
}

/// The table. Shared between threads.
#[derive(Debug)]
pub struct Table {
    name: String,
    netlink: Mutex<Netlink>,
}

impl Table {
    /// The table of that name in the calling thread's namespace; nothing is made yet.
    ///
    /// # Errors
    /// `KERNEL_FEATURE_MISSING` without nftables.
    pub fn open(name: &str) -> Result<Self, NetworkError> {
        let netlink =
            Netlink::netfilter().map_err(|_| NetworkError::FeatureMissing { feature: "nf_tables" })?;
        netlink.enlarge(BUFFER_BYTES);
        Ok(Self { name: name.to_owned(), netlink: Mutex::new(netlink) })
    }

    /// The table stands with exactly these elements; the rules in its chain `operator` are kept. One transaction: no
    /// packet meets anything in between (with more than [`ELEMENTS_PER_BATCH`] elements the rest follows).
    ///
    /// # Errors
    /// `KERNEL_FEATURE_MISSING` if the kernel lacks a part of nftables that is needed, `IO_FAILED`.
    pub fn set(&self, elements: &[Element]) -> Result<(), NetworkError> {
        let (first, rest) = elements.split_at(elements.len().min(ELEMENTS_PER_BATCH));
        self.run(|batch| {
            ruleset::write(batch, &self.name);
            elements::add(batch, &self.name, first);
        })?;
        for part in rest.chunks(ELEMENTS_PER_BATCH) {
            self.change(part, &[])?;
        }
        Ok(())
    }

    /// The elements were added and removed, in one transaction. One that is to be removed and is not there is passed
    /// over; one that is to be added and is there stays.
    ///
    /// # Errors
    /// `IO_FAILED` (ENOENT: there is no such table).
    pub fn change(&self, added: &[Element], removed: &[Element]) -> Result<(), NetworkError> {
        if added.is_empty() && removed.is_empty() {
            return Ok(());
        }
        let answer = self.run(|batch| {
            elements::destroy(batch, &self.name, removed);
            elements::add(batch, &self.name, added);
        });
        let lacks_destroy = [Errno::INVAL, Errno::OPNOTSUPP].map(Errno::raw_os_error);
        match answer {
            Err(error) if lacks_destroy.contains(&error.errno()) && !removed.is_empty() => {}
            answer => return answer,
        }
        // Before Linux 6.3. A deletion that names what is absent ends the whole batch, and after such an end Linux 6.18
        // no longer finds the last element of each message: hence only where there is no other way.
        let answer = self.run(|batch| {
            elements::remove(batch, &self.name, removed);
            elements::add(batch, &self.name, added);
        });
        match answer {
            Err(error) if error.errno() == Errno::NOENT.raw_os_error() && !removed.is_empty() => {}
            answer => return answer,
        }
        for element in removed {
            let one = self.run(|batch| elements::remove(batch, &self.name, std::slice::from_ref(element)));
            if one.as_ref().is_err_and(|error| error.errno() != Errno::NOENT.raw_os_error()) {
                return one;
            }
        }
        self.change(added, &[])
    }

    /// Datagrams that go on to come to ports that are published no longer lead nowhere, rather than to where they led.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn forget(&self, removed: &[Element]) -> Result<(), NetworkError> {
        for element in removed {
            match element {
                Element::Published { target, .. } if target.protocol == UDP => {
                    crate::conntrack::forget(&mut self.lock(), target)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether there is such a table.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn stands(&self) -> Result<bool, NetworkError> {
        let mut netlink = self.lock();
        let (bytes, number) = batch::question(&mut netlink, ruleset::GET_TABLE, |message| {
            message.text(1, &self.name).end();
        });
        match netlink.batch(&bytes, number, number) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(NetworkError::refused("nftables", &self.name, errno)),
        }
    }

    /// The table is gone, with everything in it. Idempotent.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn delete(&self) -> Result<(), NetworkError> {
        match self.run(|batch| ruleset::delete(batch, &self.name)) {
            Err(error) if error.errno() == Errno::NOENT.raw_os_error() => Ok(()),
            answer => answer,
        }
    }

    fn run(&self, write: impl FnOnce(&mut Batch)) -> Result<(), NetworkError> {
        let mut batch = Batch::new();
        write(&mut batch);
        let mut netlink = self.lock();
        let (bytes, first, last) = batch.finish(&mut netlink);
        netlink.batch(&bytes, first, last).map_err(|errno| match errno {
            Errno::OPNOTSUPP | Errno::PROTONOSUPPORT => NetworkError::FeatureMissing { feature: "nf_tables" },
            errno => NetworkError::refused("nftables", &self.name, errno),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Netlink> {
        // Nothing panics while it holds this.
        self.netlink.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
