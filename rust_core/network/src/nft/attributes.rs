//! Netlink attributes as nftables takes them: nested, numbers in network byte order. Source: linux/netlink.h.

/// The bit of a type that says: attributes inside.
const NLA_F_NESTED: u16 = 1 << 15;
/// Length and type.
const HEADER_BYTES: usize = 4;

/// Attributes that follow each other.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) bytes: Vec<u8>,
}

impl Attributes {
    /// An attribute of these bytes.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = HEADER_BYTES + value.len();
        // Every caller's values are far shorter: the elements of a message are counted by `elements`.
        let told = u16::try_from(length).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&told.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Ends a chain of calls whose result is not wanted.
    pub(crate) fn end(&mut self) {}

    /// A text with its NUL.
    pub(super) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// A number.
    pub(super) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Attributes inside.
    pub(crate) fn nested(&mut self, kind: u16, write: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(kind | NLA_F_NESTED, &inner.bytes)
    }
}
