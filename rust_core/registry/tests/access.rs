//! Who asks: Basic and Bearer authentication with credentials, and who gets to see them.

mod common;
mod server;

use common::{client, config, fact, manifest_body, nobody, target, IMAGE};
use errors::Catalogued;
use registry::{ClientConfig, Credentials, Manifest, RegistryClient, RegistryError, Target};
use server::{Reply, Request, Server};
use sys::cancel::CancelToken;

/// `user:hunter2` as RFC 7617 codes it.
const BASIC: &str = "Basic dXNlcjpodW50ZXIy";

fn user() -> Credentials {
    Credentials::new("user", "hunter2", "", "")
}

fn found() -> Reply {
    Reply::new(200, manifest_body()).with("Content-Type", IMAGE)
}

fn fetch(
    client: &RegistryClient,
    server: &Server,
    credentials: &Credentials,
) -> Result<Manifest, RegistryError> {
    client.fetch_manifest(Target { credentials, ..target(&server.registry()) }, "v1", &CancelToken::new())
}

fn basic_registry() -> Server {
    Server::start(|request, _| match request.header("authorization") {
        Some(BASIC) => found(),
        _ => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"r\""),
    })
}

/// A registry that wants a token, which its token server gives to whom `may` accepts.
fn token_registry(may: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Server {
    Server::start(move |request, _| {
        let host = request.header("host").unwrap_or_default();
        if request.target.starts_with("/token") {
            return if may(request) {
                Reply::new(200, r#"{"token":"T","expires_in":300}"#)
            } else {
                Reply::new(401, "")
            };
        }
        match request.header("authorization") {
            Some("Bearer T") => found(),
            _ => Reply::new(401, "")
                .with("WWW-Authenticate", format!(r#"Bearer realm="http://{host}/token",service="s""#)),
        }
    })
}

#[test]
fn basic_credentials_are_sent_when_they_are_asked_for_and_at_once_from_then_on() {
    let server = basic_registry();
    let client = client();
    for _ in 0..3 {
        fetch(&client, &server, &user()).expect("a manifest");
    }
    let sent: Vec<_> =
        server.requests().iter().map(|request| request.header("authorization").is_some()).collect();
    assert_eq!(sent, [false, true, true, true]);
    assert_eq!(fetch(&client, &server, nobody()).expect_err("nobody").reason(), "REGISTRY_ACCESS_DENIED");
}

#[test]
fn wrong_credentials_are_refused_once_and_never_shown() {
    let server = basic_registry();
    let error =
        fetch(&client(), &server, &Credentials::new("user", "wrong-secret", "", "")).expect_err("wrong");
    assert_eq!((error.reason(), fact(&error, "status").as_str()), ("REGISTRY_ACCESS_DENIED", "401"));
    assert_eq!(server.requests().len(), 2);
    assert!(!format!("{error:?} {error} {:?}", error.metadata()).contains("wrong-secret"));
}

#[test]
fn a_token_server_gets_the_credentials_and_the_registry_the_token() {
    let server = token_registry(|request| request.header("authorization") == Some(BASIC));
    let client = client();
    fetch(&client, &server, &user()).expect("a manifest");
    assert!(server.requests()[1].target.contains("account=user"), "{}", server.requests()[1].target);
    let error = fetch(&client, &server, nobody()).expect_err("the token is that user's alone");
    assert_eq!(error.reason(), "REGISTRY_ACCESS_DENIED");
    let to_registry: Vec<_> =
        server.requests().into_iter().filter(|request| request.target.starts_with("/v2")).collect();
    assert!(to_registry.iter().all(|request| request.header("authorization") != Some(BASIC)));
}

#[test]
fn many_requests_at_once_ask_for_one_token() {
    let server = token_registry(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        true
    });
    let client = client();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| fetch(&client, &server, &user()).expect("a manifest"));
        }
    });
    let asked = server.requests().iter().filter(|request| request.target.starts_with("/token")).count();
    assert_eq!(asked, 1);
}

#[test]
fn an_identity_token_is_exchanged_by_post() {
    let server = token_registry(|request| {
        let form = String::from_utf8(request.body.clone()).expect("text");
        request.method == "POST"
            && form.contains("grant_type=refresh_token")
            && form.contains("refresh_token=refresh")
    });
    for credentials in
        [Credentials::new("", "", "refresh", ""), Credentials::new("<token>", "refresh", "", "")]
    {
        fetch(&client(), &server, &credentials).expect("a manifest");
    }
    assert!(server.requests().iter().all(|request| !request.target.contains("refresh")));
}

#[test]
fn a_registry_token_is_sent_as_it_is_and_not_replaced() {
    let server = token_registry(|_| true);
    fetch(&client(), &server, &Credentials::new("", "", "", "T")).expect("a manifest");
    assert_eq!(server.requests().len(), 1);
    let error = fetch(&client(), &server, &Credentials::new("", "", "", "old")).expect_err("refused");
    assert_eq!(error.reason(), "REGISTRY_ACCESS_DENIED");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn r05_credentials_do_not_follow_a_redirect_of_the_token_server() {
    let thief = Server::start(|_, _| Reply::new(200, r#"{"token":"T"}"#));
    let stolen = format!("http://{}/token", thief.registry());
    let server = Server::start(move |request, _| {
        let host = request.header("host").unwrap_or_default();
        if request.target.starts_with("/token") {
            return Reply::new(307, "").with("Location", &*stolen);
        }
        match request.header("authorization") {
            Some("Bearer T") => found(),
            _ => {
                Reply::new(401, "").with("WWW-Authenticate", format!(r#"Bearer realm="http://{host}/token""#))
            }
        }
    });
    fetch(&client(), &server, &user()).expect("a manifest");
    assert_eq!(thief.requests()[0].header("authorization"), None);
}

#[test]
fn r05_basic_credentials_do_not_follow_a_redirect() {
    let thief = Server::start(|_, _| Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""));
    let elsewhere = format!("http://{}/v2/x", thief.registry());
    let server = Server::start(move |request, _| match request.header("authorization") {
        Some(BASIC) => Reply::new(307, "").with("Location", &*elsewhere),
        _ => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
    });
    assert_eq!(fetch(&client(), &server, &user()).expect_err("refused").reason(), "REGISTRY_ACCESS_DENIED");
    assert_eq!((thief.requests().len(), thief.requests()[0].header("authorization")), (1, None));
}

#[test]
fn the_daemons_own_file_serves_callers_without_credentials() {
    let server = basic_registry();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("config.json");
    let client = RegistryClient::new(ClientConfig { auth_file: Some(path.clone()), ..config() });
    assert_eq!(fetch(&client, &server, nobody()).expect_err("absent").reason(), "REGISTRY_ACCESS_DENIED");
    let auths = format!(r#"{{"auths": {{"{}": {{"auth": "dXNlcjpodW50ZXIy"}}}}}}"#, server.registry());
    std::fs::write(&path, auths).expect("a file");
    fetch(&client, &server, nobody()).expect("a manifest");
    let error =
        fetch(&client, &server, &Credentials::new("other", "x", "", "")).expect_err("the caller's count");
    assert_eq!(error.reason(), "REGISTRY_ACCESS_DENIED");
    std::fs::write(&path, "{").expect("a file");
    assert_eq!(fetch(&client, &server, nobody()).expect_err("broken").reason(), "REGISTRY_CONFIG_INVALID");
}
