//! The table's chains, rules and sets. They are the same on every host; only elements differ.

use super::batch::Batch;
use super::expressions::{Base, Connection, Expressions, Meta, Verdict};

pub(super) const NEW_TABLE: u16 = 0;
/// Asks for a table.
pub(super) const GET_TABLE: u16 = 1;
pub(super) const DELETE_TABLE: u16 = 2;
pub(super) const NEW_CHAIN: u16 = 3;
pub(super) const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const DELETE_ELEMENT: u16 = 14;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_CREATE: u16 = 0x400;
pub(super) const NLM_F_APPEND: u16 = 0x800;
/// Kinds of sets.
const INTERVAL: u32 = 4;
const MAP: u32 = 8;
const CONCATENATION: u32 = 0x80;
/// Families of addresses. Source: linux/netfilter.h.
pub(super) const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// States and status of connections. Source: linux/netfilter/nf_conntrack_common.h.
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const DESTINATION_TRANSLATED: u32 = 1 << 5;
/// The types of values, for `nft list ruleset`; a concatenation is their numbers, six bits each. Source: nft's datatype.h.
const IPV4_TYPE: u32 = 7;
const IPV6_TYPE: u32 = 8;
const PROTOCOL_TYPE: u32 = 12;
const PORT_TYPE: u32 = 13;
const NAME_TYPE: u32 = 41;
/// Bytes of them in a register.
const NAME_BYTES: u32 = 16;
const SLOT_BYTES: u32 = 4;
/// What `nft list` must know of a key that is a name, in order to show it: type, length and value of an entry of user
/// data. Source: libnftnl's udata.h, NFTNL_UDATA_SET_KEYBYTEORDER; nft's datatype.h, BYTEORDER_HOST_ENDIAN.
const KEY_IN_HOST_ORDER: [u8; 6] = [0, 4, 1, 0, 0, 0];

/// A base chain's place among the hooks. Source: linux/netfilter.h, linux/netfilter_ipv4.h.
struct Hook {
    chain: &'static str,
    kind: &'static str,
    number: u32,
    priority: i32,
}

const HOOKS: [Hook; 5] = [
    // Before connections are tracked: an answer to the host has the bridge's own address still.
    Hook { chain: "guard", kind: "filter", number: 0, priority: -300 },
    Hook { chain: "prerouting", kind: "nat", number: 0, priority: -100 },
    Hook { chain: "output", kind: "nat", number: 3, priority: -100 },
    Hook { chain: "postrouting", kind: "nat", number: 4, priority: 100 },
    Hook { chain: "forward", kind: "filter", number: 2, priority: 0 },
];
/// Chains that others lead to.
const CHAINS: [&str; 2] = ["publish", "concerned"];
/// The chain of the host's administrator.
const OPERATOR: &str = "operator";

/// A family of addresses: where they stand in a packet.
#[derive(Clone, Copy)]
struct Family {
    number: u8,
    kind: u32,
    length: u32,
    source_at: u32,
    destination_at: u32,
    publish_at: &'static str,
    publish_any: &'static str,
    own: &'static str,
    restricted: &'static str,
    allowed: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        number: IPV4,
        kind: IPV4_TYPE,
        length: 4,
        source_at: 12,
        destination_at: 16,
        publish_at: "publish_at_4",
        publish_any: "publish_any_4",
        own: "own_4",
        restricted: "restricted_4",
        allowed: "allowed_4",
    },
    Family {
        number: IPV6,
        kind: IPV6_TYPE,
        length: 16,
        source_at: 8,
        destination_at: 24,
        publish_at: "publish_at_6",
        publish_any: "publish_any_6",
        own: "own_6",
        restricted: "restricted_6",
        allowed: "allowed_6",
    },
];

/// The table with its chains and rules and empty sets, whatever stood there; `operator` is kept.
pub(super) fn write(batch: &mut Batch, table: &str) {
    batch.push(NEW_TABLE, NLM_F_CREATE, |message| message.text(1, table).end());
    for hook in &HOOKS {
        batch.push(NEW_CHAIN, NLM_F_CREATE, |message| {
            message.text(1, table).text(3, hook.chain).nested(4, |inner| {
                inner.number(1, hook.number).number(2, hook.priority.cast_unsigned());
            });
            // Policy: accept.
            message.number(5, 1).text(7, hook.kind);
        });
    }
    for chain in CHAINS.iter().chain([&OPERATOR]) {
        batch.push(NEW_CHAIN, NLM_F_CREATE, |message| message.text(1, table).text(3, chain).end());
    }
    for chain in HOOKS.iter().map(|hook| hook.chain).chain(CHAINS) {
        batch.push(DELETE_RULE, 0, |message| message.text(1, table).text(2, chain).end());
    }
    write_sets(batch, table);
    write_rules(batch, table);
}

pub(super) fn delete(batch: &mut Batch, table: &str) {
    batch.push(DELETE_TABLE, 0, |message| message.text(1, table).end());
}

/// A part of a key or of a map's answer: its type and its bytes, of which it takes whole slots.
type Part = (u32, u32);

fn write_sets(batch: &mut Batch, table: &str) {
    let mut number = 0;
    let mut set = |name: &str, key: &[Part], data: &[Part], is_range: bool| {
        number += 1;
        let mut flags = if data.is_empty() { 0 } else { MAP };
        if is_range {
            flags |= INTERVAL | CONCATENATION;
        }
        batch.push(NEW_SET, NLM_F_CREATE, |message| {
            message.text(1, table).text(2, name).number(3, flags);
            message.number(4, type_of(key)).number(5, length_of(key));
            if !data.is_empty() {
                message.number(6, type_of(data)).number(7, length_of(data));
            }
            if is_range {
                message.nested(9, |description| {
                    description.nested(2, |fields| {
                        for (_, length) in key {
                            fields.nested(1, |field| field.number(1, *length).end());
                        }
                    });
                });
            }
            message.number(10, number);
            if key == [(NAME_TYPE, NAME_BYTES)] {
                message.bytes(13, &KEY_IN_HOST_ORDER);
            }
        });
        batch.push(DELETE_ELEMENT, 0, |message| message.text(1, table).text(2, name).end());
    };
    let name = (NAME_TYPE, NAME_BYTES);
    for one in ["bridges", "internal", "open", "masqueraded"] {
        set(one, &[name], &[], false);
    }
    set("within", &[name, name], &[], false);
    for family in FAMILIES {
        let (address, protocol, port) = ((family.kind, family.length), (PROTOCOL_TYPE, 1), (PORT_TYPE, 2));
        set(family.publish_any, &[protocol, port], &[address, port], false);
        set(family.publish_at, &[address, protocol, port], &[address, port], false);
        set(family.own, &[address, address], &[], false);
        set(family.restricted, &[address, protocol, port], &[], false);
        set(family.allowed, &[address, protocol, port, address], &[], true);
    }
}

fn type_of(parts: &[Part]) -> u32 {
    parts.iter().fold(0, |whole, (kind, _)| whole << 6 | kind)
}

fn length_of(parts: &[Part]) -> u32 {
    parts.iter().map(|(_, length)| length.next_multiple_of(SLOT_BYTES)).sum()
}

/// Adds a rule, which the closure writes, to the chain of that name.
type AddRule<'rules> = dyn FnMut(&str, &dyn Fn(&mut Expressions)) + 'rules;

fn write_rules(batch: &mut Batch, table: &str) {
    let mut rule = |chain: &str, write: &dyn Fn(&mut Expressions)| {
        let mut expressions = Expressions::default();
        write(&mut expressions);
        batch.push(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, |message| {
            message.text(1, table).text(2, chain);
            message.bytes(4 | 1 << 15, &expressions.list.bytes);
        });
    };
    // route_localnet, which the host's own 127.0.0.1 needs to reach a container, must not let anybody in.
    rule("guard", &|the| {
        the.meta(Meta::InputName, 0).look_up("bridges", 0, false);
        is_family(the, IPV4);
        the.payload(Base::Network, 16, 4, 0).mask(0, &[0xff, 0, 0, 0]).compare(0, false, &[127, 0, 0, 0]);
        the.verdict(Verdict::Drop);
    });
    // The kernel lets no packet from ::1 leave by another link.
    rule("output", &|the| {
        is_family(the, IPV6);
        let mut loopback = [0; 16];
        loopback[15] = 1;
        the.payload(Base::Network, 24, 16, 0).compare(0, false, &loopback).verdict(Verdict::Return);
    });
    for chain in ["prerouting", "output"] {
        rule(chain, &|the| the.is_for_host().verdict(Verdict::Jump("publish")).end());
    }
    for family in FAMILIES {
        let slots = family.length / SLOT_BYTES;
        rule("publish", &|the| {
            is_family(the, family.number);
            the.payload(Base::Network, family.destination_at, family.length, 0);
            the.meta(Meta::Protocol, slots).payload(Base::Transport, 2, 2, slots + 1);
            the.map(family.publish_at, 0, slots + 2).translate(family.number, slots + 2, 2 * slots + 2);
        });
        rule("publish", &|the| {
            is_family(the, family.number);
            the.meta(Meta::Protocol, 0).payload(Base::Transport, 2, 2, 1);
            the.map(family.publish_any, 0, 2).translate(family.number, 2, slots + 2);
        });
    }
    write_postrouting(&mut rule);
    write_forward(&mut rule);
}

fn write_postrouting(rule: &mut AddRule<'_>) {
    rule("postrouting", &|the| {
        the.meta(Meta::InputName, 0).look_up("masqueraded", 0, false);
        the.meta(Meta::OutputName, 0).look_up("bridges", 0, true).masquerade();
    });
    // A container that comes to a neighbour, or to itself, by a published port: the answer must come back this way.
    rule("postrouting", &|the| {
        the.meta(Meta::InputName, 0).meta(Meta::OutputName, 4).look_up("within", 0, false);
        the.has_bits(Connection::Status, DESTINATION_TRANSLATED).masquerade();
    });
    // Where frames of bridges pass through here (br_netfilter), the way in is not told: to itself must do.
    for family in FAMILIES {
        rule("postrouting", &|the| {
            is_family(the, family.number);
            the.payload(Base::Network, family.source_at, family.length, 0);
            the.payload(Base::Network, family.destination_at, family.length, family.length / SLOT_BYTES);
            the.look_up(family.own, 0, false);
            the.has_bits(Connection::Status, DESTINATION_TRANSLATED).masquerade();
        });
    }
    rule("postrouting", &|the| {
        the.meta(Meta::OutputName, 0).look_up("bridges", 0, false);
        is_family(the, IPV4);
        the.payload(Base::Network, 12, 4, 0).mask(0, &[0xff, 0, 0, 0]).compare(0, false, &[127, 0, 0, 0]);
        the.masquerade();
    });
}

fn write_forward(rule: &mut AddRule<'_>) {
    for key in [Meta::InputName, Meta::OutputName] {
        rule("forward", &|the| {
            the.meta(key, 0).look_up("bridges", 0, false).verdict(Verdict::Goto("concerned"));
        });
    }
    let concerned = "concerned";
    rule(concerned, &|the| the.verdict(Verdict::Jump(OPERATOR)).end());
    rule(concerned, &|the| {
        the.has_bits(Connection::State, ESTABLISHED_OR_RELATED).verdict(Verdict::Accept);
    });
    for family in FAMILIES {
        let slots = family.length / SLOT_BYTES;
        rule(concerned, &|the| {
            is_family(the, family.number);
            the.has_bits(Connection::Status, DESTINATION_TRANSLATED);
            the.payload(Base::Network, family.destination_at, family.length, 0);
            the.meta(Meta::Protocol, slots).payload(Base::Transport, 2, 2, slots + 1);
            the.look_up(family.restricted, 0, false);
            the.payload(Base::Network, family.source_at, family.length, slots + 2);
            the.look_up(family.allowed, 0, true).verdict(Verdict::Drop);
        });
    }
    rule(concerned, &|the| {
        the.meta(Meta::InputName, 0).meta(Meta::OutputName, 4).look_up("within", 0, false);
        the.verdict(Verdict::Accept);
    });
    for key in [Meta::InputName, Meta::OutputName] {
        rule(concerned, &|the| the.meta(key, 0).look_up("internal", 0, false).verdict(Verdict::Drop).end());
    }
    rule(concerned, &|the| {
        the.has_bits(Connection::Status, DESTINATION_TRANSLATED).verdict(Verdict::Accept);
    });
    rule(concerned, &|the| {
        the.meta(Meta::InputName, 0).look_up("open", 0, false);
        the.meta(Meta::OutputName, 0).look_up("open", 0, false).verdict(Verdict::Accept);
    });
    rule(concerned, &|the| {
        the.meta(Meta::OutputName, 0).look_up("bridges", 0, false).verdict(Verdict::Drop);
    });
    rule(concerned, &|the| the.verdict(Verdict::Accept).end());
}

pub(super) fn is_family(the: &mut Expressions, family: u8) {
    the.meta(Meta::Family, 0).compare(0, false, &[family]);
}
