//! Layer ids: parsed once, then safe to use as a folder name.

use std::fmt;

use content::Digest;

use crate::error::shown;
use crate::LayerError;

/// The prefix of a layer that was settled against the layers below it.
const CHAIN_PREFIX: &str = "chain-";

/// A layer's name in the store: the hex digits of its diff_id, or `chain-` and the hex digits of its chain_id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct LayerId(String);

impl LayerId {
    /// The id of a layer that stands by itself.
    pub fn from_diff_id(diff_id: &Digest) -> Self {
        Self(diff_id.hex().to_owned())
    }

    /// The id of a layer whose content was settled against the layers below it.
    pub fn from_chain_id(chain_id: &Digest) -> Self {
        Self(format!("{CHAIN_PREFIX}{}", chain_id.hex()))
    }

    /// Parses an id of either form.
    ///
    /// # Errors
    /// `LAYER_NOT_FOUND` for any other text: no layer can have it.
    pub fn parse(text: &str) -> Result<Self, LayerError> {
        let hex = text.strip_prefix(CHAIN_PREFIX).unwrap_or(text);
        match Digest::from_hex(hex) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(LayerError::NotFound { layer_id: shown(text.as_bytes()) }),
        }
    }

    /// The id as text, one safe path component.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hex_of_a_digest_is_a_layer_id() {
        let hex = "a".repeat(64);
        assert_eq!(LayerId::parse(&hex).unwrap().as_str(), hex);
        assert!(LayerId::parse(&format!("chain-{hex}")).is_ok());
        for bad in ["", "..", "chain-", "chain-..", "../x", &hex[1..], &hex.to_uppercase(), ".staged-x"] {
            assert!(matches!(LayerId::parse(bad), Err(LayerError::NotFound { .. })), "{bad}");
        }
    }
}
