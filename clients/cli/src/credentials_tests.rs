use std::os::unix::fs::PermissionsExt;

use super::*;

fn config(text: &str) -> (tempfile::TempDir, Config) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    fs::write(&path, text).unwrap();
    (dir, Config::read(path).unwrap_or_else(|failure| panic!("{failure}")))
}

/// Runs on a runtime of its own.
fn now<T>(work: impl std::future::Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn pair(auth: Option<RegistryAuth>) -> (String, String) {
    auth.map(|auth| (auth.username, auth.password)).unwrap_or_default()
}

#[test]
fn the_registry_of_a_reference_is_found_by_dockers_rules() {
    for (reference, registry) in [
        ("busybox", "docker.io"),
        ("team/app:1", "docker.io"),
        ("localhost/app", "localhost"),
        ("localhost:5000/app", "localhost:5000"),
        ("r.example/a/b@sha256:0", "r.example"),
        ("HOST/app", "HOST"),
        ("index.docker.io/library/x", "docker.io"),
    ] {
        assert_eq!(registry_of(reference), registry, "{reference}");
    }
}

#[test]
fn a_registry_is_a_host_or_a_url_of_one() {
    for (text, registry) in [
        ("r.example:5000", "r.example:5000"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("http://r.example/", "r.example"),
        ("[::1]:5000", "[::1]:5000"),
    ] {
        assert_eq!(registry_argument(text).ok(), Some(registry), "{text}");
    }
    for text in ["", "https://", "a b", "u:p@h", "$(x)", "-x y"] {
        assert!(registry_argument(text).is_err(), "{text}");
    }
}

#[test]
fn entries_of_the_file_are_found_under_each_spelling_of_their_key() {
    let (_dir, config) = config(
        r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "dTpwOnE="},
            "https://r.example/v2/": {"username": "a", "password": "b"},
            "t.example": {"auth": "dTo=", "identitytoken": "i"},
            "helped.example": {}
        }}"#,
    );
    assert_eq!(pair(now(config.find("docker.io")).unwrap()), ("u".to_owned(), "p:q".to_owned()));
    assert_eq!(pair(now(config.find("r.example")).unwrap()), ("a".to_owned(), "b".to_owned()));
    assert_eq!(now(config.find("t.example")).unwrap().unwrap().identity_token, "i");
    assert!(now(config.find("helped.example")).unwrap().is_none());
    assert!(now(config.find("absent.example")).unwrap().is_none());
}

#[test]
fn a_stored_entry_keeps_what_else_stands_in_the_file_and_is_for_its_owner_alone() {
    let (dir, mut config) = config(r#"{"auths": {"r.example": {"auth": "eDp5"}}, "detachKeys": "ctrl-x"}"#);
    now(config.store("r.example", "user", "hunter2")).unwrap();
    now(config.store("docker.io", "hub", "secret")).unwrap();
    let path = dir.path().join("config.json");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("ctrl-x") && text.contains(DOCKER_HUB_KEY) && !text.contains("hunter2"), "{text}");
    let again = Config::read(path.clone()).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(pair(now(again.find("r.example")).unwrap()), ("user".to_owned(), "hunter2".to_owned()));
    assert!(now(config.erase("r.example")).unwrap());
    assert!(!now(config.erase("r.example")).unwrap());
    assert!(!fs::read_to_string(&path).unwrap().contains("r.example"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_link_to_the_file_stays_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("real.json"), dir.path().join("config.json"));
    fs::write(&real, "{}").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let mut config = Config::read(link.clone()).unwrap_or_else(|failure| panic!("{failure}"));
    now(config.store("r.example", "u", "p")).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&real).unwrap().contains("r.example"));
}

#[test]
fn what_cannot_be_read_is_named_and_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    for text in ["{\"auths\": hunter2", "[]", ""] {
        fs::write(&path, text).unwrap();
        let failure = Config::read(path.clone()).err().unwrap();
        assert!(failure.to_string().contains("config.json"), "{failure}");
        assert!(!failure.to_string().contains("hunter2"), "{failure}");
    }
    fs::write(&path, " ".repeat(CONFIG_MAX_BYTES as usize + 1)).unwrap();
    assert!(Config::read(path.clone()).err().unwrap().to_string().contains("CONFIG_MAX_BYTES"));
    let (_dir, config) = config(r#"{"auths": {"r.example": {"auth": "hunter2!"}}}"#);
    let failure = now(config.find("r.example")).unwrap_err();
    assert!(!failure.to_string().contains("hunter2"), "{failure}");
}

#[test]
fn a_helpers_name_cannot_be_another_program() {
    let (_dir, config) = config(r#"{"credHelpers": {"r.example": "x/../../bin/sh"}, "credsStore": "a b"}"#);
    for registry in ["r.example", "other.example"] {
        assert!(now(config.find(registry)).is_err(), "{registry}");
    }
    let (_dir, config) = self::config(r#"{"credsStore": "fluyt-absent-helper"}"#);
    assert!(now(config.find("r.example"))
        .unwrap_err()
        .to_string()
        .contains("docker-credential-fluyt-absent-helper"));
}
