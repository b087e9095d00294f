//! Who a request is made for. Secrets are redacted where they could be printed, and wiped when they are dropped.

use std::fmt;
use std::sync::{Arc, LazyLock};

use base64::prelude::{Engine, BASE64_STANDARD};
use content::{Algorithm, Digest};
use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// The text itself, for the one header or form field that it is for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What proves to a registry who asks. Cheap to clone; `Debug` shows no secret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Credentials(Arc<Kind>);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    #[default]
    Anonymous,
    /// For Basic authentication and for token servers.
    Basic { username: String, password: Secret },
    /// An OAuth2 refresh token, for token servers only.
    IdentityToken(Secret),
    /// A bearer token to send as it is.
    RegistryToken(Secret),
}

impl Credentials {
    /// Nobody.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// The strongest of what is given: a registry token, else an identity token, else user name and password; nobody if
    /// all are empty. The user name `<token>` marks the password as an identity token.
    ///
    /// Source: docker-credential-helpers, "a username of <token>"; Docker's AuthConfig.
    #[must_use]
    pub fn new(username: &str, password: &str, identity_token: &str, registry_token: &str) -> Self {
        let kind = if !registry_token.is_empty() {
            Kind::RegistryToken(Secret::new(registry_token))
        } else if !identity_token.is_empty() {
            Kind::IdentityToken(Secret::new(identity_token))
        } else if username == "<token>" {
            Kind::IdentityToken(Secret::new(password))
        } else if username.is_empty() && password.is_empty() {
            Kind::Anonymous
        } else {
            Kind::Basic { username: username.to_owned(), password: Secret::new(password) }
        };
        Self(Arc::new(kind))
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.0
    }

    /// True for nobody.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        *self.0 == Kind::Anonymous
    }

    /// A name for these credentials in keys of caches: equal only for equal ones, it tells nothing of them, and it is
    /// another one in each process.
    pub(crate) fn fingerprint(&self) -> String {
        static SALT: LazyLock<[u64; 2]> = LazyLock::new(|| {
            use std::hash::{BuildHasher, Hasher, RandomState};
            [0, 1].map(|_| RandomState::new().build_hasher().finish())
        });
        let (kind, first, second) = match self.kind() {
            Kind::Anonymous => return String::new(),
            Kind::Basic { username, password } => ("basic", username.as_str(), password.reveal()),
            Kind::IdentityToken(token) => ("identity", "", token.reveal()),
            Kind::RegistryToken(token) => ("registry", "", token.reveal()),
        };
        let text = Zeroizing::new(format!("{:?} {kind} {} {first} {second}", *SALT, first.len()));
        Digest::of(Algorithm::Sha256, text.as_bytes()).to_string()
    }
}

/// The value of an Authorization header for Basic authentication; `None` for a user name that cannot be sent.
///
/// Source: RFC 7617 section 2: a user name holds no colon.
pub(crate) fn basic_header(username: &str, password: &Secret) -> Option<HeaderValue> {
    if username.contains(':') {
        return None;
    }
    let pair = Zeroizing::new(format!("{username}:{}", password.reveal()));
    sensitive(&format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())))
}

/// The value of an Authorization header for a bearer token; `None` for one that no header can hold.
pub(crate) fn bearer_header(token: &str) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {token}"))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        for credentials in [
            Credentials::new("user", "hunter2", "", ""),
            Credentials::new("", "", "hunter2", ""),
            Credentials::new("", "", "", "hunter2"),
            Credentials::new("<token>", "hunter2", "", ""),
        ] {
            let shown = format!("{credentials:?} {}", credentials.fingerprint());
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        let header = basic_header("user", &Secret::new("hunter2")).expect("a header");
        assert!(header.is_sensitive() && !format!("{header:?}").contains("dXNlcg"));
    }

    #[test]
    fn other_credentials_have_other_fingerprints() {
        let all = [
            Credentials::new("a", "b c", "", ""),
            Credentials::new("a b", "c", "", ""),
            Credentials::new("", "", "a", ""),
            Credentials::new("", "", "", "a"),
            Credentials::anonymous(),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().map(Credentials::fingerprint).collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(Credentials::new("a", "b c", "", "").fingerprint(), all[0].fingerprint());
    }

    #[test]
    fn basic_credentials_are_coded_as_the_standard_says() {
        // Source: RFC 7617 section 2, the example.
        let header = basic_header("Aladdin", &Secret::new("open sesame")).expect("a header");
        assert_eq!(header.to_str().ok(), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert!(basic_header("a:b", &Secret::new("")).is_none());
    }
}
