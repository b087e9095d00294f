use std::sync::Arc;

use super::*;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::target::scope;

fn repository(credentials: Credentials) -> Repository {
    let host = "registry.example.com";
    let endpoint = Arc::new(Endpoint::plain(host, host, Arc::default()).expect("an endpoint"));
    Repository { endpoint, name: "a".to_owned(), credentials, scopes: vec![scope("a", "pull")] }
}

fn challenge(realm: &str) -> BearerChallenge {
    BearerChallenge { realm: realm.to_owned(), service: Some("s p".to_owned()), scope: None }
}

#[test]
fn either_name_of_the_token_is_read_and_its_life_is_bounded() {
    let (value, life) = read_answer(br#"{"access_token":"t","expires_in":300}"#).expect("a token");
    assert_eq!((value.to_str().ok(), life), (Some("Bearer t"), Duration::from_secs(290)));
    assert!(value.is_sensitive());
    let (_, life) = read_answer(br#"{"token":"t","access_token":"u"}"#).expect("a token");
    assert_eq!(life, Duration::from_secs(50));
    let (_, life) = read_answer(br#"{"token":"t","expires_in":1e300}"#).expect("a token");
    assert!(life <= LIFE_MAX);
    for bad in [&b"{}"[..], b"[]", b"", br#"{"token":""}"#, br#"{"token":"a\nb"}"#] {
        assert!(read_answer(bad).is_none());
    }
}

#[test]
fn a_realm_may_not_lead_to_a_weaker_place() {
    let remote = repository(Credentials::anonymous());
    for bad in ["http://registry.example.com/token", "https://127.0.0.1/token", "file:///x", "token"] {
        assert!(realm(&remote, &challenge(bad)).is_err(), "{bad}");
    }
    assert!(realm(&remote, &challenge("https://auth.example.com/token")).is_ok());
}

#[test]
fn a_token_is_asked_for_by_query_or_by_refresh_token() {
    let url = Url::parse("https://auth.example.com/token?a=b").expect("a URL");
    let scopes = [scope("a", "pull"), scope("b", "pull")];
    let user = repository(Credentials::new("me", "hunter2", "", ""));
    let by_query = request(&user, &challenge(""), &url, &scopes);
    assert_eq!(
        by_query.url.query(),
        Some("a=b&service=s+p&scope=repository%3Aa%3Apull&scope=repository%3Ab%3Apull&account=me")
    );
    let identity = repository(Credentials::new("", "", "refresh", ""));
    let by_form = request(&identity, &challenge(""), &url, &scopes);
    let Payload::Bytes(form) = &by_form.body else { panic!("a form") };
    assert_eq!(
        (&by_form.method, std::str::from_utf8(form).expect("text")),
        (
            &Method::POST,
            "grant_type=refresh_token&service=s+p&client_id=fluyt&scope=repository%3Aa%3Apull+repository%3Ab%3Apull&refresh_token=refresh"
        )
    );
    assert!(!by_form.url.as_str().contains("refresh"));
}

#[test]
fn what_a_challenge_asks_for_is_added_to_what_is_needed() {
    let ours = [scope("a", "pull,push"), scope("b", "pull")];
    let cases = [
        (None, "repository:a:pull,push repository:b:pull"),
        (Some("repository:a:pull"), "repository:a:pull,push repository:b:pull"),
        (Some("repository:b:pull,push"), "repository:a:pull,push repository:b:pull,push"),
        (Some("registry:catalog:* x"), "repository:a:pull,push repository:b:pull registry:catalog:*"),
    ];
    for (challenged, expected) in cases {
        assert_eq!(wanted_scopes(&ours, challenged).join(" "), expected);
    }
    let many = (0..100).map(|n| format!("repository:n{n}:pull")).collect::<Vec<_>>().join(" ");
    assert_eq!(wanted_scopes(&ours, Some(&many)).len(), 2 + CHALLENGE_SCOPE_MAX_COUNT);
}

#[test]
fn a_token_belongs_to_its_host_its_identity_and_its_scopes() {
    let tokens = Tokens::default();
    let mine = repository(Credentials::new("me", "p", "", ""));
    tokens.keep(&mine, HeaderValue::from_static("Bearer t"), Duration::from_secs(60));
    assert!(tokens.find(&mine).is_some());
    assert!(tokens.find(&repository(Credentials::anonymous())).is_none());
    assert!(tokens.find(&repository(Credentials::new("me", "q", "", ""))).is_none());
    let mut pushing = mine.clone();
    pushing.scopes = vec![scope("a", "pull,push")];
    assert!(tokens.find(&pushing).is_none());
    tokens.forget(&mine, Some(&HeaderValue::from_static("Bearer another")));
    assert!(tokens.find(&mine).is_some(), "another one was refused");
    tokens.forget(&mine, Some(&HeaderValue::from_static("Bearer t")));
    assert!(tokens.find(&mine).is_none());
}
