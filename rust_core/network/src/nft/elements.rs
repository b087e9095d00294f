//! Elements of the table's sets and maps, as bytes.

use std::net::IpAddr;

use super::attributes::Attributes;
use super::batch::Batch;
use super::{Element, Target};
use crate::link::MAX_INTERFACE_NAME_BYTES;
use crate::link_spec::Cidr;

const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;
/// As the one above, without a word about what is not there. Source: linux/netfilter/nf_tables.h of Linux 6.3.
const DESTROY_ELEMENT: u16 = 30;
const NLM_F_CREATE: u16 = 0x400;
/// Elements of one message, whose attributes must stay below 64 KiB; each takes at most some 150 bytes.
const ELEMENTS_PER_MESSAGE: usize = 256;
/// The room of an interface's name in a key.
const NAME_BYTES: usize = MAX_INTERFACE_NAME_BYTES + 1;

/// One element of one set.
struct Encoded {
    set: &'static str,
    key: Vec<u8>,
    /// The end of a range.
    key_end: Option<Vec<u8>>,
    /// What a map answers.
    data: Option<Vec<u8>>,
}

pub(super) fn add(batch: &mut Batch, table: &str, elements: &[Element]) {
    push(batch, NEW_ELEMENT, NLM_F_CREATE, table, elements);
}

pub(super) fn remove(batch: &mut Batch, table: &str, elements: &[Element]) {
    push(batch, DELETE_ELEMENT, 0, table, elements);
}

/// As [`remove`], passing over what is not there; EINVAL or EOPNOTSUPP before Linux 6.3.
pub(super) fn destroy(batch: &mut Batch, table: &str, elements: &[Element]) {
    push(batch, DESTROY_ELEMENT, 0, table, elements);
}

fn push(batch: &mut Batch, kind: u16, flags: u16, table: &str, elements: &[Element]) {
    let mut encoded: Vec<Encoded> = elements.iter().flat_map(encode).collect();
    // Those of one set go together.
    encoded.sort_by(|one, other| (one.set, &one.key).cmp(&(other.set, &other.key)));
    // Several ports of a container say the same of its address.
    encoded.dedup_by(|one, other| (one.set, &one.key) == (other.set, &other.key));
    for group in encoded.chunk_by(|one, other| one.set == other.set) {
        for part in group.chunks(ELEMENTS_PER_MESSAGE) {
            batch.push(kind, flags, |attributes| {
                attributes.text(1, table).text(2, part[0].set).nested(3, |list| {
                    for one in part {
                        list.nested(1, |element| write(element, one));
                    }
                });
            });
        }
    }
}

fn write(element: &mut Attributes, one: &Encoded) {
    let value = |bytes: Vec<u8>| move |inner: &mut Attributes| inner.bytes(1, &bytes).end();
    element.nested(1, value(one.key.clone()));
    if let Some(data) = &one.data {
        element.nested(2, value(data.clone()));
    }
    if let Some(end) = &one.key_end {
        element.nested(10, value(end.clone()));
    }
}

fn encode(element: &Element) -> Vec<Encoded> {
    let plain = |set, key| Encoded { set, key, key_end: None, data: None };
    match element {
        Element::Bridge(bridge) => {
            vec![plain("bridges", name(bridge)), plain("within", [name(bridge), name(bridge)].concat())]
        }
        Element::Internal(bridge) => vec![plain("internal", name(bridge))],
        Element::Open(bridge) => vec![plain("open", name(bridge))],
        Element::Masqueraded(bridge) => vec![plain("masqueraded", name(bridge))],
        Element::Published { address, port, target } => {
            let is_ipv4 = target.address.is_ipv4();
            let mut key = address.map(octets).unwrap_or_default();
            key.extend(service(target.protocol.0, *port));
            let set = match (address.is_some(), is_ipv4) {
                (true, true) => "publish_at_4",
                (true, false) => "publish_at_6",
                (false, true) => "publish_any_4",
                (false, false) => "publish_any_6",
            };
            let mut data = octets(target.address);
            data.extend(padded_port(target.port));
            let own = if is_ipv4 { "own_4" } else { "own_6" };
            let itself = [octets(target.address), octets(target.address)].concat();
            vec![Encoded { set, key, key_end: None, data: Some(data) }, plain(own, itself)]
        }
        Element::Restricted(target) => {
            let set = if target.address.is_ipv4() { "restricted_4" } else { "restricted_6" };
            vec![plain(set, port_key(target))]
        }
        Element::Allowed { target, source } => {
            let set = if target.address.is_ipv4() { "allowed_4" } else { "allowed_6" };
            let (first, last) = range(*source);
            let key = [port_key(target), first].concat();
            vec![Encoded { set, key, key_end: Some([port_key(target), last].concat()), data: None }]
        }
    }
}

fn name(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(NAME_BYTES, 0);
    bytes
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn padded_port(port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![high, low, 0, 0]
}

/// Each part of a key takes whole registers of four bytes.
fn service(protocol: u8, port: u16) -> Vec<u8> {
    let mut bytes = vec![protocol, 0, 0, 0];
    bytes.extend(padded_port(port));
    bytes
}

fn port_key(target: &Target) -> Vec<u8> {
    let mut key = octets(target.address);
    key.extend(service(target.protocol.0, target.port));
    key
}

/// The first and the last address.
fn range(source: Cidr) -> (Vec<u8>, Vec<u8>) {
    let mut first = octets(source.address);
    let mut last = first.clone();
    for (place, (low, high)) in first.iter_mut().zip(last.iter_mut()).enumerate() {
        let kept = usize::from(source.prefix).saturating_sub(place * 8).min(8);
        let hosts = u8::try_from(0xff_u16 >> kept).unwrap_or(0);
        *low &= !hosts;
        *high |= hosts;
    }
    (first, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_range_from_its_first_to_its_last_address() {
        let of = |text: &str| range(text.parse().expect("a prefix"));
        assert_eq!(of("10.1.2.3/8"), (vec![10, 0, 0, 0], vec![10, 255, 255, 255]));
        assert_eq!(of("10.1.2.3/22"), (vec![10, 1, 0, 0], vec![10, 1, 3, 255]));
        assert_eq!(of("10.1.2.3/32"), (vec![10, 1, 2, 3], vec![10, 1, 2, 3]));
        assert_eq!(of("0.0.0.0/0"), (vec![0; 4], vec![255; 4]));
        assert_eq!(of("fd00::/127").1[15], 1);
    }
}
