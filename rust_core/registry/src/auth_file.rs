//! The daemon's own credentials: `auths` of one file in the form of Docker's config.json, read again when it changes.
//!
//! Credential helpers are programs; they are run by clients, never by the daemon, and are not looked at here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::prelude::{Engine, BASE64_STANDARD};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::config_file::{self, Stamp};
use crate::credentials::Credentials;
use crate::RegistryError;

/// Largest file of credentials.
pub const AUTH_FILE_MAX_BYTES: u64 = 1024 * 1024;

/// Credentials by host.
type Entries = Arc<HashMap<String, Credentials>>;

/// The file, as it was last read.
#[derive(Debug)]
pub(crate) struct AuthFile {
    path: Option<PathBuf>,
    read: Mutex<Option<(Stamp, Entries)>>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    auths: HashMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Zeroizing<String>,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: Zeroizing<String>,
    #[serde(default, rename = "identitytoken")]
    identity_token: Zeroizing<String>,
    #[serde(default, rename = "registrytoken")]
    registry_token: Zeroizing<String>,
}

impl AuthFile {
    /// `path`: the file; none for no credentials.
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path, read: Mutex::new(None) }
    }

    /// The credentials for `host[:port]`; nobody's if the file is absent or has none. Blocks for one stat, and reads
    /// the file where it changed.
    ///
    /// # Errors
    /// `REGISTRY_CONFIG_INVALID`, `LIMIT_EXCEEDED`.
    pub fn find(&self, host: &str) -> Result<Credentials, RegistryError> {
        let Some(path) = &self.path else { return Ok(Credentials::anonymous()) };
        let stamp = Stamp::of(path);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = match &*read {
            Some((known, entries)) if *known == stamp => Arc::clone(entries),
            _ => {
                let entries = Arc::new(load(path)?);
                *read = Some((stamp, Arc::clone(&entries)));
                entries
            }
        };
        Ok(entries.get(canonical(host)).cloned().unwrap_or_default())
    }
}

fn load(path: &Path) -> Result<HashMap<String, Credentials>, RegistryError> {
    let Some(text) = config_file::read(path, "auth_file_max_bytes", AUTH_FILE_MAX_BYTES)? else {
        return Ok(HashMap::new());
    };
    let text = Zeroizing::new(text);
    let invalid = |rule: String| RegistryError::ConfigInvalid { path: path.display().to_string(), rule };
    // The parser's own message could show a part of what it read.
    let document: Document = serde_json::from_slice(&text)
        .map_err(|error| invalid(format!("is no JSON: line {}", error.line())))?;
    let mut found = HashMap::new();
    for (name, entry) in document.auths {
        let credentials =
            entry.credentials().ok_or_else(|| invalid(format!("auths of {name:?} cannot be read")))?;
        if !credentials.is_anonymous() {
            found.insert(canonical(host_of(&name)).to_owned(), credentials);
        }
    }
    Ok(found)
}

impl Entry {
    fn credentials(&self) -> Option<Credentials> {
        if self.auth.is_empty() {
            return Some(Credentials::new(
                &self.username,
                &self.password,
                &self.identity_token,
                &self.registry_token,
            ));
        }
        let pair = Zeroizing::new(BASE64_STANDARD.decode(self.auth.trim()).ok()?);
        let (username, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
        // Docker once wrote passwords padded with NUL.
        let password = password.trim_end_matches('\0');
        Some(Credentials::new(username, password, &self.identity_token, &self.registry_token))
    }
}

/// The host of a key, which may be a whole URL. Source: docker/cli, cli/config/credentials, ConvertToHostname.
fn host_of(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    key.split('/').next().unwrap_or(key)
}

/// Docker Hub is known by three names.
fn canonical(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Kind;

    fn file(text: &str) -> (tempfile::TempDir, AuthFile) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).expect("a file");
        (dir, AuthFile::new(Some(path)))
    }

    fn user(credentials: &Credentials) -> String {
        match credentials.kind() {
            Kind::Basic { username, password } => format!("{username}:{}", password.reveal()),
            Kind::IdentityToken(token) => format!("identity {}", token.reveal()),
            Kind::RegistryToken(token) => format!("registry {}", token.reveal()),
            Kind::Anonymous => String::new(),
        }
    }

    #[test]
    fn every_form_of_an_entry_is_read() {
        let (_dir, file) = file(
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "dTpwOnE="},
                "a.example": {"username": "u", "password": "p"},
                "b.example:5000": {"auth": "dTo=", "identitytoken": "i"},
                "https://c.example/v2/": {"registrytoken": "r"},
                "helped.example": {}
            }, "credsStore": "pass"}"#,
        );
        for (host, expected) in [
            ("docker.io", "u:p:q"),
            ("registry-1.docker.io", "u:p:q"),
            ("a.example", "u:p"),
            ("b.example:5000", "identity i"),
            ("b.example", ""),
            ("c.example", "registry r"),
            ("helped.example", ""),
        ] {
            assert_eq!(user(&file.find(host).expect("readable")), expected, "{host}");
        }
    }

    #[test]
    fn a_changed_file_is_read_again_and_an_absent_one_is_nobody() {
        let (dir, file) = file(r#"{"auths": {"a": {"username": "one", "password": "p"}}}"#);
        assert_eq!(user(&file.find("a").expect("readable")), "one:p");
        let path = dir.path().join("config.json");
        std::fs::write(&path, r#"{"auths": {"a": {"username": "another", "password": "p"}}}"#)
            .expect("a file");
        assert_eq!(user(&file.find("a").expect("readable")), "another:p");
        std::fs::remove_file(&path).expect("removed");
        assert!(file.find("a").expect("absent").is_anonymous());
        assert!(AuthFile::new(None).find("a").expect("none").is_anonymous());
    }

    #[test]
    fn a_broken_file_is_named_without_its_content() {
        for text in ["{", r#"{"auths": {"a": {"auth": "hunter2!"}}}"#, r#"{"auths": {"a": "hunter2"}}"#] {
            let (_dir, file) = file(text);
            let error = file.find("a").expect_err("broken");
            assert!(matches!(error, RegistryError::ConfigInvalid { .. }), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let (_dir, file) = file(&" ".repeat(AUTH_FILE_MAX_BYTES as usize + 1));
        let error = file.find("a").expect_err("too large");
        assert!(matches!(error, RegistryError::LimitExceeded { limit: "auth_file_max_bytes", .. }));
    }
}
