//! What a layer takes from the layers below it, recorded while it is applied by itself.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A path as bytes, from the root without a leading `/`; written as text, `%XX` for `%` and bytes beyond ASCII.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FactPath(pub Vec<u8>);

impl Serialize for FactPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(self.0.len());
        for byte in &self.0 {
            if (0x20..0x7f).contains(byte) && *byte != b'%' {
                text.push(char::from(*byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for FactPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            if *first != b'%' {
                bytes.push(*first);
                continue;
            }
            let hex = rest.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
            let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
            bytes.push(byte.ok_or_else(|| serde::de::Error::custom("a % without two hex digits"))?);
            rest = &rest[2..];
        }
        Ok(Self(bytes))
    }
}

/// A hard link whose target this layer does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingLink {
    /// Where the link belongs.
    pub path: FactPath,
    /// What it links to.
    pub target: FactPath,
}

/// What a layer takes from those below it. Empty for a layer that stands by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// Directories that were made because something lies in them, without an entry of their own; parents before
    /// children. Those below an opaque directory are not listed: nothing of the lower layers shows there.
    pub implied_parents: Vec<FactPath>,
    /// Hard links that are missing from the stored tree.
    pub missing_links: Vec<MissingLink>,
    /// Directories that hold whiteouts, unless this layer hides all that lies below them.
    pub whiteout_directories: Vec<FactPath>,
    /// The layer hides all that lies below its root, which overlayfs does not do by an attribute of the root.
    pub is_root_opaque: bool,
}

impl Facts {
    /// True if nothing was recorded, so that the lower layers cannot matter.
    pub fn is_empty(&self) -> bool {
        self.implied_parents.is_empty()
            && self.missing_links.is_empty()
            && self.whiteout_directories.is_empty()
            && !self.is_root_opaque
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_path_survives_the_text_form(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let path = FactPath(bytes);
            let text = serde_json::to_string(&path).unwrap();
            prop_assert_eq!(serde_json::from_str::<FactPath>(&text).unwrap(), path);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC*") {
            let _ = serde_json::from_str::<FactPath>(&serde_json::to_string(&text).unwrap());
        }
    }
}
