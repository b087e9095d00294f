//! Expressions of rules: each reads from or writes to registers. Source: linux/netfilter/nf_tables.h.

use super::attributes::Attributes;

/// Registers of four bytes, named by number from 0 to 15.
pub(super) const fn register(number: u32) -> u32 {
    8 + number
}

/// What is read of a packet's way.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meta {
    InputName = 6,
    OutputName = 7,
    Family = 15,
    Protocol = 16,
}

/// What is read of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Connection {
    State = 0,
    Status = 2,
}

/// Where in a packet is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Base {
    Network = 1,
    Transport = 2,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict<'name> {
    Accept,
    Drop,
    Return,
    Jump(&'name str),
    Goto(&'name str),
}

/// Types of an expression's attributes.
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
/// The register of verdicts.
const NFT_REG_VERDICT: u32 = 0;
/// The expression `fib`: what kind of address the destination is.
const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
const NFTA_FIB_F_DADDR: u32 = 1 << 1;
/// The address is one of the host's. Source: linux/rtnetlink.h.
const RTN_LOCAL: u32 = 2;
/// Address and port are given by a map. Source: linux/netfilter/nf_nat.h.
const NF_NAT_RANGE_MAP_IPS: u32 = 1;
const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 1 << 1;
const NFT_LOOKUP_F_INV: u32 = 1;

/// The expressions of one rule.
#[derive(Debug, Default)]
pub(super) struct Expressions {
    pub(super) list: Attributes,
}

impl Expressions {
    fn push(&mut self, name: &str, write: impl FnOnce(&mut Attributes)) -> &mut Self {
        self.list.nested(NFTA_LIST_ELEM, |expression| {
            expression.text(NFTA_EXPR_NAME, name).nested(NFTA_EXPR_DATA, write);
        });
        self
    }

    /// Ends a chain of calls whose result is not wanted.
    pub(super) fn end(&mut self) {}

    pub(super) fn meta(&mut self, key: Meta, to: u32) -> &mut Self {
        self.push("meta", |data| {
            data.number(1, register(to)).number(2, key as u32);
        })
    }

    pub(super) fn payload(&mut self, base: Base, offset: u32, length: u32, to: u32) -> &mut Self {
        self.push("payload", |data| {
            data.number(1, register(to)).number(2, base as u32).number(3, offset).number(4, length);
        })
    }

    pub(super) fn connection(&mut self, key: Connection, to: u32) -> &mut Self {
        self.push("ct", |data| {
            data.number(1, register(to)).number(2, key as u32);
        })
    }

    /// Goes on if the register has these bytes, or with `is_other` if it has not.
    pub(super) fn compare(&mut self, from: u32, is_other: bool, value: &[u8]) -> &mut Self {
        self.push("cmp", |data| {
            data.number(1, register(from)).number(2, is_other.into()).nested(3, |inner| {
                inner.bytes(NFTA_DATA_VALUE, value);
            });
        })
    }

    /// The register holds only the bits of the mask.
    pub(super) fn mask(&mut self, at: u32, mask: &[u8]) -> &mut Self {
        let length = u32::try_from(mask.len()).unwrap_or(0);
        self.push("bitwise", |data| {
            data.number(1, register(at)).number(2, register(at)).number(3, length);
            data.nested(4, |inner| {
                inner.bytes(NFTA_DATA_VALUE, mask);
            });
            data.nested(5, |inner| {
                inner.bytes(NFTA_DATA_VALUE, &vec![0; mask.len()]);
            });
        })
    }

    /// Goes on if one of these bits of the connection is set. The kernel keeps them in the host's byte order.
    pub(super) fn has_bits(&mut self, key: Connection, bits: u32) -> &mut Self {
        self.connection(key, 0).mask(0, &bits.to_ne_bytes()).compare(0, true, &[0; 4])
    }

    /// Goes on if what stands in the registers is in the set, or with `is_absent` if it is not.
    pub(super) fn look_up(&mut self, set: &str, from: u32, is_absent: bool) -> &mut Self {
        self.push("lookup", |data| {
            data.text(1, set).number(2, register(from));
            if is_absent {
                data.number(5, NFT_LOOKUP_F_INV);
            }
        })
    }

    /// The map's answer stands in the registers from `to` on; goes on only if it has one.
    pub(super) fn map(&mut self, map: &str, from: u32, to: u32) -> &mut Self {
        self.push("lookup", |data| {
            data.text(1, map).number(2, register(from)).number(3, register(to));
        })
    }

    /// Goes on if the destination is an address of the host.
    pub(super) fn is_for_host(&mut self) -> &mut Self {
        self.push("fib", |data| {
            data.number(1, register(0)).number(2, NFT_FIB_RESULT_ADDRTYPE).number(3, NFTA_FIB_F_DADDR);
        })
        .compare(0, false, &RTN_LOCAL.to_ne_bytes())
    }

    /// The registers from `to` on hold these bytes.
    pub(super) fn load(&mut self, to: u32, value: &[u8]) -> &mut Self {
        self.push("immediate", |data| {
            data.number(1, register(to)).nested(2, |inner| {
                inner.bytes(NFTA_DATA_VALUE, value);
            });
        })
    }

    /// The destination becomes the address and port in these registers.
    pub(super) fn translate(&mut self, family: u8, address: u32, port: u32) -> &mut Self {
        self.push("nat", |data| {
            data.number(1, 1).number(2, family.into()).number(3, register(address)).number(5, register(port));
            data.number(7, NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED);
        })
    }

    pub(super) fn masquerade(&mut self) -> &mut Self {
        self.push("masq", |_| {})
    }

    pub(super) fn verdict(&mut self, verdict: Verdict<'_>) -> &mut Self {
        // Source: linux/netfilter.h and nf_tables.h.
        let (code, chain) = match verdict {
            Verdict::Drop => (0, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Goto(chain) => (-4, Some(chain)),
            Verdict::Return => (-5_i32, None),
        };
        self.push("immediate", |data| {
            data.number(1, NFT_REG_VERDICT).nested(2, |value| {
                value.nested(NFTA_DATA_VERDICT, |inner| {
                    inner.number(1, code.cast_unsigned());
                    if let Some(chain) = chain {
                        inner.text(2, chain);
                    }
                });
            });
        })
    }
}
