//! Digests as the OCI names content: parsed once, then safe to use as a file name.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest as backend;
use serde::{Deserialize, Serialize};

use crate::ContentError;

/// The longest part of a refused digest that an error shows.
const SHOWN_MAX_BYTES: usize = 160;

/// The digest algorithms that the OCI registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, written `sha256:` and 64 lower-case hex digits.
    Sha256,
    /// SHA-512, written `sha512:` and 128 lower-case hex digits.
    Sha512,
}

impl Algorithm {
    /// Both algorithms.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name before the colon, which is the folder below `blobs/` too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hex digits a digest has.
    pub fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    fn backend(self) -> &'static backend::Algorithm {
        match self {
            Self::Sha256 => &backend::SHA256,
            Self::Sha512 => &backend::SHA512,
        }
    }
}

/// A well-formed digest: a registered algorithm and exactly its number of lower-case hex digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

impl Digest {
    /// Parses `sha256:<64 hex>` or `sha512:<128 hex>`, lower case; everything else is refused, so that no path and
    /// no request is ever made from it.
    ///
    /// Source: <https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests>
    ///
    /// # Errors
    /// `DIGEST_INVALID` for any other text.
    pub fn parse(text: &str) -> Result<Self, ContentError> {
        let invalid = || ContentError::DigestInvalid { digest: shown(text) };
        let (name, hex) = text.split_once(':').ok_or_else(invalid)?;
        let algorithm = Algorithm::ALL.into_iter().find(|a| a.name() == name).ok_or_else(invalid)?;
        let is_hex = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex.len() != algorithm.hex_len() || !is_hex {
            return Err(invalid());
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }

    /// The digest whose hex digits are `hex`; the algorithm follows from their number.
    ///
    /// # Errors
    /// `DIGEST_INVALID` if it is neither 64 nor 128 lower-case hex digits.
    pub fn from_hex(hex: &str) -> Result<Self, ContentError> {
        match Algorithm::ALL.into_iter().find(|a| a.hex_len() == hex.len()) {
            Some(algorithm) => Self::parse(&format!("{}:{hex}", algorithm.name())),
            None => Err(ContentError::DigestInvalid { digest: shown(hex) }),
        }
    }

    /// The digest of `data` by `algorithm`.
    pub fn of(algorithm: Algorithm, data: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(data);
        hasher.finish()
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The lower-case hex digits after the colon.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN_MAX_BYTES).flat_map(char::escape_default).collect();
    out.truncate(SHOWN_MAX_BYTES);
    out
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Digest {
    type Err = ContentError;
    fn from_str(text: &str) -> Result<Self, ContentError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Digest {
    type Error = ContentError;
    fn try_from(text: String) -> Result<Self, ContentError> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Computes a digest over bytes that arrive in pieces. Cloning keeps the state, so that a prefix is hashed once.
#[derive(Clone)]
pub struct Hasher {
    algorithm: Algorithm,
    context: backend::Context,
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, context: backend::Context::new(algorithm.backend()) }
    }

    /// Adds the next bytes.
    pub fn update(&mut self, data: &[u8]) {
        self.context.update(data);
    }

    /// The digest of everything added.
    pub fn finish(self) -> Digest {
        let mut hex = String::with_capacity(self.algorithm.hex_len());
        for byte in self.context.finish().as_ref() {
            for nibble in [byte >> 4, byte & 15] {
                hex.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        Digest { algorithm: self.algorithm, hex }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({})", self.algorithm.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn r04_malformed_digests_are_refused() {
        let upper = format!("sha256:{}", EMPTY.to_uppercase());
        let short = format!("sha256:{}", &EMPTY[1..]);
        let long = format!("sha256:{EMPTY}0");
        let wrong_length = format!("sha512:{EMPTY}");
        let newline = format!("sha256:{EMPTY}\n");
        let md5 = "md5:d41d8cd98f00b204e9800998ecf8427e";
        for bad in [
            "",
            ":",
            "sha256",
            "sha256:",
            "sha256:../../x",
            "sha256:/etc/passwd",
            md5,
            "SHA256:00",
            "blake3:00",
            &upper,
            &short,
            &long,
            &wrong_length,
            &newline,
            EMPTY,
            "sha256:\u{ff10}",
        ] {
            assert!(matches!(Digest::parse(bad), Err(ContentError::DigestInvalid { .. })), "{bad:?}");
        }
    }

    #[test]
    fn both_algorithms_give_the_published_values() {
        assert_eq!(Digest::of(Algorithm::Sha256, b"").hex(), EMPTY);
        let abc = Digest::of(Algorithm::Sha512, b"abc");
        assert!(abc.hex().starts_with("ddaf35a193617abacc417349ae204131"));
        assert_eq!(Digest::from_hex(abc.hex()).unwrap(), abc);
        assert_eq!(Digest::parse(&abc.to_string()).unwrap(), abc);
    }

    proptest! {
        #[test]
        fn what_parses_is_one_safe_path_component(text in "(sha256|sha512|md5)?:?[0-9a-fA-F./\\x00]{0,130}") {
            if let Ok(digest) = Digest::parse(&text) {
                prop_assert_eq!(digest.to_string(), text);
                prop_assert!(digest.hex().bytes().all(|b| b.is_ascii_hexdigit()));
            }
        }
    }
}
