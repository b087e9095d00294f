//! What may be asked of a registry, checked before anything is sent: registry, repository, tag or digest.

use std::sync::Arc;

use content::Digest;
use url::Url;

use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::RegistryError;

/// The longest repository name. Source: distribution/reference, NameTotalLengthMax.
pub const REPOSITORY_MAX_BYTES: usize = 255;
/// The longest tag. Source: distribution-spec spec.md, "Pulling manifests".
pub const TAG_MAX_BYTES: usize = 128;
/// The longest part of a refused text that an error shows.
const SHOWN_MAX_BYTES: usize = 160;

/// A repository at one host, as one caller asks it.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    pub endpoint: Arc<Endpoint>,
    pub name: String,
    /// Those for this very host.
    pub credentials: Credentials,
    /// What a token must allow. Source: distribution's "Token Scope Documentation".
    pub scopes: Vec<String>,
}

/// A manifest's tag or digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    Tag(String),
    Digest(Digest),
}

/// Checks a repository's name.
pub(crate) fn check_repository(name: &str) -> Result<(), RegistryError> {
    let is_valid = !name.is_empty() && name.split('/').all(is_path_component);
    if !is_valid {
        return Err(invalid(name, "a repository is lower-case letters, digits and separators"));
    }
    if name.len() > REPOSITORY_MAX_BYTES {
        return Err(invalid(name, "a repository has at most 255 characters"));
    }
    Ok(())
}

/// The scope of a token: `actions` is `pull` or `pull,push`.
pub(crate) fn scope(name: &str, actions: &str) -> String {
    format!("repository:{name}:{actions}")
}

/// The whole reference as a user writes it.
pub(crate) fn show_reference(registry: &str, name: &str, reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => format!("{registry}/{name}:{tag}"),
        Reference::Digest(digest) => format!("{registry}/{name}@{digest}"),
    }
}

impl Repository {
    /// The URL of a part of the repository: `<base>/<name>/<rest>`. A host that stands for another one is told which.
    ///
    /// Source: distribution-spec spec.md, "Registry Proxying": the query `ns`.
    pub fn url(&self, rest: &str) -> Url {
        let mut url = self.endpoint.base.clone();
        let path = format!("{}/{}/{rest}", url.path().trim_end_matches('/'), self.name);
        url.set_path(&path);
        if !self.endpoint.is_own {
            url.query_pairs_mut().append_pair("ns", &self.endpoint.registry);
        }
        url
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
            assert!(check_repository(good).is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "", "/", "a/", "/a", "a//b", "A", "a/../b", "..", "a..b", "a___b", "-a", "a?x", "a%2e", "a b",
            &long,
        ] {
            assert!(matches!(check_repository(bad), Err(RegistryError::ReferenceInvalid { .. })), "{bad}");
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
