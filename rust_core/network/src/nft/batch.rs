//! A transaction: messages that the kernel carries out all or not at all. Source: linux/netfilter/nfnetlink.h.

use super::attributes::Attributes;
use crate::netlink::Netlink;

/// Kinds of messages, and the subsystem that they belong to.
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
/// The family that a table for IPv4 and IPv6 has.
const NFPROTO_INET: u8 = 1;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
/// The length of a message's header, where its flags and its number stand in it.
const HEADER_BYTES: usize = 16;
const FLAGS_AT: usize = 6;
const SEQUENCE_AT: usize = 8;

/// Messages on their way to a transaction.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Where each message begins.
    starts: Vec<usize>,
}

/// A question outside of a transaction, whose answer ends with an acknowledgement: its bytes and its number.
pub(super) fn question(
    netlink: &mut Netlink,
    kind: u16,
    write: impl FnOnce(&mut Attributes),
) -> (Vec<u8>, u32) {
    let mut batch = Batch { bytes: Vec::new(), starts: Vec::new() };
    batch.push(kind, NLM_F_ACK, write);
    let number = netlink.take_sequences(1);
    batch.bytes[SEQUENCE_AT..][..4].copy_from_slice(&number.to_ne_bytes());
    (batch.bytes, number)
}

impl Batch {
    pub(super) fn new() -> Self {
        let mut batch = Self { bytes: Vec::new(), starts: Vec::new() };
        batch.message(NFNL_MSG_BATCH_BEGIN, 0, 0, NFNL_SUBSYS_NFTABLES, &[]);
        batch
    }

    /// A message of nftables.
    pub(super) fn push(&mut self, kind: u16, flags: u16, write: impl FnOnce(&mut Attributes)) {
        let mut attributes = Attributes::default();
        write(&mut attributes);
        self.message(NFNL_SUBSYS_NFTABLES << 8 | kind, flags, NFPROTO_INET, 0, &attributes.bytes);
    }

    /// The bytes to send, and the numbers of the first message and of the one that is acknowledged.
    pub(super) fn finish(mut self, netlink: &mut Netlink) -> (Vec<u8>, u32, u32) {
        let last_place = self.starts.len() - 1;
        let last_start = self.starts[last_place];
        let flags =
            NLM_F_ACK | u16::from_ne_bytes([self.bytes[last_start + FLAGS_AT], self.bytes[last_start + 7]]);
        self.bytes[last_start + FLAGS_AT..][..2].copy_from_slice(&flags.to_ne_bytes());
        self.message(NFNL_MSG_BATCH_END, 0, 0, NFNL_SUBSYS_NFTABLES, &[]);
        let count = u32::try_from(self.starts.len()).unwrap_or(u32::MAX);
        let first = netlink.take_sequences(count);
        let mut sequence = first;
        for start in &self.starts {
            self.bytes[start + SEQUENCE_AT..][..4].copy_from_slice(&sequence.to_ne_bytes());
            sequence = sequence.wrapping_add(1);
        }
        (self.bytes, first, first.wrapping_add(count - 2))
    }

    fn message(&mut self, kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) {
        let start = self.bytes.len();
        let length = HEADER_BYTES + 4 + attributes.len();
        self.bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        // The number, set by `finish`, and the port, the kernel's to know.
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        self.bytes.extend_from_slice(attributes);
        self.starts.push(start);
    }
}
