//! Lists of tags: pages, ends, and registries that list for ever.

mod common;
mod server;

use common::{client, fact, target};
use errors::Catalogued;
use registry::RegistryError;
use server::{Reply, Server};
use sys::cancel::CancelToken;

fn list(server: &Server) -> Result<Vec<String>, RegistryError> {
    client().list_tags(target(&server.registry()), &CancelToken::new())
}

#[test]
fn pages_are_followed_to_their_end() {
    let server = Server::start(|request, _| match request.target.as_str() {
        "/v2/a/b/tags/list?n=1000" => Reply::new(200, r#"{"name":"a/b","tags":["v2","v1"]}"#)
            .with("Link", "</v2/a/b/tags/list?last=v2&n=2>; rel=\"next\""),
        _ => Reply::new(200, r#"{"tags":["v3","v1"]}"#),
    });
    assert_eq!(list(&server).expect("tags"), ["v1", "v2", "v3"]);
    assert_eq!(server.requests()[1].target, "/v2/a/b/tags/list?last=v2&n=2");
}

#[test]
fn a_repository_without_tags_has_none_and_an_absent_one_is_not_found() {
    let server = Server::start(|_, _| Reply::new(200, r#"{"tags":null}"#));
    assert!(list(&server).expect("tags").is_empty());
    let server = Server::start(|_, _| Reply::new(404, ""));
    assert_eq!(list(&server).expect_err("absent").reason(), "IMAGE_NOT_FOUND");
}

#[test]
fn a_list_without_end_meets_a_limit_and_an_empty_page_ends_it() {
    let server = Server::start(|_, earlier| {
        let tags: Vec<_> = (0..1000).map(|n| format!("\"t{earlier}-{n}\"")).collect();
        Reply::new(200, format!(r#"{{"tags":[{}]}}"#, tags.join(","))).with("Link", "<?again>; rel=next")
    });
    let error = list(&server).expect_err("endless");
    assert_eq!((error.reason(), fact(&error, "limit").as_str()), ("LIMIT_EXCEEDED", "tags_max_count"));
    let server = Server::start(|_, _| {
        Reply::new(200, r#"{"tags":[]}"#).with("Link", "</v2/a/b/tags/list?x>; rel=next")
    });
    assert!(list(&server).expect("tags").is_empty());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn what_is_no_list_of_tags_is_refused() {
    for (body, link, reason) in [
        ("<html>", "", "REGISTRY_PROTOCOL"),
        (r#"{"tags":["../x"]}"#, "", "REFERENCE_INVALID"),
        (r#"{"tags":["a/b"]}"#, "", "REFERENCE_INVALID"),
        (r#"{"tags":["v1"]}"#, "<http://example.com/x>; rel=next", "REGISTRY_PROTOCOL"),
        (r#"{"tags":["v1"]}"#, "<file:///etc/passwd>; rel=next", "REGISTRY_PROTOCOL"),
    ] {
        let server = Server::start(move |_, _| Reply::new(200, body).with("Link", link));
        assert_eq!(list(&server).expect_err(reason).reason(), reason, "{body} {link}");
    }
    let large = format!(r#"{{"tags":["v1"]}}{}"#, " ".repeat(4 << 20));
    let server = Server::start(move |_, _| Reply::new(200, large.clone()));
    assert_eq!(fact(&list(&server).expect_err("large"), "limit"), "tags_page_max_bytes");
}
