//! What may be asked of a registry, checked before anything is sent: registry, repository, tag or digest.

use content::Digest;
use url::Url;

use crate::endpoint::Endpoint;
use crate::RegistryError;

/// The longest repository name. Source: distribution/reference, NameTotalLengthMax.
pub const REPOSITORY_MAX_BYTES: usize = 255;
/// The longest tag. Source: distribution-spec spec.md, "Pulling manifests".
pub const TAG_MAX_BYTES: usize = 128;
/// The longest part of a refused text that an error shows.
const SHOWN_MAX_BYTES: usize = 160;

/// A repository at a registry: where every request of one fetch begins.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    pub endpoint: Endpoint,
    pub name: String,
}

/// A manifest's tag or digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    Tag(String),
    Digest(Digest),
}

impl Repository {
    /// Checks the registry and the repository's name.
    pub fn parse(registry: &str, name: &str) -> Result<Self, RegistryError> {
        let endpoint = Endpoint::of_registry(registry)?;
        let is_valid = !name.is_empty() && name.split('/').all(is_path_component);
        if !is_valid {
            return Err(invalid(name, "a repository is lower-case letters, digits and separators"));
        }
        if name.len() > REPOSITORY_MAX_BYTES {
            return Err(invalid(name, "a repository has at most 255 characters"));
        }
        Ok(Self { endpoint, name: name.to_owned() })
    }

    /// The URL of a manifest or blob: `/v2/<name>/<kind>/<reference>`.
    pub fn url(&self, kind: &str, reference: &str) -> Url {
        let mut url = self.endpoint.base.clone();
        url.set_path(&format!("/v2/{}/{kind}/{reference}", self.name));
        url
    }

    /// The whole reference as a user writes it.
    pub fn shown(&self, reference: &Reference) -> String {
        let registry = &self.endpoint.registry;
        match reference {
            Reference::Tag(tag) => format!("{registry}/{}:{tag}", self.name),
            Reference::Digest(digest) => format!("{registry}/{}@{digest}", self.name),
        }
    }

    /// The scope of a token that may pull from here. Source: distribution's token authentication scope.
    pub fn pull_scope(&self) -> String {
        format!("repository:{}:pull", self.name)
    }
}

impl Reference {
    /// A digest if there is a colon, else a tag.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        if text.contains(':') {
            return parse_digest(text).map(Self::Digest);
        }
        let mut bytes = text.bytes();
        let starts_well = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !starts_well || !bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
            return Err(invalid(text, "a tag is letters, digits, underscores, dots and hyphens"));
        }
        if text.len() > TAG_MAX_BYTES {
            return Err(invalid(text, "a tag has at most 128 characters"));
        }
        Ok(Self::Tag(text.to_owned()))
    }

    /// As it stands in a URL.
    pub fn text(&self) -> String {
        match self {
            Self::Tag(tag) => tag.clone(),
            Self::Digest(digest) => digest.to_string(),
        }
    }
}

/// A digest of a registered algorithm, else `DIGEST_INVALID`.
pub(crate) fn parse_digest(text: &str) -> Result<Digest, RegistryError> {
    Digest::parse(text).map_err(|_| RegistryError::DigestInvalid { digest: shown(text) })
}

/// `REFERENCE_INVALID` for a text that breaks `rule`.
pub(crate) fn invalid(text: &str, rule: &'static str) -> RegistryError {
    RegistryError::ReferenceInvalid { reference: shown(text), rule }
}

/// A hostile text made fit for an error: escaped and shortened.
pub(crate) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN_MAX_BYTES).flat_map(char::escape_default).collect();
    out.truncate(SHOWN_MAX_BYTES);
    out
}

/// Source: distribution-spec spec.md, the regular expression of `<name>`: runs of letters and digits, joined by one
/// dot, one or two underscores, or hyphens.
fn is_path_component(component: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_plain = |b: Option<&u8>| b.is_some_and(|b| is_plain(*b));
    if !ends_plain(bytes.first()) || !ends_plain(bytes.last()) {
        return false;
    }
    bytes.split(|b| is_plain(*b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_follow_the_grammar_of_the_specification() {
        for good in ["a", "library/debian", "a.b/c_d/e__f/g--h", "0/1"] {
            assert!(Repository::parse("localhost:5000", good).is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "", "/", "a/", "/a", "a//b", "A", "a/../b", "..", "a..b", "a___b", "-a", "a?x", "a%2e", "a b",
            &long,
        ] {
            assert!(
                matches!(
                    Repository::parse("localhost:5000", bad),
                    Err(RegistryError::ReferenceInvalid { .. })
                ),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_reference_is_a_tag_or_a_whole_digest() {
        assert_eq!(Reference::parse("v1.0-x_y"), Ok(Reference::Tag("v1.0-x_y".to_owned())));
        let hex = "0".repeat(64);
        assert!(matches!(Reference::parse(&format!("sha256:{hex}")), Ok(Reference::Digest(_))));
        assert!(matches!(Reference::parse("sha256:../../x"), Err(RegistryError::DigestInvalid { .. })));
        for bad in ["", ".", "../x", "a/b", "a b", "a?", "é", &"t".repeat(129)] {
            assert!(matches!(Reference::parse(bad), Err(RegistryError::ReferenceInvalid { .. })), "{bad}");
        }
    }
}
