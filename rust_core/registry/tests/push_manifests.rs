//! Pushing manifests, and the lists of what refers to others.

mod common;
mod server;
mod uploads;

use common::{client, digest, fact, manifest_body, target, IMAGE, INDEX};
use errors::Catalogued;
use server::Reply;
use sys::cancel::CancelToken;
use uploads::{plain, registry_that};

#[test]
fn a_manifest_is_pushed_by_tag_and_by_digest() {
    let (server, store) = plain();
    let body = manifest_body();
    for reference in ["v1".to_owned(), digest(&body)] {
        let pushed = client()
            .push_manifest(target(&server.registry()), &reference, IMAGE, body.clone(), &CancelToken::new())
            .expect("pushed");
        assert_eq!(pushed.to_string(), digest(&body));
        assert!(store.lock().expect("the store").manifests[&reference] == body);
    }
    assert_eq!(server.requests()[0].header("content-type"), Some(IMAGE));
    let error = client()
        .push_manifest(target(&server.registry()), &digest(b"x"), IMAGE, body, &CancelToken::new())
        .expect_err("another");
    assert_eq!(error.reason(), "DIGEST_MISMATCH");
    assert_eq!(server.requests().len(), 2);
    let large = vec![b' '; (4 << 20) + 1];
    let error = client()
        .push_manifest(target(&server.registry()), "v1", IMAGE, large, &CancelToken::new())
        .expect_err("too large");
    assert_eq!(fact(&error, "limit"), "manifest_max_bytes");
}

fn referring(subject: &str, kind: &str) -> Vec<u8> {
    let body = String::from_utf8(manifest_body()).expect("text");
    let addition = format!(
        r#"{{"artifactType":"{kind}","annotations":{{"a":"b"}},"subject":{{"mediaType":"{IMAGE}","digest":"{subject}","size":4}},"#
    );
    body.replacen('{', &addition, 1).into_bytes()
}

#[test]
fn what_refers_to_a_manifest_is_listed_under_its_tag_where_the_registry_keeps_no_list() {
    let subject = digest(b"subject");
    let (server, store) = plain();
    for kind in ["x/one", "x/two", "x/two"] {
        let body = referring(&subject, kind);
        let reference = digest(&body);
        client()
            .push_manifest(target(&server.registry()), &reference, IMAGE, body, &CancelToken::new())
            .expect("pushed");
    }
    let store = store.lock().expect("the store");
    let index = &store.manifests[&subject.replace(':', "-")];
    let index: serde_json::Value = serde_json::from_slice(index).expect("JSON");
    let entries = index["manifests"].as_array().expect("entries");
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1]["artifactType"], "x/two");
    assert_eq!(entries[1]["annotations"]["a"], "b");
    assert_eq!(entries[1]["digest"], digest(&referring(&subject, "x/two")));
}

#[test]
fn a_registry_that_lists_referrers_itself_gets_no_tag() {
    let subject = digest(b"subject");
    let named = subject.clone();
    let (server, store) = registry_that(move |request, _, _| {
        (request.method == "PUT").then(|| Reply::new(201, "").with("OCI-Subject", &*named))
    });
    let body = referring(&subject, "x/one");
    client()
        .push_manifest(target(&server.registry()), &digest(&body), IMAGE, body.clone(), &CancelToken::new())
        .expect("pushed");
    assert_eq!(server.requests().len(), 1);
    assert!(store.lock().expect("the store").manifests.is_empty());
}

#[test]
fn an_entry_that_another_client_wrote_over_is_written_again() {
    let subject = digest(b"subject");
    let tag = subject.replace(':', "-");
    for (lost, is_listed) in [(2, true), (usize::MAX, false)] {
        let (name, losing) = (tag.clone(), std::sync::Mutex::new(lost));
        let (server, store) = registry_that(move |request, store, _| {
            let mut losing = losing.lock().expect("the count");
            if request.method != "PUT" || !request.target.ends_with(&name) || *losing == 0 {
                return None;
            }
            *losing -= 1;
            // Another client read the list before this one wrote it, and writes its own now.
            let other =
                format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}","size":1}}]}}"#, digest(b"o"));
            store.manifests.insert(name.clone(), other.into_bytes());
            Some(Reply::new(201, ""))
        });
        let body = referring(&subject, "x/one");
        let pushed = client().push_manifest(
            target(&server.registry()),
            &digest(&body),
            IMAGE,
            body.clone(),
            &CancelToken::new(),
        );
        assert_eq!(pushed.is_ok(), is_listed, "{pushed:?}");
        let store = store.lock().expect("the store");
        let index: serde_json::Value = serde_json::from_slice(&store.manifests[&tag]).expect("JSON");
        let digests: Vec<_> = index["manifests"].as_array().expect("entries").iter().collect();
        assert_eq!(digests.len(), if is_listed { 2 } else { 1 });
        assert_eq!(digests[0]["digest"], digest(b"o"));
    }
}

/// A registry whose list under a referrers tag has an entity tag and is only written where a condition holds. Another
/// client writes between the reading and the first writing.
fn conditional(tag: String, is_absent: bool, holds: bool) -> (server::Server, uploads::Shared) {
    let other = |number: usize| {
        let entry = format!(r#"{{"digest":"{}","size":1}}"#, digest(number.to_string().as_bytes()));
        format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{entry}]}}"#).into_bytes()
    };
    let state = std::sync::Mutex::new((!is_absent).then(|| other(0)));
    let is_raced = std::sync::atomic::AtomicBool::new(false);
    registry_that(move |request, store, _| {
        if !request.target.ends_with(&tag) {
            return None;
        }
        let mut list = state.lock().expect("the list");
        if request.method == "GET" {
            let Some(list) = &*list else { return Some(Reply::new(404, "")) };
            let etag = format!("\"{}\"", digest(list));
            return Some(Reply::new(200, list.clone()).with("Content-Type", INDEX).with("ETag", etag));
        }
        if !is_raced.swap(true, std::sync::atomic::Ordering::SeqCst) {
            *list = Some(other(1));
        }
        let now = list.as_ref().map(|list| format!("\"{}\"", digest(list)));
        let may = match (request.header("if-match"), request.header("if-none-match")) {
            (Some(wanted), None) => holds && now.as_deref() == Some(wanted),
            (None, Some("*")) => holds && now.is_none(),
            (None, None) => !holds,
            _ => false,
        };
        if !may {
            return Some(Reply::new(412, ""));
        }
        *list = Some(request.body.clone());
        store.manifests.insert(tag.clone(), request.body.clone());
        Some(Reply::new(201, ""))
    })
}

#[test]
fn a_list_of_referrers_is_written_only_over_the_one_that_was_read() {
    let subject = digest(b"subject");
    let tag = subject.replace(':', "-");
    let body = referring(&subject, "x/one");
    // The last registry refuses every condition, whatever it tells of the list.
    for (is_absent, holds) in [(false, true), (true, true), (false, false)] {
        let (server, store) = conditional(tag.clone(), is_absent, holds);
        client()
            .push_manifest(
                target(&server.registry()),
                &digest(&body),
                IMAGE,
                body.clone(),
                &CancelToken::new(),
            )
            .expect("pushed");
        let store = store.lock().expect("the store");
        let index: serde_json::Value = serde_json::from_slice(&store.manifests[&tag]).expect("JSON");
        let entries = index["manifests"].as_array().expect("entries");
        // What the other client wrote meanwhile stands beside ours.
        assert_eq!(entries.len(), 2, "{is_absent} {holds}");
        assert_eq!(entries[0]["digest"], digest(b"1"));
        assert_eq!(entries[1]["digest"], digest(&body));
    }
}
